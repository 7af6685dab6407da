"""The daemon: brings the parts of a node up in order, and down in the reverse one.

On the way down pods go on running, unless the daemon is told to take them along.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Callable, Coroutine

import structlog

from minikubelet.api.quantity import NANO
from minikubelet.daemon.directories import lock_directories, make_directories
from minikubelet.daemon.parts import build_parts
from minikubelet.linux.features import can_lower_oom_score
from minikubelet.node.left_behind import take_pods_along
from minikubelet.node.settings import Settings, write_record
from minikubelet.node.systemd import ServiceManager

log = structlog.get_logger(__name__)


class Daemon:
    """Starts, reloads and ends one node."""

    def __init__(self, settings: Settings) -> None:
        """Build everything; nothing is started and no file is touched."""
        self.settings = settings
        self.parts = build_parts(settings)
        self._service_manager = ServiceManager(os.environ)
        self._lock = -1
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ending = False

    async def start(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Bring the node up: first what pods stand on, then the pods that run, then the wanted ones.

        Args:
            meanwhile: Done while the fork server starts.

        Raises:
            StartupError: Another daemon uses these directories.
            NetworkConflict: The bridge or the range is taken.
        """
        reporting, execution, node = self.parts.reporting, self.parts.execution, self.parts.node
        self.take_directories()
        allow_descriptors()
        execution.cgroups.start()
        execution.cgroups.limit_memory(self.parts.machine.allocatable["memory"] // NANO)
        if not can_lower_oom_score():
            log.warning("OOM scores are not lowered", missing="CAP_SYS_RESOURCE")
        reporting.events.start()
        reporting.status.start()
        node.verdicts.start()
        forking = asyncio.create_task(execution.pauses.start(), name="fork server")
        await asyncio.sleep(0)
        meanwhile()  # the fork server has begun, and takes as long
        await forking
        await self._take_up_pods()
        node.pressure.start()
        self.parts.pods.shutdown.start()
        node.publisher.start()
        reporting.afterwards.flush()
        pods = len(node.reconciler.desired.pods)
        log.info("node ready", node=self.settings.node_name, manifests=self.settings.manifest_dir, pods=pods)

    def take_directories(self) -> None:
        """Make the node's directories this daemon's. Raises StartupError or OSError."""
        make_directories(self.settings)
        self._lock = lock_directories(self.settings)
        try:
            write_record(self.settings)
        except OSError as error:
            log.warning("settings not recorded", error=str(error))

    async def _take_up_pods(self) -> None:
        """Adopt what an earlier daemon left, then go towards what the manifests want. Raises NetworkConflict."""
        execution, management, node = self.parts.execution, self.parts.pods, self.parts.node
        execution.runtime.remove_dead_links()
        known = await execution.pauses.adopt()
        await execution.network.start(known)
        adopted = {uid: pod for uid in known if (pod := management.records.read(uid)) is not None}
        for uid in known:
            if uid in adopted:
                await execution.runtime.adopt(adopted[uid])
            else:  # its manifest may still describe it: then it runs on
                execution.pauses.set_ips(uid, execution.network.addresses(uid))
        management.manager.adopt(list(adopted.values()))
        self._run(management.refresher.run(), "volume refresh")
        await node.source.start()
        node.leftovers.note(known)
        self._run(node.leftovers.run(), "leftovers")
        self._run(self.parts.reporting.events.keep_expiring(), "event expiry")
        self.parts.reporting.status.remove_stale(management.manager.pods())

    def _run(self, work: Coroutine[None, None, None], name: str) -> None:
        """Have something done for as long as the daemon runs."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def ready(self) -> None:
        """Tell the service manager that the node is up: its pods are taken over and its API answers."""
        self._service_manager.ready()

    async def reload(self) -> None:
        """Look at all manifests again, and whether the node is cordoned."""
        log.info("reloading")
        await self.parts.node.source.scan()
        self.parts.node.reconciler.look_for_cordon()

    @property
    def is_ending(self) -> bool:
        """Tell whether the daemon leaves and ends its pods first."""
        return self._is_ending

    async def stop(self, *, remove_pods: bool, hurried: asyncio.Event | None = None) -> tuple[str, ...]:
        """Leave. With `remove_pods` every pod is ended first and nothing of this daemon is left on the machine.

        Args:
            remove_pods: Take the pods along.
            hurried: Set when nobody waits for them to end any more: what then does not die at once is left.

        Returns:
            A line for each pod that could not be ended and is left behind.
        """
        if self._lock < 0:
            return ()  # another daemon has the directories: nothing was started
        self._service_manager.stopping()
        await self._stop_following()
        left: tuple[str, ...] = ()
        if remove_pods:
            self._is_ending = True
            self.parts.node.reconciler.end()
            pods, pauses = self.parts.pods.manager, self.parts.execution.pauses
            left = await take_pods_along(pods, pauses, hurried or asyncio.Event())
        try:
            await self._stop_working(remove=remove_pods and not left)
        finally:
            self._service_manager.close()
            os.close(self._lock)
            self._lock = -1
        return left

    async def _stop_following(self) -> None:
        """Take up nothing new."""
        node = self.parts.node
        await node.source.stop()
        node.pressure.stop()
        await self.parts.pods.shutdown.stop()
        node.publisher.stop()
        for task in self._tasks:
            task.cancel()

    async def _stop_working(self, *, remove: bool) -> None:
        """Let go of the pods, and with `remove` take away what they stood on."""
        reporting, execution, management = self.parts.reporting, self.parts.execution, self.parts.pods
        await management.manager.stop()
        management.prober.stop()
        reporting.afterwards.flush()
        reporting.status.stop()
        reporting.events.stop()
        execution.pauses.close()
        execution.runtime.close()
        execution.hosts_files.close()
        try:
            await execution.network.stop(remove=remove)
        finally:  # what the network does not let go of keeps nothing else
            await execution.cgroups.stop(remove=remove)


def allow_descriptors() -> None:
    """Let this process open as many files as it may; the fork server keeps containers at what programs expect."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
