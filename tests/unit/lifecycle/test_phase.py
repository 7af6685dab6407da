"""U-PHASE: the phase of a Pod, the rows of Kubernetes' own test restated."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from minikubelet.api.types import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodSpec,
)
from minikubelet.lifecycle.phase import compute_phase
from minikubelet.lifecycle.restart import RESTARTING_ALL

RUNNING = ContainerState(running=ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
WAITING = ContainerState(waiting=ContainerStateWaiting())


REMOVED = ContainerState(waiting=ContainerStateWaiting(reason=RESTARTING_ALL))


def ended(code: int, reason: str = "") -> ContainerState:
    return ContainerState(
        terminated=ContainerStateTerminated(exit_code=code, reason=reason, started_at=None, finished_at=None)
    )


STATES = {
    "R": (RUNNING, ContainerState(), False),
    "N": (RUNNING, ContainerState(), True),
    "S": (ended(0), ContainerState(), False),
    "T": (ended(0), ContainerState(), False),
    "F": (ended(1), ContainerState(), False),
    "W": (WAITING, ContainerState(), False),
    "l": (WAITING, ended(0), False),
    "f": (WAITING, ended(1), False),
    "x": (ended(42), ContainerState(), False),
    "c": (REMOVED, ended(137, RESTARTING_ALL), False),
}

# number, policy, inits (x regular, y sidecar, each with its state), apps, flags (i initialized, t terminal), expected.
# l and f stand for Wl and Wf, x for exit 42, c for removed to restart all containers in place.
TABLE = """
1 Always - -- . P | 2 Always - RR . R | 3 Always - TT . R | 4 Always - SS t S | 5 Always - SF t F
6 Always - RT . R | 7 Always - R- . P | 8 Always - RW . P
9 Always - Rl . R | 10 Always x- -- . P | 11 Always xR -- . P | 12 Always xF -- . P | 13 Always xl -- . P
14 Always xf -- . P | 15 Always xW -- . P | 16 Always xS RR . R | 17 Always y- -- . P | 18 Always yR -- . P
19 Always yT -- . P | 20 Always yl -- . P | 21 Always yf -- . P | 22 Always yW -- . P | 23 Always yN R- i P
24 Always yN RR i R | 25 Always yR RR i R | 26 Always yT RR i R | 27 Always yl RR i R | 28 Always yF SS it S
29 Always yS SS it S | 30 Always yR RR . P
31 Always xRyR R . P | 32 Always xRyR T . P | 33 Always xSyR T . P | 34 Always xSyR T i R | 35 Always xSyR R i R
36 Never - -- . P | 37 Never - RR . R | 38 Never - SS . S | 39 Never - FF . F | 40 Never - RS . R | 41 Never - R- . P
42 Never - RW . P | 43 Never x- -- . P | 44 Never xR -- . P | 45 Never xF -- . F | 46 Never xl -- . P
47 Never xf -- . F | 48 Never xW -- . P | 49 Never xS RR . R | 50 Never y- -- . P | 51 Never yR -- . P
52 Never yT -- . P | 53 Never yl -- . P | 54 Never yf -- . P | 55 Never yW -- . P | 56 Never yN R- i P
57 Never yN SS i R | 58 Never yR SS i R | 59 Never yS SS i S | 60 Never yF SS i S | 61 Never yl SS i S
62 Never yf SS i S | 63 OnFailure - -- . P | 64 OnFailure - RR . R | 65 OnFailure - SS . S | 66 OnFailure - FF . R
67 OnFailure - RS . R | 68 OnFailure - R- . P | 69 OnFailure - RW . P | 70 OnFailure - Rl . R
"""
ROWS = [cell.split() for line in TABLE.strip().splitlines() for cell in line.split(" | ")]
NAMES = {"P": "Pending", "R": "Running", "S": "Succeeded", "F": "Failed"}


def params(rows: list[list[str]]) -> list[ParameterSet]:
    return [
        pytest.param(*row[1:], id=f"U-PHASE-{row[0]}", marks=pytest.mark.conformance(f"U-PHASE-{row[0]}"))
        for row in rows
    ]


def status(name: str, letter: str) -> ContainerStatus:
    state, last, started = STATES[letter]
    return ContainerStatus(
        name=name,
        state=state,
        last_state=last,
        ready=False,
        restart_count=0,
        image="i",
        image_id="",
        started=started,
    )


def pod_of(policy: str, inits: list[Container], apps: list[Container]) -> Pod:
    spec = PodSpec(restart_policy=policy, init_containers=inits or None, containers=apps)
    return Pod(api_version="v1", kind="Pod", spec=spec)


def container(name: str, policy: str | None = None, rules: list[ContainerRestartRule] | None = None) -> Container:
    return Container(name=name, image="i", restart_policy=policy, restart_policy_rules=rules)


@pytest.mark.parametrize(("policy", "init", "apps", "flags", "expected"), params(ROWS))
def test_phase(policy: str, init: str, apps: str, flags: str, expected: str) -> None:
    letters = dict(zip("ab", apps, strict=False))
    inits: list[Container] = []
    for kind, state in zip(init[::2], init[1::2], strict=False):
        inits.append(container(f"init-{kind}", "Always" if kind == "y" else None))
        letters[f"init-{kind}"] = state
    pod = pod_of(policy, inits, [container(name) for name in "ab"[: len(apps)]])
    statuses = {name: status(name, letter) for name, letter in letters.items() if letter != "-"}
    assert compute_phase(pod, statuses, initialized="i" in flags, terminal="t" in flags) == NAMES[expected]


# number, pod policy, containers with policy and state (A Always, F OnFailure, N Never), expected; i: is the init.
POLICIES = """
71 Always cNF F | 72 Always cFF R | 73 Always cAF R | 74 Never aAS,bNF R | 75 Always aNF,bFS F | 76 Always aNS,bFS S
77 Always iNF,aAW F | 78 Never iFF,aAW P | 78 Never iAF,aAW P
"""


@pytest.mark.parametrize(
    ("policy", "containers", "expected"),
    params([cell.split() for line in POLICIES.strip().splitlines() for cell in line.split(" | ")]),
)
def test_phase_with_container_policies(policy: str, containers: str, expected: str) -> None:
    names = {"A": "Always", "F": "OnFailure", "N": "Never"}
    made = {text[0]: (container(text[0], names[text[1]]), text[2]) for text in containers.split(",")}
    inits = [one for name, (one, _) in made.items() if name == "i"]
    pod = pod_of(policy, inits, [one for name, (one, _) in made.items() if name != "i"])
    statuses = {name: status(name, letter) for name, (_, letter) in made.items()}
    assert compute_phase(pod, statuses, initialized=False) == NAMES[expected]


# number, states by container (x regular init, y sidecar, a app), expected; all of a pod of policy Never.
RESTART_ALL = """
79 ax R | 80 xx,aW P | 81 yx,aW P | 82 yx,xW,aW P | 83 ac R | 84 xc,aW P | 85 yc,aW P | 86 yc,xc,aW P | 87 xS,ac R
88 xF,ac F | 89 xx,aW P | 90 xS,aW P | 91 yc,ac R | 92 yR,ac R | 93 yR,xc,aW P
"""


@pytest.mark.parametrize(
    ("containers", "expected"),
    params([cell.split() for line in RESTART_ALL.strip().splitlines() for cell in line.split(" | ")]),
)
def test_phase_while_all_containers_restart(containers: str, expected: str) -> None:
    rule = ContainerRestartRule(
        action="RestartAllContainers", exit_codes=ContainerRestartRuleOnExitCodes(operator="In", values=[42])
    )
    states = {text[0]: text[1] for text in containers.split(",")}
    inits = [container(name, "Always" if name == "y" else "Never", [rule]) for name in states if name != "a"]
    pod = pod_of("Never", inits, [container("a", "Never", [rule])])
    statuses = {name: status(name, letter) for name, letter in states.items()}
    assert compute_phase(pod, statuses, initialized=True) == NAMES[expected]


# number, policy, inits, apps of a pod that has been initialized once and begins anew, expected.
AGAIN = """
failing_init Always xF ff R | waiting_for_init Always xf fl R | running_init Always xR ff P | failed_init Never xF ff F
init_removed Always xcyW cc P | new_sidecar Always xSyR cc P | sidecar_up Always xSyN cc R
"""


@pytest.mark.parametrize(
    ("policy", "init", "apps", "expected"),
    [
        pytest.param(*row[1:], id=row[0])
        for row in (cell.split() for line in AGAIN.strip().splitlines() for cell in line.split(" | "))
    ],
)
def test_phase_of_a_pod_that_begins_anew(policy: str, init: str, apps: str, expected: str) -> None:
    """A failing init container that is started again does not make its pod Pending: the apps' ends are known."""
    test_phase(policy, init, apps, ".", expected)
