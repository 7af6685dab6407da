"""RT, CRR and what of POD and NODE is about restarts and endings: who is started again, when, what is told of it."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conformance.harness import h, is_running, phase, pod, restarts, sidecar, status_of

CONFIG = "crashLoopBackOff: {maxContainerRestartPeriod: 1s}"

# Run 1 exits 1, run 2 exits 0, later runs go on.
COUNT = "n=$(cat /d/n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > /d/n; "
COUNTER = COUNT + "[ $n = 1 ] && exit 1; [ $n = 2 ] && exit 0; sleep 600"
PLAIN_THEN_ALL = COUNT + "sleep 0.3; [ $n = 1 ] && exit 1; [ $n = 2 ] && exit 42; sleep 600"
ALL_AT_INIT = "[ -e /d/i ] && exit 0; touch /d/i; sleep 0.5; exit 42"
# All starts and exits with their times, told by every run.
TIMES = "t() { echo $1 $(date +%s.%N) >> /d/t; }; t start; cat /d/t; sleep 0.1; t exit; exit 1"
# Exit with the first code at the first run, go on at later ones.
ONCE = "[ -e /d/{0} ] && sleep 600; touch /d/{0}; sleep {2}; exit {1}"


def shell(name: str, script: str, **more):
    mount = [{"name": "d", "mountPath": "/d"}]
    return {"name": name, "image": "host", "command": ["sh", "-c", script], "volumeMounts": mount, **more}


def make(name: str, policy: str, *apps, inits=(), **more) -> str:
    volumes = [{"name": "d", "emptyDir": {"medium": "Memory"}}]
    return pod(name, policy, list(inits), *apps, volumes=volumes, **more)


def rule(*codes: int, action: str = "Restart"):
    return {
        "restartPolicy": "Never",
        "restartPolicyRules": [{"action": action, "exitCodes": {"operator": "In", "values": list(codes)}}],
    }


ALL = rule(42, action="RestartAllContainers")


def message(name: str, script: str, **container) -> str:
    return make(name, "Never", shell("main", script, **container))


PODS = {
    "rt-01": make("rt-01", "Always", shell("main", COUNTER)),
    "rt-03": make("rt-03", "Never", shell("main", COUNTER)),
    "rt-05": message("rt-05", "printf DONE > /dev/termination-log"),
    "rt-06": message(
        "rt-06",
        "printf DONE > /dev/termination-custom-log",
        terminationMessagePath="/dev/termination-custom-log",
        securityContext={"runAsUser": 10000},
    ),
    "rt-07": message("rt-07", "printf DONE; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
    "crr-01": make("crr-01", "Never", shell("main", "sleep 0.3; exit 42", **rule(42))),
    "crr-02": make("crr-02", "Never", shell("main", "exit 1", **rule(42))),
    "crr-03": make("crr-03", "Always", shell("main", "exit 1", restartPolicy="Never")),
    "crr-04": make("crr-04", "Never", shell("main", "sleep 0.3; exit 1", restartPolicy="Always")),
    "crr-05": make("crr-05", "Always", shell("main", "sleep 0.3; exit 1")),
    "crr-06": make(
        "crr-06",
        "Never",
        shell("trigger", ONCE.format("t", 42, 1), **ALL),
        h("main", 0, 600),
        inits=[h("init"), sidecar("sc")],
    ),
    "crr-07": make(
        "crr-07",
        "Never",
        h("main", 0, 600),
        inits=[h("init"), shell("sc", ONCE.format("s", 42, 1), **{**ALL, "restartPolicy": "Always"})],
    ),
    "crr-08": make(
        "crr-08", "Never", h("main", 0, 600), inits=[sidecar("sc"), h("init"), shell("last", ALL_AT_INIT, **ALL)]
    ),
    "crr-09": make(
        "crr-09",
        "Never",
        shell("one", ONCE.format("a", 42, 1), **ALL),
        shell("two", ONCE.format("b", 42, 1), **ALL),
    ),
    "crr-10": make(
        "crr-10",
        "Always",
        shell(
            "trigger",
            PLAIN_THEN_ALL,
            **{**ALL, "restartPolicy": "Always"},
        ),
        h("main", 0, 600),
    ),
    # The back-off of a second counts from the exit, and is seen when the other has ended by then: so that one is there
    # before, and has no grace.
    "loop": make("loop", "Never", h("other", 0, 600), shell("main", "sleep 0.2; exit 42", **ALL), grace=0),
    "pod-04": make("pod-04", "Always", h("main", 0, 600)),
    "pod-09": make("pod-09", "Always", shell("main", TIMES)),
    "node-19": make(
        "node-19", "Never", shell("main", "trap '' TERM; while :; do sleep 0.2; done"), grace=2, activeDeadlineSeconds=2
    ),
}


@pytest.mark.conformance("RT-01")
def test_status_of_a_container_that_comes_to_run(cluster):
    found = cluster.wait_pod("rt-01", lambda p: restarts("main", 2)(p) and is_running("main")(p), "running")
    assert status_of(found, "main")["restartCount"] == 2
    assert found["status"]["phase"] == "Running"
    assert status_of(found, "main")["ready"]


@pytest.mark.conformance("RT-03")
@pytest.mark.conformance("RT-04")
def test_status_of_a_container_that_is_never_restarted(cluster):
    found = cluster.wait_pod("rt-03", phase("Failed"), "Failed")
    status = status_of(found, "main")
    assert (status["restartCount"], status["ready"]) == (0, False)
    assert "terminated" in status["state"]
    cluster.remove("rt-03.yaml")
    cluster.wait(lambda: cluster.pod("rt-03") is None, "the pod to be gone")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("rt-05", "Succeeded", marks=pytest.mark.conformance("RT-05")),
        pytest.param("rt-06", "Succeeded", marks=pytest.mark.conformance("RT-06")),
        pytest.param("rt-07", "Failed", marks=pytest.mark.conformance("RT-07")),
    ],
)
def test_termination_message(cluster, name, expected):
    found = cluster.wait_pod(name, phase("Succeeded", "Failed"), "the end")
    assert found["status"]["phase"] == expected
    assert status_of(found, "main")["state"]["terminated"]["message"] == "DONE"


@pytest.mark.parametrize(
    "name",
    [pytest.param(f"crr-0{n}", marks=pytest.mark.conformance(f"CRR-0{n}")) for n in (1, 4, 5)],
)
def test_restarted_by_rule_or_policy(cluster, name):
    cluster.wait_pod(name, restarts("main", 2), "2 restarts")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("crr-02", "Failed", marks=pytest.mark.conformance("CRR-02")),
        pytest.param("crr-03", "Failed", marks=pytest.mark.conformance("CRR-03")),
    ],
)
def test_not_restarted(cluster, name, expected):
    found = cluster.wait_pod(name, phase(expected), expected)
    assert status_of(found, "main")["restartCount"] == 0


def all_run_again(*names: str):
    def check(found) -> bool:
        statuses = [status_of(found, name) for name in names]
        return all(one["restartCount"] >= 1 for one in statuses) and found["status"]["phase"] == "Running"

    return check


@pytest.mark.parametrize(
    ("name", "containers"),
    [
        pytest.param("crr-06", ("init", "sc", "trigger", "main"), marks=pytest.mark.conformance("CRR-06")),
        pytest.param("crr-07", ("init", "sc", "main"), marks=pytest.mark.conformance("CRR-07")),
        pytest.param("crr-09", ("one", "two"), marks=pytest.mark.conformance("CRR-09")),
    ],
)
def test_restart_of_all_containers(cluster, name, containers):
    found = cluster.wait_pod(name, all_run_again(*containers), "all containers to run again")
    for one in containers:
        status = status_of(found, one)
        assert status["restartCount"] == 1
        last = status["lastState"]["terminated"]
        assert (last["reason"], last["exitCode"]) == ("RestartingAllContainers", 137)
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions["AllContainersRestarting"] == "False"
    assert conditions["Initialized"] == "True"


@pytest.mark.conformance("CRR-08")
def test_restart_of_all_containers_by_an_init(cluster):
    found = cluster.wait_pod("crr-08", is_running("main"), "running")
    assert {one: status_of(found, one)["restartCount"] for one in ("sc", "init", "last", "main")} == {
        "sc": 1,
        "init": 1,
        "last": 1,
        "main": 0,
    }


@pytest.mark.conformance("CRR-10")
def test_restart_of_all_containers_after_a_plain_restart(cluster):
    found = cluster.wait_pod(
        "crr-10",
        lambda p: restarts("trigger", 2)(p) and restarts("main", 1)(p) and phase("Running")(p),
        "running again",
    )
    assert status_of(found, "trigger")["restartCount"] == 2
    assert status_of(found, "main")["restartCount"] == 1


def test_restart_of_all_containers_again_and_again_waits_in_between(cluster):
    def waits(found) -> bool:
        """Tell whether the others have been ended and the one that asked for it is not reset yet, as in each round."""
        main, other = (status_of(found, name) for name in ("main", "other"))
        waiting = main["state"].get("waiting", {})
        exit_code = main["lastState"].get("terminated", {}).get("exitCode")
        return (waiting.get("reason"), exit_code) == ("CrashLoopBackOff", 42) and "waiting" in other["state"]

    found = cluster.wait_pod("loop", waits, "a back-off")
    assert status_of(found, "main")["state"]["waiting"]["message"].startswith(
        "back-off 1s restarting failed container="
    )
    # The others have been ended at once, and begin anew together with it.
    assert status_of(found, "other")["state"]["waiting"]["reason"] == "RestartingAllContainers"
    assert found["status"]["phase"] == "Running"
    cluster.wait_pod("loop", all_run_again("main", "other"), "all to run again")


@pytest.mark.conformance("POD-04")
def test_a_deadline_that_an_edit_sets_ends_the_pod(cluster):
    first = cluster.wait_pod("pod-04", is_running("main"), "running")
    text = json.loads(PODS["pod-04"])
    text["spec"]["activeDeadlineSeconds"] = 2
    cluster.write("pod-04.yaml", json.dumps(text))
    found = cluster.wait_pod("pod-04", phase("Failed"), "Failed")
    assert found["metadata"]["uid"] != first["metadata"]["uid"]
    assert found["status"]["reason"] == "DeadlineExceeded"
    assert found["status"]["message"] == "Pod was active on the node longer than the specified deadline"


@pytest.mark.conformance("POD-09")
def test_back_off_stays_at_its_maximum(cluster):
    cluster.wait_pod("pod-09", restarts("main", 4), "4 restarts")
    found = cluster.wait_pod(
        "pod-09", lambda p: "waiting" in status_of(p, "main")["state"], "the state between two restarts"
    )
    waiting = status_of(found, "main")["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    meta = found["metadata"]
    full_name = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
    assert waiting["message"] == f"back-off 1s restarting failed container=main pod={full_name}"
    told = [line.split() for line in cluster.output(found, count=status_of(found, "main")["restartCount"]).splitlines()]
    starts = [float(time) for word, time in told if word == "start"]
    exits = [float(time) for word, time in told if word == "exit"]
    delays = [start - ended for ended, start in zip(exits, starts[1:], strict=True)]
    # Without the maximum these would be 20 and 40 s; that they are not doubled from it, the message says.
    assert all(1.0 <= delay < 10 for delay in delays[2:4])


@pytest.mark.conformance("NODE-19")
def test_a_container_that_is_deaf_to_sigterm_is_killed_after_the_grace(cluster):
    found = cluster.wait_pod("node-19", phase("Failed"), "Failed")
    ended = status_of(found, "main")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert found["status"]["reason"] == "DeadlineExceeded"
