"""`minikubelet get pods|events`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from minikubelet.cli import client
from minikubelet.cli.main import CommandFailed
from minikubelet.lifecycle import columns

Json = dict[str, Any]

_NARROW = 6  # NAMESPACE to AGE


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", choices=["pods", "pod", "po", "events", "event", "ev"])
    parser.add_argument("name", nargs="?")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("-o", "--output", choices=["wide", "json", "yaml", "name"], default="")
    parser.add_argument("-w", "--watch", action="store_true")


def execute(options: argparse.Namespace) -> int:
    """Print the objects asked for."""
    if options.kind.startswith("ev"):
        return _events(options)
    try:
        code = _pods(options)
    finally:  # also when the pod that is asked for is not there: its manifest may be refused
        sys.stdout.flush()
        for line in refusals(options.run_dir):
            print(line, file=sys.stderr)
    if options.watch:
        _watch(options, "" if options.all_namespaces else options.namespace)
    return code


def _pods(options: argparse.Namespace) -> int:
    namespace = "" if options.all_namespaces else options.namespace
    if options.name:
        found = [client.find_pod(options, namespace, options.name)]
    else:
        found = client.pods(options, namespace, options.selector)
    if not found and not options.watch and options.output in ("", "wide"):
        print(f"No resources found{'' if options.all_namespaces else f' in {namespace} namespace'}.")
        return 0
    _print_pods(options, found, single=bool(options.name))
    return 0


def refusals(run_dir: str) -> list[str]:
    """Return a line for each manifest that is refused now, as its verdict file says it."""
    directory = os.path.join(run_dir, "manifests")
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".txt"))
    except OSError:
        return []
    lines: list[str] = []
    for name in names:
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8") as file:
                lines += refusal_line(file.read(), path)
        except OSError:
            continue  # mended meanwhile, or not for this user
    return lines


def refusal_line(verdict: str, path: str = "") -> list[str]:
    """Return the one line that tells a refusal, nothing for another verdict.

    Args:
        verdict: The text of a verdict file.
        path: Where it lies, for whoever wants to read it all.
    """
    head, *rest = verdict.splitlines() or [""]
    if not head.endswith(": refused"):
        return []
    errors = [line for line in rest if ": error: " in line]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return [f"manifest refused: {errors[0] if errors else head}{more}{f'; see {path}' if path else ''}"]


def _print_pods(options: argparse.Namespace, found: list[Json], *, single: bool) -> None:
    if options.output in ("json", "yaml"):
        value: Json = found[0] if single else {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found}
        _dump(value, options.output)
    elif options.output == "name":
        for one in found:
            print(f"pod/{one['metadata']['name']}")
    else:
        print(_table(options, found), end="")


def _dump(value: Json, form: str) -> None:
    if form == "json":
        print(json.dumps(value, indent=4))
        return
    import yaml

    print(yaml.dump(value, sort_keys=True, default_flow_style=False, allow_unicode=True), end="")


def _table(options: argparse.Namespace, found: list[Json]) -> str:
    now = time.time()
    rows = [columns.HEADERS, *(columns.pod_row(one, now) for one in found)]
    first = 0 if options.all_namespaces else 1
    last = None if options.output == "wide" else _NARROW
    return columns.render_table([row[first:last] for row in rows])


def _watch(options: argparse.Namespace, namespace: str) -> None:
    scope = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
    try:
        for change in client.stream(options, scope, watch="true", labelSelector=options.selector):
            one = change["object"]
            if options.name and not one["metadata"]["name"].startswith(options.name):
                continue
            if options.output in ("json", "yaml"):
                _dump(one, options.output)
            else:
                print(_table(options, [one]).split("\n", 1)[1], end="", flush=True)
    except client.DaemonDown as error:
        raise CommandFailed("cannot watch: the daemon does not answer") from error


def _events(options: argparse.Namespace) -> int:
    scope = "/api/v1/events" if options.all_namespaces else f"/api/v1/namespaces/{options.namespace}/events"
    try:
        found = client.fetch(options, scope)["items"]
    except client.DaemonDown as error:
        raise CommandFailed("cannot show events: the daemon does not answer") from error
    if options.output in ("json", "yaml"):
        _dump({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found}, options.output)
        return 0
    now = time.time()
    rows = [("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")]
    rows += [_event_row(one, now) for one in sorted(found, key=lambda one: one["lastTimestamp"])]
    print(columns.render_table(rows), end="")
    if options.watch:
        for change in client.stream(options, scope, watch="true"):
            print("   ".join(_event_row(change["object"], time.time())), flush=True)
    return 0


def _event_row(event: Json, now: float) -> tuple[str, str, str, str, str]:
    involved = event["involvedObject"]
    return (
        columns.age_column(event["lastTimestamp"], now),
        event["type"],
        event["reason"],
        f"{involved['kind'].lower()}/{involved['name']}",
        event["message"],
    )
