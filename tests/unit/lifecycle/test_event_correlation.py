"""E1: events are counted, combined and held back as client-go does it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minikubelet.lifecycle.event_correlation import COMBINED, Correlator, Occurrence, Told


def one(
    message: str, *, subject: str = "pod", reason: str = "Unhealthy", kind: str = "Warning", field: str = ""
) -> Occurrence:
    return Occurrence(subject=subject, field_path=field, type=kind, reason=reason, message=message)


def test_equal_events_are_counted():
    correlator = Correlator()
    told = [correlator.record(one("a"), f"n{at}", float(at)) for at in range(3)]
    assert told == [Told(name="n0", message="a", count=count, first_at=0.0) for count in (1, 2, 3)]
    other = correlator.record(one("a", field="spec.containers{b}"), "n9", 9.0)
    assert other == Told(name="n9", message="a", count=1, first_at=9.0)


def test_tenth_different_message_is_combined_with_those_that_follow():
    correlator = Correlator()
    told = [correlator.record(one(f"m{at}"), f"n{at}", float(at)) for at in range(12)]
    assert [found.message for found in told if found] == [f"m{at}" for at in range(9)] + [
        COMBINED + f"m{at}" for at in (9, 10, 11)
    ]
    assert [(found.name, found.count) for found in told[9:] if found] == [("n9", 1), ("n9", 2), ("n9", 3)]
    # Another reason, another type, another object: not similar.
    for different in (one("x", reason="Killing"), one("x", kind="Normal"), one("x", subject="other")):
        found = correlator.record(different, "m", 20.0)
        assert found is not None
        assert found.message == "x"


def test_similar_events_are_forgotten_after_ten_quiet_minutes():
    correlator = Correlator()
    for at in range(9):
        correlator.record(one(f"m{at}"), "n", float(at))
    quiet = correlator.record(one("m9"), "n", 8.0 + 600.1)
    assert quiet is not None
    assert quiet.message == "m9"
    busy = Correlator()
    for at in range(9):
        busy.record(one(f"m{at}"), "n", 599.0 * at)
    found = busy.record(one("m9"), "n", 599.0 * 9)
    assert found is not None
    assert found.message == COMBINED + "m9"


def test_burst_of_25_then_one_each_five_minutes_counted_all_the_same():
    correlator = Correlator()
    told = [correlator.record(one("a"), "n", 0.0) for _ in range(40)]
    assert [found.count for found in told if found] == list(range(1, 26))
    assert correlator.record(one("a"), "n", 299.0) is None
    found = correlator.record(one("a"), "n", 301.0)
    assert found is not None
    assert found.count == 42
    assert correlator.record(one("a"), "n", 302.0) is None
    # Of another type the object still has all its events.
    assert correlator.record(one("b", kind="Normal"), "n", 302.0) is not None


def test_counts_go_on_after_a_restart():
    correlator = Correlator()
    correlator.restore(one("a"), Told(name="n", message="a", count=7, first_at=1.0))
    correlator.restore(one(COMBINED + "x", reason="R"), Told(name="c", message=COMBINED + "x", count=3, first_at=2.0))
    assert correlator.record(one("a"), "new", 10.0) == Told(name="n", message="a", count=8, first_at=1.0)
    for at in range(9):
        correlator.record(one(f"m{at}", reason="R"), "new", 10.0)
    assert correlator.record(one("y", reason="R"), "new", 10.0) == Told(
        name="c", message=COMBINED + "y", count=4, first_at=2.0
    )


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 15)), max_size=120))
def test_laws(steps):
    correlator = Correlator()
    now, counts, told_at = 0.0, {}, []
    for number, (wait, message) in enumerate(steps):
        now += wait
        found = correlator.record(one(f"m{message}"), f"n{number}", now)
        if found is None:
            continue
        told_at.append(now)
        assert found.count > counts.get(found.name, 0)
        counts[found.name] = found.count
        assert found.first_at <= now
    # Never more than the burst and what has been refilled since.
    for begin in range(len(told_at)):
        for end in range(begin, len(told_at)):
            assert end - begin + 1 <= 25 + (told_at[end] - told_at[begin]) / 300.0 + 1
