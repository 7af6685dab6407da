"""Keeps one worker for each wanted pod, and sees to it that two pods of one name never run at once.

Owner of the workers. Its memory is the manifest directory: given the wanted pods it starts the missing workers, tells
the superfluous ones to end, and lets the successor of an edited pod begin as soon as its predecessor is gone.
Source: kubelet pod workers, `allowPodStart` (v1.36); the immediate succession is ours (docs/differences.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.status import PodEnd
from minikubelet.node.pod_worker import PodWorker, WorkerServices

log = structlog.get_logger(__name__)

# Pods that run but are no longer in the directory when the daemon starts: the kubelet grants them 1 s (2 s after TERM).
ORPHAN_GRACE_S: Final = 1.0


class PodManager:
    """Owner of all pod workers of the node."""

    def __init__(
        self,
        services: WorkerServices,
        *,
        on_start: Callable[[Pod], None],
        on_update: Callable[[Pod], None],
        on_gone: Callable[[Pod], None],
    ) -> None:
        """Create it without a worker.

        Args:
            services: What the workers share.
            on_start: Called before a pod starts, or is taken up.
            on_update: Called when a pod that goes on has other labels or annotations.
            on_gone: Called when nothing of a pod is left any more.
        """
        self._services = services
        self._on_start = on_start
        self._on_update = on_update
        self._on_gone = on_gone
        self._workers: dict[PodUID, PodWorker] = {}
        self._tasks: dict[PodUID, asyncio.Task[None]] = {}
        self._waiting: dict[tuple[str, str], Pod] = {}
        self._adopted: tuple[Pod, ...] = ()
        self._idle = asyncio.Event()
        self._idle.set()

    def set_pods(self, pods: Sequence[Pod]) -> None:
        """Make these the wanted pods."""
        wanted = {PodUID(pod.metadata.uid): pod for pod in pods}
        for uid, worker in self._workers.items():
            if uid not in wanted and not worker.is_unwanted:
                log.info("pod no longer wanted", pod=_name(worker.pod))
                worker.terminate()
        for pod in self._adopted:
            # Before any other pod starts, so that a successor waits for its predecessor here too.
            if PodUID(pod.metadata.uid) not in wanted:
                self._start(pod).terminate(grace_s=ORPHAN_GRACE_S)
        self._adopted = ()
        self._waiting = {key: pod for key, pod in self._waiting.items() if PodUID(pod.metadata.uid) in wanted}
        for pod in pods:
            self._admit(pod)

    def adopt(self, pods: Sequence[Pod]) -> None:
        """Note what an earlier daemon started; the first `set_pods` ends those that no manifest describes any more."""
        self._adopted = tuple(pods)

    def _admit(self, pod: Pod) -> None:
        uid = PodUID(pod.metadata.uid)
        own = self._workers.get(uid)
        if own is not None and not own.is_unwanted:
            if own.pod == pod:
                return
            if own.pod.spec == pod.spec and _key(own.pod) == _key(pod):
                own.update(pod)
                self._on_update(pod)
                return
            # A manifest that says its pod's uid itself was edited: that uid ends before it starts anew.
            own.terminate()
        if own is not None or self._holder(pod) is not None:
            # Only the newest version waits; one that was itself replaced never starts.
            self._waiting[_key(pod)] = pod
            return
        self._start(pod)

    def _holder(self, pod: Pod) -> PodWorker | None:
        return next((worker for worker in self._workers.values() if _key(worker.pod) == _key(pod)), None)

    def _start(self, pod: Pod) -> PodWorker:
        uid = PodUID(pod.metadata.uid)
        self._on_start(pod)
        worker = PodWorker(pod, self._services)
        self._workers[uid] = worker
        self._idle.clear()
        task = asyncio.create_task(worker.run(), name=f"pod {_name(pod)}")
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._ended(worker, done))
        return worker

    def _ended(self, worker: PodWorker, task: asyncio.Task[None]) -> None:
        self._workers.pop(worker.uid, None)
        self._tasks.pop(worker.uid, None)
        if not task.cancelled():
            if (error := task.exception()) is not None:
                log.error("pod worker ended unexpectedly", pod=_name(worker.pod), exc_info=error)
            self._on_gone(worker.pod)
            for key, successor in list(self._waiting.items()):
                if key == _key(worker.pod) or successor.metadata.uid == worker.uid:
                    del self._waiting[key]
                    self._admit(successor)
        if not self._workers:
            self._idle.set()

    def wake(self, uid: PodUID) -> None:
        """Tell one worker that something happened to its pod."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()

    def wake_all(self, uids: Iterable[PodUID] | None = None) -> None:
        """Tell many workers to look again, all when no list is given."""
        for uid in list(self._workers if uids is None else uids):
            self.wake(uid)

    def pods(self) -> list[Pod]:
        """Return the pods that have a worker, unwanted ones that still end included."""
        return [worker.pod for worker in self._workers.values()]

    async def end(self, pods: Sequence[Pod], end: PodEnd, grace_of: Callable[[Pod], float]) -> None:
        """End these pods for a cause of the node's, each with its grace; returns when all have ended."""
        workers = [self._workers.get(PodUID(pod.metadata.uid)) for pod in pods]
        await asyncio.gather(*(one.end(end, grace_s=grace_of(one.pod)) for one in workers if one is not None))

    async def drain(self, *, grace_s: float | None = None) -> None:
        """End every pod and wait until nothing is left of any."""
        self._waiting.clear()
        for worker in self._workers.values():
            worker.terminate(grace_s=grace_s)
        await self._idle.wait()

    async def stop(self) -> None:
        """Leave: stop the workers and touch no pod."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key(pod: Pod) -> tuple[str, str]:
    return pod.metadata.namespace, pod.metadata.name


def _name(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"
