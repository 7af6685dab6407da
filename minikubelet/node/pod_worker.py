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
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
import structlog

from minikubelet.api.image_name import image_problem
from minikubelet.api.types import Container, Pod, PodStatus
from minikubelet.lifecycle import actions as act
from minikubelet.lifecycle import termination
from minikubelet.lifecycle.container_status import by_name
from minikubelet.lifecycle.observed import (
    BackOff,
    ContainerID,
    ObservedContainer,
    ObservedPod,
    PodUID,
    RunState,
    StartFailure,
)
from minikubelet.lifecycle.resources import qos_class
from minikubelet.lifecycle.sameness import is_same_pod
from minikubelet.lifecycle.status import TERMINAL, NodeFacts, PodEnd, parse_rfc3339, pod_status
from minikubelet.node.container_killer import ContainerKiller
from minikubelet.node.deletion import Deletion, with_deletion, without_deletion
from minikubelet.node.services import WorkerServices
from minikubelet.runtime.port import ContainerFailure, GroupFailure, RuntimeFailure, SandboxFailure, VolumeFailure
from minikubelet.runtime.wording import words

log = structlog.get_logger(__name__)

SYNC_ERROR_RETRY_S: Final = 10.0
RESYNC_S: Final = 60.0
# How long a deletion lets a start that is under way come to its end before it begins to end the other containers: a
# start takes milliseconds, and with all of them there sidecars end after those that use them.
_START_PATIENCE_S: Final = 2.0
_REJECTED: Final = "Pod was rejected: "


class PodWorker:
    """Owner of one pod's progress: back-off, start failures, ongoing endings; everything else is observed."""

    def __init__(self, pod: Pod, services: WorkerServices) -> None:
        """Create the worker of a validated, defaulted pod; `run` does the work.

        An earlier daemon told a pod with a deletion timestamp to end: it goes on ending in the time that is left.
        """
        self.uid = PodUID(pod.metadata.uid)
        self._services = services
        self._runtime = services.runtime
        self._woken = asyncio.Event()
        self._ending = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._deletion: Deletion | None = None
        if pod.metadata.deletion_timestamp is not None:
            self._deletion = Deletion.restored(pod.metadata, services.wall_clock(), services.boot_clock())
            pod = without_deletion(pod)
            self._unwanted.set()
            self._ending.set()
        self.pod = pod
        self._grace_limit_s: float | None = None
        self._dropped: dict[str, Container] = {}  # containers that an edit took out of the pod
        self._is_prepared = False
        self._is_remembered = False
        self._back_off: dict[str, BackOff] = {}
        self._start_failures: dict[str, StartFailure] = {}
        self._ended_sandbox = ""  # the last one that was ended with all that it held
        self._to_start: set[str] = set()  # containers that the plan which is being carried out starts
        self._starting: set[str] = set()  # containers whose postStart hook is still running
        self._start: asyncio.Task[ObservedContainer | ContainerFailure] | None = None  # the last start that was begun
        self._messages: dict[ContainerID, str] = {}
        self._ips: tuple[str, ...] = ()
        self._end: PodEnd | None = None
        self._operation = "create"  # what the next look at the pod is for
        self._started = "", 0.0  # the pod's start time, and the same moment on the boot clock
        self._terminated = asyncio.Event()
        self._status = services.previous_status(pod)
        self._killer = ContainerKiller(
            send_signal=lambda cid, number: self._runtime.signal(self.pod, cid, number),
            kill=lambda cid: self._runtime.kill(self.pod, cid),
            pre_stop=self._pre_stop,
            clock=services.boot_clock,
        )
        self.is_gone = False
        if self._runtime.view(self.uid).sandboxes and not self._has_ended():
            # Before any new pod is decided on; one that had ended holds nothing any more.
            services.admission.adopt(pod)
        # Now, so that the first status of a pod that was found running has the results that were kept.
        self._probe()

    # What others may ask

    def wake(self) -> None:
        """Say that something happened: look again, and publish what has changed at once."""
        if self.is_gone:
            return
        self._killer.prune(self._running_ids())
        self._woken.set()
        self._publish()

    def update(self, pod: Pod) -> bool:
        """Take up an edit under the same uid: what runs is touched only where the image is another.

        Returns:
            Whether the edit changes anything.
        """
        if is_same_pod(self.pod, pod):
            return False
        old = {one.name: one for one in _containers(self.pod)}
        new = {one.name: one for one in _containers(pod)}
        self._dropped.update({name: one for name, one in old.items() if name not in new})
        for name, one in new.items():
            before = old.get(name)
            if before is None or (before.image, before.resources) != (one.image, one.resources):
                self._back_off.pop(name, None)
                self._start_failures.pop(name, None)
        self.pod = pod
        self._operation = "update"
        self._is_prepared = False
        if self._is_remembered:
            self._services.remember(pod)
        self.wake()
        return True

    def terminate(self, *, grace_s: float | None = None) -> None:
        """Say that the pod is no longer wanted; a second call can only shorten the grace."""
        now = self._services.boot_clock()
        if self._deletion is None:
            self._deletion = Deletion.begun(self._services.wall_clock(), now, self._pod_grace_s(grace_s))
        elif grace_s is not None:
            self._deletion = self._deletion.shortened(now, max(1.0, grace_s))
        self._unwanted.set()
        self._ending.set()
        self._woken.set()
        if self._is_remembered:
            self._services.remember(with_deletion(self.pod, self._deletion))

    async def end(self, end: PodEnd, *, grace_s: float) -> None:
        """End the pod for a cause of the node's; it stays listed. Returns when nothing of it runs any more."""
        if not self._has_ended():
            self._end = end
            self._grace_limit_s = grace_s
            self._ending.set()
            self._woken.set()
        await self._terminated.wait()

    @property
    def is_unwanted(self) -> bool:
        """Tell whether the pod's manifest is gone."""
        return self._unwanted.is_set()

    async def run(self) -> None:
        """Bring the pod up, keep it so, end it; returns when nothing of it is left."""
        with structlog.contextvars.bound_contextvars(pod=self._key, uid=self.uid):
            try:
                await self._live()
            finally:
                self._killer.close()
                if self._start is not None:
                    self._start.cancel()

    async def _live(self) -> None:
        if not await self._reject():
            self._remember()
            await self._sync_until_ended()
        begun = self._services.boot_clock()
        await self._insist("error killing pod", "FailedKillPod", self._terminate)
        self._services.worked("kill", self._services.boot_clock() - begun)
        if not self.is_unwanted:
            await self._unwanted.wait()
        begun = self._services.boot_clock()
        await self._insist("error removing pod", "FailedKillPod", self._remove)
        self._services.worked("terminated", self._services.boot_clock() - begun)
        self.is_gone = True

    @property
    def _key(self) -> str:
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"

    # Bringing up

    async def _reject(self) -> bool:
        """Ask admission once, unless the pod has begun to run already; True when it was turned away."""
        if self.is_unwanted or self._runtime.view(self.uid).sandboxes:
            return False
        rejection = await self._services.admission.admit(self.pod)
        if rejection is None:
            if self._status is not None and self._status.message.startswith(_REJECTED):
                self._status = None  # by an earlier daemon: that is over
            return False
        self._event("Warning", rejection.reason, rejection.message)
        self._end = PodEnd(reason=rejection.reason, message=_REJECTED + rejection.message, rejected=True)
        self._publish()
        return True

    def _remember(self) -> None:
        """Keep the pod for a daemon that comes when its manifest has gone, with its deletion if it is to end."""
        self._is_remembered = True
        deletion = self._deletion
        self._services.remember(self.pod if deletion is None else with_deletion(self.pod, deletion))

    async def _sync_until_ended(self) -> None:
        while not self._ending.is_set() and not self._has_ended():
            self._woken.clear()
            sync = asyncio.create_task(self._timed_sync())
            ending = asyncio.create_task(self._ending.wait())
            try:
                await asyncio.wait({sync, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ending.cancel()
                if not sync.done():
                    sync.cancel()  # a removal does not wait for a hook or a slow volume; a start goes on
            try:
                wake_at = await sync
            except asyncio.CancelledError:
                own = asyncio.current_task()
                if not self._ending.is_set() or (own is not None and own.cancelling()):
                    raise  # not only the sync: the daemon leaves, and touches no pod
                return
            except Exception as error:
                log.exception("sync failed")
                self._event("Warning", "FailedSync", f"error determining status: {words(error)}")
                wake_at = self._services.boot_clock() + SYNC_ERROR_RETRY_S * random.uniform(1.0, 1.5)
            await self._wait(wake_at)

    def _has_ended(self) -> bool:
        return self._end is not None or (self._status is not None and self._status.phase in TERMINAL)

    async def _wait(self, wake_at: float | None) -> None:
        """Wait until woken, but at most until `wake_at`, and never longer than the resync period."""
        if self._has_ended():
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
        if self._deadline_exceeded():
            return None
        if not self._runtime.view(self.uid).responsive or self._is_start_under_way():
            # What is there cannot be known until the pause answers, or until the start that an earlier daemon asked it
            # for is over: nothing is decided before.
            self._publish()
            return self._deadline()
        seen = self._observe()
        plan = act.compute_actions(self.pod, seen, now, max_back_off_s=self._services.max_back_off_s)
        self._publish()
        self._probe(refresh=True)
        for wait in plan.waiting:
            self._event(
                "Warning",
                "BackOff",
                f"Back-off restarting failed container {wait.name} in pod {self._full_name}",
                container=wait.name,
            )
            self._start_failures[wait.name] = StartFailure(reason="CrashLoopBackOff", message=wait.message)
        if plan.waiting:
            self._publish()
        self._to_start = {one.name for one in plan.actions if isinstance(one, act.StartContainer)}
        try:
            failed = await self._perform(plan.actions)
        finally:
            self._to_start = set()
        self._publish()
        again = now + SYNC_ERROR_RETRY_S * random.uniform(1.0, 1.5) if failed else plan.wake_at
        return self._earliest(again, self._deadline())

    @property
    def _full_name(self) -> str:
        """Return `<name>_<namespace>(<uid>)`, as the kubelet formats a pod in messages."""
        meta = self.pod.metadata
        return f"{meta.name}_{meta.namespace}({meta.uid})"

    @staticmethod
    def _earliest(*times: float | None) -> float | None:
        return min((time for time in times if time is not None), default=None)

    async def _perform(self, actions: tuple[act.Action, ...]) -> bool:
        """Carry out one plan in order; True when something failed that a later sync must try again."""
        failed = False
        kills = [one for one in actions if isinstance(one, act.KillContainer)]
        for action in actions:
            match action:
                case act.KillPod():
                    await self._kill_pod(action)
                case act.CreateSandbox():
                    if not await self._create_sandbox(action.attempt):
                        return True
                case act.KillContainer():
                    # Containers that are to be ended are ended side by side.
                    await asyncio.gather(*(self._kill_container(one) for one in kills))
                    kills = []
                case act.RemoveContainer():
                    if action.back_off is not None:
                        self._back_off[action.name] = action.back_off
                    await self._runtime.remove_container(self.pod, action.id)
                case act.StartContainer():
                    if not await self._prepare():
                        return True
                    # One container's failure does not keep the others from starting.
                    failed = not await self._start_container(action) or failed
        return failed

    async def _prepare(self) -> bool:
        """Make what containers stand on, once for each version of the pod; False when it must be tried again."""
        if self._is_prepared:
            return True
        try:
            await self._runtime.prepare(self.pod)
        except VolumeFailure as failure:
            for message in failure.messages:
                self._event("Warning", "FailedMount", message)
            return False
        except GroupFailure as failure:
            self._event("Warning", "FailedCreatePodContainer", f"unable to ensure pod container exists: {failure}")
            return False
        except OSError as error:
            self._event("Warning", "Failed", f"error making pod data directories: {words(error)}")
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
            self._event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {failure}")
            return False
        self._publish()
        return True

    async def _start_container(self, action: act.StartContainer) -> bool:
        """Start one container and run its postStart hook; False when it must be tried again later."""
        container = self._container(action.name)
        if action.back_off is not None:
            self._back_off[action.name] = action.back_off
        if not self._has_image(container):
            return False
        count = action.restart_count
        if count is None:
            # Nothing is known of an earlier instance, but it may have left a log, or was shown before it got lost.
            logged = self._runtime.next_restart_count(self.pod, action.name)
            count = max(logged, self._shown_restarts(action.name))
        has_hook = container.lifecycle is not None and container.lifecycle.post_start is not None
        if has_hook:
            self._starting.add(action.name)
        try:
            self._start = asyncio.create_task(self._make_container(container, count))
            # A deletion ends this sync, but not the start: what comes of it is ended as anything else that runs.
            started = await asyncio.shield(self._start)
            if isinstance(started, ContainerFailure):
                self._start_failures[action.name] = StartFailure(reason=started.reason, message=started.message)
                return started.reason == "RunContainerError"  # that one counts as an exit: policy and back-off apply
            if has_hook:
                await self._post_start(container, started)
            else:
                self._start_failures.pop(action.name, None)
            return True
        finally:
            self._starting.discard(action.name)
            self._probe()
            if has_hook:
                self._publish()

    def _has_image(self, container: Container) -> bool:
        """Say where the image comes from; False when its name is none, and the container waits for a better one."""
        problem = image_problem(container.image)
        if not problem:
            text = f'Container image "{container.image}" already present on machine and can be accessed by the pod'
            self._event("Normal", "Pulled", text, container=container.name)
            return True
        self._event("Warning", "InspectFailed", problem, container=container.name)
        self._event("Warning", "Failed", "Error: InvalidImageName", container=container.name)
        self._start_failures[container.name] = StartFailure(reason="InvalidImageName", message=problem)
        return False

    async def _make_container(self, container: Container, count: int) -> ObservedContainer | ContainerFailure:
        """Make and start one container, and say so."""
        name = container.name
        try:
            started = await self._runtime.start_container(self.pod, container, count)
        except ContainerFailure as failure:
            if failure.reason == "RunContainerError":
                self._event("Normal", "Created", "Container created", container=name)
            self._event("Warning", "Failed", f"Error: {failure.message}", container=name)
            return failure
        self._event("Normal", "Created", "Container created", container=name)
        self._event("Normal", "Started", "Container started", container=name)
        self._services.on_started(self.pod, started)
        return started

    async def _post_start(self, container: Container, started: ObservedContainer) -> None:
        """Run a container's postStart hook; the container ends when it fails."""
        try:
            await self._services.hooks.post_start(self.pod, container, started.id)
        except RuntimeFailure as failure:
            self._event("Warning", "FailedPostStartHook", "PostStartHook failed", container=container.name)
            grace = termination.kill_grace_s(self.pod, container, termination.Cause.OTHER)
            await self._end_container(started, "FailedPostStartHook", grace_s=grace)
            self._start_failures[container.name] = StartFailure(reason="PostStartHookError", message=str(failure))
        else:
            self._start_failures.pop(container.name, None)

    def _shown_restarts(self, name: str) -> int:
        shown = by_name(self._status).get(name)
        return shown.restart_count if shown is not None else 0

    # Ending

    async def _kill_pod(self, action: act.KillPod) -> None:
        """End every container and the sandbox, within a sync: a new sandbox may follow, or the pod is finished."""
        if action.sandbox_changed:
            self._event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        newest = next(iter(self._runtime.view(self.uid).sandboxes), None)
        if newest is not None and newest.id == self._ended_sandbox and not self._running():
            return  # a pod that may not begin again, and whose phase stays: what is to be ended has been
        # Not that of a removal, which is one second at least: without grace no preStop hook is run.
        await self._end_all(grace_s=termination.container_grace_s(pod_s=self.pod.spec.termination_grace_period_seconds))
        await self._runtime.stop_sandbox(self.pod)
        self._ended_sandbox = newest.id if newest is not None else ""
        for container_id in action.purge:
            await self._runtime.remove_container(self.pod, container_id)

    async def _kill_container(self, action: act.KillContainer) -> None:
        found = self._running().get(action.name)
        if found is None or found.id != action.id:
            return
        await self._end_container(found, action.message, grace_s=action.grace_s, run_pre_stop=action.run_pre_stop)

    async def _end_container(
        self,
        found: ObservedContainer,
        message: str,
        *,
        grace_s: float,
        run_pre_stop: bool = True,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        container = self._container(found.name)
        if found.id not in self._running_ids():
            return  # its exit was told before anybody waited for it
        if not self._killer.is_ending(found.id):
            self._event("Normal", "Killing", message, container=found.name)
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
        self._probe()

    async def _end_all(self, *, grace_s: float) -> None:
        """End all running containers in parallel; sidecars wait for their turn, last first."""
        running = self._running()

        async def end(name: str, found: ObservedContainer) -> None:
            users = [running[one].id for one in termination.needed_by(self.pod, name, running)]

            async def turn() -> None:
                for user in users:
                    await self._killer.until_exited(user)

            message = f"Stopping container {name}"
            await self._end_container(found, message, grace_s=grace_s, turn=turn if users else None)

        await asyncio.gather(*(end(name, found) for name, found in running.items()))

    async def _terminate(self) -> None:
        """End everything that runs, and what is being started as soon as it does; then take away what it stood on."""
        self._publish()
        self._probe(terminating=True)
        await self._end_everything()
        await self._runtime.stop_sandbox(self.pod)
        self._services.prober.remove(self.uid)
        self._terminated.set()
        self._services.admission.release(self.uid)
        self._publish()
        await self._runtime.clean_up(self.pod)

    async def _end_everything(self) -> None:
        """End what runs or comes to run; a later, shorter request joins in while it is under way.

        A start that hangs is waited for until the pod's grace is over: it dies with the sandbox then.
        """
        begun = self._services.boot_clock()
        limit = begun + self._remaining_grace_s()
        endings: set[asyncio.Task[None]] = set()
        while True:
            self._woken.clear()
            now, running, starts = self._services.boot_clock(), self._running(), self._is_start_under_way()
            limit = min(limit, now + self._remaining_grace_s())
            if not running and not (starts and now < limit):
                break
            patience = begun + _START_PATIENCE_S if starts else now
            if now >= patience:
                self._begin_endings(running, endings)
            woken = asyncio.create_task(self._woken.wait())
            start = [self._start] if self._start is not None and not self._start.done() else []
            awaited = {woken, *endings, *start}
            delay = (patience if now < patience else limit) - now if starts and now < limit else None
            await asyncio.wait(awaited, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            for ended in [one for one in endings if one.done()]:
                endings.discard(ended)
                ended.result()
        self._killer.prune({})
        await asyncio.gather(*endings)  # they have only to see that all is over

    def _begin_endings(self, running: dict[str, ObservedContainer], endings: set[asyncio.Task[None]]) -> None:
        """Begin to end what is not being ended yet; shorten the grace of the others to what is left."""
        grace = self._remaining_grace_s()
        if not all(self._killer.is_ending(found.id) for found in running.values()):
            endings.add(asyncio.create_task(self._end_all(grace_s=grace)))
        elif self._deletion is not None:
            for found in running.values():
                self._killer.end(self._container(found.name), found.id, grace_s=grace)

    def _pod_grace_s(self, override_s: float | None) -> float:
        spec = self.pod.spec.termination_grace_period_seconds
        return termination.pod_grace_s(spec_s=None if spec is None else float(spec), override_s=override_s)

    def _remaining_grace_s(self) -> float:
        """Return what is left of the whole pod's grace, in seconds."""
        if self._deletion is not None:
            return max(1.0, self._deletion.deadline - self._services.boot_clock())
        return self._pod_grace_s(self._grace_limit_s)

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
                self._event("Warning", reason, f"{what}: {words(error)}")
                await asyncio.sleep(SYNC_ERROR_RETRY_S * random.uniform(1.0, 1.5))
            else:
                return

    async def _pre_stop(self, pod_container: Container, container_id: ContainerID) -> None:
        if pod_container.lifecycle is None or pod_container.lifecycle.pre_stop is None:
            return
        try:
            await self._services.hooks.pre_stop(self.pod, pod_container, container_id)
        except (RuntimeFailure, OSError):
            self._event("Warning", "FailedPreStopHook", "PreStopHook failed", container=pod_container.name)

    # Seeing and showing

    def _observe(self) -> ObservedPod:
        view = self._runtime.view(self.uid)
        probes = self._services.prober.results(self.uid)
        if view.sandboxes and view.sandboxes[0].ips:
            self._ips = view.sandboxes[0].ips
        return ObservedPod(
            uid=self.uid,
            sandboxes=view.sandboxes,
            containers=view.containers,
            liveness=probes.liveness,
            readiness=probes.readiness,
            startup=probes.startup,
            start_failures=dict(self._start_failures),
            back_off=dict(self._back_off),
            wanted_hashes={one.name: self._services.wanted_hash(one) for one in _containers(self.pod)},
        )

    def _running(self) -> dict[str, ObservedContainer]:
        view = self._runtime.view(self.uid)
        return {
            name: instances[0]
            for name, instances in view.containers.items()
            if instances and instances[0].state in (RunState.RUNNING, RunState.UNKNOWN)
        }

    def _is_start_under_way(self) -> bool:
        """Tell whether a container is being started: by us, or by the pause for a daemon before us."""
        if self._start is not None and not self._start.done():
            return True
        found = self._runtime.view(self.uid).containers.values()
        return any(instances[0].state is RunState.CREATED for instances in found if instances)

    def _running_ids(self) -> dict[ContainerID, ObservedContainer]:
        return {found.id: found for found in self._running().values()}

    def _probe(self, *, terminating: bool = False, refresh: bool = False) -> None:
        view = self._runtime.view(self.uid)
        latest = {
            name: instances[0]
            for name, instances in view.containers.items()
            if instances and name not in self._starting
        }
        terminating = terminating or self.is_unwanted
        self._services.prober.update(self.pod, latest, terminating=terminating, refresh=refresh)

    def _publish(self) -> None:
        """Compute the status from what is there and publish it with the pod."""
        view = self._runtime.view(self.uid)
        status = pod_status(
            self.pod,
            self._observe(),
            self._status,
            NodeFacts(
                now=self._services.wall_clock(),
                qos_class=qos_class(self.pod),
                host_ips=self._services.host_ips(),
                message_of=self._message_of,
                pod_ips=self._ips,
                starting=frozenset(self._starting),
                end=self._end,
                terminating=self._deletion is not None,
                ended=self._terminated.is_set(),
                responsive=view.responsive,
            ),
        )
        if self._to_start and status.phase in TERMINAL and not self._has_ended() and self._deletion is None:
            return  # in between two instances of a container: the pod has not ended
        self._status = status
        shown = {one.id for found in view.containers.values() for one in found}
        self._messages = {one: text for one, text in self._messages.items() if one in shown}
        self._services.publish(self._with_status(status))

    def _with_status(self, status: PodStatus) -> Pod:
        pod = msgspec.structs.replace(self.pod, status=status)
        return pod if self._deletion is None else with_deletion(pod, self._deletion)

    def _message_of(self, container: Container, one: ObservedContainer) -> str:
        """Return the termination message of an instance, read once: nobody writes it any more."""
        if one.id not in self._messages:
            self._messages[one.id] = self._services.message_of(self.pod, container, one)
        return self._messages[one.id]

    # The deadline

    def _deadline(self) -> float | None:
        """Return when activeDeadlineSeconds is over, on the boot clock.

        The start is taken over to that clock once: when somebody sets the wall clock, no pod is older for it.
        """
        limit = self.pod.spec.active_deadline_seconds
        if limit is None or self._status is None or not self._status.start_time:
            return None
        text, started = self._started
        if text != self._status.start_time:
            text = self._status.start_time
            started = self._services.boot_clock() - max(0.0, self._services.wall_clock() - parse_rfc3339(text))
            self._started = text, started
        return started + limit

    def _deadline_exceeded(self) -> bool:
        due = self._deadline()
        if due is None or due > self._services.boot_clock():
            return False
        message = "Pod was active on the node longer than the specified deadline"
        self._event("Normal", "DeadlineExceeded", message)
        self._end = PodEnd(reason="DeadlineExceeded", message=message)
        return True

    # Small things

    def _container(self, name: str) -> Container:
        found = {**self._dropped, **{one.name: one for one in _containers(self.pod)}}.get(name)
        return found if found is not None else Container(name=name)  # taken out while no daemon ran

    def _event(self, kind: str, reason: str, message: str, *, container: str = "") -> None:
        init = any(c.name == container for c in self.pod.spec.init_containers or ())
        for one in self._runtime.view(self.uid).containers.get(container, ()):
            message = message.replace(one.id, container)  # equal messages are counted, not listed
        self._services.recorder.event(self.pod, kind, reason, message, container=container, init=init)


def _containers(pod: Pod) -> list[Container]:
    return [*(pod.spec.init_containers or ()), *pod.spec.containers]


def _stop_signal(container: Container) -> int:
    name = container.lifecycle.stop_signal if container.lifecycle is not None else None
    return signal.Signals[name] if name else signal.SIGTERM
