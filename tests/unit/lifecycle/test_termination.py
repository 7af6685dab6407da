"""U-GRACE and the steps of an ending: which grace counts, what follows what, and when a step's time is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.api.types import Container, Pod, PodSpec
from minikubelet.lifecycle import termination
from minikubelet.lifecycle.termination import Cause, Ending, Event, Stage

O, L, S = Cause.OTHER, Cause.LIVENESS, Cause.STARTUP  # noqa: E741


def row(number: int, *values: object):
    return pytest.param(*values, id=f"U-GRACE-{number}", marks=pytest.mark.conformance(f"U-GRACE-{number}"))


@pytest.mark.parametrize(
    ("pod", "cause", "startup", "liveness", "expected"),
    [
        row(1, None, O, None, None, 2),
        row(2, 60, O, None, None, 60),
        row(3, 60, L, None, 10, 10),
        row(4, 60, S, 10, None, 10),
        row(5, 10, S, 60, None, 60),
        row(6, 10, L, None, 60, 60),
        row(7, 60, O, None, 10, 60),
        row(8, 60, O, 10, None, 60),
        row(9, 60, O, 10, 30, 60),
        row(10, 60, S, 10, 30, 10),
        row(11, 60, L, 10, 30, 30),
    ],
)
def test_container_grace(
    pod: float | None, cause: Cause, startup: float | None, liveness: float | None, expected: float
) -> None:
    grace = termination.container_grace_s(pod_s=pod, cause=cause, startup_s=startup, liveness_s=liveness)
    assert grace == expected


@pytest.mark.parametrize(
    ("spec", "deletion", "override", "expected"),
    [
        row(12, 30, None, None, 30),
        row(13, 30, 5, None, 5),
        row(14, 30, 5, 2, 2),
        row(15, 30, 0, None, 1),
        row(16, 30, None, 0, 1),
    ],
)
def test_pod_grace(spec: float, deletion: float | None, override: float | None, expected: float) -> None:
    assert termination.pod_grace_s(spec_s=spec, deletion_s=deletion, override_s=override) == expected


def run(ending: Ending, *happenings: tuple[Event, float]) -> list[tuple[Stage, float]]:
    """Let things happen at times; return each stage with when its time is over."""
    seen = [(ending.stage, ending.due)]
    for event, now in happenings:
        ending = termination.after(ending, event, now)
        seen.append((ending.stage, ending.due))
    return seen


def test_a_hook_uses_up_the_grace_by_whole_seconds() -> None:
    begun = termination.begin(100, 30, has_hook=True, must_wait=False)
    assert run(begun, (Event.HOOK_DONE, 104.75), (Event.TURN_CAME, 104.75)) == [
        (Stage.PRE_STOP, 130),
        (Stage.TURN, 130.75),
        (Stage.TERM, 130.75),
    ]


def test_a_hook_that_takes_too_long_leaves_two_seconds_for_the_stop_signal() -> None:
    begun = termination.begin(100, 5, has_hook=True, must_wait=False)
    seen = run(begun, (Event.TIME_OVER, 105), (Event.TIME_OVER, 107), (Event.TIME_OVER, 109), (Event.EXITED, 110))
    assert seen[:4] == [(Stage.PRE_STOP, 105), (Stage.TERM, 107), (Stage.KILL, 109), (Stage.KILL, 111)]
    assert seen[4][0] is Stage.ENDED


def test_a_sidecar_waits_for_its_turn_within_the_same_grace() -> None:
    begun = termination.begin(100, 10, has_hook=False, must_wait=True)
    assert run(begun, (Event.TURN_CAME, 104))[1] == (Stage.TERM, 110)
    assert run(begun, (Event.TIME_OVER, 110))[1] == (Stage.TERM, 112)


def test_without_grace_no_hook_runs() -> None:
    begun = termination.begin(100, 0, has_hook=True, must_wait=False)
    assert (begun.stage, begun.due) == (Stage.TERM, 102)


def test_what_is_not_in_the_table_changes_nothing() -> None:
    begun = termination.begin(100, 30, has_hook=False, must_wait=False)
    assert termination.after(begun, Event.HOOK_DONE, 101) is begun


@given(
    grace=st.floats(0, 100),
    has_hook=st.booleans(),
    must_wait=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from([Event.HOOK_DONE, Event.TURN_CAME]), st.floats(0, 50))),
    shortened=st.floats(0, 100),
)
def test_every_ending_comes_to_sigkill_in_time(
    grace: float, has_hook: bool, must_wait: bool, steps: list[tuple[Event, float]], shortened: float
) -> None:
    """The stop signal comes before SIGKILL, with two seconds between; a second request never lengthens the grace."""
    now = 0.0
    ending = termination.begin(now, grace, has_hook=has_hook, must_wait=must_wait)
    entered = {ending.stage: now}
    for event, wait in steps:
        now = min(now + wait, ending.due)
        ending = termination.after(ending, event, now)
        entered.setdefault(ending.stage, now)
    ending = termination.shortened(ending, now + shortened)
    assert ending.deadline <= max(now + shortened, grace + 2)
    while ending.stage is not Stage.KILL:
        now = max(now, ending.due)
        ending = termination.after(ending, Event.TIME_OVER, now)
        entered.setdefault(ending.stage, now)
    assert entered[Stage.KILL] - entered[Stage.TERM] >= termination.MINIMUM_GRACE_S - 1e-9
    # Two seconds at least for the stop signal, and less than one given back for each of hook and turn.
    assert entered[Stage.KILL] <= grace + termination.MINIMUM_GRACE_S + 2 + 1e-9


def test_sidecars_end_last_and_in_reverse_order() -> None:
    def container(name: str, policy: str | None = None) -> Container:
        return Container(name=name, image="i", restart_policy=policy)

    pod = Pod(
        api_version="v1",
        kind="Pod",
        spec=PodSpec(
            init_containers=[container("s1", "Always"), container("i"), container("s2", "Always")],
            containers=[container("a"), container("b")],
        ),
    )
    running = {"s1", "s2", "a", "i"}
    assert termination.needed_by(pod, "s1", running) == ("a", "s2")
    assert termination.needed_by(pod, "s2", running) == ("a",)
    assert termination.needed_by(pod, "a", running) == ()
    assert termination.needed_by(pod, "i", running) == ()
