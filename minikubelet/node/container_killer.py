"""Ends running containers: preStop, the stop signal, the grace period, SIGKILL.

One task for each container that is being ended, whoever asked and however often: a second request joins the first and
can only shorten its grace, so a preStop hook runs once and a deletion overtakes a slow liveness kill.
Source: kubelet `killContainer`, `terminationOrdering` (v1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from minikubelet.api.types import Container
from minikubelet.lifecycle.observed import ContainerID

# Even a spent grace period leaves the main process this long between the stop signal and SIGKILL.
MINIMUM_GRACE_S: Final = 2.0


class ContainerKiller:
    """Owner of the ongoing endings of one pod's containers."""

    def __init__(
        self,
        *,
        send_signal: Callable[[ContainerID, int], Awaitable[None]],
        kill: Callable[[ContainerID], Awaitable[None]],
        pre_stop: Callable[[Container, ContainerID], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._send_signal = send_signal
        self._kill = kill
        self._pre_stop = pre_stop
        self._clock = clock
        self._ongoing: dict[ContainerID, _Ending] = {}

    def is_ending(self, container_id: ContainerID) -> bool:
        """Tell whether this container is being ended."""
        return container_id in self._ongoing

    def end(
        self,
        container: Container,
        container_id: ContainerID,
        *,
        grace_s: float,
        stop_signal: int = signal.SIGTERM,
        run_pre_stop: bool = True,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> asyncio.Task[None]:
        """Start to end a container, or join and perhaps shorten the ongoing ending; the task is done at its exit.

        Args:
            container: Its spec.
            container_id: The running instance.
            grace_s: Seconds from now for preStop and stop signal together.
            stop_signal: Sent to the main process before SIGKILL.
            run_pre_stop: False for restarts of the whole pod in place.
            turn: What must have happened before the stop signal (a sidecar waits for its users); uses up the grace.
        """
        ongoing = self._ongoing.get(container_id)
        if ongoing is not None:
            ongoing.shorten(self._clock() + grace_s)
            return ongoing.task
        ending = _Ending(deadline=self._clock() + grace_s)
        ending.task = asyncio.create_task(
            self._run(container, container_id, ending, stop_signal, run_pre_stop and grace_s > 0, turn)
        )
        self._ongoing[container_id] = ending
        return ending.task

    def exited(self, container_id: ContainerID) -> None:
        """Note that a container has exited; endings that wait for it go on."""
        ongoing = self._ongoing.get(container_id)
        if ongoing is not None:
            ongoing.exited.set()

    def prune(self, running: Mapping[ContainerID, object]) -> None:
        """Note every ongoing ending whose container is no longer running as exited."""
        for container_id in self._ongoing.keys() - running.keys():
            self.exited(container_id)

    async def _run(
        self,
        container: Container,
        container_id: ContainerID,
        ending: _Ending,
        stop_signal: int,
        run_pre_stop: bool,
        turn: Callable[[], Awaitable[None]] | None,
    ) -> None:
        exited = asyncio.create_task(ending.exited.wait())
        try:
            if run_pre_stop:
                await self._until(ending, exited, self._pre_stop(container, container_id))
            if turn is not None and not exited.done():
                await self._until(ending, exited, turn())
            if not exited.done():
                await self._send_signal(container_id, stop_signal)
                minimum = self._clock() + MINIMUM_GRACE_S
                await self._until(ending, exited, None, not_before=minimum)
            while not exited.done():
                await self._kill(container_id)
                # A process in uninterruptible sleep dies later; ask again, in case the pause was not able to.
                await asyncio.wait({exited}, timeout=MINIMUM_GRACE_S)
        finally:
            exited.cancel()
            self._ongoing.pop(container_id, None)

    async def _until(
        self, ending: _Ending, exited: asyncio.Task[bool], work: Awaitable[None] | None, *, not_before: float = 0.0
    ) -> None:
        """Wait for `work`, the exit or the deadline, whichever comes first; the deadline may be moved meanwhile."""
        task = asyncio.ensure_future(work) if work is not None else None
        try:
            while not exited.done() and not (task is not None and task.done()):
                remaining = max(ending.deadline, not_before) - self._clock()
                if remaining <= 0:
                    return
                moved = asyncio.create_task(ending.moved.wait())
                await asyncio.wait(
                    {exited, moved, *([task] if task is not None else [])},
                    timeout=remaining,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                moved.cancel()
                ending.moved.clear()
        finally:
            if task is not None and not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


class _Ending:
    """One ongoing ending: when its grace is over, and what has happened."""

    __slots__ = ("deadline", "exited", "moved", "task")

    task: asyncio.Task[None]

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.exited = asyncio.Event()
        self.moved = asyncio.Event()

    def shorten(self, deadline: float) -> None:
        if deadline < self.deadline:
            self.deadline = deadline
            self.moved.set()
