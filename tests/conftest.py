"""What all tests share: running daemons of their own, each with its directories, bridge and range, and leak checks."""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import minikubelet

pytest_plugins = ["tests.conformance_report"]

Json = dict[str, Any]


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' files on a disk, and compile the package once.

    Containers do not see what lies in the host's memory, as /tmp does on Debian 13. An installation compiles the
    package too: where Python may not, each daemon and command would do it.
    """
    if re.search(rf"^\S+ {re.escape(tempfile.gettempdir())} tmpfs ", Path("/proc/mounts").read_text(), re.MULTILINE):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/var/tmp")
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(str(Path(minikubelet.__file__).parent), quiet=2)


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio only."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root where there is none, and say so."""
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: namespaces and mounts")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


class Node:
    """A daemon of the test's own, as a process, with everything it writes below one directory."""

    def __init__(self, base: Path, number: int, *, pod_cidr: str = "{network}/24", config: str = "") -> None:
        self.base = base
        self.manifests = base / "config" / "manifests"
        self.run_dir = base / "run"
        self.state_dir = base / "state"
        self.log_dir = base / "log"
        self.bridge = f"mkt{number:05}"  # of one length, so that no name begins another
        self.cidr = f"10.{200 + number // 250}.{number % 250}.0/24"
        block = number // 250  # of this test process alone
        wide = f"10.{240 + block // 16}.{block % 16 * 16}.0"
        self.pod_cidr = pod_cidr.format(network=self.cidr.removesuffix("/24"), wide=wide, number=number)
        self.cni_dir = base / "net.d"
        self.process: subprocess.Popen[bytes] | None = None
        self.manifests.mkdir(parents=True)
        os.chmod(self.manifests, 0o755)
        if config:
            (base / "config" / "config.yaml").write_text(config)

    @property
    def environment(self) -> dict[str, str]:
        """Return the daemon's environment; plugins that the machine has configured are not for it."""
        return {"MINIKUBELET_CNI_CONF_DIR": str(self.cni_dir), **os.environ}

    @property
    def roots(self) -> list[str]:
        return [
            f"--config-dir={self.base / 'config'}",
            f"--state-dir={self.state_dir}",
            f"--run-dir={self.run_dir}",
            f"--log-dir={self.log_dir}",
        ]

    def start(self) -> None:
        """Start the daemon and wait until its table is there."""
        log = open(self.base / "daemon.log", "ab")
        arguments = ["--node-name=n1", f"--bridge={self.bridge}", f"--pod-cidr={self.pod_cidr}", "--remove-pods"]
        command = [sys.executable, "-m", "minikubelet", "run", *self.roots, *arguments]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        daemon = self.process
        self.wait(lambda: self.listens() or daemon.poll() is not None, "the daemon's socket")
        assert daemon.poll() is None, f"the daemon ended; its log ends with:\n{self.log_end()}"

    def listens(self) -> bool:
        """Tell whether the daemon takes connections: its socket has a name a moment before it does."""
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def connect(self) -> socket.socket:
        """Connect to the daemon's socket, whose path may be longer than a socket's may. Raises OSError."""
        directory = os.open(self.run_dir, os.O_PATH)
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(f"/proc/self/fd/{directory}/minikubelet.sock")
        except OSError:
            made.close()
            raise
        finally:
            os.close(directory)
        made.settimeout(20)
        return made

    def kill(self) -> None:
        """Kill the daemon as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(FileNotFoundError):
            (self.run_dir / "minikubelet.sock").unlink()

    def stop(self) -> None:
        """End the daemon with its pods."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                print("the daemon did not stop; its log ends with", (self.base / "daemon.log").read_text()[-6000:])
                self.process.kill()
                self.process.wait()

    def write(self, name: str, text: str) -> None:
        """Drop a manifest, as a careful user does it: written beside, then renamed."""
        beside = self.manifests / f".{name}.tmp"
        beside.write_text(text)
        os.chmod(beside, 0o644)
        beside.rename(self.manifests / name)

    def remove(self, name: str) -> None:
        """Take a manifest away, if it is there."""
        (self.manifests / name).unlink(missing_ok=True)

    def pod(self, name: str) -> Json | None:
        """Return the pod as its status file has it."""
        path = self.run_dir / "status" / f"default_{name}-n1.json"
        try:
            found: Json = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return found

    def wait_pod(self, name: str, holds: Callable[[Json], bool], what: str, limit_s: float = 40.0) -> Json:
        """Wait until a pod's status file says what is expected."""
        found: list[Json] = []

        def check() -> bool:
            pod = self.pod(name)
            if pod is not None:
                found[:] = [pod]
            return pod is not None and holds(pod)

        try:
            self.wait(check, what, limit_s)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; last status: {json.dumps(found[-1]['status'] if found else None)}"
            ) from None
        return found[0]

    def wait(self, check: Callable[[], bool], what: str, limit_s: float = 40.0) -> None:
        """Wait for what tells nobody when it happens; shorter than the minute after which workers look anew."""
        deadline = time.monotonic() + limit_s
        while not check():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {limit_s} s for {what}; the daemon's log ends with:\n{self.log_end()}")
            time.sleep(0.02)

    def log_end(self) -> str:
        """Return the end of the daemon's log."""
        return (self.base / "daemon.log").read_text()[-3000:]

    def log(self, pod: Json, container: str, count: int = 0) -> str:
        """Return a container's log file."""
        meta = pod["metadata"]
        name = f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
        return "".join(whole_lines(self.log_dir / "pods" / name / container / f"{count}.log"))

    def output(self, pod: Json, container: str = "main", count: int = 0) -> str:
        """Return what a container wrote, without stamps and streams; "" before its log is there."""
        try:
            lines = self.log(pod, container, count).splitlines(keepends=True)
        except FileNotFoundError:
            return ""
        pieces = [line.split(" ", 3) for line in lines]
        return "".join(piece[3][:-1] + ("" if piece[2] == "P" else "\n") for piece in pieces)

    def container_process(self, pod: Json, container: str = "main") -> Path:
        """Return the /proc entry of a running container's first process, as its pause noted it at the start.

        A search by command line would depend on how far a shell has come with becoming its last command.
        """
        journal = self.state_dir / "pods" / pod["metadata"]["uid"] / "journal.jsonl"
        records = [json.loads(line) for line in whole_lines(journal)]
        states = [one["state"] for one in records if one["do"] == "container"]
        return Path("/proc") / str([one["pid"] for one in states if one.get("name") == container and "pid" in one][-1])

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this node."""
        command = [sys.executable, "-m", "minikubelet", *arguments, *self.roots]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def get(self, path: str) -> str:
        """Return what the server answers on its socket."""
        connection = http.client.HTTPConnection("node", timeout=30)
        with contextlib.closing(connection):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(30)
            connection.sock.connect(str(self.run_dir / "minikubelet.sock"))
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode()
        assert response.status == 200, text
        return text

    def leftovers(self) -> list[str]:
        """Return what of this node is still on the machine."""
        found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.base) in line]
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        # By number and name alone: the rest of a line changes, that of another run's link too.
        own = [line.split() for line in links.splitlines() if re.search(rf"\b{self.bridge}\b", line)]
        found += [f"link {number} {name}" for number, name, *_ in own]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
        found += [line for line in tables.splitlines() if line.endswith(f"minikubelet-{self.bridge}")]
        for top in own_groups():
            for directory, names, _ in os.walk(top):  # passes over what others remove meanwhile
                found += [f"{directory}/{name}" for name in names if name == f"kubepods-{self.bridge}"]
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and str(self.base).encode() in (entry / "cmdline").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


def whole_lines(path: Path) -> list[str]:
    """Return a log's lines; what is being written is seen in part where it crosses a page, and comes whole later."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def own_groups() -> list[Path]:
    """Return the control groups below which this process' daemons make theirs; other test runs have their own."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top]
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return [top / names.split(",")[0] / path.lstrip("/") for _, names, path in lines if names and "=" not in names]


def _numbers() -> Iterator[int]:
    """Yield numbers that no other test process of this machine uses: each process holds a block of 250.

    By a lock, and by a socket's name in the network namespace, where the bridges are: /tmp may be another one there.
    """
    for block in range(40):
        lock = os.open(f"/tmp/minikubelet-tests-{block}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        name = socket.socket(socket.AF_UNIX)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name.bind(f"\0minikubelet-tests-{block}")
        except OSError:
            os.close(lock)
            name.close()
            continue
        yield from itertools.cycle(range(block * 250, block * 250 + 250))
    raise RuntimeError("40 test processes run already")


_number = _numbers()


@contextlib.contextmanager
def running_node(base: Path, **options: Any) -> Iterator[Node]:
    """Run a daemon with everything below `base` and the options of `Node`; fail if anything of it is left."""
    one = Node(base, next(_number), **options)
    before = one.leftovers()  # of a test run with the same numbers that was killed
    try:
        one.start()
        yield one
    finally:
        one.stop()
        left = [line for line in one.leftovers() if line not in before]
        said = one.log_end() if left else ""
        shutil.rmtree(base, ignore_errors=True)
    assert left == [], f"{left}; the daemon's log ends with:\n{said}"


@pytest.fixture
def idle_node(tmp_path: Path) -> Node:
    """A node's directories, bridge and range, without a daemon: for tests that run one in their own way."""
    return Node(tmp_path / "node", next(_number))


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Run daemons with options of the test's: see `Node`."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(running_node(tmp_path / "node", **options))


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A running daemon of the test's own."""
    return make_node()


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A running daemon that the tests of one module share; the module's `CONFIG`, if any, is its config.yaml."""
    config = getattr(request.module, "CONFIG", "")
    with running_node(tmp_path_factory.mktemp("cluster"), config=config) as one:
        yield one
