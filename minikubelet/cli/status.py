"""`minikubelet status`: one page on the daemon, the node, its pods and what is wrong."""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from minikubelet.cli import client, journals, terminal
from minikubelet.cli.facts import Facts, verdict_of
from minikubelet.cli.refusals import refusal_line, verdicts
from minikubelet.lifecycle import columns
from minikubelet.node import settings_record

Json = dict[str, Any]

EXAMPLES = """\
exit codes: 0 the daemon answers and nothing is wrong; 1 something is, or it does not answer
"""

_MOST_TOLD: Final = 20  # pods whose trouble is told; a page is read by people
_WELL: Final = ("Running", "Completed", "Succeeded")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments of its own."""


def execute(options: argparse.Namespace) -> int:
    """Print the page."""
    down: client.DaemonDown | None = None
    settings: Json = {}
    try:
        daemon, settings = _daemon(options), _settings(options)
        lines = [("Daemon", daemon), *_places(options, settings), *_node(options)]
    except client.DaemonDown as failure:
        down = failure
        settings = _recorded_settings(options)
        lines = [("Daemon", terminal.paint(str(failure), terminal.RED)), *_places(options, settings)]
    pods = _pods(options, down)
    now = time.time()
    problems = [*_refused(options), *_unwell(options, pods, now)]
    lines += [("Manifests", _manifests(options, settings)), ("Pods", _count(pods, now))]
    for title, text in lines:
        print(f"{title:<11}{text}")
    if problems:
        print("Problems")
        for text in problems:
            print(terminal.wrap(terminal.printable(text), _width(), "  "))
    elif down is None:
        print(f"{'Problems':<11}none")
    return 1 if problems or down is not None else 0


def _settings(options: argparse.Namespace) -> Json:
    try:
        found: Json = client.fetch(options, "/configz")["kubeletconfig"]
    except client.ServerError:
        return {}
    return found


def _recorded_settings(options: argparse.Namespace) -> Json:
    """Return what the daemon was started with that has gone."""
    return {"staticPodPath": settings_record.manifest_dir(options.run_dir, options.config_dir)}


def _places(options: argparse.Namespace, settings: Json) -> list[tuple[str, str]]:
    """Say where things lie; what the daemon does not tell is where it would look for it."""
    config = os.path.join(options.config_dir, "config.yaml")
    return [
        ("Socket", client.socket_path(options)),
        ("Config", config if os.path.exists(config) else f"{config} (not there: defaults)"),
        ("Logs", os.path.join(str(settings.get("podLogsDir") or options.log_dir), "pods")),
    ]


def _width() -> int:
    return terminal.width() if sys.stdout.isatty() else 100000


def _daemon(options: argparse.Namespace) -> str:
    from minikubelet.cli.version import daemon_version

    connection = client.connect(client.socket_path(options))
    with connection:
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    version = daemon_version(options) or {}
    words = ["running"]
    if version.get("minikubelet") or version.get("gitVersion"):
        words.append(f"version {version.get('minikubelet') or version['gitVersion']}")
    words.append(f"pid {pid}")
    since = _started(pid)
    if since is not None:
        words.append(f"up {columns.human_duration(time.time() - since)}")
    try:
        client.request(options, "/readyz").read()
    except client.ServerError as error:
        words.append(terminal.paint(f"not ready: {' '.join(str(error).split())}", terminal.RED))
    return ", ".join(words)


def _started(pid: int) -> float | None:
    """Return when a process started in Unix time."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _node(options: argparse.Namespace) -> list[tuple[str, str]]:
    from minikubelet.cli.top import amount

    try:
        nodes = client.fetch(options, client.scope("nodes", ""))["items"]
    except client.ServerError:
        return []
    lines: list[tuple[str, str]] = []
    for one in nodes:
        status = one.get("status", {})
        size = status.get("capacity") or {}
        memory = amount(size.get("memory", "0")) / 2**30
        bad = [
            c["type"]
            for c in status.get("conditions") or ()
            if (c["status"] != "True") is (c["type"] == "Ready") and c["status"] != "Unknown"
        ]
        state = "ready" if not bad else terminal.paint(f"not well: {', '.join(bad)}", terminal.RED)
        cordoned = one.get("spec", {}).get("unschedulable")
        held = ", cordoned: no pod runs until 'minikubelet uncordon'" if cordoned else ""
        lines.append(("Node", f"{one['metadata']['name']}, {state}{held}, {size.get('cpu', '?')} CPUs, {memory:.1f}Gi"))
    return lines


def _pods(options: argparse.Namespace, down: client.DaemonDown | None) -> list[Json]:
    try:
        return client.pods(options, "") if down is None else client.read_status_files(options, down)
    except client.DaemonDown:
        return []


def _manifests(options: argparse.Namespace, settings: Json) -> str:
    directory = str(settings.get("staticPodPath") or os.path.join(options.config_dir, "manifests"))
    heads = [text.split("\n", 1)[0] for _, text in verdicts(options.run_dir)]
    counts = Counter(one.rsplit(": ", 1)[-1] for one in heads)
    files = "1 file" if len(heads) == 1 else f"{len(heads)} files"
    return f"{directory}: {files}" + (f", {_counted(counts)}" if heads else "")


def _count(pods: Sequence[Json], now: float) -> str:
    counts = Counter(columns.status_column(one) for one in pods)
    return f"{len(pods)}" + (f": {_counted(counts)}" if pods else "")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _refused(options: argparse.Namespace) -> list[str]:
    return [line for path, text in verdicts(options.run_dir) for line in refusal_line(text, path)]


def _unwell(options: argparse.Namespace, pods: Sequence[Json], now: float) -> list[str]:
    """Say of each pod that is not well why, in its first sentence or two."""
    from minikubelet.cli.diagnosis import explain

    bad = [one for one in pods if not _is_well(one)]
    events = client.events(options, "") if bad else []
    texts: list[str] = []
    for one in bad[:_MOST_TOLD]:
        uid = one["metadata"]["uid"]
        about = [event for event in events if event.get("involvedObject", {}).get("uid") == uid]
        instances = journals.instances(options.state_dir, uid)
        facts = Facts(pod=one, events=about, verdict=verdict_of(options.run_dir, uid), instances=instances)
        texts.append(f"{columns.status_column(one)}: {explain(facts, now)}")
    more = len(bad) - _MOST_TOLD
    return [*texts, f"and {more} more pods that are not well: 'minikubelet get pods -A'"] if more > 0 else texts


def _is_well(pod: Json) -> bool:
    if columns.status_column(pod) not in _WELL:
        return False
    ready, _, total = columns.ready_column(pod).partition("/")
    return ready == total or pod.get("status", {}).get("phase") == "Succeeded"
