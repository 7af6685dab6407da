"""LIFE: the order of containers, sidecars, hooks, endings. Upstream's seconds are tenths here, all pods run at once."""

from __future__ import annotations

import pytest

from tests.e2e.conformance.harness import (
    FAILS,
    STARTED,
    Told,
    h,
    is_running,
    phase,
    pod,
    restarts,
    says,
    sidecar,
    status_of,
)

CONFIG = "crashLoopBackOff: {maxContainerRestartPeriod: 1s}"

MIXED = [h("init1"), sidecar("sc1"), h("init2"), sidecar("sc2"), h("init3")]
FLAG = {"volumes": [{"name": "d", "emptyDir": {}}]}
CRASHES_ONCE = "if [ -e /d/f ]; then sleep 600; fi; touch /d/f; exit 1"

PODS = {
    "life-14": pod("life-14", "Always", [h("i1"), h("i2"), h("i3")], h("main", 0.5, 600, startupProbe=STARTED)),
    "life-15": pod("life-15", "Never", [h("i1", x=1)], h("main")),
    "life-16": pod("life-16", "Always", [h("i1")], h("main", 0, 600, lifecycle={"postStart": says("Hook", 0.5)})),
    "life-17": pod("life-17", "Always", [], h("main", x=1)),
    "life-20": pod("life-20", "Always", [h("i1")], h("main")),
    "life-21": pod("life-21", "Always", [], h("main", 0, 600, 1), grace=4),
    "life-23": pod(
        "life-23",
        "Never",
        [],
        h("main", 0, 600, 0.5, startupProbe=FAILS, lifecycle={"preStop": says("Hook")}),
        grace=5,
    ),
    "life-24": pod(
        "life-24",
        "Never",
        [],
        h("main", 0, 600, 0.5, livenessProbe=FAILS, lifecycle={"preStop": says("Hook")}),
        grace=5,
    ),
    "life-35": pod("life-35", "Never", MIXED, h("main")),
    "life-46": pod("life-46", "Never", [sidecar("sc")], h("main", 0, 1)),
    "life-49": pod("life-49", "Never", [sidecar("sc", 0, 0.3)], h("main", 4, 3)),
    "life-50": pod("life-50", "Never", [sidecar("sc", 0, 0.3, x=1)], h("main", 4, 3)),
    "life-51": pod("life-51", "Never", [h("i1", x=1), sidecar("sc")], h("main")),
    "life-52": pod("life-52", "Never", [sidecar("sc"), h("i1", x=1)], h("main")),
    "life-53": pod("life-53", "OnFailure", [sidecar("sc")], h("main", 0, 1)),
    "life-56": pod("life-56", "OnFailure", [sidecar("sc", 0, 0.3)], h("main", 4, 3)),
    "life-57": pod("life-57", "OnFailure", [sidecar("sc", 0, 0.3, x=1)], h("main", 4, 3)),
    "life-58": pod("life-58", "OnFailure", [h("i1", x=1), sidecar("sc")], h("main")),
    "life-59": pod("life-59", "OnFailure", [sidecar("sc"), h("i1", x=1)], h("main")),
    "life-60": pod("life-60", "Always", [sidecar("sc"), h("i1", x=1)], h("main")),
    "life-61": pod(
        "life-61",
        "Always",
        [sidecar("sc1", 1, startupProbe=STARTED), sidecar("sc2", 1, startupProbe=STARTED)],
        h("main", 0, 600),
    ),
    "life-83": pod(
        "life-83", "Never", [sidecar("sc1"), sidecar("sc2", t=100, lifecycle={"preStop": says("Hook", 100)})], h("main")
    ),
    "life-84": pod(
        "life-84",
        "Always",
        [
            {
                "name": "sc",
                "image": "host",
                "command": ["sh", "-c", CRASHES_ONCE],
                "restartPolicy": "Always",
                "volumeMounts": [{"name": "d", "mountPath": "/d"}],
                "startupProbe": {
                    "exec": {"command": ["true"]},
                    "initialDelaySeconds": 2,
                    "periodSeconds": 1,
                    "failureThreshold": 10,
                },
            }
        ],
        h("main", 0, 600),
        **FLAG,
    ),
}


@pytest.mark.conformance("LIFE-14")
def test_inits_run_one_after_the_other_before_the_regular(cluster):
    found = cluster.wait_pod("life-14", lambda p: status_of(p, "main")["ready"], "ready")
    told = Told(cluster, found)
    for first, then in (("i1", "i2"), ("i2", "i3"), ("i3", "main")):
        told.assert_order(first, then)


@pytest.mark.conformance("LIFE-15")
def test_a_failed_init_keeps_the_regular_from_starting(cluster):
    found = cluster.wait_pod("life-15", phase("Failed"), "Failed")
    assert Told(cluster, found).starts("main") == []


@pytest.mark.conformance("LIFE-16")
def test_post_start_runs_beside_its_container_after_the_inits(cluster):
    found = cluster.wait_pod("life-16", is_running("main"), "running")
    cluster.wait(lambda: bool(Told(cluster, found).times("main", "Hook-done")), "the hook's words in the log")
    told = Told(cluster, found)
    told.assert_order("i1", "main")
    assert told.exits("i1")[0] < told.times("main", "Hook")[0] < told.times("main", "Hook-done")[0]


@pytest.mark.conformance("LIFE-17")
def test_a_failing_regular_restarts_after_each_exit(cluster):
    found = cluster.wait_pod("life-17", restarts("main", 3), "3 restarts")
    Told(cluster, found).assert_one_at_a_time("main")


@pytest.mark.conformance("LIFE-20")
def test_a_restart_of_the_regular_runs_no_init_again(cluster):
    found = cluster.wait_pod("life-20", restarts("main", 2), "2 restarts")
    assert status_of(found, "i1")["restartCount"] == 0
    assert len(Told(cluster, found).starts("i1")) == 1


@pytest.mark.conformance("LIFE-21")
def test_a_removal_takes_no_longer_than_the_container_and_its_grace(cluster):
    cluster.wait_pod("life-21", is_running("main"), "running")
    cluster.remove("life-21.yaml")
    cluster.wait_pod("life-21", lambda p: "deletionTimestamp" in p["metadata"], "terminating")
    cluster.wait(lambda: cluster.pod("life-21") is None, "the pod to be gone", 4 + 6)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("life-23", marks=pytest.mark.conformance("LIFE-23")),
        pytest.param("life-24", marks=pytest.mark.conformance("LIFE-24")),
    ],
)
def test_pre_stop_runs_before_a_probe_kills(cluster, name):
    found = cluster.wait_pod(name, phase("Succeeded", "Failed"), "the end")
    told = Told(cluster, found)
    assert told.begun("main")[0] < told.times("main", "Hook")[0] < told.ended("main")[0]
    assert status_of(found, "main")["restartCount"] == 0


@pytest.mark.conformance("LIFE-35")
@pytest.mark.conformance("LIFE-36")
@pytest.mark.conformance("LIFE-37")
@pytest.mark.conformance("LIFE-38")
@pytest.mark.conformance("LIFE-39")
@pytest.mark.conformance("LIFE-40")
@pytest.mark.conformance("LIFE-41")
@pytest.mark.conformance("LIFE-42")
def test_inits_and_sidecars_take_turns(cluster):
    told = Told(cluster, cluster.wait_pod("life-35", phase("Succeeded"), "Succeeded"))
    told.assert_order("init1", "sc1")
    told.assert_overlap("sc1", "init2")
    told.assert_order("init2", "sc2")
    assert told.begun("sc2")[0] < told.begun("init3")[0]
    for first, then in (("sc1", "sc2"), ("sc1", "init3"), ("sc2", "init3"), ("sc1", "main"), ("sc2", "main")):
        told.assert_overlap(first, then)
    told.assert_order("init3", "main")
    # The last sidecar ends first.
    assert told.ended("sc2")[0] < told.ended("sc1")[0]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("life-46", marks=pytest.mark.conformance("LIFE-46")),
        pytest.param("life-53", marks=pytest.mark.conformance("LIFE-53")),
    ],
)
def test_a_sidecar_that_runs_on_does_not_keep_the_pod(cluster, name):
    found = cluster.wait_pod(name, phase("Succeeded"), "Succeeded")
    assert status_of(found, "sc")["restartCount"] == 0
    assert "terminated" in status_of(found, "sc")["state"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("life-49", marks=pytest.mark.conformance("LIFE-49")),
        pytest.param("life-50", marks=pytest.mark.conformance("LIFE-50")),
        pytest.param("life-56", marks=pytest.mark.conformance("LIFE-56")),
        pytest.param("life-57", marks=pytest.mark.conformance("LIFE-57")),
    ],
)
def test_a_sidecar_that_exits_is_restarted_before_and_after_the_regular_started(cluster, name):
    told = Told(cluster, cluster.wait_pod(name, phase("Succeeded"), "Succeeded"))
    started = told.times("main", "Started")[0]
    assert sum(one < started for one in told.begun("sc")) >= 2
    assert told.begun("sc")[-1] > started
    told.assert_one_at_a_time("sc")


@pytest.mark.conformance("LIFE-51")
def test_an_init_that_fails_before_a_sidecar_fails_the_pod(cluster):
    told = Told(cluster, cluster.wait_pod("life-51", phase("Failed"), "Failed"))
    assert told.starts("sc") == told.starts("main") == []


@pytest.mark.conformance("LIFE-52")
def test_an_init_that_fails_beside_a_sidecar_fails_the_pod(cluster):
    told = Told(cluster, cluster.wait_pod("life-52", phase("Failed"), "Failed"))
    told.assert_overlap("sc", "i1")
    assert told.starts("main") == []


@pytest.mark.conformance("LIFE-58")
def test_an_init_that_keeps_failing_holds_up_the_sidecar(cluster):
    found = cluster.wait_pod("life-58", restarts("i1", 3), "3 restarts")
    assert found["status"]["phase"] == "Pending"
    assert Told(cluster, found).starts("sc") == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("life-59", marks=pytest.mark.conformance("LIFE-59")),
        pytest.param("life-60", marks=pytest.mark.conformance("LIFE-60")),
    ],
)
def test_an_init_that_keeps_failing_beside_a_sidecar_keeps_the_pod_pending(cluster, name):
    found = cluster.wait_pod(name, restarts("i1", 3), "3 restarts")
    assert found["status"]["phase"] == "Pending"
    told = Told(cluster, found)
    told.assert_overlap("sc", "i1")
    assert told.starts("main") == []


@pytest.mark.conformance("LIFE-61")
def test_sidecars_wait_for_startup_probes(cluster):
    told = Told(cluster, cluster.wait_pod("life-61", is_running("main"), "running"))
    for first, then in (("sc1", "sc2"), ("sc2", "main")):
        assert told.times(first, "Started")[0] < told.begun(then)[0]


@pytest.mark.conformance("LIFE-83")
def test_a_sidecar_whose_pre_stop_takes_too_long_is_killed(cluster):
    found = cluster.wait_pod("life-83", phase("Succeeded"), "Succeeded")
    assert status_of(found, "sc2")["state"]["terminated"]["exitCode"] == 137


@pytest.mark.conformance("LIFE-84")
def test_a_sidecar_that_crashes_once_lets_the_regular_start_later(cluster):
    found = cluster.wait_pod("life-84", is_running("main"), "running")
    assert status_of(found, "sc")["restartCount"] >= 1
    assert "running" in status_of(found, "sc")["state"]
