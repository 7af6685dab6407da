"""INIT: init containers."""

from __future__ import annotations

import pytest

INIT = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 1
  initContainers:
  - {{name: init1, image: host, command: [{first}]}}
  - {{name: init2, image: host, command: [{second}]}}
  containers:
  - {{name: run1, image: host, command: [{app}], resources: {{limits: {{cpu: 100m}}}}}}
"""
CONFIG = "crashLoopBackOff: {maxContainerRestartPeriod: 1s}"
PODS = {
    "init-01": INIT.format(name="init-01", policy="Never", first="'true'", second="'true'", app="'true'"),
    "init-02": INIT.format(name="init-02", policy="Always", first="'true'", second="'true'", app="sleep, '1000'"),
    "init-03": INIT.format(name="init-03", policy="Always", first="'false'", second="'true'", app="sleep, '1000'"),
    "init-04": INIT.format(name="init-04", policy="Never", first="'true'", second="'false'", app="sleep, '1000'"),
}


def condition(pod, kind):
    return next(one for one in pod["status"]["conditions"] if one["type"] == kind)


def phase(expected):
    return lambda pod: pod["status"]["phase"] == expected


def assert_inits_succeeded(pod):
    for one in pod["status"]["initContainerStatuses"]:
        assert one["ready"]
        assert one["state"]["terminated"]["exitCode"] == 0
    assert condition(pod, "Initialized")["status"] == "True"


@pytest.mark.conformance("INIT-01")
def test_init_containers_of_a_never_pod(cluster):
    assert_inits_succeeded(cluster.wait_pod("init-01", phase("Succeeded"), "Succeeded"))


@pytest.mark.conformance("INIT-02")
def test_init_containers_of_an_always_pod(cluster):
    assert_inits_succeeded(cluster.wait_pod("init-02", phase("Running"), "Running"))


@pytest.mark.conformance("INIT-03")
def test_app_never_starts_while_an_init_container_fails(cluster):
    pod = cluster.wait_pod(
        "init-03", lambda p: p["status"]["initContainerStatuses"][0]["restartCount"] >= 3, "3 restarts"
    )
    status = pod["status"]
    first, second = status["initContainerStatuses"]
    assert first["lastState"]["terminated"]["exitCode"] == 1
    assert status["phase"] == "Pending"
    for one in (second, status["containerStatuses"][0]):
        assert one["state"]["waiting"]["reason"] == "PodInitializing"
    initialized = condition(pod, "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [init1 init2]"


@pytest.mark.conformance("INIT-04")
def test_failing_init_container_fails_a_never_pod(cluster):
    pod = cluster.wait_pod("init-04", phase("Failed"), "Failed")
    initialized = condition(pod, "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [init2]"
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
