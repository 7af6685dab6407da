"""A daemon that takes its pods along does not wait for ever for what cannot be ended: it says what it leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minikubelet.linux import faults
from tests.chaos import laws
from tests.conftest import Node
from tests.integration.test_crash import STEADY, is_ready, manifest, pauses
from tests.integration.test_hostile_sockets import ask
from tests.integration.test_start_under_way import Gate

pytestmark = pytest.mark.root

FREEZER = Path("/sys/fs/cgroup/freezer")


@contextlib.contextmanager
def undying(process: int) -> Iterator[None]:
    """Keep a process in an uninterruptible sleep, as a dead disk does: SIGKILL ends it only afterwards."""
    group = FREEZER / f"minikubelet-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group here that keeps a killed process from dying (version 1, freezer)")
    try:
        (group / "cgroup.procs").write_text(str(process))
        (group / "freezer.state").write_text("FROZEN")
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        deadline = time.monotonic() + 20
        while group.exists():  # who has been killed leaves it in its own time
            with contextlib.suppress(OSError):
                for one in (group / "cgroup.procs").read_text().split():
                    (FREEZER / "cgroup.procs").write_text(one)
                group.rmdir()
            assert time.monotonic() < deadline, f"{group} stays in use"


def test_a_second_signal_ends_the_daemon_and_says_what_does_not_die(node: Node) -> None:
    for name in ("dies", "stays"):
        node.write(f"{name}.yaml", manifest(name, STEADY))
        node.wait_pod(name, is_ready, "the pod to run")
    (pause,) = pauses(node, "stays")
    (container,) = [one for one in laws._processes() if laws._parent(one) == pause]
    assert node.process is not None
    with undying(container):
        node.process.send_signal(signal.SIGINT)
        node.wait(lambda: node.pod("dies") is None, "the other pod to be gone")
        assert node.process.poll() is None
        node.process.send_signal(signal.SIGINT)
        assert node.process.wait(60) == 1
        said = (node.base / "daemon.log").read_text()
        assert f"pod default/stays-n1 is left behind: container main (process {container}, in uninterruptible" in said
        assert "to clean up, start minikubelet with the same directories" in said
        assert "dies-n1 is left behind" not in said
    # When it has died after all, the next daemon cleans up.
    node.remove("stays.yaml")
    node.remove("dies.yaml")
    node.start()
    laws.wait_for_no_leaks(node, {})


def test_standalone_keeps_its_directory_when_something_is_left(idle_node: Node, tmp_path: Path) -> None:
    from tests.integration.cli.test_run import command

    node = idle_node
    node.write("stays.yaml", manifest("stays", STEADY))
    base = tmp_path / ".run"
    process = subprocess.Popen(command(node), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("default/stays-n1: Running, 1/1 ready"):
                break
        (pause,) = [
            one
            for one, text in laws._processes().items()
            if text.startswith("minikubelet: pause default/stays-n1") and holds(one, str(base))
        ]
        (container,) = [one for one in laws._processes() if laws._parent(one) == pause]
        with undying(container):
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "nothing is left" not in output
        assert f"minikubelet: pod default/stays-n1 is left behind: container main (process {container}, " in errors
        assert (base / "state").is_dir()
        # The same command cleans up.
        node.remove("stays.yaml")
        process = subprocess.Popen(command(node), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "Ctrl-C" in process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert output.endswith("stopped, nothing is left\n")
    assert not base.exists()
    assert node.leftovers() == []


def holds(process: int, path: str) -> bool:
    """Tell whether a process has a file below a path open."""
    try:
        return any(
            os.readlink(f"/proc/{process}/fd/{one}").startswith(path) for one in os.listdir(f"/proc/{process}/fd")
        )
    except OSError:
        return False


@pytest.fixture
def held_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_node: Callable[..., Node]
) -> Iterator[tuple[Node, Gate]]:
    """A node that removes no volume as long as there is a FIFO, however much it would have to remove."""
    monkeypatch.setenv(faults.VARIABLE, f"volume.tear-down={tmp_path}/gate")
    node = make_node()
    gate = Gate(node)
    yield node, gate
    gate.open()


def test_the_daemon_answers_while_it_removes_what_takes_long(held_node: tuple[Node, Gate]) -> None:
    node, gate = held_node
    text = manifest("much", STEADY, pod="  volumes: [{name: much, emptyDir: {}}]")

    def run() -> Path:
        node.write("much.yaml", text)
        uid = node.wait_pod("much", is_ready, "the pod to run")["metadata"]["uid"]
        volume = node.state_dir / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "much"
        (volume / "file").touch()
        return volume

    volume = run()
    gate.close()
    node.remove("much.yaml")
    gate.wait_for_start()
    assert ask(node).startswith(b"HTTP/1.1 200")
    assert (volume / "file").exists()
    gate.open()
    laws.wait_for_no_leaks(node, {})
    # What an earlier daemon left does not hold up the start either, and the same pod may come back meanwhile.
    volume = run()
    node.kill()
    (volume.parents[2] / "pod.json").unlink()
    node.remove("much.yaml")
    gate.close()
    node.start()
    gate.wait_for_start()
    node.write("much.yaml", text)
    verdict = node.run_dir / "manifests" / "much.yaml.txt"
    node.wait(lambda: verdict.exists() and ": accepted" in verdict.read_text(), "the manifest to be heard")
    assert ask(node).startswith(b"HTTP/1.1 200")
    assert (volume / "file").exists()
    gate.open()
    node.wait_pod("much", is_ready, "the pod to run anew", 60)
    assert not (volume / "file").exists()
    node.remove("much.yaml")
    laws.wait_for_no_leaks(node, {})
