"""Runs the probes of all pods and holds their settled results.

All probes share one heap of times and one timer. A run that has to wait is a task of its own, so that a slow one delays
no other; one that is answered at once, as most are that connect to a pod, costs no task. A
probe's times are multiples of its period from the moment its delay was over, so a slow run makes no drift; what an
earlier daemon's containers need is spread over the period. What a probe decides is `lifecycle.probing`.
Source: kubelet prober/worker.go, prober.go, prober_manager.go (v1.36).
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import structlog

from minikubelet.api.types import Container, Pod, Probe
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID, ProbeOutcome, RunState
from minikubelet.lifecycle.pods import is_init_container, sidecars
from minikubelet.lifecycle.probing import ProbeKind, ProbeState, Seen, Step, count, look, next_beat
from minikubelet.node.probe_history import ProbeRun
from minikubelet.node.services import ProbeResults, Recorder
from minikubelet.runtime.port import RuntimeFailure
from minikubelet.runtime.probes.http import BodyError
from minikubelet.runtime.probes.result import Ask, ProbeReply, Verdict, Wait

log = structlog.get_logger(__name__)

_TRIES: Final = 3
_NOTHING: Final = ProbeResults(liveness={}, readiness={}, startup={})


class _Asker(Protocol):
    def prepare(self, pod: Pod, container: Container, probe: Probe, container_id: ContainerID) -> Ask: ...


class _Kept(Protocol):
    def load(self, uid: PodUID) -> Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]: ...
    def keep(self, uid: PodUID, results: Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]) -> None: ...


class _Probe:
    """One probe of one container: its memory, its place in time, its current run."""

    __slots__ = ("again", "ask", "begun", "container", "due", "init", "late", "probe", "seen", "state", "task")

    def __init__(self, container: Container, kind: ProbeKind, probe: Probe, *, init: bool) -> None:
        self.container = container
        self.probe = probe
        self.init = init
        self.state = ProbeState(kind=kind)
        self.seen = Seen()
        self.ask: Ask | None = None
        self.due: float | None = None  # None while it has nothing to do
        self.task: asyncio.Task[None] | None = None
        self.again = False  # a beat fell into the current run
        self.begun = 0.0
        self.late = 0.0  # seconds that the current run began after its beat

    def stop(self) -> None:
        self.due = None
        self.again = False
        if self.task is not None:
            self.task.cancel()
            self.task = None


class _PodProbes:
    """The probes of one pod and what they have settled on."""

    __slots__ = ("kept", "pod", "probes", "results")

    def __init__(self, pod: Pod, kept: Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]) -> None:
        self.pod = pod
        self.probes = {(one.state.kind, one.container.name): one for one in _probes(pod)}
        self.kept = dict(kept)
        self.results: ProbeResults | None = None

    def take_up(self, pod: Pod) -> None:
        """Take up an edit under the same uid: probes that are there go on as they were, new ones begin."""
        self.pod = pod
        for one in _probes(pod):
            self.probes.setdefault((one.state.kind, one.container.name), one)

    def settled(self) -> dict[tuple[ProbeKind, ContainerID], ProbeOutcome]:
        """Return what each probe has settled on about its current instance."""
        return {
            (kind, probe.state.container_id): probe.state.settled
            for (kind, _), probe in self.probes.items()
            if probe.state.container_id is not None and probe.state.settled is not None
        }


class NodeProber:
    """Owner of all probes and results of the node."""

    def __init__(
        self,
        asker: _Asker,
        recorder: Recorder,
        *,
        kept: _Kept,
        on_change: Callable[[PodUID], None],
        clock: Callable[[], float],
        started_at: float,
        wall_clock: Callable[[], float] = lambda: 0.0,
        observe: Callable[[ProbeRun], None] = lambda run: None,
    ) -> None:
        """Create it.

        Args:
            asker: Asks containers.
            recorder: Takes the events of failed runs.
            kept: Remembers results over a restart of the daemon.
            on_change: Told when a settled result changes.
            clock: Boot time in seconds.
            started_at: When the daemon started, on that clock: probes of containers found running are spread.
            wall_clock: Unix time.
            observe: Told of every run.
        """
        self._asker = asker
        self._recorder = recorder
        self._kept = kept
        self._on_change = on_change
        self._clock = clock
        self._started_at = started_at
        self._wall_clock = wall_clock
        self._observe = observe
        self._pods: dict[PodUID, _PodProbes] = {}
        self._heap: list[tuple[float, int, PodUID, _Probe]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    # What pod workers ask

    def update(
        self, pod: Pod, latest: Mapping[str, ObservedContainer], *, terminating: bool, refresh: bool = False
    ) -> None:
        """Make the probes fit what is there now.

        Args:
            pod: The pod; its probes are made at the first call.
            latest: The newest instance of each container whose start is complete.
            terminating: The pod ends: liveness and startup of app containers stop, the rest goes on to the end.
            refresh: A status was made: a readiness probe that has not succeeded runs at once.
        """
        uid = PodUID(pod.metadata.uid)
        state = self._pods.get(uid)
        if state is None:
            state = self._pods[uid] = _PodProbes(pod, self._kept.load(uid))
        elif state.pod is not pod:
            state.take_up(pod)
        now = self._clock()
        for (kind, name), probe in state.probes.items():
            stopping = terminating and not probe.init and kind is not ProbeKind.READINESS
            self._look(uid, state, probe, latest.get(name), stopping, now)
        state.kept.clear()
        if refresh:
            for (kind, _), probe in state.probes.items():
                if kind is ProbeKind.READINESS and probe.state.settled is not ProbeOutcome.SUCCESS:
                    self._run_now(uid, state, probe, now)
        self._arm()

    def results(self, uid: PodUID) -> ProbeResults:
        """Return the settled outcomes of one pod."""
        state = self._pods.get(uid)
        if state is None:
            return _NOTHING
        if state.results is None:
            of: dict[ProbeKind, dict[ContainerID, ProbeOutcome]] = {kind: {} for kind in ProbeKind}
            for (kind, container_id), outcome in state.settled().items():
                of[kind][container_id] = outcome
            state.results = ProbeResults(
                liveness=of[ProbeKind.LIVENESS], readiness=of[ProbeKind.READINESS], startup=of[ProbeKind.STARTUP]
            )
        return state.results

    def remove(self, uid: PodUID) -> None:
        """Stop all probes of one pod and forget it."""
        state = self._pods.pop(uid, None)
        if state is not None:
            for probe in state.probes.values():
                probe.stop()

    def stop(self) -> None:
        """Stop everything."""
        for uid in list(self._pods):
            self.remove(uid)
        if self._timer is not None:
            self._timer.cancel()

    # Seeing

    def _look(
        self,
        uid: PodUID,
        state: _PodProbes,
        probe: _Probe,
        found: ObservedContainer | None,
        stopping: bool,
        now: float,
    ) -> None:
        """Take up what is there now: a new instance, an end, a start that is complete."""
        before = probe.state
        probe.seen = self._see(state, probe, found, stopping)
        probe.state, _ = look(before, probe.probe, probe.seen, now)
        if probe.state.container_id != before.container_id and found is not None:
            probe.stop()
            probe.ask = self._asker.prepare(state.pod, probe.container, probe.probe, found.id)
            kept = state.kept.pop((probe.state.kind, found.id), None)
            if kept is not None:
                probe.state = _restore(probe.state, kept)
                probe.seen = self._see(state, probe, found, stopping)
        if probe.state is not before:
            state.results = None
        if self._is_active(probe):
            if probe.due is None:
                self._schedule(uid, probe, self._first_beat(probe, now))
        else:
            probe.stop()

    def _see(self, state: _PodProbes, probe: _Probe, found: ObservedContainer | None, stopping: bool) -> Seen:
        if found is None:
            return Seen(container_id=probe.state.container_id, stopping=stopping)
        startup = state.probes.get((ProbeKind.STARTUP, probe.container.name))
        started = startup is None or (
            startup.state.container_id == found.id and startup.state.settled is ProbeOutcome.SUCCESS
        )
        return Seen(
            container_id=found.id,
            started_at=found.started_mono if found.state is RunState.RUNNING else None,
            exited=found.state is RunState.EXITED,
            started=started,
            stopping=stopping,
        )

    def _is_active(self, probe: _Probe) -> bool:
        """Tell whether the probe has a next run: its instance runs and it has not said its last word about it."""
        if probe.seen.started_at is None or probe.seen.stopping or probe.state.on_hold:
            return False
        return probe.seen.started is not (probe.state.kind is ProbeKind.STARTUP)

    def _first_beat(self, probe: _Probe, now: float) -> float:
        assert probe.seen.started_at is not None
        due = max(probe.seen.started_at + probe.probe.initial_delay_seconds, now)
        period = float(probe.probe.period_seconds)
        if now - self._started_at < period and probe.seen.started_at < self._started_at:
            due += random.uniform(0, period)
        return due

    # Time

    def _schedule(self, uid: PodUID, probe: _Probe, due: float) -> None:
        probe.due = due
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, uid, probe))

    def _arm(self) -> None:
        """Set the one timer to the next beat."""
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._beat)

    def _beat(self) -> None:
        """Begin every run that is due."""
        self._timer = None
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, uid, probe = heapq.heappop(self._heap)
            state = self._pods.get(uid)
            if state is None or probe.due != due:
                continue  # stopped or moved meanwhile
            self._schedule(uid, probe, next_beat(due, float(probe.probe.period_seconds), now))
            probe.late = now - due
            self._begin(uid, state, probe)
        self._arm()

    def _run_now(self, uid: PodUID, state: _PodProbes, probe: _Probe, now: float) -> None:
        """Run between the beats, if the initial delay is over; the next beat is a period from now."""
        if look(probe.state, probe.probe, probe.seen, now)[1] is Step.RUN:
            self._schedule(uid, probe, now + probe.probe.period_seconds)
            probe.late = 0.0
            self._begin(uid, state, probe)

    def _begin(self, uid: PodUID, state: _PodProbes, probe: _Probe) -> None:
        if probe.task is not None:
            probe.again = True  # as a ticker that holds one tick
            return
        assert probe.ask is not None
        probe.again = False
        probe.begun = self._clock()
        try:
            answer = probe.ask()
            outcome = self._judge(state.pod, probe, answer) if isinstance(answer, ProbeReply) else None
        except Exception:
            self._crashed(uid, probe)
            return
        if isinstance(answer, ProbeReply):
            self._settle(uid, state, probe, outcome)
        else:
            probe.task = asyncio.get_running_loop().create_task(self._run(uid, state, probe, answer))

    # Running

    async def _run(self, uid: PodUID, state: _PodProbes, probe: _Probe, wait: Wait) -> None:
        """Wait for the answer and settle what it says; run once more if a beat fell into the run."""
        outcome = None
        try:
            outcome = await self._once(state.pod, probe, wait)
        except Exception:
            self._crashed(uid, probe)
        probe.task = None
        self._settle(uid, state, probe, outcome)
        if probe.again and probe.due is not None:
            self._begin(uid, state, probe)

    def _crashed(self, uid: PodUID, probe: _Probe) -> None:
        """Tell what should not happen. One probe's trouble is not another's; it counts for nothing."""
        log.exception("probe failed unexpectedly", uid=uid, container=probe.container.name)

    def _settle(self, uid: PodUID, state: _PodProbes, probe: _Probe, outcome: ProbeOutcome | None) -> None:
        before = probe.state
        probe.state = count(before, probe.probe, outcome)
        if probe.state.on_hold:
            probe.stop()
        if probe.state.settled is before.settled:
            return
        state.results = None
        self._kept.keep(uid, {**state.kept, **state.settled()})
        if before.kind is ProbeKind.STARTUP:
            self._startup_settled(uid, state, probe)
        asyncio.get_running_loop().call_soon(self._on_change, uid)

    def _startup_settled(self, uid: PodUID, state: _PodProbes, startup: _Probe) -> None:
        """Let the container's other probes begin where the startup probe has ended."""
        now = self._clock()
        for probe in state.probes.values():
            if probe.container is startup.container and probe.seen.container_id == startup.state.container_id:
                started = startup.state.settled is ProbeOutcome.SUCCESS
                seen = probe.seen
                probe.seen = Seen(
                    container_id=seen.container_id,
                    started_at=seen.started_at,
                    exited=seen.exited,
                    started=started,
                    stopping=seen.stopping,
                )
                if not self._is_active(probe):
                    probe.stop()
                elif probe.due is None:
                    self._schedule(uid, probe, self._first_beat(probe, now))
        self._arm()

    async def _once(self, pod: Pod, probe: _Probe, wait: Wait) -> ProbeOutcome | None:
        """Take the answer; None when the asking itself failed three times, which counts for nothing."""
        assert probe.ask is not None
        error, state = "", "unknown"
        for attempt in range(_TRIES):
            try:
                answer = wait if attempt == 0 else probe.ask()
                return self._judge(pod, probe, answer if isinstance(answer, ProbeReply) else await answer())
            except (RuntimeFailure, OSError) as failure:
                error = str(failure)
                # The kubelet's word for it, though it counts as little as the other.
                state = "failure" if isinstance(failure, BodyError) else "unknown"
        self._note(pod, probe, "unknown", error)
        self._event(pod, probe, "Unhealthy", f"errored and resulted in {state} state: {error}")
        return None

    def _judge(self, pod: Pod, probe: _Probe, reply: ProbeReply) -> ProbeOutcome:
        if reply.verdict is Verdict.WARNING:
            self._event(pod, probe, "ProbeWarning", f"warning: {reply.output}")
        elif reply.verdict is not Verdict.SUCCESS:
            self._event(pod, probe, "Unhealthy", f"failed: {reply.output}")
            self._note(pod, probe, "failed", reply.output)
            return ProbeOutcome.FAILURE
        self._note(pod, probe, "successful", reply.output)
        return ProbeOutcome.SUCCESS

    def _note(self, pod: Pod, probe: _Probe, result: str, output: str) -> None:
        """Tell those who count runs of this one."""
        self._observe(
            ProbeRun(
                uid=pod.metadata.uid,
                namespace=pod.metadata.namespace,
                pod=pod.metadata.name,
                container=probe.container.name,
                kind=probe.state.kind.value,
                result=result,
                output=output,
                at=self._wall_clock(),
                duration=self._clock() - probe.begun,
                lateness=probe.late,
                container_id=probe.state.container_id or "",
            )
        )

    def _event(self, pod: Pod, probe: _Probe, reason: str, text: str) -> None:
        message = f"{probe.state.kind.value} probe {text}"
        container_id = probe.state.container_id
        if container_id is not None:
            message = message.replace(container_id, probe.container.name)  # equal messages are counted, not listed
        self._recorder.event(pod, "Warning", reason, message, container=probe.container.name, init=probe.init)


def _restore(state: ProbeState, kept: ProbeOutcome) -> ProbeState:
    """Return the memory of a probe whose result an earlier daemon kept."""
    failed = kept is ProbeOutcome.FAILURE and state.kind is not ProbeKind.READINESS
    return ProbeState(kind=state.kind, container_id=state.container_id, settled=kept, on_hold=failed)


def _probes(pod: Pod) -> Iterator[_Probe]:
    for container in (*sidecars(pod), *pod.spec.containers):
        init = is_init_container(pod, container.name)
        for kind, probe in (
            (ProbeKind.STARTUP, container.startup_probe),
            (ProbeKind.LIVENESS, container.liveness_probe),
            (ProbeKind.READINESS, container.readiness_probe),
        ):
            if probe is not None:
                yield _Probe(container, kind, probe, init=init)
