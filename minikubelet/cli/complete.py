"""`minikubelet complete -- WORD...`: what the last word of a command line could become; the shells' completion asks it.

Prints a line for each candidate, with a description behind a tab; a last line `:files` or `:directories` asks the shell
to complete paths besides. It knows the line so far: the namespace, the pod whose containers are wanted, the directories
of another node. It says nothing when there is nothing to say.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from minikubelet.cli.main import EARLY, ROOTS, CommandFailed, fill_in_roots, parsers_flags, verb_parser, verbs

Json = dict[str, Any]
Candidate = tuple[str, str]

FILES: Final = ":files"
DIRECTORIES: Final = ":directories"

_KINDS: Final = ("pods", "nodes", "events", "namespaces", "configmaps", "secrets")
_PLURALS: Final = {
    "po": "pods", "pod": "pods", "no": "nodes", "node": "nodes", "ns": "namespaces", "namespace": "namespaces",
    "cm": "configmaps", "configmap": "configmaps", "secret": "secrets",
}  # fmt: skip
_GOALS: Final = (
    ("condition=Ready", "until all containers are ready"),
    ("condition=Initialized", "until the init containers are done"),
    ("condition=ContainersReady", ""),
    ("create", "until there is such a pod"),
    ("delete", "until it is gone"),
    ("jsonpath=", "until a field has a value"),
)
_FORMS: Final = (
    ("wide", "more columns"), ("json", ""), ("yaml", ""), ("name", "KIND/NAME only"), ("jsonpath=", "a template"),
    ("custom-columns=", "HEADER:PATH,..."),
)  # fmt: skip
_PLAIN: Final = {
    "field_selector": ("metadata.name=", "metadata.namespace=", "status.phase=", "spec.nodeName="),
    "types": ("Normal", "Warning"),
    "sort_by": (".metadata.name", ".metadata.creationTimestamp", ".status.phase", ".lastTimestamp"),
    "since": ("30s", "5m", "1h"),
    "timeout": ("30s", "5m", "1h"),
    "address": ("localhost", "127.0.0.1", "0.0.0.0"),
}


@dataclass(slots=True)
class Line:
    """A command line up to its last word, taken apart."""

    parser: argparse.ArgumentParser
    word: str
    waits: argparse.Action | None = None  # the flag whose value the last word is
    places: list[str] = field(default_factory=list)  # what stands there without a flag
    values: dict[str, str] = field(default_factory=dict)  # by `dest`


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; the words stand behind `--`."""


def execute(options: argparse.Namespace) -> int:
    """Print the candidates."""
    with contextlib.suppress(CommandFailed, OSError), contextlib.redirect_stderr(None):
        for value, text in complete(list(options.command or ())):
            print(f"{value}\t{text}" if text else value)
    return 0


def complete(words: Sequence[str]) -> Iterator[Candidate]:
    """Yield candidates for the last of the words behind `minikubelet`, with their descriptions."""
    *before, word = words or [""]
    early, rest, waiting = _early(before)
    if waiting or (not rest and word.startswith("-") and "=" in word):
        flag, _, value = word.partition("=") if not waiting else (waiting, "", word)
        prefix = "" if waiting else f"{flag}="
        parser = verb_parser("get")
        action = parser._option_string_actions.get(flag)
        if action is not None:
            yield from _fitting(value, prefix, _values(Line(parser, value, values=_roots(early)), action))
        return
    if not rest:
        known: Iterable[Candidate] = [(one, "") for one in EARLY] if word.startswith("-") else verbs().items()
        yield from _fitting(word, "", [*known, *([] if word.startswith("-") else [("help", "help for a verb")])])
        return
    verb, *arguments = rest
    if verb == "help":
        yield from _fitting(word, "", verbs().items())
    elif verb in verbs():
        yield from _of_verb(verb_parser(verb), [*early, *arguments], word)


def _early(words: Sequence[str]) -> tuple[list[str], list[str], str]:
    """Return the flags before the verb, the rest, and the flag that still waits for its value."""
    early: list[str] = []
    rest = list(words)
    while rest and rest[0].partition("=")[0] in EARLY:
        count = 1 if "=" in rest[0] else 2
        if len(rest) < count:
            return early, [], rest[0]
        early += rest[:count]
        rest = rest[count:]
    return early, rest, ""


def _roots(early: Sequence[str]) -> dict[str, str]:
    line = take_apart(verb_parser("get"), early, "")
    return line.values


def _of_verb(parser: argparse.ArgumentParser, arguments: Sequence[str], word: str) -> Iterator[Candidate]:
    if "--" in arguments:
        yield (FILES, "")  # a command of the container's; its programs are mostly this machine's
        return
    line = take_apart(parser, arguments, word)
    if line.waits is not None:
        yield from _fitting(word, "", _values(line, line.waits))
    elif word.startswith("--") and "=" in word:
        flag, _, value = word.partition("=")
        action = parser._option_string_actions.get(flag)
        line.word = value
        yield from _fitting(value, f"{flag}=", _values(line, action) if action is not None else ())
    elif word.startswith("-") and word != "-":
        yield from _fitting(word, "", parsers_flags(parser, short=len(word) == 1))
    else:
        place = _place(parser, len(line.places))
        yield from _fitting(word, "", _values(line, place) if place is not None else ())


def take_apart(parser: argparse.ArgumentParser, arguments: Sequence[str], word: str) -> Line:
    """Return what the words before the last one say: values of flags, places, and the flag that waits for the last."""
    line = Line(parser, word)
    for one in arguments:
        if line.waits is not None:
            line.values[line.waits.dest] = one
            line.waits = None
        elif one.startswith("--"):
            flag, equals, value = one.partition("=")
            _note(line, parser._option_string_actions.get(flag), value, given=bool(equals))
        elif one.startswith("-") and len(one) > 1:
            _cluster(line, one)
        else:
            line.places.append(one)
    return line


def _cluster(line: Line, word: str) -> None:
    """Take short flags that stand together: `-it`, `-nweb`."""
    for index, letter in enumerate(word[1:], 2):
        action = line.parser._option_string_actions.get(f"-{letter}")
        if action is None or action.nargs != 0:
            _note(line, action, word[index:].removeprefix("="), given=bool(word[index:]))
            return


def _note(line: Line, action: argparse.Action | None, value: str, *, given: bool) -> None:
    if action is None or action.nargs == 0:
        return
    if given:
        line.values[action.dest] = value
    else:
        line.waits = action


def _place(parser: argparse.ArgumentParser, index: int) -> argparse.Action | None:
    """Return the argument that stands at a place."""
    places = [one for one in parser._actions if not one.option_strings]
    if index < len(places):
        return places[index]
    return places[-1] if places and places[-1].nargs in ("*", "+") else None


def _fitting(word: str, prefix: str, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    for value, text in candidates:
        if value in (FILES, DIRECTORIES):
            yield value, ""
        elif value.startswith(word):
            yield f"{prefix}{value}", " ".join(text.split())


# What an argument can be


def _values(line: Line, action: argparse.Action) -> Iterable[Candidate]:
    if action.choices is not None:
        return [(str(one), "") for one in action.choices]
    if action.metavar == "DIR":
        return [(DIRECTORIES, "")]
    if action.dest == "standalone" or action.dest in ("files", "file"):
        return [(FILES, "")]
    if action.dest in _PLAIN:
        return [(one, "") for one in _PLAIN[action.dest]]
    how = _LIVE.get(action.dest)
    return how(line) if how is not None else ()


def _namespace(line: Line) -> str:
    """Return the namespace of the line; that of flags only, as completion should rather say too much."""
    return line.values.get("namespace", "")


def _options(line: Line) -> argparse.Namespace:
    found = argparse.Namespace(**{name: line.values.get(name) for name in ROOTS})
    fill_in_roots(found)
    return found


def _pods(line: Line) -> list[Json]:
    from minikubelet.cli import client

    return client.pods(_options(line), _namespace(line))


def _pod_names(line: Line) -> list[Candidate]:
    from minikubelet.cli import lookup
    from minikubelet.lifecycle.columns import status_column

    prefix = next((one for one in ("pod/", "pods/", "po/") if line.word.startswith(one)), "")
    return sorted({(prefix + lookup.manifest_name(one), status_column(one)) for one in _pods(line)})


def _containers_of(line: Line, pod: str) -> list[str]:
    from minikubelet.cli import lookup

    name = pod.removeprefix("pods/").removeprefix("pod/").partition("/")[0].partition(":")[0]
    found = [one for one in _pods(line) if name in ("", one["metadata"]["name"], lookup.manifest_name(one))]
    return sorted({container for one in found for container in lookup.container_names(one)})


def _logs_of(line: Line) -> list[Candidate]:
    """Return pods, and behind a pod and a slash its containers."""
    pod, slash, _ = line.word.partition("/")
    if slash and pod not in ("pod", "pods", "po"):
        return [(f"{pod}/{one}", "") for one in _containers_of(line, pod)]
    return _pod_names(line)


def _containers(line: Line) -> list[Candidate]:
    pod = line.places[0] if line.places else ""
    if not pod and "source" in {one.dest for one in line.parser._actions}:
        pod = line.values.get("source", "")
    return [(one, "") for one in _containers_of(line, pod)]


def _namespaces(line: Line) -> list[Candidate]:
    line.values.pop("namespace", None)
    return [(one, "") for one in sorted({"default", *(one["metadata"]["namespace"] for one in _pods(line))})]


def _kinds(line: Line) -> list[Candidate]:
    kind, slash, _ = line.word.partition("/")
    if slash:
        return [(f"{kind}/{name}", text) for name, text in _names_of(kind, line)]
    own = {"describe": ("pods", "nodes"), "top": ("pods", "containers", "node")}
    return [(one, "") for one in own.get(line.parser.prog.rpartition(" ")[2], _KINDS)]


def _names(line: Line) -> list[Candidate]:
    return _names_of(line.places[0], line)


def _names_of(kind: str, line: Line) -> list[Candidate]:
    plural = _PLURALS.get(kind.lower(), kind.lower())
    if plural in ("pods", "containers"):
        line.word = ""
        return _pod_names(line)
    if plural not in _KINDS:
        return []
    from minikubelet.cli import client

    namespace = "" if plural in ("nodes", "namespaces") else _namespace(line) or "default"
    items = client.fetch(_options(line), client.scope(plural, namespace))["items"]
    return sorted((one["metadata"]["name"], "") for one in items)


def _about(line: Line) -> list[Candidate]:
    line.word = ""
    return [(f"pod/{name}", text) for name, text in _pod_names(line)]


def _copies(line: Line) -> list[Candidate]:
    if ":" in line.word:
        return []
    return [*((f"{name}:", text) for name, text in _pod_names(line)), (FILES, "")]


def _ports(line: Line) -> list[Candidate]:
    from minikubelet.cli import lookup

    wanted = line.places[0].removeprefix("pod/")
    pods = [one for one in _pods(line) if wanted in (one["metadata"]["name"], lookup.manifest_name(one))]
    ports = [port for pod in pods for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
    return sorted({(str(one["containerPort"]), str(one.get("name") or "")) for one in ports})


def _fields(line: Line) -> list[Candidate]:
    from minikubelet.api.documentation import UnknownPath, fields_below, find

    above, dot, _ = line.word.rpartition(".")
    if not dot:
        return [(one, "") for one in ("pod", "configmap", "secret")]
    try:
        found = list(fields_below(find(above)))
    except UnknownPath:
        return []
    return [(f"{above}.{one.path[-1]}", one.description.partition(". ")[0]) for one in found]


def _forms(line: Line) -> list[Candidate]:
    return list(_FORMS)


def _goals(line: Line) -> list[Candidate]:
    return list(_GOALS)


_LIVE: Final[Mapping[str, Any]] = {
    "pod": _pod_names,
    "pods": _logs_of,
    "container": _containers,
    "namespace": _namespaces,
    "kind": _kinds,
    "names": _names,
    "about": _about,
    "source": _copies,
    "target": _copies,
    "ports": _ports,
    "path": _fields,
    "output": _forms,
    "goal": _goals,
}
