"""`minikubelet validate`: every error and warning of manifests at once, with the place and the likely meant spelling.

Exit codes: 0 nothing is wrong with the text; 1 something is (or, with --host, would fail here); 2 wrong usage, or a
file cannot be read. Fields that are right but not honoured on this node are warnings that leave the code at 0.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from minikubelet.api.manifest import Manifest, parse_manifest
from minikubelet.api.problems import Problem, Severity
from minikubelet.api.source import MAX_BYTES
from minikubelet.cli.terminal import RED, YELLOW, paint, printable
from minikubelet.node import settings_record

EXAMPLES = """\
examples:
  minikubelet validate web.yaml
  minikubelet validate --host /etc/minikubelet/manifests
  kubectl get pod web -o yaml | minikubelet validate -

exit codes: 0 nothing is wrong; 1 something is, or would fail here; 2 wrong usage, or a file cannot be read.
A field that this node does not honour is a warning that leaves the code at 0.
"""
_EXTENSIONS: Final = (".yaml", ".yml", ".json")
_MOST_SHOWN: Final = 50  # problems of a file, as text; JSON has all
_LONGEST_MESSAGE: Final = 600
_LONGEST_LINE: Final = 160
_SECRET: Final = re.compile(rb"kind[\"']?\s*:\s*[\"']?Secret", re.IGNORECASE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE|DIR|-")
    parser.add_argument("--node-name", default="", help="the node that pods are named after; default: this machine")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--strict-static", action="store_true", help="refuse references to other API objects")
    parser.add_argument("--host", action="store_true", help="check against this machine too: commands, paths, ports")


def execute(options: argparse.Namespace) -> int:
    """Check the files; see the exit codes above."""
    node = options.node_name or socket.gethostname().lower()
    contents, unreadable = _read_all(options.files)
    checked = [(name, data, _parse(name, data, node, options)) for name, data in contents]
    _tell_repeated(checked)
    if options.host:
        from minikubelet.cli.host_checks import add_host_problems

        directory = settings_record.manifest_dir(options.run_dir, options.config_dir)
        add_host_problems([manifest for _, _, manifest in checked], directory)
    if options.output == "json":
        listed = [_json(name, one) for name, _, manifest in checked for one in manifest.problems]
        print(json.dumps(listed, indent=2))
    else:
        for name, data, manifest in checked:
            _print_file(name, data, manifest)
    for text in unreadable:
        print(f"minikubelet: {printable(text)}", file=sys.stderr)
    if unreadable:
        return 2
    return int(any(not one.is_of_node for _, _, manifest in checked for one in manifest.problems))


def _parse(name: str, data: bytes, node: str, options: argparse.Namespace) -> Manifest:
    return parse_manifest(
        data, file=name, node_name=node, strict_static=options.strict_static, keep_places=options.host
    )


# Reading


def _read_all(names: Sequence[str]) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Return the files' contents, and why others cannot be read."""
    contents: list[tuple[str, bytes]] = []
    unreadable: list[str] = []
    for name in names:
        try:
            if name == "-":
                contents.append(("-", sys.stdin.buffer.read(MAX_BYTES + 1)))
                continue
            files = list(_manifests(name)) if os.path.isdir(name) else [name]
            if not files:
                unreadable.append(f"cannot check {name}: no {', '.join(_EXTENSIONS)} file is in it")
            for one in files:
                with open(one, "rb") as file:
                    contents.append((one, file.read(MAX_BYTES + 1)))
        except OSError as error:
            unreadable.append(f"cannot read {error.filename or name}: {error.strerror}")
        except ValueError as error:  # a name that no file can have
            unreadable.append(f"cannot read {name!r}: {error}")
    return contents, unreadable


def _manifests(directory: str) -> Iterator[str]:
    """Yield the files that the daemon would read from a directory."""
    for entry in sorted(os.listdir(directory)):
        if entry.endswith(_EXTENSIONS) and not entry.startswith("."):
            yield os.path.join(directory, entry)


def _tell_repeated(checked: Sequence[tuple[str, bytes, Manifest]]) -> None:
    """Add an error for each object whose name an earlier one has."""
    seen: dict[str, str] = {}
    for name, _, manifest in checked:
        objects = [("Pod", one.pod.metadata, one.document) for one in manifest.pods]
        objects += [("ConfigMap", one.metadata, 0) for one in manifest.config_maps]
        objects += [("Secret", one.metadata, 0) for one in manifest.secrets]
        for kind, meta, document in objects:
            what = f"{kind} {meta.namespace or 'default'}/{meta.name}"
            if what in seen:
                where = "this file" if seen[what] == name else seen[what]
                text = f"metadata.name: {what} is already defined in {where}, where it counts"
                manifest.problems.append(_error("metadata.name", text, document))
            seen.setdefault(what, name)


def _error(field: str, message: str, document: int) -> Problem:
    return Problem(severity=Severity.ERROR, field=field, message=message, document=document, line=1, column=1)


# Printing


def _json(name: str, one: Problem) -> dict[str, object]:
    return {
        "file": name,
        "document": one.document,
        "line": one.line,
        "column": one.column,
        "severity": one.severity.value,
        "field": one.field,
        "message": one.message,
    }


def _print_file(name: str, data: bytes, manifest: Manifest) -> None:
    counts = ", ".join(
        f"{len(found)} {what}{'' if len(found) == 1 else 's'}"
        for what, found in (
            ("pod", manifest.pods),
            ("config map", manifest.config_maps),
            ("secret", manifest.secrets),
        )
        if found
    )
    if not manifest.problems:
        print(f"{printable(name)}: ok ({counts or 'nothing in it'})")
        return
    # What a Secret holds is not shown, and its lines are what it holds.
    lines = [] if _SECRET.search(data) else data.decode("utf-8", "replace").splitlines()
    for one in manifest.problems[:_MOST_SHOWN]:
        print(_text(name, one, lines))
    rest = len(manifest.problems) - _MOST_SHOWN
    if rest > 0:
        print(f"{printable(name)}: {rest} more are not shown; -o json has them all")
    errors = sum(one.severity is Severity.ERROR for one in manifest.problems)
    warnings = len(manifest.problems) - errors
    said = [f"{errors} error{'' if errors == 1 else 's'}"] if errors else []
    said += [f"{warnings} warning{'' if warnings == 1 else 's'}"] if warnings else []
    print(f"{printable(name)}: {', '.join(said)}", file=sys.stderr)


def _text(name: str, one: Problem, lines: Sequence[str]) -> str:
    """Return a problem as compilers print it, with the line and a caret under the place."""
    colour = RED if one.severity is Severity.ERROR else YELLOW
    message = one.message if len(one.message) <= _LONGEST_MESSAGE else one.message[:_LONGEST_MESSAGE] + "..."
    place = f"{printable(name)}:{one.line}:{one.column}"
    hint = f" ({printable(one.hint)})" if one.hint and one.hint not in message else ""
    text = f"{place}: {paint(one.severity.value, colour)}: {printable(message)}{hint}"
    if 0 < one.line <= len(lines):
        text += "\n" + _source(lines[one.line - 1], one.column, colour)
    return text


def _source(line: str, column: int, colour: str) -> str:
    """Return a line of the file, cut to what fits, and a caret below a column of it."""
    line = printable(line.replace("\t", " "))
    start = max(0, column - _LONGEST_LINE // 2) if len(line) > _LONGEST_LINE else 0
    shown = line[start : start + _LONGEST_LINE]
    return f"    {shown}\n    {' ' * (column - 1 - start)}{paint('^', colour)}"
