"""`minikubelet describe pod|node`: all that is known, in kubectl's layout."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from minikubelet.cli import client, lookup
from minikubelet.cli.arguments import add_namespace, namespace_of
from minikubelet.cli.get import resolve_kind
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.refusals import tell_refusals
from minikubelet.cli.tabwriter import align
from minikubelet.cli.terminal import printable
from minikubelet.cli.top import amount, cpu_cell, memory_cell

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet describe pod web        containers, probes, volumes, manifest, events
  minikubelet describe pods -l app=web
  minikubelet describe node
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", metavar="KIND", help="pod or node, or KIND/NAME")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    add_namespace(parser, all_too=True)
    parser.add_argument("-l", "--selector", default="", help="pods with these labels")


def execute(options: argparse.Namespace) -> int:
    """Print the descriptions, two empty lines between them as kubectl does."""
    kind, names = resolve_kind(options.kind, options.names)
    if kind == "nodes":
        texts = _nodes(options, names)
    elif kind == "pods":
        texts = _pods(options, names)
    else:
        raise CommandFailed(f"cannot describe {kind}: only pods and the node; try 'minikubelet get {kind} -o yaml'", 2)
    print(printable("\n\n\n".join(texts)))
    if kind == "pods":
        tell_refusals(options.run_dir)
    return 0


def _pods(options: argparse.Namespace, names: list[str]) -> list[str]:
    from minikubelet.cli.describe_pod import pod_lines
    from minikubelet.cli.facts import gather

    namespace = namespace_of(options)
    if names:
        found = [lookup.find_pod(options, namespace, name) for name in names]
    else:
        found = client.pods(options, namespace, options.selector)
        if not found:
            raise CommandFailed(f"No resources found{f' in {namespace} namespace' if namespace else ''}.", 0)
    now = time.time()
    return [align("\n".join(pod_lines(gather(options, pod), usage(options, pod), now))) for pod in found]


def usage(options: argparse.Namespace, pod: Json) -> Mapping[str, Json]:
    """Return what each container of a pod uses now; nothing when that is not known."""
    meta = pod["metadata"]
    path = client.scope("pods", meta["namespace"], meta["name"]).replace("/api/v1", "/apis/metrics.k8s.io/v1beta1")
    try:
        metrics = client.fetch(options, path)
    except (client.DaemonDown, client.ServerError):
        return {}
    found = {one["name"]: one.get("usage") or {} for one in metrics.get("containers") or ()}
    cells = (("cpu", cpu_cell), ("memory", memory_cell))
    return {name: {kind: cell(amount(one.get(kind, "0"))) for kind, cell in cells} for name, one in found.items()}


def _nodes(options: argparse.Namespace, names: list[str]) -> list[str]:
    from minikubelet.cli.describe_node import node_lines

    nodes = client.fetch(options, client.scope("nodes", ""))["items"]
    for name in names:
        if name not in {one["metadata"]["name"] for one in nodes}:
            known = ", ".join(one["metadata"]["name"] for one in nodes)
            raise CommandFailed(f'Error from server (NotFound): nodes "{name}" not found; this machine is {known}')
    pods = client.pods(options, "")
    now = time.time()
    texts: list[str] = []
    for node in nodes:
        if names and node["metadata"]["name"] not in names:
            continue
        events = client.events(options, "", f"involvedObject.kind=Node,involvedObject.name={node['metadata']['name']}")
        texts.append(align("\n".join(node_lines(node, pods, events, now))))
    return texts
