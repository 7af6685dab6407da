"""`minikubelet get KIND [NAME...]`: lists objects, in the tables that the daemon makes, as an API server does."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from minikubelet.cli import client, lookup, output, terminal
from minikubelet.cli.arguments import add_namespace, namespace_of
from minikubelet.cli.main import CommandFailed, did_you_mean
from minikubelet.cli.refusals import tell_refusals

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet get pods -A -o wide                      all pods, with address and node
  minikubelet get pod web -o yaml                      the whole object; web or web-NODE name it
  minikubelet get pods -w                              go on with every change
  minikubelet get pods -l app=web,tier!=test           by label
  minikubelet get pods --field-selector status.phase=Running
  minikubelet get pods -o jsonpath='{.items[*].status.podIP}'
  minikubelet get pods -o custom-columns=NAME:.metadata.name,IP:.status.podIP
  minikubelet get events --sort-by=.lastTimestamp      what happened
"""

_KINDS: Final = {
    "pods": ("po", "pod", "pods", "all"),
    "events": ("ev", "event", "events"),
    "nodes": ("no", "node", "nodes"),
    "namespaces": ("ns", "namespace", "namespaces"),
    "configmaps": ("cm", "configmap", "configmaps"),
    "secrets": ("secret", "secrets"),
}
_NOT_NAMESPACED: Final = ("nodes", "namespaces")


class Row(NamedTuple):
    """One row of a table with the object it is about."""

    cells: list[str]
    object: Json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "kind", metavar="KIND", help="pods, events, nodes, namespaces, configmaps or secrets, or KIND/NAME"
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    add_namespace(parser, all_too=True)
    parser.add_argument("-l", "--selector", default="", help="by label: a=b, a!=b, 'a in (b,c)', a, !a")
    parser.add_argument("--field-selector", default="", help="by field: status.phase=Running, metadata.name=web-n1")
    output.add_output(parser)
    parser.add_argument("-w", "--watch", action="store_true", help="list, then go on with every change")
    parser.add_argument("--watch-only", action="store_true", help="go on with every change without listing first")
    parser.add_argument("--sort-by", default="", metavar="PATH", help="order of rows: .metadata.creationTimestamp")
    parser.add_argument("--ignore-not-found", action="store_true", help="a name that is not there is no error")
    parser.add_argument("--no-headers", action="store_true", help="leave the headers out")
    parser.add_argument("--show-labels", action="store_true", help="add a column with all labels")
    parser.add_argument(
        "-L", "--label-columns", default="", metavar="LABELS", help="add a column for each of these labels"
    )


def execute(options: argparse.Namespace) -> int:
    """Print the objects asked for."""
    if "," in options.kind:
        return _several(options, options.kind.split(","))
    kind, names = resolve_kind(options.kind, options.names)
    if names and (options.selector or options.all_namespaces):
        flag = "-l" if options.selector else "-A"
        raise CommandFailed(f"cannot take names together with {flag}: leave one out", 2)
    lister = Lister(options, kind)
    code = 0
    try:
        if names:
            code = lister.resolve(names)
        if not options.watch_only:
            lister.show()
    finally:  # also when the pod that is asked for is not there: its manifest may be refused
        if kind == "pods":
            tell_refusals(options.run_dir)
    if options.watch or options.watch_only:
        lister.watch()
    return code


def _several(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the objects of several kinds, as kubectl does: a table each, or one List of all."""
    kinds = list(dict.fromkeys(_plural(one) for one in words))
    if options.names or options.watch or options.watch_only:
        raise CommandFailed("several kinds can only be listed: ask for one to name objects or to watch", 2)
    listers = [Lister(options, kind, several=True) for kind in kinds]
    if not output.is_table(options.output):
        items = [one for lister in listers for one in lister.objects()]
        items = output.sort_objects(items, options.sort_by) if options.sort_by else items
        output.print_objects(options.output, items, single=False)
        return 0
    shown = False
    for lister in listers:
        rows = lister.rows()
        if rows and shown:
            print()
        lister.print(rows)
        shown = shown or bool(rows)
    if not shown:
        print("No resources found.", file=sys.stderr)
    if "pods" in kinds:
        tell_refusals(options.run_dir)
    return 0


def resolve_kind(word: str, names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the plural of a kind in any spelling, and the names. Raises CommandFailed."""
    found: dict[str, list[str]] = {}
    kind, slash, name = word.partition("/")
    chosen = _plural(kind)
    found[chosen] = [name] if slash else []
    for one in names:
        prefix, slash, rest = one.partition("/")
        if slash and _plural(prefix) != chosen:
            raise CommandFailed("cannot list two kinds at once: ask for one after the other", 2)
        found[chosen].append(rest if slash else one)
    return chosen, found[chosen]


def _plural(word: str) -> str:
    for plural, spellings in _KINDS.items():
        if word.lower() in spellings:
            return plural
    hint = did_you_mean(word, [one for every in _KINDS.values() for one in every])
    hint = hint or f"; of a pod called so: pod/{word}"
    raise CommandFailed(f'no such kind: "{word}"{hint}\nthis node has {", ".join(_KINDS)}', 2)


class Lister:
    """Lists and watches one kind."""

    def __init__(self, options: argparse.Namespace, kind: str, *, several: bool = False) -> None:
        """Args: several: Objects of other kinds are printed beside them, so names tell their kind."""
        self._options = options
        self._prefix = f"{kind.removesuffix('s')}/" if several else ""
        self._kind = kind
        namespace = "" if kind in _NOT_NAMESPACED else namespace_of(options)
        self._namespace = namespace
        self._path = client.scope(kind, namespace)
        self._query = {"labelSelector": options.selector, "fieldSelector": options.field_selector}
        self._names: set[str] | None = None
        self._version = ""
        self._widths: list[int] = []
        self._headers: list[str] = []
        self._named: int | None = None  # the column of names
        self._chosen: list[int] = []  # columns of the daemon's tables
        self._single = False

    def resolve(self, names: Sequence[str]) -> int:
        """Take only these names; those that are not there are told. Returns the exit code."""
        self._names = set()
        code = 0
        try:
            known = client.pods(self._options, self._namespace) if self._kind == "pods" else self.objects()
        except client.ServerError as error:
            raise CommandFailed(str(error)) from error
        for name in names:
            try:
                self._names.add(self._choose(known, name)["metadata"]["name"])
            except CommandFailed as failure:
                if self._options.ignore_not_found and "NotFound" in str(failure):
                    continue
                if len(names) == 1:
                    raise
                code = 1
                client.tell_once(str(failure))
        self._single = len(names) == 1
        return code

    def _choose(self, known: list[Json], name: str) -> Json:
        if self._kind == "pods":
            return lookup.choose(known, name, self._namespace, lambda: client.pods(self._options, ""))
        for one in known:
            if one["metadata"]["name"] == name:
                return one
        hint = did_you_mean(name, [one["metadata"]["name"] for one in known])
        raise CommandFailed(f'Error from server (NotFound): {self._kind} "{name}" not found{hint}')

    def show(self) -> None:
        """Print what is there now."""
        options = self._options
        if not output.is_table(options.output):
            items = [one for one in self.objects() if self._is_wanted(one)]
            items = output.sort_objects(items, options.sort_by) if options.sort_by else items
            output.print_objects(options.output, items, single=self._single, kind=self._kind.removesuffix("s"))
            return
        rows = self.rows()
        if not rows:
            if not options.watch and self._names is None:
                where = f" in {self._namespace} namespace" if self._namespace else ""
                print(f"No resources found{where}.", file=sys.stderr)
            return
        self.print(rows)

    def objects(self) -> list[Json]:
        """Return all objects of the kind that the selectors choose."""
        if self._kind == "pods":
            options = self._options
            try:
                answer = client.fetch(options, self._path, **self._query)
            except client.DaemonDown:
                return client.pods(options, self._namespace, options.selector, options.field_selector)
        else:
            answer = client.fetch(self._options, self._path, **self._query)
        self._version = answer["metadata"].get("resourceVersion", "")
        items: list[Json] = answer["items"]
        return items

    def _is_wanted(self, one: Json) -> bool:
        return self._names is None or one["metadata"]["name"] in self._names

    def rows(self) -> list[Row]:
        """Return the rows of the table, in the order wanted."""
        options = self._options
        whole = "Object" if options.sort_by or self._kind == "events" else None
        try:
            table = client.fetch_table(options, self._path, includeObject=whole, **self._query)
        except client.DaemonDown:
            if self._kind != "pods":
                raise
            table = self._table_from_files()
        self._version = table.get("metadata", {}).get("resourceVersion", "")
        rows = self._take(table)
        if options.sort_by:
            return output.sort_objects(rows, options.sort_by, lambda row: row.object)
        if self._kind == "events":
            rows.sort(key=lambda row: str(row.object.get("lastTimestamp") or ""))
        return rows

    def _table_from_files(self) -> Json:
        from minikubelet.lifecycle import columns

        options = self._options
        found = client.pods(options, self._namespace, options.selector, options.field_selector)
        now = time.time()
        return {
            "columnDefinitions": [
                {"name": name, "priority": int(index > 4)} for index, name in enumerate(columns.HEADERS[1:])
            ],
            "rows": [{"cells": columns.pod_row(one, now)[1:], "object": one} for one in found],
        }

    def _take(self, table: Json) -> list[Row]:
        """Return the rows with the columns wanted; note the headers."""
        options = self._options
        wide = options.output == "wide"
        definitions = table.get("columnDefinitions") or ()
        labels = [one for one in options.label_columns.split(",") if one]
        if definitions:
            self._chosen = [i for i, one in enumerate(definitions) if wide or not one.get("priority")]
            self._headers = [str(definitions[i]["name"]).upper() for i in self._chosen]
            self._named = self._headers.index("NAME") if "NAME" in self._headers else None
            if not self._namespace and self._kind not in _NOT_NAMESPACED:
                self._headers.insert(0, "NAMESPACE")
            self._headers += [one.rsplit("/", 1)[-1].upper() for one in labels]
            self._headers += ["LABELS"] if options.show_labels else []
        rows: list[Row] = []
        for row in table["rows"]:
            meta = row["object"]["metadata"]
            if not self._is_wanted(row["object"]):
                continue
            cells = [terminal.printable(str(row["cells"][i])).replace("\n", "\\n") for i in self._chosen]
            if self._named is not None:
                cells[self._named] = self._prefix + cells[self._named]
            if not self._namespace and self._kind not in _NOT_NAMESPACED:
                cells.insert(0, meta.get("namespace", ""))
            own = meta.get("labels") or {}
            cells += [own.get(one, "") for one in labels]
            cells += [",".join(f"{k}={v}" for k, v in sorted(own.items())) or "<none>"] if options.show_labels else []
            rows.append(Row(cells, row["object"]))
        return rows

    def print(self, rows: Sequence[Row]) -> None:
        """Print rows under what was printed before; headers only once, and not without rows."""
        if not rows:
            return
        lines = [row.cells for row in rows]
        first = not self._widths
        if first and not self._options.no_headers:
            lines.insert(0, self._headers)
        known = self._widths or [0] * len(self._headers)
        self._widths = [max(wide, *(terminal.cells(one[i]) for one in lines)) for i, wide in enumerate(known)]
        for one in lines:
            colour_of = None if one is self._headers else terminal.colour_of_cell
            print(terminal.line(one, self._widths, self._headers, colour_of), flush=one is lines[-1])

    def watch(self) -> None:
        """Print every change until the daemon ends."""
        options = self._options
        as_table = output.is_table(options.output)
        query = {**self._query, "resourceVersion": self._version}
        for change in client.stream(options, self._path, as_table=as_table, **query):
            one = change["object"]
            if as_table:
                rows = self._take(one)
                if rows:
                    self.print(rows)
            elif self._is_wanted(one):
                output.print_objects(options.output, [one], single=True, kind=self._kind.removesuffix("s"))
                sys.stdout.flush()
        raise CommandFailed("the daemon ended the watch; watch again when it is back")
