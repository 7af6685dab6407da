"""Disks, inodes, descriptors and processes run out: pods that run go on, it is said why, and it mends itself."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import laws
from tests.conftest import Node, running_node
from tests.integration.test_crash import STEADY, is_ready, main_of, manifest, numbered_lines, pauses

pytestmark = pytest.mark.root

CONFIG = "crashLoopBackOff: {maxContainerRestartPeriod: 1s}\n"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose state, run and log directories are small file systems of their own."""
    base = tmp_path_factory.mktemp("small") / "node"
    mounts = [base / name for name in ("state", "run", "log")]
    for path in mounts:
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=600,mode=755", "tmpfs", path], check=True)
    try:
        with running_node(base, config=CONFIG) as node:
            yield node
    finally:
        for path in mounts:
            subprocess.run(["umount", "-l", path], check=False, stderr=subprocess.DEVNULL)


def fill(directory: Path) -> Path:
    """Leave no byte on the file system of a directory."""
    path = directory / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def use_inodes(directory: Path) -> Path:
    """Leave no inode."""
    path = directory / "ballast"
    path.mkdir()
    try:
        for number in range(10_000):
            (path / str(number)).touch()
    except OSError:
        return path
    raise AssertionError("inodes without end")


@pytest.mark.parametrize("how", [fill, use_inodes], ids=["bytes", "inodes"])
def test_full_disks(small: Node, how: Callable[[Path], Path]) -> None:
    """State, run and log directory are full at once."""
    directories = (small.state_dir, small.run_dir, small.log_dir)
    log = small.base / "daemon.log"
    small.write("kept.yaml", manifest("kept", STEADY))
    volume = f"  volumes: [{{name: host, hostPath: {{path: {small.base}}}}}]"
    mount = "    volumeMounts: [{name: host, mountPath: /host}]"
    script = "while [ ! -e /host/end ]; do sleep 0.05; done; exit 5"
    small.write("ends.yaml", manifest("ends", script, policy="Never", pod=volume, more=mount))
    before = small.wait_pod("kept", is_ready, "the pod to run")
    small.wait_pod("ends", is_ready, "the pod to run")
    said = len(log.read_text())
    ballasts = [how(directory) for directory in directories]
    try:
        small.wait(lambda: log.read_text()[said:].count("event=problem ") >= 3, "the problems to be said")
        # A container that ends now is known to have ended, and the other runs on.
        (small.base / "end").touch()
        assert small.process is not None and small.process.poll() is None
        small.wait(lambda: api_pod(small, "ends")["status"]["phase"] == "Failed", "the end to be known to the API")
        assert main_of(api_pod(small, "kept"))["containerID"] == main_of(before)["containerID"]
        # A new pod may have to wait; nothing else is disturbed by it.
        small.write("late.yaml", manifest("late", STEADY))
        small.wait(lambda: "late" in small.cli("get", "pods").stdout, "the new pod to be listed")
    finally:
        for ballast in ballasts:
            subprocess.run(["rm", "-rf", ballast], check=True)
    small.wait_pod("late", is_ready, "the waiting pod to run by itself")
    small.wait(lambda: log.read_text()[said:].count('event="problem over"') >= 3, "the ends to be said")
    found = small.wait_pod("kept", is_ready, "the pod to run on")
    assert main_of(found)["restartCount"] == 0
    # What was known only in memory is on disk again: the next daemon knows it too.
    small.kill()
    small.start()
    found = small.wait_pod("kept", is_ready, "the pod after a restart")
    assert main_of(found)["containerID"] == main_of(before)["containerID"]
    ended = small.wait_pod("ends", lambda one: one["status"]["phase"] == "Failed", "the end")
    assert main_of(ended)["state"]["terminated"]["exitCode"] == 5
    # What had no room is counted in the log; nothing else is missing.
    text = small.log(before, "main")
    lines = numbered_lines(text)
    lost = sum(int(number) for number in re.findall(r"minikubelet: (\d+) lines lost: no space", text))
    assert sorted(set(lines)) == lines
    assert len(lines) + lost == lines[-1]
    assert "NodeHasDiskPressure" in small.cli("get", "events", "-A").stdout
    (small.base / "end").unlink()
    for one in ("kept", "ends", "late"):
        small.remove(f"{one}.yaml")
    for one in ("kept", "ends", "late"):
        small.wait(lambda one=one: small.pod(one) is None, f"{one} to be gone")
    laws.wait_for_no_leaks(small, {})


def test_a_pod_ends_while_disks_are_full_and_a_daemon_starts_on_them(small: Node) -> None:
    for name in ("ends", "stays"):
        small.write(f"{name}.yaml", manifest(name, STEADY))
        small.wait_pod(name, is_ready, "the pod to run")
    ballasts = [fill(directory) for directory in (small.state_dir, small.run_dir, small.log_dir)]
    try:
        small.remove("ends.yaml")
        small.wait(lambda: not pauses(small, "ends"), "its processes to end")
        small.kill()
        small.start()
        assert pauses(small, "stays")
        small.wait(lambda: "stays-n1" in small.cli("get", "pods").stdout, "the API")
    finally:
        for ballast in ballasts:
            ballast.unlink()
    small.wait(lambda: small.pod("ends") is None, "the pod to be gone", 60)
    found = small.wait_pod("stays", is_ready, "the other pod")
    assert main_of(found)["restartCount"] == 0
    small.remove("stays.yaml")
    small.wait(lambda: small.pod("stays") is None and not laws.leaks(small, {}), "nothing to be left", 60)


def test_state_that_is_removed_under_the_daemon_keeps_no_pod_from_running_or_ending(cluster: Node) -> None:
    cluster.write("robbed.yaml", manifest("robbed", STEADY))
    cluster.wait_pod("robbed", is_ready, "the pod to run")
    for path in cluster.state_dir.iterdir():
        subprocess.run(["rm", "-rf", path], check=False, stderr=subprocess.DEVNULL)  # what is mounted stays
    cluster.write("after.yaml", manifest("after", STEADY))
    cluster.wait_pod("after", is_ready, "a new pod")
    (pause,) = pauses(cluster, "robbed")
    (container,) = [one for one in laws._processes() if laws._parent(one) == pause]
    os.kill(container, 9)
    cluster.wait_pod("robbed", lambda one: is_ready(one) and main_of(one)["restartCount"] == 1, "the restart")
    cluster.kill()
    cluster.start()
    for name in ("robbed", "after"):
        cluster.wait_pod(name, is_ready, "the pod under another daemon", 60)
        cluster.remove(f"{name}.yaml")
    cluster.wait(lambda: not laws.leaks(cluster, {}) and cluster.pod("robbed") is None, "nothing to be left", 60)


def api_pod(node: Node, name: str) -> Json:
    import json

    found: Json = json.loads(node.cli("get", "pod", name, "-o", "json").stdout)
    return found


def limit(process: int, what: int, soft: int) -> tuple[int, int]:
    """Set the soft limit of a running process; return what it was."""
    before = resource.prlimit(process, what)
    resource.prlimit(process, what, (soft, before[1]))
    return before


def test_no_more_descriptors_for_the_daemon(cluster: Node) -> None:
    cluster.write("steady.yaml", manifest("steady", STEADY))
    before = cluster.wait_pod("steady", is_ready, "the pod to run")
    assert cluster.process is not None
    process = cluster.process.pid
    held = max(int(one) for one in os.listdir(f"/proc/{process}/fd")) + 1
    old = limit(process, resource.RLIMIT_NOFILE, held)
    try:
        cluster.write("starved.yaml", manifest("starved", STEADY))
        log = cluster.base / "daemon.log"
        cluster.wait(
            lambda: "Too many open files" in log.read_text() or "name=descriptors" in log.read_text(), "the cause", 30
        )
        assert cluster.process.poll() is None
    finally:
        limit(process, resource.RLIMIT_NOFILE, old[0])
    cluster.wait_pod("starved", is_ready, "the pod to run by itself", 60.0)
    found = cluster.wait_pod("steady", is_ready, "the first pod")
    assert main_of(found)["containerID"] == main_of(before)["containerID"]
    cluster.remove("starved.yaml")
    cluster.remove("steady.yaml")


def test_no_more_descriptors_or_processes_for_a_pause(cluster: Node) -> None:
    """The pause turns clients away and starts nothing, but lives; what it could not do is done when it can."""
    cluster.write("tight.yaml", manifest("tight", "trap 'exit 0' TERM; " + STEADY))
    before = cluster.wait_pod("tight", is_ready, "the pod to run")
    (pause,) = [one for one in laws.children_of(cluster)["pause"] if laws.pod_of(one) == "tight"]
    old = limit(pause, resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{pause}/fd")))
    try:
        (container,) = [one for one in laws._processes() if laws._parent(one) == pause]
        os.kill(container, 9)
        cluster.wait_pod(
            "tight", lambda one: "waiting" in main_of(one)["state"] or main_of(one)["restartCount"] > 0, "the failure"
        )
        assert Path(f"/proc/{pause}").exists()
    finally:
        limit(pause, resource.RLIMIT_NOFILE, old[0])
    found = cluster.wait_pod(
        "tight", lambda one: is_ready(one) and main_of(one)["restartCount"] >= 1, "the restart", 60.0
    )
    assert found["metadata"]["uid"] == before["metadata"]["uid"]
    assert Path(f"/proc/{pause}").exists()
    cluster.remove("tight.yaml")


@contextmanager
def pids_limit(processes: list[int]) -> Iterator[Path]:
    """Put processes into a control group of their own that can be given a limit; put them back at the end."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    home = next((Path("/sys/fs/cgroup/pids" + path) for _, names, path in lines if names == "pids"), None)
    if home is None or not home.is_dir():
        pytest.skip("no pids controller of version 1 here")
    group = home / f"minikubelet-test-{os.getpid()}"
    group.mkdir()
    try:
        for one in processes:
            (group / "cgroup.procs").write_text(str(one))
        yield group
    finally:
        (group / "pids.max").write_text("max")
        for one in (group / "cgroup.procs").read_text().split():
            (home / "cgroup.procs").write_text(one)
        group.rmdir()


def test_no_more_processes_for_the_daemon_and_the_fork_server(cluster: Node) -> None:
    """Pods run on, it is said why others cannot start, and they start when there is room, all by itself."""
    cluster.write("runs.yaml", manifest("runs", STEADY))
    before = cluster.wait_pod("runs", is_ready, "the pod to run")
    (pause,) = pauses(cluster, "runs")
    assert cluster.process is not None
    with pids_limit([cluster.process.pid, *laws.children_of(cluster)["forkserver"]]) as group:
        (group / "pids.max").write_text((group / "pids.current").read_text())
        cluster.write("waits.yaml", manifest("waits", STEADY))
        volume = "  volumes: [{name: cache, emptyDir: {}}]"
        cluster.write("stores.yaml", manifest("stores", STEADY, pod=volume))
        for name in ("waits", "stores"):
            cluster.wait(lambda name=name: "temporarily unavailable" in told(cluster, name), "the cause")
        assert [
            text for name in ("waits", "stores") for text in ("Error:", "Errno") if text in told(cluster, name)
        ] == []
        cluster.wait(lambda: "NodeHasInsufficientPID" in cluster.cli("get", "events", "-A").stdout, "the event")
        assert "pids.max" in cluster.cli("status").stdout
        assert b"processes" in get(cluster, "/healthz?verbose")
        # What runs is in groups of its own: it is even restarted.
        (container,) = [one for one in laws._processes() if laws._parent(one) == pause]
        os.kill(container, 9)
        cluster.wait_pod("runs", lambda one: is_ready(one) and main_of(one)["restartCount"] == 1, "the restart")
        assert cluster.process.poll() is None
        (group / "pids.max").write_text("max")
        for name in ("waits", "stores"):
            cluster.wait_pod(name, is_ready, "the pod to run by itself", 60)
        cluster.wait(lambda: "pids.max" not in cluster.cli("status").stdout, "the problem to be over")
    assert cluster.wait_pod("runs", is_ready, "the pod")["metadata"]["uid"] == before["metadata"]["uid"]
    for name in ("runs", "waits", "stores"):
        cluster.remove(f"{name}.yaml")
    for name in ("runs", "waits", "stores"):
        cluster.wait(lambda name=name: cluster.pod(name) is None, f"{name} to be gone")


def told(node: Node, name: str) -> str:
    """Return the events of a pod."""
    return node.cli("events", "--for", f"pod/{name}-n1").stdout


def get(node: Node, path: str) -> bytes:
    """Return what the API answers."""
    with node.connect() as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_links_planted_where_logs_are_written_are_not_followed(cluster: Node) -> None:
    """A log file that is deleted, or replaced by a link, is opened anew or left alone; the target is never touched."""
    cluster.write("linked.yaml", manifest("linked", STEADY))
    before = cluster.wait_pod("linked", is_ready, "the pod to run")
    meta = before["metadata"]
    path = cluster.log_dir / "pods" / f"default_{meta['name']}_{meta['uid']}" / "main" / "0.log"
    precious = cluster.base / "precious"
    precious.write_text("untouched")
    path.unlink()
    cluster.wait(path.exists, "the log to be there again")
    path.unlink()
    path.symlink_to(precious)
    cluster.wait(lambda: pauses_trouble(cluster, "linked"), "the pause to notice")
    assert precious.read_text() == "untouched"
    path.unlink()
    cluster.wait(lambda: path.exists() and "lines lost" in path.read_text(), "the log and what was lost of it")
    found = cluster.wait_pod("linked", is_ready, "the pod to run on")
    assert main_of(found)["restartCount"] == 0
    cluster.remove("linked.yaml")


def pauses_trouble(node: Node, name: str) -> bool:
    return f"pause default/{name}-n1" in (node.base / "daemon.log").read_text()
