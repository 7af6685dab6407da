"""The daemon, a pause, the fork server or the machine goes away: pods run on or come back, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import laws
from tests.conftest import Node

pytestmark = pytest.mark.root

CONFIG = "crashLoopBackOff: {maxContainerRestartPeriod: 1s}\n"
Json = dict[str, Any]

STEADY = "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"


def manifest(name: str, script: str, *, policy: str = "Always", more: str = "", pod: str = "") -> str:
    return f"""apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 1
{pod}
  containers:
  - name: main
    image: host
    command: [sh, -c, {json.dumps(script)}]
{more}
"""


def main_of(pod: Json) -> Json:
    return dict(pod["status"]["containerStatuses"][0])


def is_ready(pod: Json) -> bool:
    return bool(pod["status"].get("containerStatuses")) and bool(main_of(pod)["ready"])


def pauses(node: Node, name: str) -> list[int]:
    """Return the living pauses of a pod of this node."""
    title = f"minikubelet: pause default/{name}-n1"
    processes = laws._processes()
    return [one for one in laws.children_of(node)["pause"] if processes.get(one, "").strip().startswith(title)]


def restart(node: Node) -> None:
    node.kill()
    node.start()


@pytest.fixture
def pod(cluster: Node, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Write manifests whose pods are removed after the test."""
    names: list[str] = []

    def write(name: str, script: str, **more: str) -> str:
        names.append(name)
        cluster.write(f"{name}.yaml", manifest(name, script, **more))
        return name

    yield write
    if cluster.process is None or cluster.process.poll() is not None:
        cluster.start()
    for name in names:
        (cluster.manifests / f"{name}.yaml").unlink(missing_ok=True)
    for name in names:
        cluster.wait(lambda name=name: cluster.pod(name) is None, f"{name} to be gone")
    laws.wait_for_no_leaks(cluster, {})


def numbered_lines(text: str) -> list[int]:
    return [int(number) for number in re.findall(r" F line (\d+)$", text, re.MULTILINE)]


def test_killed_daemon_adopts_everything(cluster: Node, pod: Callable[..., str]) -> None:
    """Nothing restarts, counts or flickers; lines and events written before stay once each."""
    probe = '    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}\n'
    pod("adopted", STEADY, more=probe)
    before = cluster.wait_pod("adopted", is_ready, "readiness")
    statuses: list[bool] = []
    for _ in range(3):
        restart(cluster)
        found = cluster.wait_pod("adopted", lambda one: "containerStatuses" in one["status"], "a status")
        statuses.append(is_ready(found))
        assert main_of(found)["containerID"] == main_of(before)["containerID"]
        assert main_of(found)["restartCount"] == 0
        assert found["status"]["conditions"] == before["status"]["conditions"]  # transition times too
        assert found["status"]["podIP"] == before["status"]["podIP"]
    assert statuses == [True] * 3
    lines = numbered_lines(cluster.log(before, "main"))
    assert lines == list(range(1, len(lines) + 1))
    events = json.loads(cluster.cli("get", "events", "-o", "json").stdout)["items"]
    mine = [one for one in events if one["involvedObject"]["name"] == "adopted-n1"]
    assert {one["reason"]: one["count"] for one in mine if one["reason"] in ("Created", "Started", "Killing")} == {
        "Created": 1,
        "Started": 1,
    }


def test_exit_while_the_daemon_is_down_is_known_with_its_code_and_time(cluster: Node, pod: Callable[..., str]) -> None:
    flag = cluster.base / "flag"
    script = "while [ ! -e /host/flag ]; do sleep 0.02; done; echo line 1; exit 7"
    volume = f"  volumes: [{{name: host, hostPath: {{path: {cluster.base}}}}}]"
    pod("gone", script, policy="Never", pod=volume, more="    volumeMounts: [{name: host, mountPath: /host}]")
    before = cluster.wait_pod("gone", lambda one: one["status"]["phase"] == "Running", "the pod to run")
    cluster.kill()
    flag.touch()
    uid = before["metadata"]["uid"]
    journal = cluster.state_dir / "pods" / uid / "journal.jsonl"
    cluster.wait(lambda: '"state":"exited"' in journal.read_text(), "the exit in the journal")
    ended = json.loads(journal.read_text().splitlines()[-1])["state"]["exit"]
    cluster.start()
    found = cluster.wait_pod("gone", lambda one: one["status"]["phase"] == "Failed", "the failure")
    state = main_of(found)["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (7, "Error")
    assert state["finishedAt"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ended["finished_at"]))
    assert main_of(found)["restartCount"] == 0


def test_restart_while_the_daemon_is_down_waits_for_it_and_counts_once(cluster: Node, pod: Callable[..., str]) -> None:
    pod("crashed", STEADY)
    before = cluster.wait_pod("crashed", is_ready, "the pod to run")
    cluster.kill()
    (pause,) = pauses(cluster, "crashed")
    (container,) = [one for one in laws._processes() if laws._parent(one) == pause]
    os.kill(container, signal.SIGKILL)
    cluster.start()
    found = cluster.wait_pod("crashed", lambda one: is_ready(one) and main_of(one)["restartCount"] == 1, "the restart")
    last = main_of(found)["lastState"]["terminated"]
    assert (last["exitCode"], last["containerID"]) == (137, main_of(before)["containerID"])


@pytest.mark.parametrize("victims", ["pause", "pause daemon", "forkserver pause", "daemon forkserver pause container"])
def test_whatever_dies_together_the_pod_comes_back_once(cluster: Node, pod: Callable[..., str], victims: str) -> None:
    pod("lost", STEADY)
    before = cluster.wait_pod("lost", is_ready, "the pod to run")
    assert cluster.process is not None
    found = laws.children_of(cluster)
    targets = {**found, "pause": pauses(cluster, "lost"), "daemon": [cluster.process.pid]}
    for victim in victims.split():
        for process in targets[victim]:
            laws_signal(process)
    if "daemon" in victims:
        cluster.process.wait()
        cluster.kill()
        cluster.start()
    after = cluster.wait_pod(
        "lost", lambda one: is_ready(one) and main_of(one)["restartCount"] == 1, "the pod in a new sandbox"
    )
    assert main_of(after)["lastState"]["terminated"]["exitCode"] == 137
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert len(pauses(cluster, "lost")) == 1
    events = cluster.cli("get", "events", "-o", "json").stdout
    assert "Pod sandbox changed, it will be killed and re-created." in events


def laws_signal(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_removed_while_the_daemon_is_down_is_ended_at_its_return(cluster: Node, pod: Callable[..., str]) -> None:
    pod("orphan", STEADY)
    cluster.wait_pod("orphan", is_ready, "the pod to run")
    cluster.kill()
    (cluster.manifests / "orphan.yaml").unlink()
    cluster.start()
    cluster.wait(lambda: cluster.pod("orphan") is None and not pauses(cluster, "orphan"), "the orphan's end")
    laws.wait_for_no_leaks(cluster, {})


def test_daemon_killed_while_it_stops_a_pod_finishes_that(cluster: Node, pod: Callable[..., str]) -> None:
    """Restart during stop: the pod is deaf to SIGTERM, so the kill falls into its grace period."""
    pod("stopping", "trap '' TERM; echo line 1; while :; do sleep 0.1; done")
    before = cluster.wait_pod("stopping", is_ready, "the pod to run")
    (cluster.manifests / "stopping.yaml").unlink()
    cluster.wait_pod("stopping", lambda one: "deletionTimestamp" in one["metadata"], "the deletion to begin")
    restart(cluster)
    cluster.wait(lambda: cluster.pod("stopping") is None and not pauses(cluster, "stopping"), "the pod's end")
    assert not (cluster.state_dir / "pods" / before["metadata"]["uid"]).exists()


def test_after_a_reboot_pods_start_anew_and_nobody_guesses_how_they_ended(
    cluster: Node, pod: Callable[..., str]
) -> None:
    """The state directory stays, the run directory and all processes are gone, the boot id is another (K4)."""
    pod("rebooted", STEADY)
    pod("finished", "exit 0", policy="OnFailure")
    pod("once", "sleep 1000", policy="Never")
    before = cluster.wait_pod("rebooted", is_ready, "the pod to run")
    cluster.wait_pod("finished", lambda one: one["status"]["phase"] == "Succeeded", "the end")
    cluster.wait_pod("once", is_ready, "the pod to run")
    cluster.kill()
    for process in laws.children_of(cluster)["pause"]:
        laws_signal(process)
    cluster.wait(lambda: not laws.children_of(cluster)["pause"], "the processes' end")
    pretend_reboot(cluster)
    cluster.start()
    after = cluster.wait_pod(
        "rebooted", lambda one: is_ready(one) and main_of(one)["restartCount"] == 1, "the pod after the reboot"
    )
    last = main_of(after)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (255, "Unknown")
    assert after["status"]["podIP"] != ""
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    # Those that are not run again: what had succeeded, and what its policy lets run once only.
    once = cluster.wait_pod("once", lambda one: one["status"]["phase"] == "Failed", "the failure")
    state = main_of(once)["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (255, "Unknown")
    finished = cluster.wait_pod("finished", lambda one: one["status"]["phase"] == "Succeeded", "the success")
    assert main_of(finished)["restartCount"] == 0


def pretend_reboot(node: Node) -> None:
    """Make the node's state look like that of an earlier boot, and take its volatile things away."""
    for path in (node.state_dir / "pods").glob("*/journal.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if line["do"] == "sandbox":
                line["state"]["boot_id"] = "00000000-0000-0000-0000-000000000000"
                line["state"]["pid"], line["state"]["start_ticks"] = os.getpid(), 1  # somebody else has it now
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for point in reversed([line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]):
        if str(node.base) in point:
            subprocess.run(["umount", "-l", point], check=True)
    for pin in Path("/run/netns").glob("mk-*"):
        if any(uid in str(pin) for uid in os.listdir(node.state_dir / "pods")):
            subprocess.run(["umount", "-l", str(pin)], check=False)
    subprocess.run(["ip", "link", "delete", node.bridge], check=False)
    subprocess.run(["rm", "-rf", str(node.run_dir)], check=True)


def test_fifty_pauses_are_taken_over_at_once(cluster: Node) -> None:
    """All are there again at the first status, none restarted; those that hang are not waited for."""
    names = [f"many{number}" for number in range(50)]
    text = "---\n".join(manifest(name, "trap 'exit 0' TERM; while :; do sleep 100 & wait; done") for name in names)
    cluster.write("many.yaml", text)
    before: dict[str, str] = {}
    for name in names:
        before[name] = main_of(cluster.wait_pod(name, is_ready, "all to run", 90.0))["containerID"]
    cluster.kill()
    hung = [pauses(cluster, name)[0] for name in names[:5]]
    for process in hung:
        os.kill(process, signal.SIGSTOP)
    try:
        cluster.start()  # until it is ready
        for name in names[5:]:
            found = cluster.wait_pod(name, is_ready, "a status")
            assert main_of(found)["containerID"] == before[name]
        for name in names[:5]:
            cluster.wait_pod(name, lambda one: one["status"]["phase"] == "Unknown", "the hung pause to be told")
    finally:
        for process in hung:
            os.kill(process, signal.SIGCONT)
    for name in names:
        found = cluster.wait_pod(name, lambda one: one["status"]["phase"] == "Running" and is_ready(one), "a status")
        assert main_of(found)["containerID"] == before[name]
        assert main_of(found)["restartCount"] == 0
    cluster.remove("many.yaml")
    cluster.wait(lambda: all(cluster.pod(name) is None for name in names), "all to be gone", 90.0)
    laws.wait_for_no_leaks(cluster, {})


@pytest.mark.parametrize(
    "noise", [b"\x00{ not json", b'{"kind": "\xff\xff"}', b"[" * 100_000], ids=["no", "bytes", "deep"]
)
def test_damaged_state_is_set_aside_and_the_pod_runs_on(cluster: Node, pod: Callable[..., str], noise: bytes) -> None:
    pod("damaged", STEADY)
    before = cluster.wait_pod("damaged", is_ready, "the pod to run")
    cluster.kill()
    directory = cluster.state_dir / "pods" / before["metadata"]["uid"]
    (directory / "pod.json").write_bytes(noise)
    (directory / "journal.jsonl").write_bytes(b"\xff" * 1000)
    (cluster.state_dir / "events.jsonl").write_bytes(b"[[[[\n\x00\n{}\n" + noise + b"\n")
    status = cluster.run_dir / "status" / "default_damaged-n1.json"
    status.write_text("{")
    cluster.start()
    cluster.wait(lambda: status.read_text() != "{", "the status to be made anew")
    found = cluster.wait_pod("damaged", is_ready, "the pod to be there")
    assert main_of(found)["containerID"] == main_of(before)["containerID"]
    assert main_of(found)["restartCount"] == 0
    assert found["status"]["podIP"] == before["status"]["podIP"]
    assert (directory / "pod.json.bad").exists()
    assert json.loads((directory / "pod.json").read_text())["metadata"]["uid"] == before["metadata"]["uid"]
    # The living pause has written its journal anew: the next daemon reads it as if nothing had been.
    assert '"do":"sandbox"' in (directory / "journal.jsonl").read_text()
    restart(cluster)
    again = cluster.wait_pod("damaged", is_ready, "the pod to be there")
    assert main_of(again)["containerID"] == main_of(before)["containerID"]


def test_drain_ends_pods_with_their_grace_and_uncordon_brings_them_back(cluster: Node, pod: Callable[..., str]) -> None:
    mark = cluster.base / "mark"
    script = "trap 'echo graceful > /host/mark; exit 0' TERM; while :; do sleep 0.05; done"
    volume = f"  volumes: [{{name: host, hostPath: {{path: {cluster.base}}}}}]"
    pod("drained", script, pod=volume, more="    volumeMounts: [{name: host, mountPath: /host}]")
    roots = ["--node-name=n1", f"--bridge={cluster.bridge}", f"--pod-cidr={cluster.cidr}"]
    for daemon_runs in (True, False):
        cluster.wait_pod("drained", is_ready, "the pod to run")
        mark.unlink(missing_ok=True)
        if not daemon_runs:
            cluster.kill()
        done = cluster.cli("drain", *roots)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "node drained"
        assert mark.read_text() == "graceful\n"
        assert pauses(cluster, "drained") == []
        if not daemon_runs:
            cluster.start()
        # Cordoned still: a restarted daemon keeps to it.
        assert cluster.pod("drained") is None
        assert cluster.cli("uncordon").stdout == "node uncordoned\n"
    cluster.wait_pod("drained", is_ready, "the pod to run again")


def test_garbage_on_the_pauses_socket_harms_no_pod(cluster: Node, pod: Callable[..., str]) -> None:
    import socket
    import struct

    pod("spoken-to", STEADY)
    before = cluster.wait_pod("spoken-to", is_ready, "the pod to run")
    directory = os.open(cluster.run_dir / "pauses", os.O_PATH)
    noises = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 4096,
        struct.pack("<I", 3) + b"[1]",
        struct.pack("<I", 90_000) + b"[" * 90_000,
        *(
            struct.pack("<I", len(body)) + body
            for body in (
                b'{"do":"start"}',
                b'{"do":"start","spec":{"id":1}}',
                b'{"do":"__init__","spec":null}',
                b'{"do":"exec","container":null,"command":3}',
                b'{"do":"socket","id":1,"family":"x","type":{}}',
                b'{"do":5,"id":{}}',
            )
        ),
    ]
    for noise in noises:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{directory}/{before['metadata']['uid']}.sock")
            try:
                client.sendall(noise)
            except OSError:
                continue
    # Hundreds of clients that never speak, and are then gone.
    crowd = []
    for _ in range(300):
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        try:
            one.connect(f"/proc/self/fd/{directory}/{before['metadata']['uid']}.sock")
        except OSError:
            one.close()
            break
        crowd.append(one)
    for one in crowd:
        one.close()
    os.close(directory)
    count = len(numbered_lines(cluster.log(before, "main")))
    cluster.wait(lambda: len(numbered_lines(cluster.log(before, "main"))) > count + 3, "more lines")
    found = cluster.wait_pod("spoken-to", is_ready, "the pod to run on")
    assert main_of(found)["containerID"] == main_of(before)["containerID"]
    assert cluster.cli("get", "pods").returncode == 0
