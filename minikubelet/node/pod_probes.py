"""The probes of one pod: what each remembers, sees and does now, and what they have settled on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from minikubelet.api.types import Container, Pod, Probe
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID, ProbeOutcome, RunState
from minikubelet.lifecycle.pods import is_init_container, sidecars
from minikubelet.lifecycle.probing import ProbeKind, ProbeState, Seen
from minikubelet.node.services import ProbeResults
from minikubelet.runtime.probes.result import Ask


class ContainerProbe:
    """One probe of one container: its memory, its place in time, its current run."""

    __slots__ = (
        "again",
        "ask",
        "begun",
        "container",
        "due",
        "init",
        "late",
        "probe",
        "probes",
        "seen",
        "state",
        "task",
    )

    def __init__(self, probes: PodProbes, container: Container, kind: ProbeKind, probe: Probe) -> None:
        self.probes = probes
        self.container = container
        self.probe = probe
        self.init = is_init_container(probes.pod, container.name)
        self.state = ProbeState(kind=kind)
        self.seen = Seen()
        self.ask: Ask | None = None
        self.due: float | None = None  # None while it has nothing to do
        self.task: asyncio.Task[None] | None = None
        self.again = False  # a beat fell into the current run
        self.begun = 0.0
        self.late = 0.0  # seconds that the current run began after its beat

    @property
    def kind(self) -> ProbeKind:
        """Return what the probe is for."""
        return self.state.kind

    def is_active(self) -> bool:
        """Tell whether the probe has a next run: its instance runs and it has not said its last word about it."""
        if self.seen.started_at is None or self.seen.stopping or self.state.on_hold:
            return False
        return self.seen.started is not (self.state.kind is ProbeKind.STARTUP)

    def look(self, found: ObservedContainer | None, *, stopping: bool) -> None:
        """See what is there now; `found` is the container's newest instance."""
        if found is None:
            self.seen = Seen(container_id=self.state.container_id, stopping=stopping)
            return
        self.seen = Seen(
            container_id=found.id,
            started_at=found.started_mono if found.state is RunState.RUNNING else None,
            exited=found.state is RunState.EXITED,
            started=self.probes.has_started(self.container.name, found.id),
            stopping=stopping,
        )

    def restore(self, kept: ProbeOutcome) -> None:
        """Take up the result that an earlier daemon kept of the current instance."""
        failed = kept is ProbeOutcome.FAILURE and self.kind is not ProbeKind.READINESS
        self.state = ProbeState(kind=self.kind, container_id=self.state.container_id, settled=kept, on_hold=failed)

    def stop(self) -> None:
        """Have nothing to do any more."""
        self.due = None
        self.again = False
        if self.task is not None:
            self.task.cancel()
            self.task = None


class PodProbes:
    """The probes of one pod; `kept` are results of an earlier daemon that nobody has taken up yet."""

    __slots__ = ("_probes", "_results", "kept", "pod")

    def __init__(self, pod: Pod, kept: Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]) -> None:
        self.pod = pod
        self.kept = dict(kept)
        self._probes: dict[tuple[ProbeKind, str], ContainerProbe] = {}
        self._results: ProbeResults | None = None
        self.take_up(pod)

    def __iter__(self) -> Iterator[ContainerProbe]:
        return iter(self._probes.values())

    @property
    def uid(self) -> PodUID:
        """Return whose they are."""
        return PodUID(self.pod.metadata.uid)

    def take_up(self, pod: Pod) -> None:
        """Take up an edit under the same uid: probes that are there go on as they were, new ones begin."""
        self.pod = pod
        for container, kind, probe in _wanted(pod):
            key = (kind, container.name)
            if key not in self._probes:
                self._probes[key] = ContainerProbe(self, container, kind, probe)

    def has_started(self, container: str, container_id: ContainerID) -> bool:
        """Tell whether an instance is past its startup probe."""
        startup = self._probes.get((ProbeKind.STARTUP, container))
        return startup is None or (
            startup.state.container_id == container_id and startup.state.settled is ProbeOutcome.SUCCESS
        )

    def settled(self) -> dict[tuple[ProbeKind, ContainerID], ProbeOutcome]:
        """Return what each probe has settled on about its current instance."""
        return {
            (one.kind, one.state.container_id): one.state.settled
            for one in self
            if one.state.container_id is not None and one.state.settled is not None
        }

    def results(self) -> ProbeResults:
        """Return the same for those who ask by kind; it is kept until `note_change`."""
        if self._results is None:
            of: dict[ProbeKind, dict[ContainerID, ProbeOutcome]] = {kind: {} for kind in ProbeKind}
            for (kind, container_id), outcome in self.settled().items():
                of[kind][container_id] = outcome
            self._results = ProbeResults(
                liveness=of[ProbeKind.LIVENESS], readiness=of[ProbeKind.READINESS], startup=of[ProbeKind.STARTUP]
            )
        return self._results

    def note_change(self) -> None:
        """Note that a probe knows something else now."""
        self._results = None


def _wanted(pod: Pod) -> Iterator[tuple[Container, ProbeKind, Probe]]:
    for container in (*sidecars(pod), *pod.spec.containers):
        for kind, probe in (
            (ProbeKind.STARTUP, container.startup_probe),
            (ProbeKind.LIVENESS, container.liveness_probe),
            (ProbeKind.READINESS, container.readiness_probe),
        ):
            if probe is not None:
                yield container, kind, probe
