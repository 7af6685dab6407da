"""An event loop whose time passes only when everybody waits, and a runtime that only remembers."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.observed import (
    ContainerID,
    Exit,
    ObservedContainer,
    ObservedSandbox,
    PodUID,
    ProbeOutcome,
    RunState,
)
from minikubelet.node.services import ProbeResults
from minikubelet.runtime.port import ContainerFailure, ExecResult, RuntimeFailure, RuntimeView


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Does not sleep: says how long it would have."""

    passed = 0.0
    turns = 0  # since time passed last

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        self.turns += 1
        if self.turns > 2_000:
            raise RuntimeError("nobody waits, and time does not pass: something goes round in circles")
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self.passed += timeout
            self.turns = 0 if timeout > 1e-6 else self.turns
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 1000."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return 1000.0 + self._virtual.passed

    def stall(self, seconds: float) -> None:
        """Let time pass in which nobody has a turn."""
        self._virtual.passed += seconds


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run in virtual time; what is left at the end is cancelled and waited for, as by asyncio.run."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main)
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
    finally:
        loop.close()


@dataclass
class FakePod:
    """What is there of one pod, newest last."""

    sandboxes: list[ObservedSandbox] = field(default_factory=list)
    containers: dict[str, list[ObservedContainer]] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)


class FakeRuntime:
    """Remembers sandboxes and containers; what they do is told to it from outside."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.pods: dict[PodUID, FakePod] = {}
        self.on_change: Callable[[PodUID], None] = lambda uid: None
        self.on_start: Callable[[Pod, Container, int], None] = lambda pod, container, count: None
        self.on_signal: Callable[[Pod, ObservedContainer], None] = lambda pod, one: None
        self.deaf: set[str] = set()  # containers that pass over the stop signal
        self.undying: set[str] = set()  # containers that hang in the kernel
        self.broken: set[str] = set()  # containers whose program cannot be executed
        self.request_s = 0.0  # how long a request takes to reach the pause
        self.start_s = 0.01  # how long a container takes to start then
        self.untold: dict[PodUID, set[ContainerID]] = {}  # what came of their starts has not been told
        self.killed: list[str] = []  # containers that ran when their sandbox was ended
        self._number = 0

        self._starts: set[asyncio.Future[ObservedContainer]] = set()

    # What happens by itself

    def present(self, uid: PodUID) -> list[ObservedContainer]:
        """Return what runs or is being started."""
        every = (found[-1] for found in self.pods.get(uid, FakePod()).containers.values() if found)
        return [one for one in every if one.exit is None]

    def running(self, uid: PodUID) -> list[ObservedContainer]:
        return [one for one in self.present(uid) if one.state is RunState.RUNNING]

    def exits(self, uid: PodUID, one: ObservedContainer, code: int, *, reason: str = "") -> None:
        """Let a container exit."""
        now = self.clock()
        reason = reason or ("Error" if code else "Completed")
        ended = Exit(exit_code=code, finished_at=now, finished_mono=now, reason=reason)
        instances = self.pods[uid].containers[one.name]
        instances[:] = [
            replace(each, state=RunState.EXITED, exit=ended) if each.id == one.id and each.exit is None else each
            for each in instances
        ]
        self.on_change(uid)

    def loses_sandbox(self, uid: PodUID) -> None:
        """Let the pause die with all that it holds."""
        pod = self.pods[uid]
        pod.sandboxes = [replace(one, ready=False, ips=()) for one in pod.sandboxes]
        for one in self.present(uid):
            self.exits(uid, one, 137)
        self.on_change(uid)

    # What workers ask

    def view(self, uid: PodUID) -> RuntimeView:
        pod = self.pods.get(uid)
        if pod is None:
            return RuntimeView()
        containers = {name: tuple(found[::-1]) for name, found in pod.containers.items()}
        return RuntimeView(sandboxes=tuple(pod.sandboxes[::-1]), containers=containers)

    def next_restart_count(self, pod: Pod, container: str) -> int:
        return self.pods[PodUID(pod.metadata.uid)].logs.get(container, -1) + 1

    def untold_starts(self, pod: Pod) -> tuple[ContainerID, ...]:
        return tuple(self.untold.get(PodUID(pod.metadata.uid), ()))

    def note_told(self, pod: Pod, container_ids: Iterable[ContainerID]) -> None:
        self.untold.get(PodUID(pod.metadata.uid), set()).difference_update(container_ids)

    async def prepare(self, pod: Pod) -> None:
        self.pods.setdefault(PodUID(pod.metadata.uid), FakePod())

    async def create_sandbox(self, pod: Pod, attempt: int) -> None:
        await asyncio.sleep(0.01)
        self._number += 1
        sandbox = ObservedSandbox(
            id=f"s{self._number}", attempt=attempt, created_at=self.clock(), ready=True, ips=("10.0.0.1",)
        )
        self.pods[PodUID(pod.metadata.uid)].sandboxes.append(sandbox)

    async def start_container(self, pod: Pod, container: Container, restart_count: int) -> ObservedContainer:
        """Start one as a pause does: what has been asked for is done, whether or not anybody waits for it."""
        self.on_start(pod, container, restart_count)
        task = asyncio.ensure_future(self._start(PodUID(pod.metadata.uid), container, restart_count))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)
        # What comes of it when its daemon has left is nobody's, not even an error's.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _start(self, uid: PodUID, container: Container, restart_count: int) -> ObservedContainer:
        await asyncio.sleep(self.request_s)
        state = self.pods.get(uid, FakePod())
        if not state.sandboxes or not state.sandboxes[-1].ready:
            raise ContainerFailure("CreateContainerError", "the pause process is gone")
        self._number += 1
        now = self.clock()
        created = ObservedContainer(
            id=ContainerID(f"c{self._number}"),
            name=container.name,
            restart_count=restart_count,
            state=RunState.CREATED,
            created_at=now,
            created_mono=now,
            spec_hash=container.image,
            sandbox_id=state.sandboxes[-1].id,
        )
        state.containers.setdefault(container.name, []).append(created)
        self.untold.setdefault(uid, set()).add(created.id)
        state.logs[container.name] = restart_count
        await asyncio.sleep(self.start_s)
        if created not in self.present(uid):
            raise ContainerFailure("CreateContainerError", "the pause process is gone")
        if created.name in self.broken:
            self.exits(uid, created, 128, reason="StartError")
            raise ContainerFailure("RunContainerError", "no such file or directory")
        now = self.clock()
        started = replace(created, state=RunState.RUNNING, started_at=now, started_mono=now)
        instances = self.pods[uid].containers[created.name]
        instances[:] = [started if each.id == created.id else each for each in instances]
        self.on_change(uid)
        return started

    async def signal(self, pod: Pod, container_id: ContainerID, signal: int) -> None:
        for one in self.running(PodUID(pod.metadata.uid)):
            if one.id == container_id:
                self.on_signal(pod, one)
                if one.name not in self.deaf:
                    self.exits(PodUID(pod.metadata.uid), one, 128 + signal)

    async def kill(self, pod: Pod, container_id: ContainerID) -> None:
        for one in self.running(PodUID(pod.metadata.uid)):
            if one.id == container_id and one.name not in self.undying:
                self.exits(PodUID(pod.metadata.uid), one, 137)

    async def exec(
        self, pod: Pod, container_id: ContainerID, command: tuple[str, ...], *, timeout_s: float | None, limit: int
    ) -> ExecResult:
        raise RuntimeFailure("nothing is executed here")

    async def remove_container(self, pod: Pod, container_id: ContainerID) -> None:
        for found in self.pods[PodUID(pod.metadata.uid)].containers.values():
            found[:] = [one for one in found if one.id != container_id or one.exit is None]

    async def stop_sandbox(self, pod: Pod) -> None:
        if PodUID(pod.metadata.uid) in self.pods:
            self.killed += [one.name for one in self.present(PodUID(pod.metadata.uid))]
            self.loses_sandbox(PodUID(pod.metadata.uid))

    async def clean_up(self, pod: Pod) -> None:
        await asyncio.sleep(0)

    async def forget(self, pod: Pod) -> None:
        self.pods.pop(PodUID(pod.metadata.uid), None)


class FakeProber:
    """Holds the results that it is told."""

    def __init__(self) -> None:
        self.liveness: dict[ContainerID, ProbeOutcome] = {}
        self.startup: dict[ContainerID, ProbeOutcome] = {}
        self.readiness: dict[ContainerID, ProbeOutcome] = {}

    def update(
        self, pod: Pod, latest: Mapping[str, ObservedContainer], *, terminating: bool, refresh: bool = False
    ) -> None:
        return

    def results(self, uid: PodUID) -> ProbeResults:
        return ProbeResults(liveness=self.liveness, readiness=self.readiness, startup=self.startup)

    def remove(self, uid: PodUID) -> None:
        return
