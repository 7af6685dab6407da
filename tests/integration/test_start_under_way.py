"""A container's start is under way, held at a gate, while other things happen to its pod."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minikubelet.linux import faults, libc, mounts
from tests.conftest import Node, running_node
from tests.integration.test_crash import pauses

pytestmark = pytest.mark.root

Json = dict[str, Any]


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose containers stop on their way to their program as long as there is a FIFO `gate` or `mounts`.

    With a FIFO `prepared` the daemon itself stops, when all is made that a container needs.
    """
    base = tmp_path_factory.mktemp("gated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            faults.VARIABLE,
            f"spawn.set-oom-score={base}/gate spawn.enter-mount-namespace={base}/mounts spawn.attach-*={base}/mounts"
            f" pod.start-container.prepared={base}/prepared",
        )
        with running_node(base / "node") as node:
            yield node


class Gate:
    """The FIFO at which starts are held."""

    def __init__(self, node: Node, name: str = "gate") -> None:
        self._node = node
        self.path = node.base.parent / name
        self._held = -1

    def close(self) -> None:
        os.mkfifo(self.path)

    def wait_for_start(self) -> None:
        """Return when a start has come to it, and hold it there."""

        def is_there() -> bool:
            try:
                self._held = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return False
            return True

        self._node.wait(is_there, "a start")

    def let_pass(self) -> None:
        """Let what waits go on; what comes later is held, at another FIFO in its place."""
        self.path.unlink()
        self.close()
        os.close(self._held)
        self._held = -1

    def open(self) -> None:
        """Let what waits go on, and what comes pass by."""
        self.path.unlink(missing_ok=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


@pytest.fixture
def gate(gated: Node) -> Iterator[Gate]:
    made = Gate(gated)
    yield made
    made.open()


@pytest.fixture
def pod(gated: Node, gate: Gate) -> Iterator[Callable[..., None]]:
    """Write a pod of containers that mark what they do below /marks; it is gone after the test."""
    written: list[str] = []
    (gated.base / "marks").mkdir(exist_ok=True)
    mount = {"name": "marks", "mountPath": "/marks"}

    def write(name: str, containers: dict[str, Json], *, grace: int) -> None:
        written.append(name)
        named = [{"name": one, "image": "host", "volumeMounts": [mount], **more} for one, more in containers.items()]
        volumes = [{"name": "marks", "hostPath": {"path": str(gated.base / "marks")}}]
        spec = {"containers": named, "volumes": volumes, "terminationGracePeriodSeconds": grace}
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        gated.write(f"{name}.yaml", json.dumps(whole))

    yield write
    gate.open()
    for name in written:
        gated.remove(f"{name}.yaml")
    for name in written:
        gated.wait(lambda name=name: gated.pod(name) is None, f"{name} to be gone")


def marks(node: Node) -> list[str]:
    return sorted(one.name for one in Path(node.base / "marks").iterdir())


def is_ending(node: Node, name: str) -> bool:
    pod = node.pod(name)
    return pod is not None and "deletionTimestamp" in pod["metadata"]


GRACEFUL = {
    "command": ["sh", "-c", "trap 'touch /marks/term; exit 0' TERM; touch /marks/began; while :; do sleep 0.02; done"],
    "lifecycle": {"preStop": {"exec": {"command": ["touch", "/marks/hook"]}}},
}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_deletion_ends_it_with_hook_and_grace(
    gated: Node, gate: Gate, pod: Callable[..., None], restarts: bool
) -> None:
    gate.close()
    pod("early", {"main": GRACEFUL}, grace=20)
    gate.wait_for_start()
    if restarts:
        gated.kill()
        gated.start()
    gated.remove("early.yaml")
    gated.wait(lambda: is_ending(gated, "early"), "the deletion to be seen")
    assert marks(gated) == []
    gate.open()
    gated.wait(lambda: gated.pod("early") is None, "the pod to be gone")
    assert marks(gated) == ["began", "hook", "term"]
    for one in marks(gated):
        (gated.base / "marks" / one).unlink()


def test_one_whose_daemon_dies_meanwhile_is_told_once_and_has_its_link(
    gated: Node, gate: Gate, pod: Callable[..., None]
) -> None:
    gate.close()
    pod("told", {"main": {"command": ["sh", "-c", "echo here; exec sleep 1000"]}}, grace=1)
    gate.wait_for_start()
    for _ in range(2):
        gated.kill()
        gated.start()
    gate.open()
    found = gated.wait_pod("told", lambda one: state(one, "main") == "running", "the container to run")
    identity = status(found, "main")["containerID"].rpartition("/")[2]
    link = gated.log_dir / "containers" / f"{found['metadata']['name']}_default_main-{identity}.log"
    gated.wait(lambda: link.exists() and " F here" in link.read_text(), "its output through the link")
    link.unlink()
    gated.kill()
    gated.start()
    assert link.exists()
    events = json.loads(gated.cli("get", "events", *gated.roots, "-o", "json").stdout)["items"]
    mine = {one["reason"]: one["count"] for one in events if one["involvedObject"]["uid"] == found["metadata"]["uid"]}
    assert (mine["Created"], mine["Started"]) == (1, 1)


def test_what_was_made_for_one_that_the_pause_was_never_asked_for_goes(gated: Node, pod: Callable[..., None]) -> None:
    """Its link led to the log of the instance that was started in its place: collectors read that twice."""
    prepared = Gate(gated, "prepared")
    prepared.close()
    pod("twice", {"main": {"command": ["sh", "-c", "echo here; exec sleep 1000"]}}, grace=1)
    prepared.wait_for_start()
    gated.kill()
    prepared.open()
    (link,) = gated.log_dir.glob("containers/twice-n1_*")
    gated.start()
    found = gated.wait_pod("twice", lambda one: state(one, "main") == "running", "the container to run")
    identity = status(found, "main")["containerID"].rpartition("/")[2]
    gated.wait(lambda: "here" in gated.output(found), "its output")
    assert identity not in link.name
    directory = gated.state_dir / "pods" / found["metadata"]["uid"]
    assert [one.name for one in (directory / "containers" / "main").iterdir()] == [identity]
    assert [identity in one.name for one in gated.log_dir.glob("containers/twice-n1_*")] == [True]
    gated.wait(lambda: list(directory.glob("starting.*")) == [], "the start to be told")


def test_one_that_hangs_stops_neither_logs_nor_probes_nor_commands_of_its_pod(
    gated: Node, gate: Gate, pod: Callable[..., None]
) -> None:
    probe = {"exec": {"command": ["test", "-e", "/marks/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    first = {"command": ["sh", "-c", "while :; do date +%s; sleep 0.05; done"], "readinessProbe": probe}
    gate.close()
    pod("slow", {"first": first, "second": {"command": ["sleep", "1000"]}}, grace=1)
    gate.wait_for_start()
    gate.let_pass()
    gate.wait_for_start()  # the second, which is held from now on
    begun = time.time()
    gated.wait_pod("slow", lambda one: state(one, "first") == "running", "the first to run")
    (gated.base / "marks" / "ready").touch()
    found = gated.wait_pod("slow", lambda one: bool(status(one, "first")["ready"]), "the probe of the first")
    gated.wait(lambda: any(float(one) > begun for one in gated.output(found, "first").split()), "new lines")
    done = gated.cli("exec", *gated.roots, "slow", "-c", "first", "--", "echo", "answered")
    assert done.stdout.startswith("answered"), done.stderr
    assert gated.cli("exec", *gated.roots, "slow", "-c", "second", "--", "true").returncode != 0
    assert state(gated.pod("slow") or {}, "second") == "waiting"
    gate.open()
    found = gated.wait_pod("slow", lambda one: state(one, "second") == "running", "the second to run")
    assert [status(found, name)["restartCount"] for name in ("first", "second")] == [0, 0]
    (gated.base / "marks" / "ready").unlink()


def test_one_whose_pause_dies_meanwhile_never_runs(gated: Node, gate: Gate, pod: Callable[..., None]) -> None:
    """Its parent is in another PID namespace, where `getppid` would not show the death."""
    gate.close()
    pod("orphan", {"main": GRACEFUL}, grace=1)
    gate.wait_for_start()
    (pause,) = pauses(gated, "orphan")
    (child,) = [int(one) for one in Path(f"/proc/{pause}/task/{pause}/children").read_text().split()]
    held = os.pidfd_open(child)
    os.kill(pause, signal.SIGKILL)
    gated.wait(lambda: not Path(f"/proc/{pause}").exists(), "the pause to be gone")
    gate.let_pass()
    assert select.select([held], [], [], 20)[0], "it to end"
    os.close(held)
    assert marks(gated) == []
    gate.open()
    gated.wait_pod("orphan", lambda one: state(one, "main") == "running", "a new one to run")
    for name in marks(gated):
        (gated.base / "marks" / name).unlink()


def test_what_the_host_mounts_meanwhile_is_seen(gated: Node, pod: Callable[..., None]) -> None:
    """At any time: before the volume is cloned, or when it is and is not attached yet."""
    gate = Gate(gated, "mounts")
    top = gated.base / "marks"
    mounts.mount_tmpfs(str(top), size=1 << 20, mode=0o755)
    try:
        libc.mount(None, str(top), None, libc.MS_SHARED)
        gate.close()
        follows = {"name": "marks", "mountPath": "/followed", "mountPropagation": "HostToContainer"}
        pod("follower", {"main": {"command": ["sleep", "1000"], "volumeMounts": [follows]}}, grace=0)
        for name in ("early", "late"):
            gate.wait_for_start()
            (top / name).mkdir()
            mounts.mount_tmpfs(str(top / name), size=1 << 20, mode=0o755)
            (top / name / "inside").touch()
            gate.let_pass()
        gate.wait_for_start()  # once more
        gate.open()
        gated.wait_pod("follower", lambda one: state(one, "main") == "running", "it to run")
        listed = gated.cli("exec", *gated.roots, "follower", "--", "sh", "-c", "cd /followed && ls */inside").stdout
        assert listed.split() == ["early/inside", "late/inside"]
        mounts.unmount(str(top / "early"))  # nothing below is mounted a second time
        listed = gated.cli("exec", *gated.roots, "follower", "--", "sh", "-c", "cd /followed && ls */inside").stdout
        assert listed.split() == ["late/inside"]
    finally:
        gate.open()
        gated.remove("follower.yaml")
        gated.wait(lambda: gated.pod("follower") is None, "it to be gone")
        mounts.unmount_below(str(top))


def status(pod: Json, container: str) -> Json:
    return next((one for one in pod["status"].get("containerStatuses", ()) if one["name"] == container), {})


def state(pod: Json, container: str) -> str:
    found = status(pod, container)
    return next(iter(found["state"])) if found else ""
