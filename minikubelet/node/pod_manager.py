"""Keeps one worker for each wanted pod, and sees to it that two pods of one name never run at once.

Owner of the workers. Its memory is the manifest directory: given the wanted pods it starts the missing workers, tells
the superfluous ones to end, and lets the successor of an edited pod begin as soon as its predecessor is gone.
Source: kubelet pod workers (v1.36); the immediate succession is ours (docs/differences.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.exclusion import FullName, Names, Verdict, allow_start, released
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.pods import pod_key
from minikubelet.lifecycle.status import PodEnd
from minikubelet.node.pod_worker import PodWorker
from minikubelet.node.services import WorkerServices

log = structlog.get_logger(__name__)

# Pods that run but are no longer in the directory when the daemon starts: the kubelet grants them 1 s (2 s after TERM).
ORPHAN_GRACE_S: Final = 1.0
# When a worker that could not even be made is tried again.
_RETRY_S: Final = 10.0
_PATIENCE_PIECES: Final = 10


class PodManager:
    """Owner of all pod workers of the node."""

    def __init__(
        self,
        services: WorkerServices,
        *,
        on_update: Callable[[Pod], None],
        on_gone: Callable[[Pod], None],
        on_restarted: Callable[[Pod], None] = lambda pod: None,
    ) -> None:
        """Create it without a worker.

        Args:
            services: What the workers share.
            on_update: Called when a pod that goes on has been edited under its uid.
            on_gone: Called when nothing of a pod is left any more.
            on_restarted: Called when a pod begins anew that was written back, under its uid, while it ended.
        """
        self._services = services
        self._on_update = on_update
        self._on_gone = on_gone
        self._on_restarted = on_restarted
        self._wanted: dict[PodUID, Pod] = {}
        self._workers: dict[PodUID, PodWorker] = {}
        self._tasks: dict[PodUID, asyncio.Task[None]] = {}
        self._names = Names()
        self._adopted: tuple[Pod, ...] = ()
        self._retries: dict[PodUID, asyncio.TimerHandle] = {}  # of workers that could not be made
        self._idle = asyncio.Event()
        self._idle.set()
        self._progress = asyncio.Event()  # something happened to a pod, or one has ended

    def set_pods(self, pods: Sequence[Pod]) -> None:
        """Make these the wanted pods."""
        self._wanted = {PodUID(pod.metadata.uid): pod for pod in pods}
        for worker in self._workers.values():
            self._guarded(self._end_unwanted, worker.pod)
        for pod in self._adopted:
            # Before any other pod starts, so that a successor waits for its predecessor here too.
            self._guarded(self._take_up, pod)
        self._adopted = ()
        for pod in pods:
            self._guarded(self._take, pod)

    def adopt(self, pods: Sequence[Pod]) -> None:
        """Note what an earlier daemon started; the first `set_pods` ends those that no manifest describes any more."""
        self._adopted = tuple(pods)

    def _guarded(self, step: Callable[[Pod], None], pod: Pod) -> None:
        """Do something for one pod: its failure is no other's."""
        try:
            step(pod)
        except Exception as error:
            log.exception("pod not taken care of", pod=pod_key(pod))
            self._services.recorder.event(pod, "Warning", "FailedSync", f"error syncing pod, skipping: {error}")

    def _end_unwanted(self, pod: Pod) -> None:
        """Tell a worker to end whose pod is no longer wanted."""
        worker = self._workers[PodUID(pod.metadata.uid)]
        if worker.uid not in self._wanted and not worker.is_unwanted:
            log.info("pod no longer wanted", pod=pod_key(pod))
            worker.terminate()

    def _take_up(self, pod: Pod) -> None:
        """Go on ending what an earlier daemon had begun to end, and end what is no longer wanted."""
        if pod.metadata.deletion_timestamp is not None:
            self._start(pod)
        elif PodUID(pod.metadata.uid) not in self._wanted:
            worker = self._start(pod)
            if worker is not None:
                worker.terminate(grace_s=ORPHAN_GRACE_S)

    def _take(self, pod: Pod) -> None:
        """Start a wanted pod, or give its worker the edit."""
        own = self._workers.get(PodUID(pod.metadata.uid))
        if own is None or own.is_unwanted:
            self._try_start(pod)
        elif _key(own.pod) != _key(pod):
            own.terminate()  # the uid goes to a pod of another name
            self._try_start(pod)
        elif own.update(pod):
            self._on_update(pod)

    def _try_start(self, pod: Pod) -> None:
        """Start a worker, or let the pod wait until the one that has its name is gone."""
        verdict, self._names = allow_start(_key(pod), pod.metadata.uid, self._names, self._is_wanted)
        uid = PodUID(pod.metadata.uid)
        if verdict is Verdict.NOW and uid not in self._workers:
            self._start(pod)

    def _is_wanted(self, uid: str) -> bool:
        return uid in self._wanted

    def _start(self, pod: Pod) -> PodWorker | None:
        """Start a pod's worker; None when it could not even be made: the pod keeps its name then, and it is retried."""
        uid = PodUID(pod.metadata.uid)
        self._names = Names({**self._names.started, _key(pod): uid}, self._names.waiting)
        retry = self._retries.pop(uid, None)
        if retry is not None:
            retry.cancel()
        try:
            worker = PodWorker(pod, self._services)
        except Exception as error:
            log.exception("pod worker not made", pod=pod_key(pod))
            self._services.recorder.event(pod, "Warning", "FailedSync", f"error syncing pod, skipping: {error}")
            self._retries[uid] = asyncio.get_running_loop().call_later(_RETRY_S, self._retry, pod)
            return None
        self._workers[uid] = worker
        self._idle.clear()
        task = asyncio.create_task(worker.run(), name=f"pod {pod_key(pod)}")
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._ended(worker, done))
        return worker

    def _retry(self, pod: Pod) -> None:
        """Make the worker of a pod for which that failed; if the pod is no longer wanted, one that ends it."""
        wanted = self._wanted.get(PodUID(pod.metadata.uid))
        worker = self._start(wanted if wanted is not None else pod)
        if worker is not None and wanted is None:
            worker.terminate()

    def _ended(self, worker: PodWorker, task: asyncio.Task[None]) -> None:
        self._workers.pop(worker.uid, None)
        self._tasks.pop(worker.uid, None)
        self._names = released(_key(worker.pod), worker.uid, self._names)
        self._progress.set()
        if not task.cancelled():
            if (error := task.exception()) is not None:
                log.error("pod worker ended unexpectedly", pod=pod_key(worker.pod), exc_info=error)
            self._on_gone(worker.pod)
            self._start_next(worker)
        if not self._workers:
            self._idle.set()

    def _start_next(self, gone: PodWorker) -> None:
        """Start who waits for the name, or the very pod if it has been written back meanwhile."""
        for uid in (*self._names.waiting.get(_key(gone.pod), ()), gone.uid):
            pod = self._wanted.get(PodUID(uid))
            if pod is not None and PodUID(uid) not in self._workers:
                self._try_start(pod)
                if uid == gone.uid and gone.uid in self._workers:
                    self._on_restarted(pod)

    def wake(self, uid: PodUID) -> None:
        """Tell one worker that something happened to its pod."""
        worker = self._workers.get(uid)
        if worker is not None:
            self._progress.set()
            worker.wake()

    def wake_all(self, uids: Iterable[PodUID] | None = None) -> None:
        """Tell many workers to look again, all when no list is given."""
        for uid in list(self._workers if uids is None else uids):
            self.wake(uid)

    def pods(self) -> list[Pod]:
        """Return the pods that have a worker, unwanted ones that still end included."""
        return [worker.pod for worker in self._workers.values()]

    def find(self, uid: str) -> Pod | None:
        """Return the pod that has a worker under a uid."""
        worker = self._workers.get(PodUID(uid))
        return worker.pod if worker is not None else None

    async def end(self, pods: Sequence[Pod], end: PodEnd, grace_of: Callable[[Pod], float]) -> None:
        """End these pods for a cause of the node's, each with its grace; returns when all have ended."""
        workers = [self._workers.get(PodUID(pod.metadata.uid)) for pod in pods]
        await asyncio.gather(*(one.end(end, grace_s=grace_of(one.pod)) for one in workers if one is not None))

    def terminate_all(self, *, grace_s: float | None) -> None:
        """Begin to end every pod; none follows."""
        self._wanted.clear()
        for worker in self._workers.values():
            worker.terminate(grace_s=grace_s)

    async def wait_until_gone(self) -> None:
        """Wait until nothing is left of any pod."""
        await self._idle.wait()

    async def drain(self, *, grace_s: float | None = None, patience_s: float | None = None) -> None:
        """End every pod and wait until nothing is left of any, or until none has come further for `patience_s` seconds.

        These are counted in pieces: when the loop has no turn for long, as hundreds of pods end at once or the machine
        has much else to do, that is no pod's fault.
        """
        self.terminate_all(grace_s=grace_s)
        waited = 0
        while self._workers and waited < _PATIENCE_PIECES:
            self._progress.clear()
            try:
                async with asyncio.timeout(None if patience_s is None else patience_s / _PATIENCE_PIECES):
                    await self._progress.wait()
            except TimeoutError:
                waited += 1
            if self._progress.is_set():  # perhaps in the very turn in which the time was over
                waited = 0

    async def stop(self) -> None:
        """Leave: stop the workers and touch no pod."""
        self._wanted.clear()  # a worker that ends at this very moment must not be followed by another
        for retry in self._retries.values():
            retry.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key(pod: Pod) -> FullName:
    return pod.metadata.namespace, pod.metadata.name
