"""What a worker knows of its pod beyond what can be observed, shared by the parts of the worker."""

from __future__ import annotations

import asyncio

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import termination
from minikubelet.lifecycle.observed import BackOff, ContainerID, ObservedContainer, PodUID, RunState, StartFailure
from minikubelet.lifecycle.pods import all_containers, is_init_container, pod_key
from minikubelet.lifecycle.status import PodEnd
from minikubelet.node.deletion import Deletion, without_deletion
from minikubelet.node.services import WorkerServices


class PodMemory:
    """One pod as it is wanted now, what was tried for it, and how it is to end."""

    def __init__(self, pod: Pod, services: WorkerServices) -> None:
        """Take up a pod; one with a deletion timestamp was told to end by an earlier daemon."""
        self.uid = PodUID(pod.metadata.uid)
        self.services = services
        self.runtime = services.runtime
        self.unwanted = asyncio.Event()
        self.deletion: Deletion | None = None
        if pod.metadata.deletion_timestamp is not None:
            self.deletion = Deletion.restored(pod.metadata, services.wall_clock(), services.boot_clock())
            pod = without_deletion(pod)
            self.unwanted.set()
        self.pod = pod
        self.grace_limit_s: float | None = None
        self.end: PodEnd | None = None
        self.dropped: dict[str, Container] = {}  # containers that an edit took out of the pod
        self.back_off: dict[str, BackOff] = {}
        self.start_failures: dict[str, StartFailure] = {}
        self.to_start: set[str] = set()  # containers that the plan which is being carried out starts
        self.starting: set[str] = set()  # containers whose postStart hook is still running

    def edit(self, pod: Pod) -> None:
        """Take up an edit: what failed of a container is forgotten where the edit may have mended it."""
        old = {one.name: one for one in all_containers(self.pod)}
        new = {one.name: one for one in all_containers(pod)}
        self.dropped.update({name: one for name, one in old.items() if name not in new})
        for name, one in new.items():
            before = old.get(name)
            if before is None or (before.image, before.resources) != (one.image, one.resources):
                self.back_off.pop(name, None)
                self.start_failures.pop(name, None)
        self.pod = pod

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return pod_key(self.pod)

    def container(self, name: str) -> Container:
        """Return a container of the pod, also one that is no longer wanted."""
        found = {**self.dropped, **{one.name: one for one in all_containers(self.pod)}}.get(name)
        return found if found is not None else Container(name=name)  # taken out while no daemon ran

    def running(self) -> dict[str, ObservedContainer]:
        """Return the containers that run, by name."""
        view = self.runtime.view(self.uid)
        return {
            name: instances[0]
            for name, instances in view.containers.items()
            if instances and instances[0].state in (RunState.RUNNING, RunState.UNKNOWN)
        }

    def running_ids(self) -> dict[ContainerID, ObservedContainer]:
        """Return the containers that run, by id."""
        return {found.id: found for found in self.running().values()}

    def pod_grace_s(self, override_s: float | None) -> float:
        """Return the whole pod's grace in seconds, when it begins to end now."""
        spec = self.pod.spec.termination_grace_period_seconds
        return termination.pod_grace_s(spec_s=None if spec is None else float(spec), override_s=override_s)

    def remaining_grace_s(self) -> float:
        """Return what is left of the whole pod's grace, in seconds."""
        if self.deletion is not None:
            return max(1.0, self.deletion.deadline - self.services.boot_clock())
        return self.pod_grace_s(self.grace_limit_s)

    def event(self, kind: str, reason: str, message: str, *, container: str = "") -> None:
        """Record an event about the pod or one of its containers."""
        init = is_init_container(self.pod, container)
        for one in self.runtime.view(self.uid).containers.get(container, ()):
            message = message.replace(one.id, container)  # equal messages are counted, not listed
        self.services.recorder.event(self.pod, kind, reason, message, container=container, init=init)
