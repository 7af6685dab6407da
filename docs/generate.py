"""Writes the parts of the documentation that the code knows: `python docs/generate.py`; a test holds that they are current.

docs/reference/cli.md and docs/man/minikubelet.1 come from the parsers, docs/reference/configuration.md and
docs/man/minikubelet.yaml.5 from the settings with what stands here about each.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minikubelet.cli.main import GROUPS, ROOTS, verb_parser
from minikubelet.node import settings

DOCS = Path(__file__).parent
DATE = "November 24, 2026"

# What each setting is for; whoever adds a setting adds a line here.
SETTINGS = {
    "staticPodPath": "the manifest directory; by default `manifests` in the configuration directory",
    "fileCheckFrequency": "how often the manifest directory is listed, besides at once after a change",
    "maxPods": "so many pods run at most; more are rejected",
    "podCIDR": "addresses of pods: one range, or an IPv4 and an IPv6 range with a comma between",
    "podLogsDir": "the directory that holds `pods` and `containers`",
    "cniConfDir": "where CNI configurations are looked for; if there is one, its plugins connect pods",
    "cniBinDir": "where CNI plugins lie, several directories with commas",
    "clusterDNS": "name servers for pods with the DNS policy `ClusterFirst`",
    "clusterDomain": "the domain below which pods look names up",
    "resolvConf": "the machine's resolver configuration, for pods with the DNS policy `Default`",
    "containerLogMaxSize": "a container's log is rotated at this size",
    "containerLogMaxFiles": "so many files of a container's log are kept, the current one included",
    "podPidsLimit": "processes and threads that a pod may have; -1 means no limit",
    "singleProcessOOMKill": "out of memory, the kernel kills one process of a container instead of all",
    "nodeName": "the node's name, which pods' names end with; by default this machine's host name in lower case",
    "bridge": "the bridge that pods are connected to",
    "strictStatic": "refuse ConfigMaps, Secrets and references to them, as the kubelet does for static pods",
    "crashLoopBackOff.maxContainerRestartPeriod": "the longest wait between two starts of a container, 1s to 300s",
    "nodeLabels": "labels of the node, for the node selectors and affinities of pods",
    "systemReserved": "cpu, memory and ephemeral-storage kept for the machine: pods are admitted to the rest",
    "kubeReserved": "the same, kept for this program",
    "allowedUnsafeSysctls": "sysctls beyond the safe ones that pods may set, `*` at the end standing for any",
    "shutdownGracePeriod": "how long the machine's shutdown waits for pods",
    "shutdownGracePeriodCriticalPods": "the part of it that is kept for critical pods",
    "shutdownGracePeriodByPodPriority": "grace periods for classes of priority, instead of the two before",
}


def reference() -> str:
    """Return docs/reference/cli.md."""
    lines = ["# The command line", "", "Generated from the code by `python docs/generate.py`.", ""]
    lines += [
        "`minikubelet VERB [ARGUMENTS] [FLAGS]`; `minikubelet VERB --help` prints the same. Verbs and flags are kubectl's.",
        "",
    ]
    lines += [f"Every verb takes the four directories, before or after its arguments: {_roots()}", ""]
    for title, group in GROUPS.items():
        lines += [f"## {title}", ""]
        for name in group:
            lines += [*_verb(name), ""]
    return "\n".join(lines).rstrip() + "\n"


def _roots() -> str:
    words = [f"`--{name.replace('_', '-')}` ({default})" for name, default in ROOTS.items()]
    return f"{', '.join(words)}; or as `MINIKUBELET_RUN_DIR` and so on in the environment."


def _verb(name: str) -> Iterator[str]:
    parser = verb_parser(name)
    yield f"### {name}"
    yield str(parser.description)
    yield ""
    yield f"`{usage(name, parser)}`"
    rows = [(term, about) for term, about in arguments(parser) if about]
    if rows:
        yield ""
        yield "| argument | meaning |"
        yield "|---|---|"
        yield from (f"| `{_cell(term)}` | {_cell(about)} |" for term, about in rows)
    if parser.epilog:
        yield ""
        yield f"```text\n{parser.epilog.replace('%%', '%').rstrip()}\n```"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def usage(name: str, parser: argparse.ArgumentParser) -> str:
    """Return a verb's usage in one line."""
    words = [f"minikubelet {name}"]
    for action in parser._actions:
        if not action.option_strings and action.help != argparse.SUPPRESS:
            word = _metavar(action)
            words.append({"?": f"[{word}]", "*": f"[{word}...]", "+": f"{word}..."}.get(str(action.nargs), word))
    if name in ("exec", "debug"):
        words.append("-- COMMAND..." if name == "exec" else "[-- COMMAND...]")
    return " ".join([*words, "[FLAGS]"])


def arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield a verb's arguments with what they mean; those of every verb are left out."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest in (*ROOTS, "help"):
            continue
        if not action.option_strings:
            yield _metavar(action), _help(action)
            continue
        value = f" {_metavar(action)}" if action.nargs != 0 else ""
        yield ", ".join(action.option_strings) + value, _help(action)


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "|".join(str(one) for one in action.choices if str(one))
    return action.dest.upper().replace("_", "-")


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def manual() -> str:
    """Return docs/man/minikubelet.1."""
    lines = [
        '.\\" Generated by docs/generate.py.',
        f".Dd {DATE}",
        ".Dt MINIKUBELET 1",
        ".Os",
        ".Sh NAME",
        ".Nm minikubelet",
        ".Nd run Kubernetes Pod manifests as processes of this machine",
        ".Sh SYNOPSIS",
        ".Nm",
        ".Ar verb",
        ".Op Ar arguments",
        ".Op Fl Fl run-dir Ar DIR",
        ".Sh DESCRIPTION",
        ".Nm",
        "runs the pods whose manifests lie in its manifest directory, as the kubelet runs static pods: as processes of this",
        "machine in namespaces of their own, without a container engine, an image registry or a control plane.",
        ".Nm Cm run",
        "is the daemon; the other verbs see, explain and step inside, with the flags and the output of",
        ".Xr kubectl 1 .",
        ".Pp",
        "A pod is named by the name in its manifest, or by its full name with the node's behind it.",
        ".Sh VERBS",
    ]
    for title, group in GROUPS.items():
        lines.append(f".Ss {title}")
        lines.append(".Bl -tag -width Ds")
        for name in group:
            lines += _manual_verb(name)
        lines.append(".El")
    lines += [".Sh FLAGS OF EVERY VERB", ".Bl -tag -width Ds"]
    for name, default in ROOTS.items():
        flag = name.replace("_", "-")
        lines += [
            f".It Fl Fl {flag} Ar DIR",
            f"Default: {default}; or the environment variable",
            f".Ev MINIKUBELET_{name.upper()} .",
        ]
    lines += [
        ".El",
        ".Sh ENVIRONMENT",
        ".Bl -tag -width Ds",
        ".It Ev NO_COLOR",
        "No colours; without it they appear on a terminal only.",
        ".It Ev COLUMNS",
        "The width to fit to, instead of the terminal's.",
        ".It Ev MINIKUBELET_DEBUG",
        "Show where an internal error came from.",
        ".El",
        ".Sh FILES",
        ".Bl -tag -width Ds",
        ".It Pa /etc/minikubelet/manifests",
        "The manifests, described in",
        ".Xr minikubelet-pod 7 .",
        ".It Pa /etc/minikubelet/config.yaml",
        "The configuration, described in",
        ".Xr minikubelet.yaml 5 .",
        ".It Pa /run/minikubelet/status/NAMESPACE_NAME.json",
        "The Pod object with its status.",
        ".It Pa /run/minikubelet/manifests/FILE.txt",
        "The verdict on a manifest file.",
        ".It Pa /run/minikubelet/minikubelet.sock",
        "The API, for root only.",
        ".It Pa /var/lib/minikubelet",
        "State that outlives the daemon.",
        ".It Pa /var/log/pods",
        "Logs.",
        ".El",
        ".Sh EXIT STATUS",
        ".Bl -tag -width Ds",
        ".It 0",
        "Done.",
        ".It 1",
        "It failed; the message says why and what to do.",
        ".It 2",
        "Wrong usage or configuration.",
        ".It 130",
        "Interrupted.",
        ".El",
        ".Pp",
        ".Cm exec",
        "and",
        ".Cm debug",
        "end with their command's exit code.",
        ".Sh SEE ALSO",
        ".Xr minikubelet.yaml 5 ,",
        ".Xr minikubelet-pod 7",
    ]
    return "\n".join(lines) + "\n"


def _manual_verb(name: str) -> Iterator[str]:
    parser = verb_parser(name)
    yield f".It Cm {_roff(usage(name, parser).removeprefix('minikubelet '))}"
    yield _roff(str(parser.description))
    rows = [(term, about) for term, about in arguments(parser) if about]
    if rows:
        yield ".Bl -tag -width Ds -compact"
        for term, about in rows:
            yield f".It {_roff(term)}"
            yield _roff(f"{about[0].upper()}{about[1:]}.")
        yield ".El"
    if parser.epilog:
        yield ".Bd -literal"
        yield from (_roff(line) for line in parser.epilog.replace("%%", "%").rstrip().splitlines())
        yield ".Ed"


def _roff(text: str) -> str:
    """Return text that roff prints as it stands."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def setting_rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield key, default, environment variable and meaning of each setting of the file."""
    known = settings.Settings()
    keys = {**_keys(), "crashLoopBackOff.maxContainerRestartPeriod": "max_container_restart_period"}
    for key, attribute in keys.items():
        yield (
            key,
            _value(attribute, getattr(known, attribute)),
            f"MINIKUBELET_{attribute.upper()}",
            SETTINGS.get(key, ""),
        )


def _keys() -> dict[str, str]:
    return dict(getattr(settings, "KEYS", None) or settings._KEYS)


def _value(attribute: str, default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(str(one) for one in default) or "none"
    if isinstance(default, Mapping):
        return ",".join(f"{name}={value}" for name, value in default.items()) or "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}s"
    if attribute.endswith("_size"):
        return f"{default >> 20}Mi"
    return str(default) or "see there"


def configuration() -> str:
    """Return docs/reference/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Generated from the code by `python docs/generate.py`.",
        "",
        "`/etc/minikubelet/config.yaml` (in the directory given by `--config-dir`) has the field names of the kubelet's",
        "`KubeletConfiguration` where the kubelet has the setting. An environment variable goes before the file, a flag of",
        "`minikubelet run` before both. Fields that are not supported are named in the log, with the likely spelling, and passed",
        "over; a value that cannot be used ends the daemon with exit code 2 and one line that names file, line and column.",
        "Durations are written `90s` or `1m30s`, sizes `10Mi`.",
        "",
        "```yaml",
        "kind: KubeletConfiguration",
        "apiVersion: kubelet.config.k8s.io/v1beta1",
        "podCIDR: 10.88.0.0/16",
        "containerLogMaxSize: 50Mi",
        "```",
        "",
        "| field | default | environment variable | meaning |",
        "|---|---|---|---|",
        *(f"| `{key}` | `{default}` | `{variable}` | {about} |" for key, default, variable, about in setting_rows()),
        "",
        "Flags of `minikubelet run` for the same: `--node-name`, `--pod-cidr`, `--bridge`, `--strict-static` and the four directories",
        "(see [cli.md](cli.md)).",
    ]
    return "\n".join(lines) + "\n"


def configuration_manual() -> str:
    """Return docs/man/minikubelet.yaml.5."""
    lines = [
        '.\\" Generated by docs/generate.py.',
        f".Dd {DATE}",
        ".Dt MINIKUBELET.YAML 5",
        ".Os",
        ".Sh NAME",
        ".Nm minikubelet.yaml",
        ".Nd configuration of the minikubelet daemon",
        ".Sh SYNOPSIS",
        ".Pa /etc/minikubelet/config.yaml",
        ".Sh DESCRIPTION",
        "A YAML mapping with the field names of the kubelet's KubeletConfiguration where the kubelet has the setting.",
        "An environment variable goes before the file, a flag of",
        ".Nm minikubelet Cm run",
        "before both.",
        "Durations are written 90s or 1m30s, sizes 10Mi.",
        ".Bl -tag -width Ds",
    ]
    for key, default, variable, about in setting_rows():
        text = about.replace("`", "")
        lines += [
            f".It Cm {key}",
            _roff(f"{text[0].upper()}{text[1:]}." if text else "."),
            f"Default: {_roff(default)}.",
            f"Variable: {variable}.",
        ]
    lines += [
        ".El",
        ".Sh EXAMPLES",
        ".Bd -literal",
        "kind: KubeletConfiguration",
        "apiVersion: kubelet.config.k8s.io/v1beta1",
        "podCIDR: 10.88.0.0/16",
        "containerLogMaxSize: 50Mi",
        "crashLoopBackOff:",
        "  maxContainerRestartPeriod: 60s",
        ".Ed",
        ".Sh SEE ALSO",
        ".Xr minikubelet 1 ,",
        ".Xr minikubelet-pod 7",
    ]
    return "\n".join(lines) + "\n"


PAGES = {
    "reference/cli.md": reference,
    "reference/configuration.md": configuration,
    "man/minikubelet.1": manual,
    "man/minikubelet.yaml.5": configuration_manual,
}


def main() -> int:
    """Write all pages."""
    for name, make in PAGES.items():
        text = re.sub(r"[ \t]+$", "", make(), flags=re.MULTILINE)
        (DOCS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
