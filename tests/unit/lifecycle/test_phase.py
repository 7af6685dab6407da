"""U-PHASE: the phase of a Pod, the rows of Kubernetes' own test restated (RestartAll rows come with that action)."""

from __future__ import annotations

import pytest

from minikubelet.api.types import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodSpec,
)
from minikubelet.lifecycle.phase import compute_phase

RUNNING = ContainerState(running=ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
WAITING = ContainerState(waiting=ContainerStateWaiting())


def ended(code: int) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(exit_code=code, started_at=None, finished_at=None))


STATES = {
    "R": (RUNNING, ContainerState(), False),
    "N": (RUNNING, ContainerState(), True),
    "S": (ended(0), ContainerState(), False),
    "T": (ended(0), ContainerState(), False),
    "F": (ended(1), ContainerState(), False),
    "W": (WAITING, ContainerState(), False),
    "l": (WAITING, ended(0), False),
    "f": (WAITING, ended(1), False),
}

# number, policy, init letter (x regular, y sidecar, with state), apps, initialized, expected; l and f stand for Wl, Wf.
TABLE = """
1 Always - -- . P | 2 Always - RR . R | 3 Always - TT . R | 6 Always - RT . R | 7 Always - R- . P | 8 Always - RW . P
9 Always - Rl . R | 10 Always x- -- . P | 11 Always xR -- . P | 12 Always xF -- . P | 13 Always xl -- . P
14 Always xf -- . P | 15 Always xW -- . P | 16 Always xS RR . R | 17 Always y- -- . P | 18 Always yR -- . P
19 Always yT -- . P | 20 Always yl -- . P | 21 Always yf -- . P | 22 Always yW -- . P | 23 Always yN R- i P
24 Always yN RR i R | 25 Always yR RR i R | 26 Always yT RR i R | 27 Always yl RR i R | 30 Always yR RR . P
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


@pytest.mark.parametrize(
    ("policy", "init", "apps", "flag", "expected"), [row[1:] for row in ROWS], ids=[f"U-PHASE-{row[0]}" for row in ROWS]
)
def test_phase(policy: str, init: str, apps: str, flag: str, expected: str) -> None:
    states = dict(zip(("a", "b"), apps, strict=True))
    inits = None
    if init != "-":
        inits = [Container(name="i", image="i", restart_policy="Always" if init[0] == "y" else None)]
        states["i"] = init[1]
    pod = Pod(
        api_version="v1",
        kind="Pod",
        spec=PodSpec(
            restart_policy=policy,
            init_containers=inits,
            containers=[Container(name=name, image="i") for name in ("a", "b")],
        ),
    )
    statuses: dict[str, ContainerStatus] = {}
    for name, letter in states.items():
        if letter != "-":
            state, last, started = STATES[letter]
            statuses[name] = ContainerStatus(
                name=name,
                state=state,
                last_state=last,
                ready=False,
                restart_count=0,
                image="i",
                image_id="",
                started=started,
            )
    assert compute_phase(pod, statuses, initialized=flag == "i") == NAMES[expected]
