"""U-SCBR, U-BOFF, U-RCL: whether a container is started again, when, and with which restart count."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minikubelet.api.types import Container, Pod, PodSpec
from minikubelet.lifecycle import restart
from minikubelet.lifecycle.observed import BackOff, ContainerID, Exit, ObservedContainer, RunState


def instance(state: RunState, code: int | None = None) -> ObservedContainer:
    ended = None if code is None else Exit(exit_code=code, finished_at=50, finished_mono=50, reason="")
    return ObservedContainer(
        id=ContainerID("c"), name="a", restart_count=0, state=state, created_at=1, created_mono=1, exit=ended
    )


@pytest.mark.parametrize(
    ("latest", "expected"),
    [
        pytest.param(latest, expected, id=f"U-SCBR-{row}", marks=pytest.mark.conformance(f"U-SCBR-{row}"))
        for row, latest, expected in (
            (1, None, (True, True, True)),
            (2, instance(RunState.RUNNING), (False, False, False)),
            (3, instance(RunState.EXITED, 0), (False, False, True)),
            (4, instance(RunState.EXITED, 1), (False, True, True)),
            (5, instance(RunState.UNKNOWN), (True, True, True)),
        )
    ],
)
def test_should_be_restarted(latest: ObservedContainer | None, expected: tuple[bool, ...]) -> None:
    container = Container(name="a", image="i")
    found = []
    for policy in ("Never", "OnFailure", "Always"):
        pod = Pod(api_version="v1", kind="Pod", spec=PodSpec(restart_policy=policy, containers=[container]))
        found.append(restart.should_be_restarted(pod, container, latest))
    assert tuple(found) == expected


def starts(count: int, *, maximum: float) -> tuple[list[float], list[float]]:
    """Return when a container that ends at once is started, and the delays between."""
    now, entry, times, delays = 0.0, None, [0.0], [0.0]
    while len(times) < count:
        finished = now
        while restart.is_in_back_off(entry, finished, now):
            now += 1
        entry = restart.next_back_off(entry, finished, now, maximum=maximum)
        delays.append(now - finished)
        times.append(now)
    return times, delays


@pytest.mark.conformance("U-BOFF-1")
def test_delays_double_up_to_the_maximum() -> None:
    """The rows' unit is a step of 1 with the cap 50; ours is 10 s, so the cap is 500 s."""
    _, delays = starts(11, maximum=500)
    assert [delay / 10 for delay in delays[1:]] == [0, 1, 2, 4, 8, 16, 32, 50, 50, 50]


@pytest.mark.conformance("U-BOFF-2")
def test_a_fresh_container_does_not_wait() -> None:
    assert not restart.is_in_back_off(None, 0, 0)


@pytest.mark.conformance("U-BOFF-3")
def test_a_delay_is_over_for_good_after_twice_the_maximum() -> None:
    entry = BackOff(delay=300, updated_mono=0)
    assert restart.is_in_back_off(entry, 600, 601)
    assert not restart.is_in_back_off(entry, 601, 601)
    assert restart.next_back_off(entry, 601, 601).delay == 10


@pytest.mark.conformance("U-BOFF-4")
def test_a_delay_stays_at_the_maximum_over_a_quiet_time() -> None:
    assert restart.next_back_off(BackOff(delay=300, updated_mono=0), 301, 301).delay == 300


@given(finished=st.floats(0, 1e7), delay=st.sampled_from([0.5, 1.0, 10.0, 20.0, 160.0, 300.0]))
@example(finished=1010.535, delay=20.0)
@example(finished=10.000000000000002, delay=20.0)
def test_a_back_off_is_over_at_the_moment_for_which_it_is_asked_again(finished: float, delay: float) -> None:
    entry = BackOff(delay=delay, updated_mono=finished)
    assert restart.is_in_back_off(entry, finished, finished + delay / 2)
    assert not restart.is_in_back_off(entry, finished, finished + delay)


@pytest.mark.conformance("U-BOFF-6")
def test_timeline_of_a_container_that_ends_at_once() -> None:
    times, _ = starts(9, maximum=300)
    assert times == [0, 0, 10, 30, 70, 150, 310, 610, 910]
    last = BackOff(delay=300, updated_mono=910)
    assert restart.has_expired(last, 1511)
    assert not restart.has_expired(last, 1510)


@pytest.mark.parametrize(
    ("maximum", "most"),
    [
        pytest.param(300, 7, marks=pytest.mark.conformance("NODE-33"), id="NODE-33"),
        pytest.param(30, 13, marks=pytest.mark.conformance("NODE-34"), id="NODE-34"),
    ],
)
def test_how_often_a_container_is_restarted_within_five_minutes(maximum: float, most: int) -> None:
    times, _ = starts(30, maximum=maximum)
    assert 3 <= sum(time <= 300 for time in times[1:]) <= most


def test_a_maximum_below_the_first_delay_is_the_first_delay() -> None:
    assert starts(5, maximum=2)[1] == [0, 0, 2, 2, 2]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        pytest.param(names, count, id=f"U-RCL-{row}", marks=pytest.mark.conformance(f"U-RCL-{row}"))
        for row, names, count in (
            (1, ["1.log", "6.log", "6.log.rotated", "3.log.20260101-000000.gz"], 7),
            (2, ["rotated.23.log"], 0),
            (3, ["mylog42.log"], 0),
            (4, ["-42.log"], 0),
        )
    ],
)
def test_restart_count_from_logs(names: list[str], count: int) -> None:
    assert restart.count_from_logs(names) == count
