"""When probes run, on a loop whose time is made: it jumps to the next timer and waits for nothing."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest

from minikubelet.api.types import Container, ExecAction, ObjectMeta, Pod, PodSpec, Probe
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID, ProbeOutcome, RunState
from minikubelet.lifecycle.probing import ProbeKind
from minikubelet.node.kept_results import KeptResults
from minikubelet.node.prober import NodeProber
from minikubelet.runtime.port import RuntimeFailure
from minikubelet.runtime.probes.result import ProbeReply, Verdict

GOOD, BAD = ProbeReply(Verdict.SUCCESS, "fine"), ProbeReply(Verdict.FAILURE, "no")
SUCCESS, FAILURE = ProbeOutcome.SUCCESS, ProbeOutcome.FAILURE


class _Selector(selectors.DefaultSelector):
    """Never waits: the loop's time jumps by as long as it would have."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout:
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class Rig:
    """A prober with one pod whose container answers as it is told; notes when it was asked and what was said."""

    def __init__(
        self, probes: dict[str, Probe], *, started_at: float = 0.0, sidecar: bool = False, at_once: bool = False
    ) -> None:
        container = Container(name="main", image="host", **probes)
        apps = [Container(name="app", image="host")] if sidecar else [container]
        inits = [msgspec.structs.replace(container, restart_policy="Always")] if sidecar else None
        self.pod = Pod(
            api_version="v1",
            kind="Pod",
            metadata=ObjectMeta(name="p", namespace="default", uid="u1"),
            spec=PodSpec(containers=apps, init_containers=inits, restart_policy="Always"),
        )
        self.clock = asyncio.get_running_loop().time
        self.asked: list[tuple[float, str]] = []
        self.at_once = at_once
        self.answer: Callable[[str], Awaitable[ProbeReply]] = lambda _: self.say(GOOD)
        self.events: list[tuple[str, str]] = []
        self.changes = 0
        self.kept: dict[tuple[ProbeKind, ContainerID], ProbeOutcome] = {}
        self.prober = NodeProber(
            self, self, kept=self, on_change=self._changed, clock=self.clock, started_at=started_at
        )

    def _changed(self, uid: PodUID) -> None:
        self.changes += 1

    def load(self, uid: PodUID) -> dict[tuple[ProbeKind, ContainerID], ProbeOutcome]:
        return dict(self.kept)

    def keep(self, uid: PodUID, results: Any) -> None:
        self.kept = dict(results)

    async def say(self, reply: ProbeReply, after: float = 0.0) -> ProbeReply:
        await asyncio.sleep(after)
        return reply

    def prepare(self, pod: Pod, container: Container, probe: Probe, container_id: ContainerID) -> Any:
        assert probe.exec is not None
        kind = (probe.exec.command or [""])[0]

        async def wait() -> ProbeReply:
            self.asked.append((round(self.clock(), 3), kind))
            return await self.answer(kind)

        return lambda: _to_its_end(wait()) if self.at_once else wait

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", init: bool = False) -> None:
        self.events.append((reason, message))

    def update(self, identity: str = "c1", *, at: float | None = None, **flags: bool) -> None:
        started = self.clock() if at is None else at
        found = ObservedContainer(
            id=ContainerID(identity),
            name="main",
            restart_count=0,
            state=RunState.RUNNING,
            created_at=0,
            created_mono=0,
            started_at=0,
            started_mono=started,
        )
        self.prober.update(self.pod, {"main": found}, **{"terminating": False, **flags})

    def times(self, kind: str) -> list[float]:
        return [at - 1000 for at, one in self.asked if one == kind]

    def result(self, kind: str, identity: str = "c1") -> ProbeOutcome | None:
        return getattr(self.prober.results(PodUID("u1")), kind).get(ContainerID(identity))


def _to_its_end(answer: Coroutine[Any, Any, ProbeReply]) -> ProbeReply:
    """Return an answer that only gives way to others, and waits for nothing."""
    while True:
        try:
            answer.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # of the coroutine


both_ways = pytest.mark.parametrize("at_once", [False, True], ids=["waits", "at once"])


def spec(kind: str, **over: int) -> Probe:
    """Return a probe that asks under its kind's name."""
    values = {"period_seconds": 10, "timeout_seconds": 1, "success_threshold": 1, "failure_threshold": 3, **over}
    return Probe(exec=ExecAction(command=[kind]), **values)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(test())


def test_runs_after_the_delay_and_then_each_period_without_drift():
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", initial_delay_seconds=5, period_seconds=2)})
        rig.answer = lambda _: rig.say(GOOD, after=0.7)
        rig.update()
        await asyncio.sleep(12)
        assert rig.times("liveness") == [5, 7, 9, 11]
        assert rig.changes == 0

    run(test)


def test_run_longer_than_its_period_is_followed_at_once_by_one_more():
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", period_seconds=1, timeout_seconds=3)})
        rig.answer = lambda _: rig.say(GOOD, after=2.5)
        rig.update()
        await asyncio.sleep(6)
        assert rig.times("liveness") == [0, 2.5, 5]

    run(test)


def test_slow_probe_delays_no_other():
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", period_seconds=1), "readiness_probe": spec("readiness")})
        rig.answer = lambda kind: rig.say(GOOD, after=100.0 if kind == "readiness" else 0.0)
        rig.update()
        await asyncio.sleep(3.5)
        assert rig.times("liveness") == [0, 1, 2, 3]

    run(test)


@both_ways
def test_startup_goes_first_and_the_others_follow_at_once(at_once: bool):
    async def test() -> None:
        rig = Rig(
            {f"{kind}_probe": spec(kind, period_seconds=1) for kind in ("startup", "liveness", "readiness")},
            at_once=at_once,
        )
        rig.answer = lambda kind: rig.say(BAD if kind == "startup" and rig.clock() < 1001.5 else GOOD)
        rig.update()
        await asyncio.sleep(3.5)
        assert rig.times("startup") == [0, 1, 2]
        assert rig.times("liveness") == rig.times("readiness") == [2, 3]
        assert (rig.result("startup"), rig.result("readiness")) == (SUCCESS, SUCCESS)

    run(test)


@pytest.mark.conformance("U-WRK-13")
@both_ways
def test_failed_liveness_is_on_hold_until_a_new_container(at_once: bool):
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", failure_threshold=2, period_seconds=1)}, at_once=at_once)
        rig.answer = lambda _: rig.say(BAD)
        rig.update()
        await asyncio.sleep(5.5)
        assert rig.times("liveness") == [0, 1]
        assert rig.result("liveness") is FAILURE
        rig.update("c2")
        assert rig.result("liveness", "c2") is SUCCESS
        await asyncio.sleep(0.5)
        assert rig.times("liveness") == [0, 1, 5.5]
        assert rig.changes == 1
        assert rig.events == [("Unhealthy", "Liveness probe failed: no")] * 3

    run(test)


@both_ways
def test_unready_container_is_asked_again_whenever_a_status_is_made(at_once: bool):
    async def test() -> None:
        rig = Rig({"readiness_probe": spec("readiness", initial_delay_seconds=2)}, at_once=at_once)
        rig.answer = lambda _: rig.say(GOOD if rig.clock() >= 1004 else BAD)
        rig.update(refresh=True)
        start = rig.clock()
        await asyncio.sleep(2.5)
        rig.update(at=start, refresh=True)
        await asyncio.sleep(2)
        rig.update(at=start, refresh=True)
        await asyncio.sleep(1)
        assert rig.result("readiness") is SUCCESS
        rig.update(at=start, refresh=True)
        await asyncio.sleep(10)
        # The last status asked for nothing; the beat is a period after the last extra run.
        assert rig.times("readiness") == [2, 2.5, 4.5, 14.5]

    run(test)


def test_errors_are_tried_three_times_told_and_not_counted():
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", failure_threshold=1)})

        async def fail(_: str) -> ProbeReply:
            raise RuntimeFailure("cannot exec in c1")

        rig.answer = fail
        rig.update()
        await asyncio.sleep(1)
        assert len(rig.asked) == 3
        assert rig.result("liveness") is SUCCESS
        text = "Liveness probe errored and resulted in unknown state: cannot exec in main"
        assert rig.events == [("Unhealthy", text)]

    run(test)


@pytest.mark.conformance("U-WRK-12")
@both_ways
def test_crash_of_the_prober_changes_nothing_and_the_next_beat_comes(at_once: bool):
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", failure_threshold=1, period_seconds=1)}, at_once=at_once)

        async def crash(_: str) -> ProbeReply:
            raise ZeroDivisionError

        rig.answer = crash
        rig.update()
        await asyncio.sleep(1.5)
        assert rig.times("liveness") == [0, 1]
        assert rig.result("liveness") is SUCCESS

    run(test)


@both_ways
def test_warning_is_success_with_an_event(at_once: bool):
    async def test() -> None:
        rig = Rig({"readiness_probe": spec("readiness")}, at_once=at_once)
        rig.answer = lambda _: rig.say(ProbeReply(Verdict.WARNING, "redirected"))
        rig.update()
        await asyncio.sleep(1)
        assert rig.result("readiness") is SUCCESS
        assert rig.events == [("ProbeWarning", "Readiness probe warning: redirected")]

    run(test)


@pytest.mark.parametrize(("sidecar", "expected"), [(False, [0, 1]), (True, [0, 1, 2, 3])])
def test_only_readiness_of_an_app_container_goes_on_while_its_pod_ends(sidecar, expected):
    async def test() -> None:
        rig = Rig(
            {f"{kind}_probe": spec(kind, period_seconds=1) for kind in ("liveness", "readiness")}, sidecar=sidecar
        )
        rig.update()
        start = rig.clock()
        await asyncio.sleep(1.5)
        rig.update(at=start, terminating=True)
        await asyncio.sleep(2)
        assert rig.times("liveness") == expected
        assert rig.times("readiness") == [0, 1, 2, 3]
        assert rig.result("liveness") is SUCCESS

    run(test)


@pytest.mark.conformance("U-WRK-11")
def test_probe_that_an_edit_adds_is_run():
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", period_seconds=10)})
        rig.update()
        await asyncio.sleep(1)
        edited = msgspec.structs.replace(
            rig.pod.spec.containers[0], readiness_probe=spec("readiness", period_seconds=10)
        )
        rig.pod = msgspec.structs.replace(rig.pod, spec=msgspec.structs.replace(rig.pod.spec, containers=[edited]))
        rig.update(at=1000)
        await asyncio.sleep(0.5)
        assert rig.times("readiness") == [1]
        assert rig.times("liveness") == [0]
        assert rig.result("readiness") is SUCCESS

    run(test)


def test_removal_is_harmless_however_often():
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", period_seconds=1)})
        rig.update()
        await asyncio.sleep(0.5)
        for _ in range(10):
            rig.prober.remove(PodUID("u1"))
        await asyncio.sleep(5)
        assert rig.times("liveness") == [0]
        assert rig.result("liveness") is None
        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []

    run(test)


def test_result_of_an_instance_that_is_gone_is_dropped():
    async def test() -> None:
        rig = Rig({"readiness_probe": spec("readiness", timeout_seconds=5)})
        rig.answer = lambda _: rig.say(GOOD, after=2)
        rig.update("c1")
        await asyncio.sleep(1)
        rig.update("c2")
        await asyncio.sleep(1.5)
        assert (rig.result("readiness", "c1"), rig.result("readiness", "c2")) == (None, FAILURE)

    run(test)


def test_found_containers_are_spread_over_the_period_and_keep_their_results():
    async def test() -> None:
        rig = Rig({f"{kind}_probe": spec(kind) for kind in ("startup", "readiness")}, started_at=999.5)
        rig.kept = {(ProbeKind.STARTUP, ContainerID("c1")): SUCCESS, (ProbeKind.READINESS, ContainerID("c1")): SUCCESS}
        rig.update(at=500.0)
        assert (rig.result("startup"), rig.result("readiness")) == (SUCCESS, SUCCESS)
        await asyncio.sleep(10)
        assert rig.times("startup") == []
        (first,) = rig.times("readiness")
        assert 0 <= first <= 10
        assert rig.changes == 0

    run(test)


def test_kept_liveness_failure_goes_on_counting():
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness")})
        rig.kept = {(ProbeKind.LIVENESS, ContainerID("c1")): FAILURE}
        rig.update()
        await asyncio.sleep(30)
        assert (rig.asked, rig.result("liveness")) == ([], FAILURE)

    run(test)


def test_results_are_kept_on_disk(tmp_path):
    (tmp_path / "u1").mkdir()
    kept = KeptResults(str(tmp_path))
    results = {(ProbeKind.STARTUP, ContainerID("c1")): SUCCESS, (ProbeKind.READINESS, ContainerID("c1")): FAILURE}
    assert kept.load(PodUID("u1")) == {}
    kept.keep(PodUID("u1"), results)
    assert kept.load(PodUID("u1")) == results
    (tmp_path / "u1" / "probes.json").write_text('{"c1": {"Startup": "suc')
    assert kept.load(PodUID("u1")) == {}
    kept.keep(PodUID("gone"), results)
    assert not (tmp_path / "gone").exists()


@pytest.mark.conformance("U-PRB-19")
@pytest.mark.parametrize("verdict", Verdict)
def test_whatever_is_neither_success_nor_warning_is_a_failure(verdict: Verdict):
    async def test() -> None:
        rig = Rig({"liveness_probe": spec("liveness", failure_threshold=1, period_seconds=1)})
        rig.answer = lambda _: rig.say(ProbeReply(verdict, "?"))
        rig.update()
        await asyncio.sleep(2)
        good = verdict in (Verdict.SUCCESS, Verdict.WARNING)
        assert rig.result("liveness") is (SUCCESS if good else FAILURE)

    run(test)
