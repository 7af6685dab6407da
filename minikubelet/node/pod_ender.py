"""Ends the containers of one pod, in their order and within the pod's grace: one, all within a sync, or for good.

How a single container is ended step by step is `container_killer`'s.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from minikubelet.api.types import Container
from minikubelet.lifecycle import termination
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer
from minikubelet.lifecycle.plan import KillContainer, KillPod
from minikubelet.node.container_killer import ContainerKiller
from minikubelet.node.container_starter import ContainerStarter
from minikubelet.node.pod_memory import PodMemory
from minikubelet.node.pod_observer import PodObserver
from minikubelet.node.waiting import wait_for_first
from minikubelet.runtime.port import RuntimeFailure

# How long a deletion lets a start that is under way come to its end before it begins to end the other containers: a
# start takes milliseconds. Sidecars wait for one that takes longer, as for what runs.
_START_PATIENCE_S: Final = 2.0


class PodEnder:
    """Owner of the endings that are under way."""

    def __init__(self, memory: PodMemory, observer: PodObserver) -> None:
        """Create it with nothing to end."""
        self._memory = memory
        self._observer = observer
        self._runtime = memory.runtime
        self._looked = asyncio.Event()  # set, and replaced, when something happened to the pod
        self._ended_sandbox = ""  # the last one that was ended with all that it held
        self._killer = ContainerKiller(
            send_signal=lambda cid, number: self._runtime.signal(memory.pod, cid, number),
            kill=lambda cid: self._runtime.kill(memory.pod, cid),
            pre_stop=self._pre_stop,
            clock=memory.services.boot_clock,
        )

    def close(self) -> None:
        """Leave: what is being ended is the next daemon's."""
        self._killer.close()

    def take_exits(self) -> None:
        """Note which containers do not run any more."""
        self._killer.prune(self._memory.running_ids())
        self._looked.set()
        self._looked = asyncio.Event()

    async def end_pod(self, action: KillPod) -> None:
        """End every container and the sandbox, within a sync: a new sandbox may follow, or the pod is finished."""
        memory = self._memory
        if action.sandbox_changed:
            memory.event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        newest = next(iter(self._runtime.view(memory.uid).sandboxes), None)
        if newest is not None and newest.id == self._ended_sandbox and not memory.running():
            return  # a pod that may not begin again, and whose phase stays: what is to be ended has been
        # Not that of a removal, which is one second at least: without grace no preStop hook is run.
        grace = termination.container_grace_s(pod_s=memory.pod.spec.termination_grace_period_seconds)
        await self._end_all(grace_s=grace)
        await self._runtime.stop_sandbox(memory.pod)
        self._ended_sandbox = newest.id if newest is not None else ""
        if action.purge:
            self._observer.publish()  # how they ended is known by the instances, and afterwards by the status
        for container_id in action.purge:
            await self._runtime.remove_container(memory.pod, container_id)

    async def end_one(self, action: KillContainer) -> None:
        """End one container, unless another instance has taken its place."""
        found = self._memory.running().get(action.name)
        if found is None or found.id != action.id:
            return
        await self.end(found, action.message, grace_s=action.grace_s, run_pre_stop=action.run_pre_stop)

    async def end(
        self,
        found: ObservedContainer,
        message: str,
        *,
        grace_s: float,
        run_pre_stop: bool = True,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """End a container; returns when it has exited.

        Args:
            found: The instance.
            message: Why, for the event.
            grace_s: Between SIGTERM and SIGKILL, hook included.
            run_pre_stop: Run its preStop hook first.
            turn: Waits until it may be ended.
        """
        memory = self._memory
        container = memory.container(found.name)
        if found.id not in memory.running_ids():
            return  # its exit was told before anybody waited for it
        if not self._killer.is_ending(found.id):
            memory.event("Normal", "Killing", message, container=found.name)
        await asyncio.shield(
            self._killer.end(
                container,
                found.id,
                grace_s=grace_s,
                stop_signal=_stop_signal(container),
                run_pre_stop=run_pre_stop,
                turn=turn,
            )
        )
        self._observer.probe()

    async def _end_all(self, *, grace_s: float, starter: ContainerStarter | None = None) -> None:
        """End all running containers in parallel; sidecars wait for their turn, last first.

        Args:
            grace_s: For each.
            starter: Knows of starts that are under way: what comes of them may need a sidecar, too.
        """

        async def end(name: str, found: ObservedContainer) -> None:
            async def turn() -> None:
                while self._is_needed(name, starter):
                    await self._next_change(starter)

            message = f"Stopping container {name}"
            await self.end(found, message, grace_s=grace_s, turn=turn if self._is_needed(name, starter) else None)

        await asyncio.gather(*(end(name, found) for name, found in self._memory.running().items()))

    def _is_needed(self, name: str, starter: ContainerStarter | None) -> bool:
        """Tell whether a container is a sidecar that another one needs, which runs or is on its way to that."""
        there = {*self._memory.running(), *(starter.names_under_way() if starter is not None else ())}
        return bool(termination.needed_by(self._memory.pod, name, there))

    async def _next_change(self, starter: ContainerStarter | None) -> None:
        """Wait until something happened to the pod, or a start is over."""
        await wait_for_first(self._looked, starter.under_way if starter is not None else ())

    async def end_everything(self, woken: asyncio.Event, starter: ContainerStarter) -> None:
        """End what runs or comes to run; a later, shorter request joins in while it is under way.

        A start that hangs is waited for until the pod's grace is over: it dies with the sandbox then.

        Args:
            woken: Set when something happened.
            starter: Knows of starts that are under way.
        """
        memory, clock = self._memory, self._memory.services.boot_clock
        begun = clock()
        limit = begun + memory.remaining_grace_s()
        endings: set[asyncio.Task[None]] = set()
        while True:
            woken.clear()
            now, running, starts = clock(), memory.running(), starter.is_under_way()
            limit = min(limit, now + memory.remaining_grace_s())
            if not running and not (starts and now < limit):
                break
            patience = begun + _START_PATIENCE_S if starts else now
            if now >= patience:
                self._begin_endings(running, endings, starter)
            delay = (patience if now < patience else limit) - now if starts and now < limit else None
            await wait_for_first(woken, {*endings, *starter.under_way}, timeout_s=delay)
            for ended in [one for one in endings if one.done()]:
                endings.discard(ended)
                ended.result()
        self._killer.prune({})
        await asyncio.gather(*endings)  # they have only to see that all is over

    def _begin_endings(
        self, running: dict[str, ObservedContainer], endings: set[asyncio.Task[None]], starter: ContainerStarter
    ) -> None:
        """Begin to end what is not being ended yet; shorten the grace of the others to what is left."""
        grace = self._memory.remaining_grace_s()
        if not all(self._killer.is_ending(found.id) for found in running.values()):
            endings.add(asyncio.create_task(self._end_all(grace_s=grace, starter=starter)))
        elif self._memory.deletion is not None:
            for found in running.values():
                self._killer.end(self._memory.container(found.name), found.id, grace_s=grace)

    async def _pre_stop(self, container: Container, container_id: ContainerID) -> None:
        if container.lifecycle is None or container.lifecycle.pre_stop is None:
            return
        try:
            await self._memory.services.hooks.pre_stop(self._memory.pod, container, container_id)
        except (RuntimeFailure, OSError):
            self._memory.event("Warning", "FailedPreStopHook", "PreStopHook failed", container=container.name)


def _stop_signal(container: Container) -> int:
    name = container.lifecycle.stop_signal if container.lifecycle is not None else None
    return signal.Signals[name] if name else signal.SIGTERM
