"""ST and the LIFE rows about restarts of node and daemon: manifests that change, and what must outlive what."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest

from minikubelet.sandbox.protocol import Decoder, send
from tests.e2e.conformance.harness import Told, h, is_running, phase, pod, sidecar, status_of

INITS = [h("i1"), h("i2"), h("i3")]
PODS = {
    **{f"st-0{n}": pod(f"st-0{n}", "Always", [], h("main", 0, 600)) for n in (1, 6, 7, 8)},
    "st-12": pod("st-12", "Always", [], h("main", 0, 600)),
    "st-13": pod("st-13", "Always", [], h("main", 0, 600, 100), grace=8),
    "reboot": pod("reboot", "Always", INITS, h("main", 0, 600)),
    "life-85": pod("life-85", "Always", [h("i1"), sidecar("sc2"), h("i3")], h("main", 0, 600)),
    "life-31": pod("life-31", "Always", INITS, h("main", 0, 600)),
    "life-33": pod("life-33", "Always", [h("i1"), h("i2"), h("i3", 0, 600)], h("main", 0, 600)),
    "stopped": pod(
        "stopped",
        "Always",
        [],
        h("main", 0, 600, readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1}),
    ),
}


def edit(cluster, name, change):
    """Write a manifest in place, as the rows have it; return the pod before and after."""
    before = cluster.wait_pod(name, is_running("main"), "running")
    text = json.loads(PODS[name])
    change(text["spec"])
    (cluster.manifests / f"{name}.yaml").write_text(json.dumps(text))

    def replaced(found) -> bool:
        return found["metadata"]["uid"] != before["metadata"]["uid"] and is_running("main")(found)

    return before, cluster.wait_pod(name, replaced, "the new version")


@pytest.mark.parametrize(
    ("name", "change", "seen"),
    [
        pytest.param(
            "st-01",
            lambda spec: spec["containers"][0].update(image="host:2"),
            lambda spec: spec["containers"][0]["image"] == "host:2",
            marks=pytest.mark.conformance("ST-01"),
        ),
        pytest.param(
            "st-06",
            lambda spec: spec.update(activeDeadlineSeconds=500),
            lambda spec: spec["activeDeadlineSeconds"] == 500,
            marks=pytest.mark.conformance("ST-06"),
        ),
        pytest.param(
            "st-07",
            lambda spec: spec["containers"][0].update(image="other"),
            lambda spec: spec["containers"][0]["image"] == "other",
            marks=pytest.mark.conformance("ST-07"),
        ),
        pytest.param(
            "st-08",
            lambda spec: spec.update(initContainers=[h("new")]),
            lambda spec: len(spec["initContainers"]) == 1,
            marks=pytest.mark.conformance("ST-08"),
        ),
    ],
)
def test_an_edit_makes_another_pod(cluster, name, change, seen):
    before, after = edit(cluster, name, change)
    assert seen(after["spec"])
    assert not seen_safely(seen, before["spec"])
    assert "observedGeneration" not in after["status"]


def seen_safely(seen, spec) -> bool:
    try:
        return bool(seen(spec))
    except KeyError:
        return False


@pytest.mark.conformance("POD-01")
@pytest.mark.conformance("ST-12")
def test_a_pod_goes_with_its_file(cluster):
    found = cluster.wait_pod("st-12", is_running("main"), "running")
    assert found["status"]["hostIP"] == found["status"]["hostIPs"][0]["ip"]
    cluster.remove("st-12.yaml")
    cluster.wait(lambda: cluster.pod("st-12") is None, "the pod to be gone")


@pytest.mark.conformance("ST-13")
def test_a_removed_pod_runs_until_its_grace_is_over(cluster):
    before = cluster.wait_pod("st-13", is_running("main"), "running")
    cluster.remove("st-13.yaml")
    found = cluster.wait_pod("st-13", lambda p: "deletionTimestamp" in p["metadata"], "terminating")
    assert found["metadata"]["deletionGracePeriodSeconds"] == 8
    # The daemon may go and come meanwhile: the pod goes on ending, in the time that was left.
    cluster.kill()
    cluster.start()
    found = cluster.wait_pod("st-13", lambda p: "deletionTimestamp" in p["metadata"], "still terminating")
    assert found["metadata"]["uid"] == before["metadata"]["uid"]
    assert is_running("main")(found)
    assert found["status"]["phase"] == "Running"
    cluster.wait(lambda: cluster.pod("st-13") is None, "the pod to be gone")


def pause_of(cluster, found) -> int:
    """Return the pid of a pod's pause, from its journal."""
    journal = cluster.state_dir / "pods" / found["metadata"]["uid"] / "journal.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    return [one["state"]["pid"] for one in records if one.get("do") == "sandbox"][-1]


def forget_instances(cluster, found, *names: str) -> None:
    """Let a pause forget the ended instances of some containers."""
    ids = [status_of(found, name)["containerID"].rpartition("/")[2] for name in names]
    directory = os.open(cluster.run_dir / "pauses", os.O_PATH)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(f"/proc/self/fd/{directory}/{found['metadata']['uid']}.sock")
        os.close(directory)
        decoder = Decoder()
        for number, one in enumerate(ids, 1):
            send(connection, {"id": number, "do": "remove", "container": one})
            while not any(message.get("re") == number for message, _ in decoder.read(connection) or ()):
                pass


@pytest.mark.conformance("LIFE-30")
@pytest.mark.conformance("LIFE-31")
@pytest.mark.conformance("LIFE-32")
@pytest.mark.conformance("LIFE-33")
@pytest.mark.conformance("LIFE-34")
@pytest.mark.conformance("LIFE-85")
def test_what_daemon_and_node_restarts_leave_and_run_again(cluster):
    names = ("reboot", "life-85", "life-31")
    before = {name: cluster.wait_pod(name, is_running("main"), "running") for name in names}
    before["life-33"] = cluster.wait_pod("life-33", is_running("i3"), "the last init")

    def have_said(names: tuple[str, ...], found, times: int) -> bool:
        told = Told(cluster, found)
        return all(len(told.starts(one)) == times for one in names)

    orders = {"reboot": ("i1", "i2", "i3", "main"), "life-85": ("i1", "sc2", "i3", "main")}
    # A container runs before it has said so.
    for name, order in orders.items():
        cluster.wait(lambda name=name, order=order: have_said(order, before[name], 1), "the first starts' lines")
    cluster.kill()
    for name in ("reboot", "life-85"):
        os.kill(pause_of(cluster, before[name]), signal.SIGKILL)
    # Their records are gone too, as if somebody had tidied up.
    forget_instances(cluster, before["life-31"], "i1", "i2", "i3")
    forget_instances(cluster, before["life-33"], "i1", "i2")
    cluster.start()

    def again(found) -> bool:
        return status_of(found, "main")["restartCount"] == 1 and is_running("main")(found)

    for name, order in orders.items():
        found = cluster.wait_pod(name, again, "running again")
        cluster.wait(lambda found=found, order=order: have_said(order, found, 2), "the second starts' lines")
        told = Told(cluster, found)
        starts = [told.begun(one)[-1] for one in order]
        assert starts == sorted(starts)
    for name, running in (("life-31", "main"), ("life-33", "i3")):
        found = cluster.wait_pod(name, is_running(running), "running on")
        assert status_of(found, running)["containerID"] == status_of(before[name], running)["containerID"]
        for one in ("i1", "i2"):
            status = status_of(found, one)
            assert (status["restartCount"], status["state"]["terminated"]["exitCode"]) == (0, 0)
            assert len(Told(cluster, found).starts(one)) == 1


def test_a_pod_whose_pause_does_not_answer_is_unknown_until_it_does(cluster):
    found = cluster.wait_pod("stopped", lambda p: status_of(p, "main")["ready"], "ready")
    pause = pause_of(cluster, found)
    os.kill(pause, signal.SIGSTOP)
    try:
        found = cluster.wait_pod("stopped", phase("Unknown"), "phase Unknown")
    finally:
        os.kill(pause, signal.SIGCONT)
    ready = next(one for one in found["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "PauseNotResponding")
    found = cluster.wait_pod("stopped", phase("Running"), "phase Running again", 60)
    assert status_of(found, "main")["restartCount"] == 0
    assert found["status"].get("reason") is None
