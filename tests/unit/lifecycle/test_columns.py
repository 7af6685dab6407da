"""What kubectl prints of a Pod: STATUS, READY, RESTARTS, AGE and the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from minikubelet.lifecycle import columns

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC).timestamp()
RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-01-01T11:00:00Z"}}


def waiting(reason: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason} if reason else {}}


def ended(code: int, reason: str = "", signal: int = 0) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "signal": signal}}


def status(name: str, state: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "restartCount": 0, **fields}


def restarted(name: str, count: int, at: str, **fields: Any) -> dict[str, Any]:
    last = {"terminated": {"exitCode": 1, "finishedAt": at}}
    return {"name": name, "state": RUNNING, "lastState": last, "restartCount": count, **fields}


def pod(
    phase: str = "Running",
    *,
    apps: tuple[dict[str, Any], ...] = (),
    inits: tuple[dict[str, Any], ...] = (),
    sidecars: tuple[str, ...] = (),
    true: tuple[str, ...] = (),
    deleted: bool = False,
    **more: Any,
) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T11:55:00Z"}
    if deleted:
        meta["deletionTimestamp"] = "2026-01-01T11:59:00Z"
    policy = {name: {"restartPolicy": "Always"} for name in sidecars}
    return {
        "metadata": meta,
        "spec": {
            "nodeName": "here",
            "containers": [{"name": one["name"]} for one in apps],
            "initContainers": [{"name": one["name"], **policy.get(one["name"], {})} for one in inits],
        },
        "status": {
            "phase": phase,
            "containerStatuses": list(apps),
            "initContainerStatuses": list(inits),
            "conditions": [{"type": kind, "status": "True"} for kind in true],
            **more,
        },
    }


UP = status("a", RUNNING, ready=True)
NOT_YET = status("a", waiting("PodInitializing"))

STATUSES: list[tuple[str, dict[str, Any], str]] = [
    ("phase", pod("Pending"), "Pending"),
    ("pod reason", pod("Failed", reason="Evicted"), "Evicted"),
    ("running", pod(apps=(UP,)), "Running"),
    ("crash loop", pod(apps=(status("a", waiting("CrashLoopBackOff")),)), "CrashLoopBackOff"),
    ("creating", pod("Pending", apps=(status("a", waiting("ContainerCreating")),)), "ContainerCreating"),
    ("first container wins", pod(apps=(status("a", waiting("A")), status("b", waiting("B")))), "A"),
    ("ended with a reason", pod("Failed", apps=(status("a", ended(1, "Error")),)), "Error"),
    ("ended by a signal", pod("Failed", apps=(status("a", ended(137, signal=9)),)), "Signal:9"),
    ("ended with a code", pod("Failed", apps=(status("a", ended(3)),)), "ExitCode:3"),
    ("all completed", pod("Succeeded", apps=(status("a", ended(0, "Completed")),)), "Completed"),
    (
        "one completed, one runs, pod ready",
        pod(apps=(status("a", ended(0, "Completed")), status("b", RUNNING, ready=True)), true=("Ready",)),
        "Running",
    ),
    (
        "one completed, one runs, pod not ready",
        pod(apps=(status("a", ended(0, "Completed")), status("b", RUNNING, ready=True))),
        "NotReady",
    ),
    (
        "one completed, one failed",
        pod("Failed", apps=(status("a", ended(0, "Completed")), status("b", ended(1, "Error")))),
        "Error",
    ),
    ("deleted", pod(apps=(UP,), deleted=True), "Terminating"),
    ("deleted and done", pod("Succeeded", apps=(status("a", ended(0, "Completed")),), deleted=True), "Completed"),
    ("deleted on a lost node", pod(apps=(UP,), deleted=True, reason="NodeLost"), "Unknown"),
    ("first init runs", pod("Pending", inits=(status("i", RUNNING), status("j", waiting()))), "Init:0/2"),
    (
        "second init waits",
        pod("Pending", inits=(status("i", ended(0, "Completed")), status("j", waiting("PodInitializing")))),
        "Init:1/2",
    ),
    ("init failed", pod("Pending", inits=(status("i", ended(1, "Error")),), apps=(NOT_YET,)), "Init:Error"),
    ("init killed", pod("Pending", inits=(status("i", ended(137, signal=9)),)), "Init:Signal:9"),
    ("init ended with a code", pod("Pending", inits=(status("i", ended(2)),)), "Init:ExitCode:2"),
    ("init crash loop", pod("Pending", inits=(status("i", waiting("CrashLoopBackOff")),)), "Init:CrashLoopBackOff"),
    (
        "sidecar counts among the inits",
        pod("Pending", inits=(status("s", RUNNING, started=False), status("i", waiting())), sidecars=("s",)),
        "Init:0/2",
    ),
    (
        "started sidecar is passed over",
        pod("Pending", inits=(status("s", RUNNING, started=True), status("i", RUNNING)), sidecars=("s",)),
        "Init:1/2",
    ),
    (
        "init done, app's own reason",
        pod("Pending", inits=(status("i", ended(0, "Completed")),), apps=(NOT_YET,)),
        "PodInitializing",
    ),
    (
        "sidecar fails once initialized, app runs",
        pod(inits=(status("s", waiting("CrashLoopBackOff")),), sidecars=("s",), apps=(UP,), true=("Initialized",)),
        "Init:CrashLoopBackOff",
    ),
    (
        "sidecar fails once initialized, app fails",
        pod(
            inits=(status("s", waiting("X")),),
            sidecars=("s",),
            apps=(status("a", ended(1, "Error")),),
            true=("Initialized",),
        ),
        "Error",
    ),
]


@pytest.mark.parametrize(("one", "expected"), [row[1:] for row in STATUSES], ids=[row[0] for row in STATUSES])
def test_status(one: dict[str, Any], expected: str) -> None:
    assert columns.status_column(one) == expected


def test_a_scheduling_gate_shows() -> None:
    gated = pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}])
    assert columns.status_column(gated) == "SchedulingGated"


def test_ready_counts_started_sidecars_and_running_apps() -> None:
    one = pod(
        inits=(status("i", ended(0, "Completed")), status("s", RUNNING, started=True, ready=True)),
        sidecars=("s",),
        apps=(UP, status("b", RUNNING, ready=False)),
    )
    assert columns.ready_column(one) == "2/3"


def test_an_ended_container_is_not_ready() -> None:
    assert columns.ready_column(pod(apps=(status("a", ended(0), ready=True),))) == "0/1"


def restarts(one: columns.Json) -> str:
    return columns.pod_row(one, NOW)[columns.HEADERS.index("RESTARTS")]


def test_restarts_before_initialization_are_those_of_the_inits() -> None:
    first = restarted("i", 3, "2026-01-01T11:55:00Z", state=waiting("CrashLoopBackOff"))
    one = pod("Pending", inits=(first, restarted("j", 5, "2026-01-01T11:59:00Z")), apps=(NOT_YET,))
    assert restarts(one) == "3 (5m ago)"


def test_restarts_after_initialization_are_those_of_apps_and_sidecars() -> None:
    one = pod(
        inits=(
            {**restarted("i", 7, "2026-01-01T11:59:59Z"), "state": ended(0)},
            restarted("s", 1, "2026-01-01T11:58:00Z", started=True, ready=True),
        ),
        sidecars=("s",),
        apps=(restarted("a", 2, "2026-01-01T11:50:00Z", ready=True),),
    )
    assert restarts(one) == "3 (2m ago)"


def test_restarts_without_a_known_time_or_without_restarts() -> None:
    assert restarts(pod(apps=(UP,))) == "0"
    assert restarts(pod(apps=({**UP, "restartCount": 4},))) == "4"


def test_row_and_gates() -> None:
    one = pod(apps=(UP,), podIPs=[{"ip": "10.1.2.3"}], podIP="10.1.2.3", true=("g1",))
    one["spec"]["readinessGates"] = [{"conditionType": "g1"}, {"conditionType": "g2"}]
    assert columns.pod_row(one, NOW) == (
        *("default", "web", "1/1", "Running", "0", "5m", "10.1.2.3", "here", "<none>", "1/2"),
    )
    bare = {"metadata": {"name": "x"}}
    assert columns.pod_row(bare, NOW) == ("", "x", "0/0", "", "0", "<unknown>", "<none>", "<none>", "<none>", "<none>")


DURATIONS = {
    -2.0: "<invalid>",
    -1.5: "0s",
    0.0: "0s",
    119.9: "119s",
    120.0: "2m",
    150.0: "2m30s",
    599.0: "9m59s",
    600.0: "10m",
    10799.0: "179m",
    10800.0: "3h",
    11100.0: "3h5m",
    28799.0: "7h59m",
    28800.0: "8h",
    172799.0: "47h",
    172800.0: "2d",
    183600.0: "2d3h",
    691199.0: "7d23h",
    691200.0: "8d",
    63071999.0: "729d",
    63072000.0: "2y",
    64800000.0: "2y20d",
    252288000.0: "8y",
    260000000.0: "8y",
}


@pytest.mark.parametrize(("seconds", "text"), DURATIONS.items(), ids=DURATIONS.values())
def test_human_duration(seconds: float, text: str) -> None:
    assert columns.human_duration(seconds) == text


def test_table() -> None:
    assert columns.render_table([("NAME", "AGE"), ("a-long-name", "5m")]) == "NAME          AGE\na-long-name   5m\n"
    assert columns.render_table([]) == ""
