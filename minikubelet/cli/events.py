"""`minikubelet events`: what happened, the newest last, with how often."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from minikubelet.cli import client, lookup, output, terminal
from minikubelet.cli.arguments import add_namespace, namespace_of
from minikubelet.cli.main import CommandFailed

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet events -A -w                     everything, and go on
  minikubelet events --for pod/web             of one pod
  minikubelet events --types=Warning
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_namespace(parser, all_too=True)
    parser.add_argument(
        "--for", dest="about", default="", metavar="KIND/NAME", help="of one object: pod/web, node/NAME"
    )
    parser.add_argument("--types", default="", help="Normal, Warning or both with a comma")
    parser.add_argument("-w", "--watch", action="store_true", help="list, then go on")
    parser.add_argument("--no-headers", action="store_true", help="leave the headers out")
    output.add_output(parser)


def execute(options: argparse.Namespace) -> int:
    """Print the events."""
    fields, namespace = _fields(options), namespace_of(options)
    types = {one.strip().title() for one in options.types.split(",") if one.strip()}
    if types - {"Normal", "Warning"}:
        raise CommandFailed("--types takes Normal and Warning, parted by a comma", 2)
    try:
        answer = client.fetch(options, client.scope("events", namespace), fieldSelector=fields)
        found = sorted(answer["items"], key=lambda one: str(one.get("lastTimestamp") or ""))
        version = answer["metadata"].get("resourceVersion", "")
    except client.DaemonDown as down:
        found, version = client.events(options, namespace, fields), ""
        if not found or options.watch:
            raise
        client.tell_once(f"{str(down).split(';', 1)[0]}; these are the events that it kept")
    wanted = [one for one in found if not types or one["type"] in types]
    if not output.is_table(options.output):
        output.print_objects(options.output, wanted, single=False, kind="event")
    else:
        printer = _Printer(options)
        if wanted:
            printer.print(wanted)
        elif not options.watch:
            where = f" in {namespace} namespace" if namespace else ""
            print(f"No events found{where}.", file=sys.stderr)
    if options.watch:
        _watch(options, namespace, fields, types, version)
    return 0


def _fields(options: argparse.Namespace) -> str:
    if not options.about:
        return ""
    kind, slash, name = options.about.partition("/")
    if not slash:
        raise CommandFailed(f"cannot understand --for {options.about}: use KIND/NAME, such as pod/{options.about}", 2)
    if kind.lower() in ("pod", "pods", "po"):
        try:
            name = lookup.find_pod(options, namespace_of(options), name)["metadata"]["name"]
        except CommandFailed as failure:
            client.tell_once(str(failure))  # it may be gone, and its events still be there
        return f"involvedObject.kind=Pod,involvedObject.name={name}"
    return f"involvedObject.kind={kind.title()},involvedObject.name={name}"


def _watch(options: argparse.Namespace, namespace: str, fields: str, types: set[str], version: str) -> None:
    printer = _Printer(options, headers=False)
    path = client.scope("events", namespace)
    for change in client.stream(options, path, fieldSelector=fields, resourceVersion=version):
        one = change["object"]
        if change["type"] == "DELETED" or (types and one["type"] not in types):
            continue
        if output.is_table(options.output):
            printer.print([one])
        else:
            output.print_objects(options.output, [one], single=True, kind="event")
        sys.stdout.flush()
    raise CommandFailed("the daemon ended the watch; watch again when it is back")


class _Printer:
    """Prints events as rows; a later row is padded as the first ones were."""

    def __init__(self, options: argparse.Namespace, *, headers: bool = True) -> None:
        self._all = options.all_namespaces
        self._headers = headers and not options.no_headers
        self._widths = [9, 7, 18, 22, 0] if not self._all else [9, 9, 7, 18, 22, 0]

    def print(self, events: list[Json]) -> None:
        """Print some events."""
        now = time.time()
        headers = ["NAMESPACE"] if self._all else []
        headers += ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
        rows = [self._row(one, now) for one in events]
        every = [headers, *rows] if self._headers else rows
        if self._headers:
            self._widths = [max(len(row[i]) for row in every) for i in range(len(headers))]
        for row in every:
            colour = None if row is headers else terminal.colour_of_cell
            widths = [max(wide, len(cell)) for wide, cell in zip(self._widths, row, strict=True)]
            print(terminal.line(row, widths, headers, colour))

    def _row(self, one: Json, now: float) -> list[str]:
        from minikubelet.cli.describe_pod import age_of_event

        involved = one["involvedObject"]
        about = f"{str(involved.get('kind', '')).title()}/{involved.get('name', '')}"
        message = terminal.printable(" ".join(str(one.get("message", "")).split()))
        cells = [age_of_event(one, now), one["type"], one["reason"], about, message]
        return [one["metadata"]["namespace"], *cells] if self._all else cells
