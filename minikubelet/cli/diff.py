"""`minikubelet diff`: what an edit of a manifest would change in the pods that run, and what follows.

Exit codes: 0 nothing would change; 1 something would; 2 wrong usage, or the file is not in order.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

from minikubelet.api.manifest import Manifest, parse_manifest
from minikubelet.api.source import MAX_BYTES
from minikubelet.api.types import Pod
from minikubelet.cli import client
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.terminal import GREEN, RED, YELLOW, paint, printable
from minikubelet.lifecycle.pods import all_containers, pod_key

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet diff web.yaml      compare a file with the pods that run

exit codes: 0 nothing would change; 1 something would; 2 wrong usage, or the file is not in order.
"""
_LONGEST_VALUE: Final = 60
# What the node itself writes into a pod.
_OF_NODE: Final = ("kubernetes.io/config.hash", "kubernetes.io/config.seen", "kubernetes.io/config.source")


class Outcome(Enum):
    """What becomes of a pod."""

    NOTHING = "no change"
    UPDATED = "is taken up while it runs"
    REPLACED = "is replaced"
    RESTARTED = "ends and starts anew"
    CREATED = "is new"


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs; None where it is not there."""

    path: str
    old: Any
    new: Any


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE|-")


def execute(options: argparse.Namespace) -> int:
    """Print what would change; see the exit codes above."""
    running = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in client.pods(options, "")}
    nodes = {str(one["spec"].get("nodeName", "")) for one in running.values()}
    node = min(nodes) if nodes else _node_name(options)
    changed = False
    for name in options.files:
        manifest = _parse(name, node)
        for document in manifest.pods:
            meta = document.pod.metadata
            outcome, changes = compare(running.get((meta.namespace, meta.name)), document.pod)
            changed = changed or outcome is not Outcome.NOTHING
            print("\n".join(_report(document.pod, outcome, changes)))
        if not manifest.pods:
            print(f"{printable(name)}: no pod is in it")
    return int(changed)


def _node_name(options: argparse.Namespace) -> str:
    nodes: list[Json] = client.fetch(options, "/api/v1/nodes")["items"]
    return str(nodes[0]["metadata"]["name"]) if nodes else "node"


def _parse(name: str, node: str) -> Manifest:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"cannot read {name}: {error.strerror}", 2) from error
    manifest = parse_manifest(data, file=name, node_name=node)
    if manifest.errors:
        one = manifest.errors[0]
        more = f" and {len(manifest.errors) - 1} more" if len(manifest.errors) > 1 else ""
        raise CommandFailed(
            f"cannot compare {name}:{one.line}:{one.column}: {printable(one.message)}{more}; such an edit is "
            f"refused and the last good version goes on; see 'minikubelet validate {name}'",
            2,
        )
    return manifest


# Comparing


def compare(running: Json | None, wanted: Pod) -> tuple[Outcome, list[Change]]:
    """Return what becomes of a pod, and why: the fields in which the running one and the wanted one differ."""
    if running is None:
        return Outcome.CREATED, []
    new = _comparable(json.loads(_encode(wanted)))
    old = _comparable(running)
    changes = list(_changes(old, new, ""))
    if not changes:
        return Outcome.NOTHING, []
    fixed = running["metadata"].get("uid") == wanted.metadata.uid
    if not fixed:
        return Outcome.REPLACED, changes
    return (Outcome.UPDATED if old["spec"] == new["spec"] else Outcome.RESTARTED), changes


def _encode(pod: Pod) -> bytes:
    import msgspec

    return msgspec.json.encode(pod)


def _comparable(pod: Json) -> Json:
    """Return what a manifest says of a pod, without what the node adds."""
    meta: Json = pod["metadata"]
    annotations = {key: value for key, value in meta.get("annotations", {}).items() if key not in _OF_NODE}
    return {
        "metadata": {"labels": meta.get("labels", {}), "annotations": annotations},
        "spec": pod.get("spec", {}),
    }


def _changes(old: Any, new: Any, path: str) -> Iterator[Change]:
    """Yield the fields that differ; items of lists that have names are told by them."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _changed_keys(cast("Json", old), cast("Json", new), f"{path}." if path else "", "")
    elif isinstance(old, list) and isinstance(new, list):
        yield from _changed_keys(_by_name(cast("Any", old)), _by_name(cast("Any", new)), f"{path}[", "]")
    else:
        yield Change(path, old, new)


def _changed_keys(old: Json, new: Json, before: str, after: str) -> Iterator[Change]:
    for key in [*old, *(one for one in new if one not in old)]:
        yield from _changes(old.get(key), new.get(key), f"{before}{key}{after}")


def _by_name(items: list[Any]) -> Json:
    objects: list[Json] = [one for one in items if isinstance(one, dict)]
    named = {str(one["name"]): one for one in objects if one.get("name")}
    if items and len(named) == len(items):
        return named
    return {str(index): one for index, one in enumerate(items)}


# Telling


def _report(pod: Pod, outcome: Outcome, changes: list[Change]) -> Iterator[str]:
    name = f"pod {pod_key(pod)}"
    names = [one.name for one in all_containers(pod)]
    yield f"{name}: {outcome.value}"
    for one in changes:
        yield f"  {_line(one)}"
    grace = pod.spec.termination_grace_period_seconds
    match outcome:
        case Outcome.CREATED:
            yield f"  it starts with {', '.join(names)}"
        case Outcome.UPDATED:
            yield "  no container ends; files of downward API volumes follow"
        case Outcome.REPLACED:
            yield "  the pod gets a new uid: all its containers end, with the grace period that the running pod has,"
            yield f"  and its volumes with them; then it starts with {', '.join(names)}"
        case Outcome.RESTARTED:
            yield f"  its uid stays {pod.metadata.uid}, since the manifest says it: all its containers end"
            yield f"  (this version's grace period is {grace} s) and start anew: {', '.join(names)}"
        case Outcome.NOTHING:
            pass


def _line(one: Change) -> str:
    if one.old is None:
        return paint(f"+ {printable(one.path)}: {_value(one.new)}", GREEN)
    if one.new is None:
        return paint(f"- {printable(one.path)}: {_value(one.old)}", RED)
    return paint(f"~ {printable(one.path)}: {_value(one.old)} -> {_value(one.new)}", YELLOW)


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "...")
