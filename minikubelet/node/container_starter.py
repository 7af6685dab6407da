"""Starts the containers of one pod, one after the other, with their postStart hooks and the events of a start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from minikubelet.api.image_name import image_problem
from minikubelet.api.types import Container
from minikubelet.lifecycle import termination
from minikubelet.lifecycle.container_status import by_name
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, RunState, StartFailure
from minikubelet.lifecycle.plan import StartContainer
from minikubelet.node.pod_memory import PodMemory
from minikubelet.node.pod_observer import PodObserver
from minikubelet.runtime.port import ContainerFailure, RuntimeFailure

_End = Callable[[ObservedContainer, str, float], Awaitable[None]]


class ContainerStarter:
    """Owner of the start that is under way."""

    def __init__(self, memory: PodMemory, observer: PodObserver, *, end: _End) -> None:
        """Create it.

        Args:
            memory: The pod.
            observer: Shows it.
            end: Ends a container: which, why, and with how much grace in seconds.
        """
        self._memory = memory
        self._observer = observer
        self._end = end
        self._start: asyncio.Task[ObservedContainer | ContainerFailure] | None = None  # the last that was begun
        self._name = ""  # whose start that is
        self._untold = set(memory.runtime.untold_starts(memory.pod))  # what an earlier daemon did not live to tell

    def close(self) -> None:
        """Leave: what is being started is the next daemon's."""
        if self._start is not None:
            self._start.cancel()

    @property
    def under_way(self) -> tuple[asyncio.Task[ObservedContainer | ContainerFailure], ...]:
        """Return the start that this daemon waits for, if there is one."""
        return (self._start,) if self._start is not None and not self._start.done() else ()

    def is_under_way(self) -> bool:
        """Tell whether a container is being started: by us, or by the pause for a daemon before us."""
        return bool(self.names_under_way())

    def names_under_way(self) -> set[str]:
        """Return which containers are being started."""
        found = self._memory.runtime.view(self._memory.uid).containers
        names = {name for name, instances in found.items() if instances and instances[0].state is RunState.CREATED}
        return {*names, self._name} if self.under_way else names

    async def start(self, action: StartContainer) -> bool:
        """Start one container and run its postStart hook; False when it must be tried again later."""
        memory = self._memory
        container = memory.container(action.name)
        if action.back_off is not None:
            memory.back_off[action.name] = action.back_off
        if not self._has_image(container):
            return False
        count = action.restart_count
        if count is None:
            # Nothing is known of an earlier instance, but it may have left a log, or was shown before it got lost.
            logged = memory.runtime.next_restart_count(memory.pod, action.name)
            count = max(logged, self._shown_restarts(action.name))
        has_hook = container.lifecycle is not None and container.lifecycle.post_start is not None
        if has_hook:
            memory.starting.add(action.name)
        try:
            self._name = action.name
            self._start = asyncio.create_task(self._make(container, count))
            # A deletion ends this sync, but not the start: what comes of it is ended as anything else that runs.
            started = await asyncio.shield(self._start)
            if isinstance(started, ContainerFailure):
                memory.start_failures[action.name] = StartFailure(reason=started.reason, message=started.message)
                return started.reason == "RunContainerError"  # that one counts as an exit: policy and back-off apply
            if has_hook:
                await self._post_start(container, started)
            else:
                memory.start_failures.pop(action.name, None)
            return True
        finally:
            memory.starting.discard(action.name)
            self._observer.probe()
            if has_hook:
                self._observer.publish()

    def _has_image(self, container: Container) -> bool:
        """Say where the image comes from; False when its name is none, and the container waits for a better one."""
        problem = image_problem(container.image)
        if not problem:
            text = f'Container image "{container.image}" already present on machine and can be accessed by the pod'
            self._memory.event("Normal", "Pulled", text, container=container.name)
            return True
        self._memory.event("Warning", "InspectFailed", problem, container=container.name)
        self._memory.event("Warning", "Failed", "Error: InvalidImageName", container=container.name)
        self._memory.start_failures[container.name] = StartFailure(reason="InvalidImageName", message=problem)
        return False

    def _shown_restarts(self, name: str) -> int:
        shown = by_name(self._observer.status).get(name)
        return shown.restart_count if shown is not None else 0

    async def _make(self, container: Container, count: int) -> ObservedContainer | ContainerFailure:
        """Make and start one container, and say so."""
        memory, name = self._memory, container.name
        try:
            started = await memory.runtime.start_container(memory.pod, container, count)
        except ContainerFailure as failure:
            self._note_told(memory.runtime.untold_starts(memory.pod))
            if failure.reason == "RunContainerError":
                memory.event("Normal", "Created", "Container created", container=name)
            memory.event("Warning", "Failed", f"Error: {failure.message}", container=name)
            return failure
        self._note_told((started.id,))
        self._tell(started)
        return started

    def _note_told(self, noted: tuple[ContainerID, ...]) -> None:
        """Note that what came of starts is told: with the events, which are recorded a moment later."""
        memory = self._memory
        memory.services.afterwards(lambda: memory.runtime.note_told(memory.pod, noted))

    def _tell(self, started: ObservedContainer) -> None:
        """Say that a container was started."""
        memory = self._memory
        memory.event("Normal", "Created", "Container created", container=started.name)
        memory.event("Normal", "Started", "Container started", container=started.name)
        memory.services.on_started(memory.pod, started)

    def tell_untold(self) -> None:
        """Say what came of a start whose daemon died before it could; nothing as long as it is under way."""
        for found in self._came_to_be() if self._untold else ():
            self._untold.discard(found.id)
            self._note_told((found.id,))
            self._tell_outcome(found)

    def _came_to_be(self) -> list[ObservedContainer]:
        """Return what came of the starts that an earlier daemon did not live to tell, as far as that is decided."""
        view = self._memory.runtime.view(self._memory.uid)
        every = (one for found in view.containers.values() for one in found)
        return [one for one in every if one.id in self._untold and one.state is not RunState.CREATED]

    def _tell_outcome(self, found: ObservedContainer) -> None:
        memory = self._memory
        if found.started_at is not None:
            self._tell(found)
        elif found.exit is not None and found.exit.reason == "StartError":
            memory.event("Normal", "Created", "Container created", container=found.name)
            memory.event("Warning", "Failed", f"Error: {found.exit.message}", container=found.name)

    async def _post_start(self, container: Container, started: ObservedContainer) -> None:
        """Run a container's postStart hook; the container ends when it fails."""
        memory = self._memory
        try:
            await memory.services.hooks.post_start(memory.pod, container, started.id)
        except RuntimeFailure as failure:
            memory.event("Warning", "FailedPostStartHook", "PostStartHook failed", container=container.name)
            grace = termination.kill_grace_s(memory.pod, container, termination.Cause.OTHER)
            await self._end(started, "FailedPostStartHook", grace)
            memory.start_failures[container.name] = StartFailure(reason="PostStartHookError", message=str(failure))
        else:
            memory.start_failures.pop(container.name, None)
