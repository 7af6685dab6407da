"""What is kept of a probe's runs: changes, failures, counts; never more than so much."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from minikubelet.node.probe_history import MOST_OUTPUT, MOST_STRETCHES, ProbeHistory, ProbeRun

RUN = ProbeRun(
    uid="u", namespace="default", pod="web-n1", container="main", kind="Readiness", result="successful", output="",
    at=0.0, duration=0.001, lateness=0.0, container_id="c1",
)  # fmt: skip


def history_of(*runs: ProbeRun) -> ProbeHistory:
    history = ProbeHistory(runs[0])
    for run in runs[1:]:
        history.add(run)
    return history


def test_equal_results_in_a_row_are_one_stretch():
    said = [("failed", "refused"), ("failed", "refused"), ("successful", "page 1"), ("successful", "page 2")]
    said += [("failed", "500"), ("unknown", "no such container")]
    history = history_of(*(replace(RUN, result=r, output=o, at=float(n)) for n, (r, o) in enumerate(said)))
    assert [(one.result, one.output, one.first, one.last, one.count) for one in history.stretches] == [
        ("failed", "refused", 0.0, 1.0, 2),
        ("successful", "", 2.0, 3.0, 2),
        ("failed", "500", 4.0, 4.0, 1),
        ("unknown", "no such container", 5.0, 5.0, 1),
    ]
    assert history.last.at == 5.0


def test_a_new_instance_begins_a_new_stretch():
    history = history_of(RUN, replace(RUN, at=1.0), replace(RUN, at=2.0, container_id="c2"))
    assert [(one.container_id, one.count) for one in history.stretches] == [("c1", 2), ("c2", 1)]


@given(st.lists(st.tuples(st.sampled_from(["successful", "failed"]), st.text(max_size=600)), min_size=1, max_size=300))
def test_memory_is_bounded_and_the_newest_is_kept(said: list[tuple[str, str]]) -> None:
    history = history_of(*(replace(RUN, result=r, output=o, at=float(n)) for n, (r, o) in enumerate(said)))
    assert len(history.stretches) <= MOST_STRETCHES
    assert all(len(one.output) <= MOST_OUTPUT for one in history.stretches)
    assert history.stretches[-1].last == len(said) - 1
    if len(history.stretches) < MOST_STRETCHES:
        assert sum(one.count for one in history.stretches) == len(said)
    assert all(a.last < b.first for a, b in pairwise(history.stretches))
