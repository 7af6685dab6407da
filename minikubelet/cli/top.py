"""`minikubelet top pods|containers|node`: what is used now."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, Final

from minikubelet.cli import client, lookup, terminal
from minikubelet.cli.arguments import add_namespace, namespace_of
from minikubelet.cli.main import CommandFailed, did_you_mean

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet top pods -A --sort-by=memory
  minikubelet top containers web
  minikubelet top node
"""

_METRICS: Final = "/apis/metrics.k8s.io/v1beta1"
_KINDS: Final = {
    "pods": ("pods", "pod", "po"),
    "containers": ("containers", "container"),
    "node": ("node", "nodes", "no"),
}
_SUFFIXES: Final = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", metavar="KIND", help="pods, containers or node")
    parser.add_argument("names", nargs="*", metavar="NAME")
    add_namespace(parser, all_too=True)
    parser.add_argument("-l", "--selector", default="", help="pods with these labels")
    parser.add_argument("--containers", action="store_true", help="each container for itself")
    parser.add_argument("--sort-by", choices=["cpu", "memory"], default="", help="the largest first")
    parser.add_argument("--no-headers", action="store_true", help="leave the headers out")
    parser.add_argument("--sum", action="store_true", help="add a line with the sum")


def execute(options: argparse.Namespace) -> int:
    """Print the table."""
    kind = next((name for name, words in _KINDS.items() if options.kind.lower() in words), "")
    if not kind:
        words = [word for every in _KINDS.values() for word in every]
        raise CommandFailed(f'cannot show the use of "{options.kind}"{did_you_mean(options.kind, words)}', 2)
    rows = (
        _node_rows(options) if kind == "node" else _pod_rows(options, each=options.containers or kind == "containers")
    )
    if len(rows) == 1:
        print("No resources found.", file=sys.stderr)
        return 0
    print(terminal.render(rows[1:] if options.no_headers else rows), end="")
    return 0


def amount(quantity: str) -> float:
    """Return a quantity as a number: cores or bytes."""
    found = re.fullmatch(r"([\d.eE+-]+?)([numkKMGTP]i?|)", str(quantity))
    return float(found[1]) * _SUFFIXES.get(found[2], 1.0) if found else 0.0


def cpu_cell(cores: float) -> str:
    """Return cores as kubectl's top does: whole thousandths."""
    return f"{int(cores * 1000 + 0.999999)}m" if cores else "0m"


def memory_cell(size: float) -> str:
    """Return bytes as kubectl's top does: whole mebibytes."""
    return f"{int(size // 2**20)}Mi"


def _pod_rows(options: argparse.Namespace, *, each: bool) -> list[list[str]]:
    namespace = namespace_of(options)
    scope = client.scope("pods", namespace).replace("/api/v1", _METRICS)
    items: list[Json] = client.fetch(options, scope, labelSelector=options.selector)["items"]
    if options.names:
        pods = [lookup.find_pod(options, namespace, name) for name in options.names]
        wanted = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in pods}
        items = [one for one in items if (one["metadata"]["namespace"], one["metadata"]["name"]) in wanted]
    found: list[tuple[list[str], float, float]] = []
    for one in items:
        head = [one["metadata"]["namespace"]] if options.all_namespaces else []
        used = [
            (c["name"], amount(c["usage"].get("cpu", "0")), amount(c["usage"].get("memory", "0")))
            for c in one["containers"]
        ]
        if each:
            found += [([*head, one["metadata"]["name"], name], cpu, memory) for name, cpu, memory in used]
        else:
            found.append(([*head, one["metadata"]["name"]], sum(u[1] for u in used), sum(u[2] for u in used)))
    if options.sort_by:
        found.sort(key=lambda row: row[1 if options.sort_by == "cpu" else 2], reverse=True)
    headers = [*(["NAMESPACE"] if options.all_namespaces else []), *(["POD", "NAME"] if each else ["NAME"])]
    rows = [[*headers, "CPU(cores)", "MEMORY(bytes)"]]
    rows += [[*names, cpu_cell(cpu), memory_cell(memory)] for names, cpu, memory in found]
    if options.sum and found:
        total = [""] * (len(headers) - 1) + ["sum"]
        rows.append([*total, cpu_cell(sum(row[1] for row in found)), memory_cell(sum(row[2] for row in found))])
    return rows


def _node_rows(options: argparse.Namespace) -> list[list[str]]:
    used = client.fetch(options, f"{_METRICS}/nodes")["items"]
    nodes = {one["metadata"]["name"]: one for one in client.fetch(options, client.scope("nodes", ""))["items"]}
    for name in options.names:
        if name not in nodes:
            known = ", ".join(nodes)
            raise CommandFailed(f'Error from server (NotFound): nodes "{name}" not found; this machine is {known}')
    rows = [["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]]
    for one in used:
        name = one["metadata"]["name"]
        if options.names and name not in options.names:
            continue
        there = nodes.get(name, {}).get("status", {}).get("allocatable") or {}
        cpu, memory = amount(one["usage"].get("cpu", "0")), amount(one["usage"].get("memory", "0"))
        cells = [cpu_cell(cpu), _percent(cpu, amount(there.get("cpu", "0")))]
        rows.append([name, *cells, memory_cell(memory), _percent(memory, amount(there.get("memory", "0")))])
    return rows


def _percent(part: float, whole: float) -> str:
    return f"{int(part * 100 / whole)}%" if whole else "<unknown>"
