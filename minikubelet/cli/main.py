"""Finds the verb, parses its arguments and runs it. Imports only that verb's module, so that it starts in milliseconds.

A verb is a module of this package with `configure(parser)`, which declares its arguments, and `execute(options)`, which
returns the exit code; what `EXAMPLES` holds, if it is there, ends its help.

Exit codes: 0 done; 1 it failed; 2 wrong usage or configuration; 130 interrupted; `exec` and `debug` give their
command's own.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Final, NoReturn

ROOTS: Final = {
    "config_dir": "/etc/minikubelet",
    "state_dir": "/var/lib/minikubelet",
    "run_dir": "/run/minikubelet",
    "log_dir": "/var/log",
}

# Every verb with its line in the help, in groups. A module that is not there is a verb that is not there.
GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "See": {
        "get": "list pods, events, nodes, namespaces, configmaps, secrets",
        "describe": "tell all about a pod or the node",
        "why": "say in one paragraph why a pod is in the state it is in",
        "timeline": "show a pod's logs, events, probes and restarts in the order of time",
        "logs": "print what containers printed",
        "events": "list what happened",
        "top": "show what pods, containers or the node use",
        "status": "show the daemon, the node, its pods and its problems on one page",
        "wait": "wait until a pod is as you want it",
    },
    "Step inside": {
        "exec": "run a command in a container",
        "attach": "connect to a container's main process",
        "cp": "copy files into a container and out of it",
        "port-forward": "reach a pod's ports on this machine",
        "debug": "open a host shell inside a pod's namespaces",
    },
    "Write manifests": {
        "validate": "check manifests without running them",
        "diff": "say what an edit would change and restart",
        "explain": "document a field of the manifest",
        "schema": "print the JSON schema of accepted manifests",
    },
    "Run the node": {
        "run": "run the daemon",
        "drain": "end pods and keep them from coming back",
        "uncordon": "let the pods of a drained node run again",
        "doctor": "check whether this machine can run pods",
        "kubeconfig": "print a configuration for kubectl",
        "version": "print the versions of this program and of the daemon",
        "completion": "print completion code for your shell",
    },
}
_HIDDEN: Final = {"complete": "say what the last word of a command line could become"}

_MISSING: Final = "the following arguments are required: "

# Flags that may stand before the verb too, as with kubectl; each takes a value.
EARLY: Final = (*(f"--{name.replace('_', '-')}" for name in ROOTS), "-n", "--namespace")


class CommandFailed(Exception):
    """The verb failed; the text is what the user is told."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """An argument parser that names the flag which was likely meant."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is; exit with 2."""
        hint = ""
        if message.startswith("unrecognized arguments: "):
            words = message.removeprefix("unrecognized arguments: ").split()
            wrong = next((word for word in words if word.startswith("-")), "").split("=", 1)[0]
            hint = did_you_mean(wrong, self._option_string_actions) if wrong else ""
        elif message.startswith(_MISSING):
            message = _MISSING + ", ".join(self._missing_of(message.removeprefix(_MISSING).split(", ")))
        # Whoever got one value wrong is told that, and not the whole usage.
        usage = self.format_usage() if message.startswith(_MISSING) else ""
        print(f"minikubelet: {message}{hint}\n{usage}see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(2)

    def _missing_of(self, names: list[str]) -> list[str]:
        """Return the arguments that must be there, with what they may be."""
        known = {str(one.metavar or one.dest): one for one in self._actions if not one.option_strings}
        known |= {"/".join(one.option_strings): one for one in self._actions if one.option_strings}
        # Between flags argparse holds those that may be left out for missing as well.
        missing = [one for one in names if one not in known or known[one].nargs not in ("*", "?")]
        return [f"{one} ({known[one].help})" if one in known and known[one].help else one for one in missing]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean "..."?` when something is close enough, else an empty text."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1)
    return f', did you mean "{close[0]}"?' if close else ""


def verbs() -> dict[str, str]:
    """Return each verb with its line in the help."""
    return {name: text for group in GROUPS.values() for name, text in group.items()}


def verb_parser(name: str) -> Parser:
    """Return the parser of one verb."""
    parser = Parser(prog=f"minikubelet {name}", allow_abbrev=False)
    _set_up(parser, name)
    return parser


def _set_up(parser: argparse.ArgumentParser, name: str) -> None:
    module = _module(name)
    text = {**verbs(), **_HIDDEN}[name]
    parser.description = f"{text[0].upper()}{text[1:]}."
    parser.epilog = getattr(module, "EXAMPLES", "").replace("%", "%%")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.configure(parser)
    group = parser.add_argument_group("directories")
    for root, default in ROOTS.items():
        group.add_argument(f"--{root.replace('_', '-')}", dest=root, metavar="DIR", help=f"default: {default}")


def parsers_flags(parser: argparse.ArgumentParser, *, short: bool) -> list[tuple[str, str]]:
    """Return a parser's flags that its help shows, with their help; short ones too if wanted."""
    actions = [one for one in parser._actions if one.option_strings and one.help != argparse.SUPPRESS]
    flags = [(flag, one) for one in actions for flag in one.option_strings if short or flag.startswith("--")]
    return [(flag, "" if one.help in (None, argparse.SUPPRESS) else str(one.help)) for flag, one in flags]


def _file(verb: str) -> str:
    return verb.replace("-", "_")


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"minikubelet.cli.{_file(verb)}")


def parse(arguments: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """Return the verb's module and its options; what stands after `--` is `options.command`."""
    early, rest = split_early(arguments)
    if early and not rest:
        raise CommandFailed(f"the verb is missing behind {early[-1]}\nsee 'minikubelet --help' for the verbs", 2)
    if not rest or rest[0] in ("-h", "--help", "help"):
        if len(rest) > 1 and rest[1] in verbs():
            verb_parser(rest[1]).parse_args(["--help"])
        print(help_text(), end="")
        raise SystemExit(0 if rest else 2)
    verb, *rest = rest
    if verb == "--version":
        verb = "version"
    known = verbs()
    if verb not in known and verb not in _HIDDEN:
        raise CommandFailed(_unknown(verb, early), 2)
    parser = verb_parser(verb)
    command: list[str] | None = None
    if "--" in rest:
        cut = rest.index("--")
        rest, command = rest[:cut], rest[cut + 1 :]
    options = parser.parse_intermixed_args(_as_argparse_likes([*early, *rest], parser))
    options.verb, options.command = verb, command
    return _module(verb), options


def _unknown(verb: str, early: Sequence[str]) -> str:
    """Return what is said of a verb that is not there."""
    from minikubelet.cli.absent import advice
    from minikubelet.node.settings_record import manifest_dir

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", default=os.environ.get("MINIKUBELET_CONFIG_DIR", ROOTS["config_dir"]))
    parser.add_argument("--run-dir", default=os.environ.get("MINIKUBELET_RUN_DIR", ROOTS["run_dir"]))
    found = parser.parse_known_args(list(early))[0]
    what = "flag" if verb.startswith("-") else "verb"
    instead = advice(verb, manifest_dir(found.run_dir, found.config_dir))
    if instead:
        return f'there is no verb "{verb}" here: {instead}'
    return f"unknown {what} \"{verb}\"{did_you_mean(verb, verbs())}\nsee 'minikubelet --help' for the verbs"


def split_early(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags that stand before the verb, and the rest."""
    early: list[str] = []
    rest = list(arguments)
    while rest and rest[0].split("=", 1)[0] in EARLY:
        count = 1 if "=" in rest[0] else 2
        early.extend(rest[:count])
        rest = rest[count:]
    return early, rest


def _as_argparse_likes(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return the arguments with kubectl's further spellings resolved: `--watch=true`, `-o=json`."""
    plain: list[str] = []
    for one in arguments:
        flag, equals, value = one.partition("=")
        action = parser._option_string_actions.get(flag) if equals else None
        if action is not None and action.nargs == 0 and value in ("true", "false"):
            negative = f"--no-{flag[2:]}"
            plain += [flag] if value == "true" else [negative] if negative in parser._option_string_actions else []
        elif action is not None and not flag.startswith("--"):
            plain += [flag, value]
        else:
            plain.append(one)
    return plain


def help_text() -> str:
    """Return the overview of all verbs."""
    lines = ["A kubelet for real processes: runs Kubernetes Pod manifests without a container engine.", ""]
    for title, group in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:13} {text}" for name, text in group.items()), ""]
    lines += [
        "Pods come from the files in the manifest directory; edit, add or remove a file to change them.",
        "'minikubelet VERB --help' tells a verb's flags and shows examples; the verbs and flags are kubectl's.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a program said may be no text at all
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except CommandFailed as failure:
        _tell(f"minikubelet: {failure}")
        return failure.code
    except BrokenPipeError:
        # The reader has enough; its end must not be told again when the interpreter flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        _tell(f"minikubelet: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return 1
    except Exception as error:
        if os.environ.get("MINIKUBELET_DEBUG"):
            raise
        _tell(f"minikubelet: internal error: {type(error).__name__}: {error}\nMINIKUBELET_DEBUG=1 shows where")
        return 1
    return code


def _run(arguments: Sequence[str]) -> int:
    module, options = parse(arguments)
    if options.verb != "run":
        fill_in_roots(options)
    return int(module.execute(options))


def fill_in_roots(options: argparse.Namespace) -> None:
    """Set the directories that are not given: by the environment, or those of the run directory's last daemon."""
    from minikubelet.node import settings_record

    for name in ROOTS:
        if getattr(options, name) is None:
            setattr(options, name, os.environ.get(f"MINIKUBELET_{name.upper()}"))
    if options.run_dir is None:
        options.run_dir = ROOTS["run_dir"]
    told = settings_record.read(options.run_dir)
    for name, default in ROOTS.items():
        if getattr(options, name) is None:
            setattr(options, name, str(told.get(name) or default))


def _tell(text: str) -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(text, file=sys.stderr)
