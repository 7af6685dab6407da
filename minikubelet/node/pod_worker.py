"""One worker for each pod: looks at what is wanted and what is there, asks what to do next, does it, publishes.

Level-triggered: events only say "look again". Everything a decision needs is observed afresh, so a worker that was
just made for a pod that has been running for a week does the same as one that was there from the start.

    admitted ──► syncing ──► terminating ──► terminated ──(manifest gone)──► gone
        └─────────(rejected: nothing ever ran)──────┘

A pod ends by itself (phase Succeeded or Failed, deadline) or because it is no longer wanted; either way its containers
and sandbox are ended and its volumes removed. A pod that is still wanted stays listed until its manifest goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.actions import compute_actions
from minikubelet.lifecycle.admission import Rejection
from minikubelet.lifecycle.observed import PodUID, StartFailure
from minikubelet.lifecycle.plan import (
    Action,
    CreateSandbox,
    KillContainer,
    KillPod,
    RemoveContainer,
    StartContainer,
    Waiting,
)
from minikubelet.lifecycle.pods import full_name
from minikubelet.lifecycle.sameness import is_same_pod
from minikubelet.lifecycle.status import PodEnd
from minikubelet.node.container_starter import ContainerStarter
from minikubelet.node.deletion import Deletion, with_deletion
from minikubelet.node.pod_ender import PodEnder
from minikubelet.node.pod_memory import PodMemory
from minikubelet.node.pod_observer import PodObserver
from minikubelet.node.services import WorkerServices
from minikubelet.runtime.port import GroupFailure, SandboxFailure, VolumeFailure
from minikubelet.runtime.wording import words

log = structlog.get_logger(__name__)

SYNC_ERROR_RETRY_S: Final = 10.0
RESYNC_S: Final = 60.0
_REJECTED: Final = "Pod was rejected: "


class PodWorker:
    """Brings one pod up, keeps it so and ends it, by what its parts see, start and end."""

    def __init__(self, pod: Pod, services: WorkerServices) -> None:
        """Create the worker of a validated, defaulted pod; `run` does the work.

        An earlier daemon told a pod with a deletion timestamp to end: it goes on ending in the time that is left.
        """
        self.uid = PodUID(pod.metadata.uid)
        self._services = services
        self._runtime = services.runtime
        self._memory = PodMemory(pod, services)
        self._observer = PodObserver(self._memory)
        self._ender = PodEnder(self._memory, self._observer)
        self._starter = ContainerStarter(
            self._memory,
            self._observer,
            end=lambda found, message, grace_s: self._ender.end(found, message, grace_s=grace_s),
        )
        self._woken = asyncio.Event()
        self._is_ending = False
        self._terminated = asyncio.Event()
        self._is_prepared = False
        self._is_remembered = False
        self._step: asyncio.Task[Any] | None = None  # what an end of the pod cuts short
        self._operation = "create"  # what the next look at the pod is for
        self._no_sandbox_before = 0.0  # on the boot clock, after one that could not be made
        self.is_gone = False
        if self.is_unwanted:
            self._is_ending = True
        if self._runtime.view(self.uid).sandboxes and not self._observer.has_ended():
            # Before any new pod is decided on; one that had ended holds nothing any more.
            services.admission.adopt(self.pod)
        # Now, so that the first status of a pod that was found running has the results that were kept.
        self._observer.probe()

    # What others may ask

    @property
    def pod(self) -> Pod:
        """Return the pod as it is wanted now."""
        return self._memory.pod

    def wake(self) -> None:
        """Say that something happened: look again, and publish what has changed at once."""
        if self.is_gone:
            return
        self._ender.take_exits()
        self._starter.tell_untold()
        self._woken.set()
        self._observer.publish_soon()

    def update(self, pod: Pod) -> bool:
        """Take up an edit under the same uid: what runs is touched only where the image is another.

        Returns:
            Whether the edit changes anything.
        """
        if is_same_pod(self.pod, pod):
            return False
        self._memory.edit(pod)
        self._no_sandbox_before = 0.0
        self._operation = "update"
        self._is_prepared = False
        if self._is_remembered:
            self._services.remember(pod)
        self.wake()
        return True

    def terminate(self, *, grace_s: float | None = None) -> None:
        """Say that the pod is no longer wanted; a second call can only shorten the grace."""
        memory, now = self._memory, self._services.boot_clock()
        if memory.deletion is None:
            memory.deletion = Deletion.begun(self._services.wall_clock(), now, memory.pod_grace_s(grace_s))
        elif grace_s is not None:
            memory.deletion = memory.deletion.shortened(now, max(1.0, grace_s))
        memory.unwanted.set()
        self._begin_ending()
        if self._is_remembered:
            self._services.remember(with_deletion(self.pod, memory.deletion))

    async def end(self, end: PodEnd, *, grace_s: float) -> None:
        """End the pod for a cause of the node's; it stays listed. Returns when nothing of it runs any more."""
        if not self._observer.has_ended():
            self._memory.end = end
            self._memory.grace_limit_s = grace_s
            self._begin_ending()
        await self._terminated.wait()

    def _begin_ending(self) -> None:
        """Cut short what is done for the pod: an end does not wait for a hook or a slow volume; a start goes on."""
        self._is_ending = True
        self._woken.set()
        if self._step is not None:
            self._step.cancel()

    def _was_cut_short(self) -> bool:
        """Tell whether only a step was cancelled, by the pod's end: when the daemon leaves, it touches no pod."""
        own = asyncio.current_task()
        return self._is_ending and not (own is not None and own.cancelling())

    @property
    def is_unwanted(self) -> bool:
        """Tell whether the pod's manifest is gone."""
        return self._memory.unwanted.is_set()

    async def run(self) -> None:
        """Bring the pod up, keep it so, end it; returns when nothing of it is left."""
        with structlog.contextvars.bound_contextvars(pod=self._memory.key, uid=self.uid):
            try:
                await self._live()
            finally:
                self._observer.close()
                self._ender.close()
                self._starter.close()

    async def _live(self) -> None:
        if not await self._reject():
            self._remember()
            await self._sync_until_ended()
        begun = self._services.boot_clock()
        await self._insist("error killing pod", "FailedKillPod", self._terminate)
        self._services.worked("kill", self._services.boot_clock() - begun)
        if not self.is_unwanted:
            await self._memory.unwanted.wait()
        begun = self._services.boot_clock()
        await self._insist("error removing pod", "FailedKillPod", self._remove)
        self._services.worked("terminated", self._services.boot_clock() - begun)
        self.is_gone = True

    # Bringing up

    async def _reject(self) -> bool:
        """Ask admission once, unless the pod has begun to run already; True when it was turned away."""
        if self.is_unwanted or self._runtime.view(self.uid).sandboxes:
            return False
        rejection = await self._admit()
        if rejection is None:
            if self._observer.status is not None and self._observer.status.message.startswith(_REJECTED):
                self._observer.status = None  # by an earlier daemon: that is over
            return False
        self._memory.event("Warning", rejection.reason, rejection.message)
        self._memory.end = PodEnd(reason=rejection.reason, message=_REJECTED + rejection.message, rejected=True)
        self._observer.publish()
        return True

    async def _admit(self) -> Rejection | None:
        """Ask admission, which may wait until others have ended: no longer than this pod is to run."""
        admitting = asyncio.create_task(self._services.admission.admit(self.pod))
        self._step = admitting
        try:
            return await admitting
        except asyncio.CancelledError:
            if not self._was_cut_short():
                raise
            return None

    def _remember(self) -> None:
        """Keep the pod for a daemon that comes when its manifest has gone, with its deletion if it is to end."""
        self._is_remembered = True
        deletion = self._memory.deletion
        self._services.remember(self.pod if deletion is None else with_deletion(self.pod, deletion))

    async def _sync_until_ended(self) -> None:
        while not self._is_ending and not self._observer.has_ended():
            self._woken.clear()
            sync = asyncio.create_task(self._timed_sync())
            self._step = sync
            try:
                wake_at = await sync
            except asyncio.CancelledError:
                if not self._was_cut_short():
                    raise
                return
            except Exception as error:
                log.exception("sync failed")
                self._memory.event("Warning", "FailedSync", f"error determining status: {words(error)}")
                wake_at = self._retry_at(self._services.boot_clock())
            await self._wait(wake_at)

    async def _wait(self, wake_at: float | None) -> None:
        """Wait until woken, but at most until `wake_at`, and never longer than the resync period."""
        if self._observer.has_ended():
            return
        now = self._services.boot_clock()
        delay = RESYNC_S * random.uniform(1.0, 1.5)
        if wake_at is not None:
            delay = min(delay, max(0.0, wake_at - now))
        if not self._woken.is_set():
            # Not wait_for: in Python 3.11 it may swallow a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._woken.wait()

    async def _timed_sync(self) -> float | None:
        operation, self._operation = self._operation, "sync"
        begun = self._services.boot_clock()
        wake_at = await self._sync()
        self._services.worked(operation, self._services.boot_clock() - begun)
        return wake_at

    async def _sync(self) -> float | None:
        """Observe, decide, act once; return when to look again (boot-time seconds), None for no deadline."""
        now = self._services.boot_clock()
        self._starter.tell_untold()
        if self._observer.deadline_exceeded():
            return None
        if not self._runtime.view(self.uid).responsive or self._starter.is_under_way():
            # What is there cannot be known until the pause answers, or until the start that an earlier daemon asked it
            # for is over: nothing is decided before.
            self._observer.publish()
            return self._observer.deadline()
        seen = self._observer.observe()
        plan = compute_actions(self.pod, seen, now, max_back_off_s=self._services.max_back_off_s)
        self._observer.publish_soon()  # what is to be done is asked for first
        self._observer.probe(refresh=True)
        for wait in plan.waiting:
            self._back_off(wait)
        if now < self._no_sandbox_before and any(isinstance(one, CreateSandbox) for one in plan.actions):
            # What was taken back of the last one woke us; there may be much of it.
            return self._earliest(self._no_sandbox_before, self._observer.deadline())
        self._memory.to_start = {one.name for one in plan.actions if isinstance(one, StartContainer)}
        try:
            failed = await self._perform(plan.actions)
        finally:
            self._memory.to_start = set()
        self._observer.publish()
        again = max(self._retry_at(now), self._no_sandbox_before) if failed else plan.wake_at
        return self._earliest(again, self._observer.deadline())

    def _back_off(self, wait: Waiting) -> None:
        """Say that a container is not started yet, for it has failed too often."""
        self._memory.event(
            "Warning",
            "BackOff",
            f"Back-off restarting failed container {wait.name} in pod {full_name(self._memory.pod)}",
            container=wait.name,
        )
        self._memory.start_failures[wait.name] = StartFailure(reason="CrashLoopBackOff", message=wait.message)

    @staticmethod
    def _retry_at(now: float) -> float:
        return now + SYNC_ERROR_RETRY_S * random.uniform(1.0, 1.5)

    @staticmethod
    def _earliest(*times: float | None) -> float | None:
        return min((time for time in times if time is not None), default=None)

    async def _perform(self, actions: tuple[Action, ...]) -> bool:
        """Carry out one plan in order; True when something failed that a later sync must try again."""
        failed = False
        kills = [one for one in actions if isinstance(one, KillContainer)]
        for action in actions:
            match action:
                case KillPod():
                    await self._ender.end_pod(action)
                case CreateSandbox():
                    if not await self._create_sandbox(action.attempt):
                        return True
                case KillContainer():
                    # Containers that are to be ended are ended side by side.
                    await asyncio.gather(*(self._ender.end_one(one) for one in kills))
                    kills = []
                case RemoveContainer():
                    newest = self._runtime.view(self.uid).containers.get(action.name, ())[:1]
                    if any(one.id == action.id for one in newest):
                        self._observer.publish()  # how it ended is known by the instance, and then by the status
                    if action.back_off is not None:
                        self._memory.back_off[action.name] = action.back_off
                    await self._runtime.remove_container(self.pod, action.id)
                case StartContainer(waiting=Waiting() as wait) if self._services.boot_clock() < wait.until:
                    self._back_off(wait)
                case StartContainer():
                    if not await self._prepare():
                        return True
                    # One container's failure does not keep the others from starting.
                    failed = not await self._starter.start(action) or failed
        return failed

    async def _prepare(self) -> bool:
        """Make what containers stand on, once for each version of the pod; False when it must be tried again."""
        if self._is_prepared:
            return True
        try:
            await self._runtime.prepare(self.pod)
        except VolumeFailure as failure:
            for message in failure.messages:
                self._memory.event("Warning", "FailedMount", message)
            return False
        except GroupFailure as failure:
            self._memory.event(
                "Warning", "FailedCreatePodContainer", f"unable to ensure pod container exists: {failure}"
            )
            return False
        except OSError as error:
            self._memory.event("Warning", "Failed", f"error making pod data directories: {words(error)}")
            return False
        self._is_prepared = True
        return True

    async def _create_sandbox(self, attempt: int) -> bool:
        self._is_prepared = False
        if not await self._prepare():
            return False
        try:
            await self._runtime.create_sandbox(self.pod, attempt)
        except SandboxFailure as failure:
            self._memory.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {failure}")
            self._no_sandbox_before = self._retry_at(self._services.boot_clock())
            return False
        self._observer.publish_soon()
        return True

    # Ending

    async def _terminate(self) -> None:
        """End everything that runs, and what is being started as soon as it does; then take away what it stood on."""
        self._observer.publish()
        self._observer.probe(terminating=True)
        self._starter.tell_untold()
        await self._ender.end_everything(self._woken, self._starter)
        await self._runtime.stop_sandbox(self.pod)
        self._services.prober.remove(self.uid)
        self._observer.terminated = True
        self._terminated.set()
        self._services.admission.release(self.uid)
        self._observer.publish()
        await self._runtime.clean_up(self.pod)

    async def _remove(self) -> None:
        await self._runtime.stop_sandbox(self.pod)
        await self._runtime.clean_up(self.pod)
        await self._runtime.forget(self.pod)

    async def _insist(self, what: str, reason: str, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Repeat a step that must succeed in the end, saying why it did not yet."""
        while True:
            try:
                await step()
            except Exception as error:
                log.exception(what)
                self._memory.event("Warning", reason, f"{what}: {words(error)}")
                await asyncio.sleep(SYNC_ERROR_RETRY_S * random.uniform(1.0, 1.5))
            else:
                return
