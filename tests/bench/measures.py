"""What is measured. Each function says what the clock runs from and to, and returns rows of the table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minikubelet.sandbox.logs import timestamp
from tests.bench import subject as sut
from tests.bench.marks import Marks
from tests.bench.pods import marked, pod
from tests.bench.samples import Row
from tests.conftest import Node

US = "minikubelet"


class Bench:
    """One run: where it may write, how thorough it is."""

    def __init__(self, base: Path, *, quick: bool) -> None:
        """Take a directory of this run's own."""
        self.base = base
        self.quick = quick
        self.bare_ms = 0.0
        self.rows: list[Row] = []
        self.scale: list[dict[str, float]] = []
        self._number = 0

    def add(self, measure: str, values: list[float], unit: str, **more: Any) -> None:
        """Take up a result and say it at once, as the whole run takes minutes."""
        row = Row(measure=measure, subject=more.pop("subject", US), values=tuple(values), unit=unit, **more)
        self.rows.append(row)
        print(f"  {row.measure}: {row.median:.2f} {row.unit} ({row.subject})", file=sys.stderr, flush=True)

    def words(self, count: int) -> list[str]:
        """Return names that no pod of this run had yet."""
        self._number += count
        return [f"p{number}" for number in range(self._number - count, self._number)]

    @contextlib.contextmanager
    def node(self, *, settings: str = "") -> Iterator[tuple[Node, Marks]]:
        """Run a fresh daemon and the reading end of its programs' marks."""
        self._number += 1
        directory = self.base / f"node{self._number}"
        marks = Marks(self.base / f"marks{self._number}")
        try:
            with sut.subject(directory, settings=settings) as node:
                yield node, marks
        finally:
            marks.close()


def bare(bench: Bench) -> None:
    """From the fork until the program's first instruction, by the kernel alone."""
    marks = Marks(bench.base / "bare")
    scratch = bench.base / "scratch"
    scratch.mkdir()
    program = str(Path(__file__).with_name("bare.py"))
    rounds = "5" if bench.quick else "30"
    done = subprocess.run(
        [sys.executable, "-S", "-E", program, rounds, "bare", str(marks.directory), str(scratch)],
        capture_output=True,
        text=True,
        check=True,
    )
    marks.close()
    values = [float(line) for line in done.stdout.split()]
    bench.bare_ms = statistics.median(values)
    bench.add("one program in namespaces", values, "ms", subject="bare kernel")


def start(bench: Bench) -> None:
    """From the rename of a manifest into the directory until the program's first instruction."""
    with bench.node() as (node, marks):
        warm_up(bench, node, marks)
        values = []
        for word in bench.words(3 if bench.quick else 20):
            began = drop(node, marks, [word])
            values.append((marks.wait([word])[word] - began) * 1000)
        bench.add("1 pod, manifest to first instruction", values, "ms", goal=20, bare=bench.bare_ms)
    for count, goal, rounds in ((10, 120, 5), (50, 600, 3)):
        values = []
        for _ in range(1 if bench.quick else rounds):
            with bench.node() as (node, marks):
                warm_up(bench, node, marks)
                words = bench.words(count)
                began = drop(node, marks, words)
                values.append((max(marks.wait(words).values()) - began) * 1000)
        bench.add(f"{count} pods at once, the last one", values, "ms", goal=goal)


def restart(bench: Bench) -> None:
    """From the SIGKILL of a program until the first instruction of its first restart."""
    with bench.node() as (node, marks):
        words = bench.words(3 if bench.quick else 20)
        drop(node, marks, words)
        marks.wait(words)
        settle(node)
        values = []
        for word in words:
            process = sut.main_process(node, word)
            began = time.monotonic()
            os.kill(process, signal.SIGKILL)
            values.append((marks.wait([word])[word] - began) * 1000)
        bench.add("kill -9 to first instruction of the restart", values, "ms", goal=8)


def execute(bench: Bench) -> None:
    """An exec of `true` through the socket: from the request until the answer that holds its exit code."""
    with bench.node() as (node, marks):
        [word] = bench.words(1)
        drop(node, marks, [word])
        marks.wait([word])
        settle(node)
        values = asyncio.run(_execute(node, f"{word}-n1", 5 if bench.quick else 200))
        bench.add("exec of true through the socket", values, "ms", goal=8)


async def _execute(node: Node, name: str, rounds: int) -> list[float]:
    import aiohttp

    values = []
    path = str(node.run_dir / "minikubelet.sock")
    url = f"http://node/api/v1/namespaces/default/pods/{name}/exec?command=true&stdout=true&stderr=true"
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        for _ in range(rounds):
            began = time.monotonic()
            async with session.ws_connect(url, protocols=("v5.channel.k8s.io",)) as channel:
                statuses = [message.data[1:] async for message in channel if message.data[:1] == b"\3"]
            values.append((time.monotonic() - began) * 1000)
            assert json.loads(statuses[0])["status"] == "Success", statuses
    return values


def probes(bench: Bench) -> None:
    """Processor time of daemon, fork server and pauses for one probe, above that of the same pods without probes."""
    seconds = 5 if bench.quick else 20
    # It says nothing: lines of the app's own would be counted as the probe's.
    server = """
from http.server import *
class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
class Server(ThreadingHTTPServer):
    def handle_error(self, *_): pass
Server(("", 80), Quiet).serve_forever()
"""
    kinds: tuple[tuple[str, float, dict[str, Any]], ...] = (
        ("exec", 3.5, {"exec": {"command": ["true"]}}),
        ("HTTP", 0.6, {"httpGet": {"port": 80, "path": "/etc/hostname"}}),
        ("TCP", 0.3, {"tcpSocket": {"port": 80}}),
    )
    count = 5 if bench.quick else 20
    for kind, goal, handler in kinds:
        with bench.node() as (node, _):
            probe = {**handler, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 99}
            one = {"command": [sys.executable, "-c", server], "livenessProbe": probe, "readinessProbe": probe}
            for word in bench.words(count):
                node.write(f"{word}.yaml", pod(word, one))
            node.wait(lambda node=node: table(node).count(" 1/1 ") == count, "pods to be ready", 60)
            settle(node)
            before = sut.own_cpu(node)
            time.sleep(seconds)
            used = sut.own_cpu(node) - before
            bench.add(f"CPU per {kind} probe", [used * 1000 / (seconds * count * 2)], "ms", goal=goal)


def lateness(bench: Bench) -> None:
    """How late a probe comes after its due time, told by the one that is asked: a server beside the node."""
    pods, containers, seconds = (5, 10, 5) if bench.quick else (25, 10, 15)
    with bench.node() as (node, _):
        asyncio.run(_lateness(bench, node, pods, containers, seconds))


async def _lateness(bench: Bench, node: Node, pods: int, containers: int, seconds: int) -> None:
    seen: dict[str, list[float]] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = time.monotonic()
        with contextlib.suppress(ConnectionError):
            path = (await reader.readline()).split()[1].decode()
            seen.setdefault(path, []).append(now)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]

    def probe(word: str, number: int, kind: str) -> dict[str, Any]:
        path = f"/{word}/{number}/{kind}"
        return {"httpGet": {"host": "127.0.0.1", "port": port, "path": path}, "periodSeconds": 1}

    for word in bench.words(pods):
        one = [
            {
                "command": ["sleep", "100000"],
                **{f"{kind}Probe": probe(word, n, kind) for kind in ("liveness", "readiness")},
            }
            for n in range(containers)
        ]
        node.write(f"{word}.yaml", pod(word, *one))
    wanted = pods * containers * 2
    while len(seen) < wanted or table(node).count(f" {containers}/{containers} ") < pods:
        await asyncio.sleep(0.2)
    await asyncio.sleep(2)
    for times in seen.values():
        times.clear()
    await asyncio.sleep(seconds)
    server.close()
    late = [1000 * one for times in seen.values() for one in _late(times)]
    missing = wanted * seconds - sum(map(len, seen.values()))
    cut = sorted(late)[int(len(late) * 0.99)]
    bench.add(f"lateness at {wanted} probes/s, p99 ({missing} of {wanted * seconds} missing)", [cut], "ms", goal=50)


def _late(times: list[float]) -> list[float]:
    """Return how far each is behind the grid of one second on which the earliest stand."""
    phases = [one - number for number, one in enumerate(times)]
    first = min(phases, default=0.0)
    return [phase - first for phase in phases]


def idle(bench: Bench) -> None:
    """Fifty pods at rest: processor time, memory, then a new daemon, the command line, and the end of all."""
    count = 10 if bench.quick else 50
    with bench.node() as (node, marks):
        words = bench.words(count)
        drop(node, marks, words)
        marks.wait(words)
        settle(node)
        found = sut.processes(node)
        own = (found.daemon, *found.forkserver, *found.pauses)
        seconds = 5 if bench.quick else 60
        before = sum(sut.precise_cpu_seconds(pid) for pid in own)
        time.sleep(seconds)
        used = sum(sut.precise_cpu_seconds(pid) for pid in own) - before
        bench.add(f"idle CPU, {count} pods", [100 * used / seconds], "% of a core", goal=0.1)
        center = sut.pss_mb((found.daemon, *found.forkserver))
        each = [sut.pss_mb((pid,)) for pid in found.pauses]
        bench.add(f"memory of all but the apps, {count} pods", [center + sum(each)], "MB", goal=50 + 1.2 * count)
        bench.add("memory of daemon and fork server", [center], "MB", goal=50)
        bench.add("memory of a pause", each, "MB", goal=1.2)
        values = []
        for _ in range(3 if bench.quick else 20):
            began = time.monotonic()
            command = [str(Path(sys.executable).with_name("minikubelet")), "get", "pods", *node.roots]
            subprocess.run(command, check=True, capture_output=True)
            values.append((time.monotonic() - began) * 1000)
        bench.add(f"get pods, {count} pods, the whole command", values, "ms", goal=120)
        values = [sut.restart(node) for _ in range(1 if bench.quick else 5)]
        bench.add(f"daemon start with {count} running pods until READY", values, "ms", goal=600)
        began = time.monotonic()
        for word in words:
            (node.manifests / f"{word}.yaml").unlink()
        pods_left, status_left = node.state_dir / "pods", node.run_dir / "status"
        while any(os.scandir(pods_left)) or any(os.scandir(status_left)):
            time.sleep(0.002)
        bench.add(f"{count} pods removed, until nothing is left", [(time.monotonic() - began) * 1000], "ms", goal=400)


def logs(bench: Bench) -> None:
    """100 MB of lines of 100 bytes: from the program's first instruction until the last is in the log file."""
    size = 10_000_000 if bench.quick else 100_000_000
    with bench.node(settings="containerLogMaxSize: 1Gi\n") as (node, marks):
        [word] = bench.words(1)
        directory = str(marks.directory)
        text = f"echo {word} > {directory}/marks; yes {'x' * 99} | head -c {size}; sleep 100000"
        mount = {"command": ["sh", "-c", text], "volumeMounts": [{"name": "marks", "mountPath": directory}]}
        node.write(f"{word}.yaml", pod(word, mount, volumes=[{"name": "marks", "hostPath": {"path": directory}}]))
        began = marks.wait([word])[word]
        [path] = (node.log_dir / "pods").glob("*/c0/0.log")
        lines = size // 100
        expected = lines * (100 + len(timestamp(0) + b" stdout F "))
        while path.stat().st_size < expected:
            time.sleep(0.002)
        took = time.monotonic() - began
        used = sut.cpu_seconds(sut.processes(node).pauses)
        bench.add(f"{size // 1_000_000} MB of lines until all is in the log", [took], "s", goal=0.9)
        bench.add(f"CPU for {size // 1_000_000} MB of lines", [used], "s", goal=1.0)


def manifests(bench: Bench) -> None:
    """A directory of 500: a change until the new program's first instruction, and a listing of unchanged files."""
    count = 50 if bench.quick else 500
    with bench.node() as (node, marks):
        for number in range(count - 1):
            text = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{number}"}, "data": {"a": "b"}}
            node.write(f"m{number}.yaml", json.dumps(text))
        warm_up(bench, node, marks)
        values = []
        for word in bench.words(3 if bench.quick else 10):
            began = drop(node, marks, [word])
            values.append((marks.wait([word])[word] - began) * 1000)
            (node.manifests / f"{word}.yaml").unlink()
            node.wait(lambda node=node, word=word: node.pod(word) is None, f"{word} to go")
        bench.add(f"one change among {count} manifests to first instruction", values, "ms", goal=30)
    bench.add(f"CPU of a listing of {count} unchanged manifests", _listing(bench, count), "ms", goal=5)


def _listing(bench: Bench, count: int) -> list[float]:
    """Compare the idle time of two daemons: one lists once a second, the other once an hour."""
    used = []
    for frequency in ("1s", "1h"):
        with bench.node(settings=f"fileCheckFrequency: {frequency}\n") as (node, _):
            for number in range(count):
                text = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{number}"}, "data": {"a": "b"}}
                node.write(f"m{number}.yaml", json.dumps(text))
            settle(node)
            seconds = 5 if bench.quick else 20
            before = sut.precise_cpu_seconds(sut.processes(node).daemon)
            time.sleep(seconds)
            used.append((sut.precise_cpu_seconds(sut.processes(node).daemon) - before) / seconds)
    return [max(0.0, used[0] - used[1]) * 1000]


def scale(bench: Bench) -> None:
    """Costs a pod from 1 to 1000 pods: start, processor time, memory, the API's list, a change of one pod's status."""
    for count in (1, 10) if bench.quick else (1, 10, 50, 200, 1000):
        with bench.node() as (node, marks):
            words = bench.words(count)
            before = sut.own_cpu(node)
            base = sut.processes(node)
            base_mb = sut.pss_mb((base.daemon, *base.forkserver))
            began = drop(node, marks, words)
            took = max(marks.wait(words, 300).values()) - began
            settle(node)
            found = sut.processes(node)
            used = sut.own_cpu(node) - before + sut.cpu_seconds(found.containers)
            memory = sut.pss_mb((found.daemon, *found.forkserver, *found.pauses)) - base_mb
            began = time.monotonic()
            node.cli("get", "pods", "-A", "-o", "name")
            listed = (time.monotonic() - began) * 1000
            change = _status_change(node, marks, words[:: max(1, count // 5)][:5])
        bench.scale.append(
            {
                "pods": count,
                "start ms a pod": took * 1000 / count,
                "CPU ms a pod": used * 1000 / count,
                "MB a pod": memory / count,
                "get pods ms": listed,
                "CPU ms a status": change,
            }
        )
        if count >= 200:
            bench.add(f"{count} pods at once, CPU a pod", [used * 1000 / count], "ms", goal=15)
            bench.add(f"{count} pods at once, the last one", [took], "s")


def _status_change(node: Node, marks: Marks, words: list[str]) -> float:
    """Return the daemon's processor time for a change of one pod's status among the others, in milliseconds.

    The change is a restart: three statuses at most, the table of all pods, what watches. What the daemon takes anyway
    is left out.
    """
    assert node.process is not None
    daemon = node.process.pid
    began, idle = time.monotonic(), sut.precise_cpu_seconds(daemon)
    time.sleep(1)
    share = (sut.precise_cpu_seconds(daemon) - idle) / (time.monotonic() - began)
    processes = [sut.main_process(node, word) for word in words]
    began, before = time.monotonic(), sut.precise_cpu_seconds(daemon)
    for word, process in zip(words, processes, strict=True):
        os.kill(process, signal.SIGKILL)
        marks.wait([word])
        time.sleep(0.5)  # until the table is written
    used = sut.precise_cpu_seconds(daemon) - before - share * (time.monotonic() - began)
    return used * 1000 / len(words)


# What they share


def drop(node: Node, marks: Marks, words: list[str]) -> float:
    """Rename pods into the directory, one right after the other; return the time before the first rename."""
    for word in words:
        beside = node.manifests / f".{word}"
        beside.write_text(marked(word, marks))
        beside.chmod(0o644)
    began = time.monotonic()
    for word in words:
        (node.manifests / f".{word}").rename(node.manifests / f"{word}.yaml")
    return began


def warm_up(bench: Bench, node: Node, marks: Marks) -> None:
    """Start a pod that nobody counts: the first one pays for imports and caches."""
    words = bench.words(1)
    drop(node, marks, words)
    marks.wait(words)
    settle(node)


def settle(node: Node, quiet_s: float = 1.0) -> None:
    """Wait until the daemon does next to nothing."""
    assert node.process is not None
    last = sut.precise_cpu_seconds(node.process.pid)
    for _ in range(60):
        time.sleep(quiet_s)
        now = sut.precise_cpu_seconds(node.process.pid)
        if now - last < 0.02 * quiet_s:
            return
        last = now


def table(node: Node) -> str:
    """Return the node's table."""
    return (node.run_dir / "status.txt").read_text()
