"""NODE: what of many pods is still there, and still counted, after the daemon was killed."""

from __future__ import annotations

import json
import os

import pytest

from tests.chaos import laws
from tests.chaos.pods import ChaosPod
from tests.e2e.conformance.harness import h, is_running, phase, pod, status_of

MANY = 20
CPUS = os.cpu_count() or 1
HELD = {"resources": {"requests": {"cpu": "950m"}}}

PODS = {f"node-01-{n}": pod(f"node-01-{n}", "Always", [], h("main", 0, 600)) for n in range(MANY)}
DONE = {f"done-{n}": pod(f"done-{n}", "Never", [], h("main", **HELD)) for n in range(CPUS)}
HOLDS = {f"holds-{n}": pod(f"holds-{n}", "Always", [], h("main", 0, 600, **HELD)) for n in range(CPUS)}


def runs(found) -> bool:
    return phase("Running")(found) and is_running("main")(found)


def has_let_go(cluster):
    """Return a check that a pod has ended and let go of its sandbox and address: until then it counts."""

    def check(found) -> bool:
        record = cluster.state_dir / "network" / f"{found['metadata']['uid']}.json"
        conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
        has_sandbox = conditions["PodReadyToStartContainers"] == "True"
        return phase("Succeeded")(found) and not has_sandbox and not record.exists()

    return check


def identity(found):
    """Return what must outlive the daemon."""
    status = status_of(found, "main")
    return found["status"]["podIP"], status["containerID"], status["restartCount"], status["lastState"]


@pytest.mark.conformance("NODE-01")
def test_restarts_of_the_daemon_leak_no_address_and_end_no_container(cluster):
    before = {name: identity(cluster.wait_pod(name, is_running("main"), "running", 60)) for name in PODS}
    assert len({ip for ip, *_ in before.values()}) == MANY
    for _ in range(4):
        cluster.kill()
        cluster.start()
        after = {name: identity(cluster.wait_pod(name, is_running("main"), "running")) for name in PODS}
        assert after == before
        laws.wait_for_no_leaks(cluster, {name: ChaosPod(name, "steady", 0) for name in PODS})
    assert all((count, last) == (0, {}) for _, _, count, last in before.values())
    for name in PODS:
        cluster.remove(f"{name}.yaml")
    cluster.wait(lambda: all(cluster.pod(name) is None for name in PODS), "the pods to be gone", 60)
    laws.wait_for_no_leaks(cluster, {})


@pytest.mark.conformance("NODE-02")
def test_pods_that_have_ended_are_not_counted_after_the_daemon_was_killed(cluster):
    for name, text in DONE.items():
        cluster.write(f"{name}.yaml", text)
    ended = {name: cluster.wait_pod(name, has_let_go(cluster), "Succeeded") for name in DONE}
    late, *first = HOLDS
    for name in first:
        cluster.write(f"{name}.yaml", HOLDS[name])
    before = {name: identity(cluster.wait_pod(name, runs, "running")) for name in first}
    cluster.kill()
    cluster.write(f"{late}.yaml", HOLDS[late])  # fits only beside pods that have ended
    cluster.start()
    cluster.wait_pod(late, runs, "running")
    assert {name: identity(cluster.wait_pod(name, runs, "running")) for name in first} == before
    for name, found in ended.items():
        assert cluster.wait_pod(name, phase("Succeeded"), "Succeeded")["status"] == found["status"]
    events = json.loads(cluster.cli("get", "events", "-o", "json").stdout)["items"]
    assert [one for one in events if one["reason"] in ("OutOfcpu", "UnexpectedAdmissionError")] == []
    # One more does not fit: those that run are counted.
    cluster.write("more.yaml", pod("more", "Always", [], h("main", 0, 600, **HELD)))
    message = cluster.wait_pod("more", phase("Failed"), "Failed")["status"]["message"]
    assert "cpu" in message
