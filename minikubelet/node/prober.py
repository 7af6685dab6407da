"""Runs the probes of all pods and holds their settled results.

A run that has to wait is a task of its own, so that a slow one delays no other; one that is answered at once, as most
are that connect to a pod, costs no task. A probe's times (`probe_beats.py`) are multiples of its period from the moment
its delay was over, so a slow run makes no drift; what an earlier daemon's containers need is spread over the period.
What a probe decides is `lifecycle.probing`, what an answer means `probe_verdicts.py`.
Source: kubelet prober/worker.go, prober_manager.go (v1.36).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

import structlog

from minikubelet.api.types import Container, Pod, Probe
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID, ProbeOutcome
from minikubelet.lifecycle.probing import ProbeKind, Step, count, look, next_beat
from minikubelet.node.pod_probes import ContainerProbe, PodProbes
from minikubelet.node.probe_beats import ProbeBeats
from minikubelet.node.probe_history import ProbeRun
from minikubelet.node.probe_verdicts import ProbeVerdicts
from minikubelet.node.services import ProbeResults, Recorder
from minikubelet.runtime.probes.result import Ask, ProbeReply, Wait

log = structlog.get_logger(__name__)

_NOTHING: Final = ProbeResults(liveness={}, readiness={}, startup={})


class _Asker(Protocol):
    def prepare(self, pod: Pod, container: Container, probe: Probe, container_id: ContainerID) -> Ask: ...


class _Kept(Protocol):
    def load(self, uid: PodUID) -> Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]: ...
    def keep(self, uid: PodUID, results: Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]) -> None: ...


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
        self._kept = kept
        self._on_change = on_change
        self._clock = clock
        self._started_at = started_at
        self._verdicts = ProbeVerdicts(recorder, clock=clock, wall_clock=wall_clock, observe=observe)
        self._beats = ProbeBeats(clock, self._on_due)
        self._pods: dict[PodUID, PodProbes] = {}

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
        probes = self._pods.get(uid)
        if probes is None:
            probes = self._pods[uid] = PodProbes(pod, self._kept.load(uid))
        elif probes.pod is not pod:
            probes.take_up(pod)
        now = self._clock()
        for probe in probes:
            stopping = terminating and not probe.init and probe.kind is not ProbeKind.READINESS
            self._look(probe, latest.get(probe.container.name), stopping, now)
        probes.kept.clear()
        if refresh:
            for probe in probes:
                if probe.kind is ProbeKind.READINESS and probe.state.settled is not ProbeOutcome.SUCCESS:
                    self._run_now(probe, now)
        self._beats.arm()

    def results(self, uid: PodUID) -> ProbeResults:
        """Return the settled outcomes of one pod."""
        probes = self._pods.get(uid)
        return probes.results() if probes is not None else _NOTHING

    def remove(self, uid: PodUID) -> None:
        """Stop all probes of one pod and forget it."""
        for probe in self._pods.pop(uid, ()):
            probe.stop()

    def stop(self) -> None:
        """Stop everything."""
        for uid in list(self._pods):
            self.remove(uid)
        self._beats.stop()

    # Seeing

    def _look(self, probe: ContainerProbe, found: ObservedContainer | None, stopping: bool, now: float) -> None:
        """Take up what is there now: a new instance, an end, a start that is complete."""
        before = probe.state
        probe.look(found, stopping=stopping)
        probe.state, _ = look(before, probe.probe, probe.seen, now)
        if probe.state.container_id != before.container_id and found is not None:
            probe.stop()
            probe.ask = self._asker.prepare(probe.probes.pod, probe.container, probe.probe, found.id)
            kept = probe.probes.kept.pop((probe.kind, found.id), None)
            if kept is not None:
                probe.restore(kept)
                probe.look(found, stopping=stopping)
        if probe.state is not before:
            probe.probes.note_change()
        self._follow(probe, now)

    def _follow(self, probe: ContainerProbe, now: float) -> None:
        """Begin or end a probe's beats, as it has become active or is so no longer."""
        if not probe.is_active():
            probe.stop()
        elif probe.due is None:
            self._beats.schedule(probe, self._first_beat(probe, now))

    def _first_beat(self, probe: ContainerProbe, now: float) -> float:
        assert probe.seen.started_at is not None
        due = max(probe.seen.started_at + probe.probe.initial_delay_seconds, now)
        period = float(probe.probe.period_seconds)
        if now - self._started_at < period and probe.seen.started_at < self._started_at:
            due += random.uniform(0, period)
        return due

    # Running

    def _on_due(self, probe: ContainerProbe, now: float) -> None:
        """Begin a run at its beat."""
        assert probe.due is not None
        probe.late = now - probe.due
        self._beats.schedule(probe, next_beat(probe.due, float(probe.probe.period_seconds), now))
        self._begin(probe)

    def _run_now(self, probe: ContainerProbe, now: float) -> None:
        """Run between the beats, if the initial delay is over; the next beat is a period from now."""
        if look(probe.state, probe.probe, probe.seen, now)[1] is Step.RUN:
            probe.late = 0.0
            self._beats.schedule(probe, now + probe.probe.period_seconds)
            self._begin(probe)

    def _begin(self, probe: ContainerProbe) -> None:
        if probe.task is not None:
            probe.again = True  # as a ticker that holds one tick
            return
        assert probe.ask is not None
        probe.again = False
        probe.begun = self._clock()
        try:
            answer = probe.ask()
            outcome = self._verdicts.judge(probe, answer) if isinstance(answer, ProbeReply) else None
        except Exception:
            self._crashed(probe)
            return
        if isinstance(answer, ProbeReply):
            self._settle(probe, outcome)
        else:
            probe.task = asyncio.get_running_loop().create_task(self._run(probe, answer))

    async def _run(self, probe: ContainerProbe, wait: Wait) -> None:
        """Wait for the answer and settle what it says; run once more if a beat fell into the run."""
        outcome = None
        try:
            outcome = await self._verdicts.wait(probe, wait)
        except Exception:
            self._crashed(probe)
        probe.task = None
        self._settle(probe, outcome)
        if probe.again and probe.due is not None:
            self._begin(probe)

    def _crashed(self, probe: ContainerProbe) -> None:
        """Tell what should not happen. One probe's trouble is not another's; it counts for nothing."""
        log.exception("probe failed unexpectedly", uid=probe.probes.uid, container=probe.container.name)

    def _settle(self, probe: ContainerProbe, outcome: ProbeOutcome | None) -> None:
        before, probes = probe.state, probe.probes
        probe.state = count(before, probe.probe, outcome)
        if probe.state.on_hold:
            probe.stop()
        if probe.state.settled is before.settled:
            return
        probes.note_change()
        self._kept.keep(probes.uid, {**probes.kept, **probes.settled()})
        if probe.kind is ProbeKind.STARTUP:
            self._startup_settled(probe)
        asyncio.get_running_loop().call_soon(self._on_change, probes.uid)

    def _startup_settled(self, startup: ContainerProbe) -> None:
        """Let the container's other probes begin where the startup probe has ended."""
        now = self._clock()
        started = startup.state.settled is ProbeOutcome.SUCCESS
        for probe in startup.probes:
            if probe.container is startup.container and probe.seen.container_id == startup.state.container_id:
                probe.seen = replace(probe.seen, started=started)
                self._follow(probe, now)
        self._beats.arm()
