"""Carries out the endings of one pod's containers, as `lifecycle.termination` says step by step.

One task for each container that is being ended, whoever asked and however often: a second request joins the first and
can only shorten its grace, so a preStop hook runs once and a deletion overtakes a slow liveness kill.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from minikubelet.api.types import Container
from minikubelet.lifecycle import termination
from minikubelet.lifecycle.observed import ContainerID
from minikubelet.lifecycle.termination import Ending, Event, Stage
from minikubelet.node.waiting import wait_for_first

log = structlog.get_logger(__name__)

# A pause that does not take a request does not keep the next step from coming; the request itself is not given up.
_REQUEST_LIMIT_S: Final = 2.0


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
        """Create it.

        Args:
            send_signal: Sends a signal to a container's main process.
            kill: Kills all processes of a container.
            pre_stop: Runs a container's preStop hook; its failure is its own matter.
            clock: A steady clock in seconds.
        """
        self._send_signal = send_signal
        self._kill = kill
        self._pre_stop = pre_stop
        self._clock = clock
        self._ongoing: dict[ContainerID, _Ongoing] = {}
        self._requests: set[asyncio.Future[None]] = set()

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
            grace_s: Seconds from now for preStop, turn and stop signal together.
            stop_signal: Sent to the main process before SIGKILL.
            run_pre_stop: False for restarts of the whole pod in place.
            turn: What must have happened before the stop signal: a sidecar waits for its users.
        """
        now = self._clock()
        ongoing = self._ongoing.get(container_id)
        if ongoing is not None:
            ongoing.shorten(now + grace_s)
            return ongoing.task
        has_hook = container.lifecycle is not None and container.lifecycle.pre_stop is not None
        begun = termination.begin(now, grace_s, has_hook=has_hook and run_pre_stop, must_wait=turn is not None)
        ongoing = _Ongoing(begun)
        ongoing.task = asyncio.create_task(self._run(container, container_id, ongoing, stop_signal, turn))
        self._ongoing[container_id] = ongoing
        return ongoing.task

    def close(self) -> None:
        """Leave: nothing is sent to any container any more."""
        for ongoing in self._ongoing.values():
            ongoing.task.cancel()

    def exited(self, container_id: ContainerID) -> None:
        """Note that a container has exited; its ending goes on."""
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
        ongoing: _Ongoing,
        stop_signal: int,
        turn: Callable[[], Awaitable[None]] | None,
    ) -> None:
        exited = asyncio.create_task(ongoing.exited.wait())
        try:
            while ongoing.ending.stage is not Stage.ENDED:
                work: Awaitable[None] | None = None
                match ongoing.ending.stage:
                    case Stage.PRE_STOP:
                        work = self._pre_stop(container, container_id)
                    case Stage.TURN:
                        work = turn() if turn is not None else _nothing()
                    case Stage.TERM if not exited.done():
                        await self._ask(self._send_signal(container_id, stop_signal))
                    case Stage.KILL if not exited.done():
                        await self._ask(self._kill(container_id))
                event = await self._next_event(ongoing, exited, work)
                ongoing.ending = termination.after(ongoing.ending, event, self._clock())
        finally:
            exited.cancel()
            self._ongoing.pop(container_id, None)

    async def _ask(self, request: Awaitable[None]) -> None:
        task = asyncio.ensure_future(request)
        self._requests.add(task)
        task.add_done_callback(self._answered)
        await asyncio.wait({task}, timeout=_REQUEST_LIMIT_S)

    def _answered(self, task: asyncio.Future[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("container not signalled", error=str(error))

    async def _next_event(self, ongoing: _Ongoing, exited: asyncio.Task[bool], work: Awaitable[None] | None) -> Event:
        """Wait for the exit, the stage's work or the end of its time; a shortened grace moves that end."""
        task = asyncio.ensure_future(work) if work is not None else None
        finished = Event.HOOK_DONE if ongoing.ending.stage is Stage.PRE_STOP else Event.TURN_CAME
        try:
            while not exited.done():
                if task is not None and task.done():
                    return finished
                remaining = ongoing.ending.due - self._clock()
                if remaining <= 0:
                    return Event.TIME_OVER
                await wait_for_first(
                    ongoing.moved, {exited, *([task] if task is not None else [])}, timeout_s=remaining
                )
                ongoing.moved.clear()
            return Event.EXITED
        finally:
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})  # not the task itself: its cancellation is not ours


async def _nothing() -> None:
    return


class _Ongoing:
    """One ending that is being carried out, and what has happened meanwhile."""

    __slots__ = ("ending", "exited", "moved", "task")

    task: asyncio.Task[None]

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.exited = asyncio.Event()
        self.moved = asyncio.Event()

    def shorten(self, deadline: float) -> None:
        if deadline < self.ending.deadline:
            self.ending = termination.shortened(self.ending, deadline)
            self.moved.set()
