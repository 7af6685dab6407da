"""Sees what is there of one pod, and shows it: the observation that decisions are made from, the published status."""

from __future__ import annotations

import msgspec

from minikubelet.api.types import Container, Pod, PodStatus
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, ObservedPod
from minikubelet.lifecycle.pods import all_containers
from minikubelet.lifecycle.resources import qos_class
from minikubelet.lifecycle.status import TERMINAL, NodeFacts, PodEnd, parse_rfc3339, pod_status
from minikubelet.node.deletion import with_deletion
from minikubelet.node.pod_memory import PodMemory


class PodObserver:
    """Owner of one pod's status as it was shown last."""

    def __init__(self, memory: PodMemory) -> None:
        """Begin with what an earlier daemon showed."""
        self._memory = memory
        self._services = memory.services
        self._runtime = memory.runtime
        self._messages: dict[ContainerID, str] = {}
        self._ips: tuple[str, ...] = ()
        self._started = "", 0.0  # the pod's start time, and the same moment on the boot clock
        self._made: PodStatus | None = None  # the status that we made last, and what it was made from
        self._basis: tuple[object, ...] = ()
        self._shown: Pod | None = None  # what is to be shown in a moment
        self._is_late = False  # whether the status is to be made anew in a moment
        self._is_closed = False
        self.terminated = False  # nothing runs any more
        self.status: PodStatus | None = self._services.previous_status(memory.pod)

    def has_ended(self) -> bool:
        """Tell whether the pod has ended, or is to end, whatever its manifest says."""
        return self._memory.end is not None or (self.status is not None and self.status.phase in TERMINAL)

    def observe(self) -> ObservedPod:
        """Return what is there now."""
        memory = self._memory
        view = self._runtime.view(memory.uid)
        probes = self._services.prober.results(memory.uid)
        if view.sandboxes and view.sandboxes[0].ips:
            self._ips = view.sandboxes[0].ips
        return ObservedPod(
            uid=memory.uid,
            sandboxes=view.sandboxes,
            containers=view.containers,
            liveness=probes.liveness,
            readiness=probes.readiness,
            startup=probes.startup,
            start_failures=dict(memory.start_failures),
            back_off=dict(memory.back_off),
            wanted_hashes={one.name: self._services.wanted_hash(one) for one in all_containers(memory.pod)},
        )

    def probe(self, *, terminating: bool = False, refresh: bool = False) -> None:
        """Tell the prober which instances there are."""
        memory = self._memory
        view = self._runtime.view(memory.uid)
        latest = {
            name: instances[0]
            for name, instances in view.containers.items()
            if instances and name not in memory.starting
        }
        terminating = terminating or memory.unwanted.is_set()
        self._services.prober.update(memory.pod, latest, terminating=terminating, refresh=refresh)

    def close(self) -> None:
        """Show what is still to be shown; nothing is shown later, whoever wakes the pod in its last moment."""
        self._show()
        self._is_late, self._is_closed = False, True

    def publish_soon(self) -> None:
        """Publish in a moment what is there then."""
        if not self._is_late and not self._is_closed:
            self._is_late = True
            self._services.afterwards(self._publish_late)

    def _publish_late(self) -> None:
        if self._is_late:
            self.publish()

    def publish(self) -> None:
        """Compute the status from what is there; it is shown with the pod in a moment, if it is still the newest."""
        self._is_late = False
        memory, seen, host_ips = self._memory, self.observe(), self._services.host_ips()
        view = self._runtime.view(memory.uid)
        basis = (
            memory.pod,
            seen,
            host_ips,
            self._ips,
            frozenset(memory.starting),
            bool(memory.to_start),
            memory.end,
            memory.deletion,
            self.terminated,
            view.responsive,
        )
        if self.status is self._made and basis == self._basis:
            return
        status = pod_status(
            memory.pod,
            seen,
            self.status,
            NodeFacts(
                now=self._services.wall_clock(),
                qos_class=qos_class(memory.pod),
                host_ips=host_ips,
                message_of=self._message_of,
                pod_ips=self._ips,
                starting=frozenset(memory.starting),
                end=memory.end,
                terminating=memory.deletion is not None,
                ended=self.terminated,
                responsive=view.responsive,
            ),
        )
        if memory.to_start and status.phase in TERMINAL and not self.has_ended() and memory.deletion is None:
            return  # in between two instances of a container: the pod has not ended
        self.status = self._made = status
        self._basis = basis
        shown = {one.id for found in view.containers.values() for one in found}
        self._messages = {one: text for one, text in self._messages.items() if one in shown}
        is_due, self._shown = self._shown is not None, self._with_status(status)
        if not is_due:
            self._services.afterwards(self._show)

    def _show(self) -> None:
        pod, self._shown = self._shown, None
        if pod is not None:
            self._services.publish(pod)

    def _with_status(self, status: PodStatus) -> Pod:
        pod, deletion = msgspec.structs.replace(self._memory.pod, status=status), self._memory.deletion
        return pod if deletion is None else with_deletion(pod, deletion)

    def _message_of(self, container: Container, one: ObservedContainer) -> str:
        """Return the termination message of an instance, read once: nobody writes it any more."""
        if one.id not in self._messages:
            self._messages[one.id] = self._services.message_of(self._memory.pod, container, one)
        return self._messages[one.id]

    def deadline(self) -> float | None:
        """Return when activeDeadlineSeconds is over, on the boot clock.

        The start is taken over to that clock once: when somebody sets the wall clock, no pod is older for it.
        """
        limit = self._memory.pod.spec.active_deadline_seconds
        if limit is None or self.status is None or not self.status.start_time:
            return None
        text, started = self._started
        if text != self.status.start_time:
            text = self.status.start_time
            started = self._services.boot_clock() - max(0.0, self._services.wall_clock() - parse_rfc3339(text))
            self._started = text, started
        return started + limit

    def deadline_exceeded(self) -> bool:
        """Tell whether the pod is older than it may become; then it is to end."""
        due = self.deadline()
        if due is None or due > self._services.boot_clock():
            return False
        message = "Pod was active on the node longer than the specified deadline"
        self._memory.event("Normal", "DeadlineExceeded", message)
        self._memory.end = PodEnd(reason="DeadlineExceeded", message=message)
        return True
