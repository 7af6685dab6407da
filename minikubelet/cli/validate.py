"""`minikubelet validate`: every error and warning of manifests at once, with the place and the likely meant
spelling."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator

from minikubelet.api.manifest import parse_manifest
from minikubelet.api.problems import Problem, Severity
from minikubelet.cli.main import CommandFailed

_EXTENSIONS = (".yaml", ".yml", ".json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE|DIR|-")
    parser.add_argument("--node-name", default="")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--strict-static", action="store_true", help="refuse references to other API objects")


def execute(options: argparse.Namespace) -> int:
    """Check the files; 0 when all is well, 1 with problems, 2 when a file cannot be read."""
    node = options.node_name or socket.gethostname().lower()
    listed: list[dict[str, object]] = []
    errors = warnings = 0
    for name, data in _contents(options.files):
        manifest = parse_manifest(data, file=name, node_name=node, strict_static=options.strict_static)
        lines = data.decode("utf-8", "replace").splitlines()
        for one in manifest.problems:
            errors += one.severity is Severity.ERROR
            warnings += one.severity is Severity.WARNING
            listed.append(_json(name, one))
            if options.output == "text":
                _print(name, one, lines)
        if options.output == "text" and not manifest.problems:
            count = len(manifest.pods)
            print(f"{name}: ok ({count} pod{'' if count == 1 else 's'})")
    if options.output == "json":
        print(json.dumps(listed, indent=2))
    elif errors or warnings:
        print(f"{errors} errors, {warnings} warnings", file=sys.stderr)
    return 1 if errors or warnings else 0


def _contents(names: list[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if name == "-":
            yield "-", sys.stdin.buffer.read()
        elif os.path.isdir(name):
            for entry in sorted(os.listdir(name)):
                if entry.endswith(_EXTENSIONS) and not entry.startswith("."):
                    yield os.path.join(name, entry), _read(os.path.join(name, entry))
        else:
            yield name, _read(name)


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise CommandFailed(f"cannot read {name}: {error.strerror}", 2) from error


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


def _print(name: str, one: Problem, lines: list[str]) -> None:
    print(f"{name}:{one.line}:{one.column}: {one.severity.value}: {one.message}")
    if 0 < one.line <= len(lines):
        source = lines[one.line - 1].expandtabs(8)
        print(f"    {source}")
        print(f"    {' ' * (one.column - 1)}^")
