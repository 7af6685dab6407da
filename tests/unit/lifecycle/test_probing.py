"""The probe worker's decisions, as the kubelet's own table has them (U-WRK), and the laws of its counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.api.types import ExecAction, Probe
from minikubelet.lifecycle.observed import ContainerID, ProbeOutcome
from minikubelet.lifecycle.probing import INITIAL, ProbeKind, ProbeState, Seen, Step, count, look, next_beat

A, B = ContainerID("a"), ContainerID("b")
SUCCESS, FAILURE, UNKNOWN = ProbeOutcome.SUCCESS, ProbeOutcome.FAILURE, ProbeOutcome.UNKNOWN
BOTH = pytest.mark.parametrize("kind", [ProbeKind.LIVENESS, ProbeKind.READINESS])


def probe(**over: int) -> Probe:
    """Return a probe with its defaults filled in."""
    values = {"period_seconds": 10, "timeout_seconds": 1, "success_threshold": 1, "failure_threshold": 3, **over}
    return Probe(exec=ExecAction(command=["true"]), **values)


def running(container: ContainerID = A, *, at: float = 0.0, started: bool = True) -> Seen:
    return Seen(container_id=container, started_at=at, started=started)


def drive(kind: ProbeKind, spec: Probe, outcomes: list[ProbeOutcome]) -> list[ProbeOutcome | None]:
    """Return what is settled after each run of one instance."""
    state = ProbeState(kind=kind)
    found = []
    for beat, outcome in enumerate(outcomes):
        state, step = look(state, spec, running(), 100.0 + beat)
        if step is Step.RUN:
            state = count(state, spec, outcome)
        found.append(state.settled)
    return found


@BOTH
@pytest.mark.conformance("U-WRK-1")
@pytest.mark.conformance("U-WRK-3")
def test_without_a_container_it_waits_and_has_no_result(kind):
    state, step = look(ProbeState(kind=kind), probe(), Seen(), 0.0)
    assert (state.settled, step) == (None, Step.WAIT)


@BOTH
@pytest.mark.conformance("U-WRK-2")
def test_ended_pod_ends_it(kind):
    _, step = look(ProbeState(kind=kind), probe(), Seen(container_id=A, pod_ended=True), 0.0)
    assert step is Step.END


@BOTH
@pytest.mark.conformance("U-WRK-4")
def test_waiting_container_counts_as_failure(kind):
    state, step = look(ProbeState(kind=kind), probe(), Seen(container_id=A), 0.0)
    assert (state.settled, step) == (FAILURE, Step.WAIT)


@BOTH
@pytest.mark.conformance("U-WRK-5")
def test_ended_container_that_will_not_restart_ends_it(kind):
    state, step = look(ProbeState(kind=kind), probe(), Seen(container_id=A, exited=True, restarts=False), 0.0)
    assert (state.settled, step) == (FAILURE, Step.END)


@BOTH
@pytest.mark.conformance("U-WRK-6")
@pytest.mark.conformance("U-WRK-7")
@pytest.mark.parametrize(("delay", "now"), [(0, 0.0), (10, 3600.0)])
def test_running_container_is_probed(kind, delay, now):
    spec = probe(initial_delay_seconds=delay)
    state, step = look(ProbeState(kind=kind), spec, running(), now)
    assert step is Step.RUN
    assert count(state, spec, SUCCESS).settled is SUCCESS


@pytest.mark.conformance("U-WRK-8")
@pytest.mark.parametrize(("kind", "before"), [(ProbeKind.LIVENESS, SUCCESS), (ProbeKind.READINESS, FAILURE)])
def test_initial_delay_is_waited_for(kind, before):
    spec = probe(initial_delay_seconds=10)
    state, step = look(ProbeState(kind=kind), spec, running(at=50.0), 59.9)
    assert (state.settled, step) == (before, Step.WAIT)
    state, step = look(state, spec, running(at=50.0), 150.0)
    assert step is Step.RUN
    assert count(state, spec, SUCCESS).settled is SUCCESS


@pytest.mark.conformance("U-WRK-9")
def test_failure_threshold_for_readiness_repeats():
    one = [SUCCESS, SUCCESS, FAILURE, FAILURE, FAILURE, FAILURE]
    expected = [SUCCESS, SUCCESS, SUCCESS, SUCCESS, FAILURE, FAILURE]
    assert drive(ProbeKind.READINESS, probe(), one * 2) == expected * 2


@pytest.mark.conformance("U-WRK-9")
def test_failure_threshold_for_liveness_holds_for_each_instance():
    spec = probe()
    state = ProbeState(kind=ProbeKind.LIVENESS)
    for container in (A, B):
        for outcome, expected in [(SUCCESS, SUCCESS), (FAILURE, SUCCESS), (FAILURE, SUCCESS), (FAILURE, FAILURE)]:
            state, step = look(state, spec, running(container), 100.0)
            assert step is Step.RUN
            state = count(state, spec, outcome)
            assert state.settled is expected


@pytest.mark.conformance("U-WRK-10")
def test_success_threshold():
    spec = probe(success_threshold=3, failure_threshold=1)
    given_ = [SUCCESS, SUCCESS, SUCCESS, SUCCESS, FAILURE, SUCCESS]
    assert drive(ProbeKind.READINESS, spec, given_) == [FAILURE, FAILURE, SUCCESS, SUCCESS, FAILURE, FAILURE]


@BOTH
@pytest.mark.conformance("U-WRK-12")
def test_failing_probing_changes_nothing(kind):
    spec = probe(failure_threshold=1)
    state, _ = look(ProbeState(kind=kind), spec, running(), 0.0)
    assert count(state, spec, None) == state


@pytest.mark.parametrize("kind", [ProbeKind.LIVENESS, ProbeKind.STARTUP])
@pytest.mark.conformance("U-WRK-13")
def test_on_hold_until_a_new_container(kind):
    spec = probe(failure_threshold=1)
    seen = running(started=kind is not ProbeKind.STARTUP)
    state, _ = look(ProbeState(kind=kind), spec, seen, 0.0)
    state = count(state, spec, FAILURE)
    assert state.settled is FAILURE
    state, step = look(state, spec, seen, 10.0)
    assert (state.settled, step) == (FAILURE, Step.WAIT)
    state, step = look(state, spec, Seen(container_id=B, started_at=20.0, started=seen.started), 20.0)
    assert (state.settled, step) == (INITIAL[kind], Step.RUN)
    assert count(state, spec, SUCCESS).settled is SUCCESS


@pytest.mark.parametrize(
    ("kind", "started", "expected"),
    [
        (ProbeKind.STARTUP, False, Step.RUN),
        (ProbeKind.STARTUP, True, Step.WAIT),
        (ProbeKind.LIVENESS, False, Step.WAIT),
        (ProbeKind.LIVENESS, True, Step.RUN),
        (ProbeKind.READINESS, False, Step.WAIT),
        (ProbeKind.READINESS, True, Step.RUN),
    ],
)
def test_startup_goes_before_the_others(kind, started, expected):
    assert look(ProbeState(kind=kind), probe(), running(started=started), 0.0)[1] is expected


@pytest.mark.parametrize("kind", list(ProbeKind))
def test_value_before_the_first_result(kind):
    state, _ = look(ProbeState(kind=kind), probe(), running(), 0.0)
    assert state.settled is {"Startup": UNKNOWN, "Liveness": SUCCESS, "Readiness": FAILURE}[kind.value]


@given(
    outcomes=st.lists(st.sampled_from([SUCCESS, FAILURE, None]), max_size=60),
    success=st.integers(1, 5),
    failure=st.integers(1, 5),
)
def test_readiness_is_the_last_run_of_equal_results_as_long_as_its_threshold(outcomes, success, failure):
    spec = probe(success_threshold=success, failure_threshold=failure)
    state, _ = look(ProbeState(kind=ProbeKind.READINESS), spec, running(), 0.0)
    for outcome in outcomes:
        state = count(state, spec, outcome)
    said = [one for one in outcomes if one is not None]
    expected = FAILURE
    for end in range(1, len(said) + 1):
        need = success if said[end - 1] is SUCCESS else failure
        if end >= need and len(set(said[end - need : end])) == 1:
            expected = said[end - 1]
    assert state.settled is expected


@given(due=st.floats(0, 1e6), period=st.integers(1, 3600), late=st.floats(0, 1e5))
def test_beats_stay_on_their_grid(due, period, late):
    following = next_beat(due, period, due + late)
    assert following > due + late - 1e-6
    beats = (following - due) / period
    assert abs(beats - round(beats)) < 1e-6
    assert following - (due + late) <= period + 1e-6
