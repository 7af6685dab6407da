"""`minikubelet explain`: what a field of a manifest means, and whether and how this node honours it."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator

from minikubelet.api.documentation import Documented, UnknownPath, fields_below, find, type_name
from minikubelet.api.support import HONOURED, Entry, Support
from minikubelet.cli.main import CommandFailed

EXAMPLES = """\
examples:
  minikubelet explain pod.spec.containers.livenessProbe
  minikubelet explain pod.spec.volumes --recursive
"""
_WIDEST = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="KIND[.FIELD...]", help="such as pod.spec.containers.livenessProbe")
    parser.add_argument("--recursive", action="store_true", help="list the fields of all levels below")


def execute(options: argparse.Namespace) -> int:
    """Print the documentation of a kind or field."""
    try:
        found = find(options.path)
    except UnknownPath as error:
        raise CommandFailed(str(error)) from error
    width = min(shutil.get_terminal_size().columns, _WIDEST) if sys.stdout.isatty() else 80
    print("\n".join(_lines(found, width, recursive=options.recursive)))
    return 0


def _lines(found: Documented, width: int, *, recursive: bool) -> Iterator[str]:
    yield f"KIND:       {found.kind}"
    yield "VERSION:    v1"
    yield ""
    if found.field is not None:
        yield f"FIELD: {found.path[-1]} <{type_name(found.field.type)}>"
        yield ""
    yield "DESCRIPTION:"
    yield from _wrapped(found.description, 4, width)
    if found.path:
        yield ""
        yield "SUPPORT:"
        yield from _wrapped(support_text(found.entry), 4, width)
    below = list(fields_below(found))
    if below:
        yield ""
        yield "FIELDS:"
        for one in below:
            yield from _names(one, 2) if recursive else _field(one, width)


def _field(one: Documented, width: int) -> Iterator[str]:
    if one.field is None:
        return
    yield f"  {one.path[-1]}\t<{type_name(one.field.type)}>"
    yield from _wrapped(one.description, 4, width)
    if one.entry is not HONOURED:
        yield from _wrapped(support_text(one.entry), 4, width)
    yield ""


def _names(one: Documented, indent: int) -> Iterator[str]:
    if one.field is None:
        return
    mark = {Support.HONOURED: "", Support.ACCEPTED: " (no action)", Support.UNHONOURED: " (not honoured)"}
    yield f"{' ' * indent}{one.path[-1]}\t<{type_name(one.field.type)}>{mark[one.entry.support]}"
    for below in fields_below(one):
        yield from _names(below, indent + 2)


def support_text(entry: Entry) -> str:
    """Return how far a field is honoured, as a sentence."""
    if entry is HONOURED:
        return "Honoured."
    said = {
        Support.HONOURED: "Honoured",
        Support.ACCEPTED: "Accepted without action, as by the kubelet",
        Support.UNHONOURED: "Not honoured" if not entry.is_partial else "Not honoured for some values",
    }
    return f"{said[entry.support]}: {entry.sentence}."


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, width, initial_indent=space, subsequent_indent=space)
