"""What pods, their containers and the node use right now: for `top`, the stats summary and metrics.

`Stats` owns the samples that a rate needs. A rate is taken between the two latest readings at least `MIN_INTERVAL_S`
apart; a container that was read once only is given its average since it started, which is a figure at once and an
honest one. What cannot be read (no control groups, the process just ended) is None, never zero.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from minikubelet.api.types import Pod, Volume
from minikubelet.lifecycle.observed import ObservedContainer, PodUID, RunState
from minikubelet.lifecycle.resources import qos_class
from minikubelet.runtime import counters
from minikubelet.runtime.cgroups import CgroupPaths
from minikubelet.runtime.counters import Filesystem, Interface, Memory
from minikubelet.runtime.port import RuntimeView
from minikubelet.runtime.volumes.payload import is_projection

MIN_INTERVAL_S: Final = 1.0
# As the kubelet's volumeStatsAggPeriod: walking a volume costs too much to do it for each reader.
VOLUME_PERIOD_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Processor time: nanoseconds since the beginning, and billionths of a processor in use."""

    usage_core_ns: int
    usage_nano_cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStats:
    """One running container. `time` is Unix time of the reading."""

    name: str
    id: str
    time: float
    started_at: float
    cpu: Cpu | None
    memory: Memory | None
    processes: int | None
    rootfs: Filesystem | None  # the writable layer
    logs: Filesystem | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStats:
    """One volume of a pod, read at `time`, which may be up to `VOLUME_PERIOD_S` ago."""

    name: str
    time: float
    in_memory: bool
    filesystem: Filesystem


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStats:
    """One pod: what its group counts (pause included) and its running containers.

    `ephemeral_bytes` is what writable layers, logs and volumes that are not in memory take together.
    """

    uid: PodUID
    time: float
    cpu: Cpu | None
    memory: Memory | None
    processes: int | None
    network: tuple[Interface, ...]  # empty with the host's network
    containers: tuple[ContainerStats, ...]
    volumes: tuple[VolumeStats, ...]
    ephemeral_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStats:
    """The whole machine."""

    time: float
    started_at: float
    cpu: Cpu
    memory: Memory
    processes: int
    max_processes: int
    network: tuple[Interface, ...]
    filesystem: Filesystem  # that the state directory lies on


class Groups(Protocol):
    """What is asked of the control groups."""

    def pod(self, uid: str, qos: str) -> CgroupPaths:
        """Return a pod's group."""
        ...

    def child(self, uid: str, qos: str, name: str) -> CgroupPaths:
        """Return a container's group."""
        ...


class Rates:
    """Turns counters into rates, by key."""

    def __init__(self) -> None:
        self._samples: dict[str, tuple[float, int, int]] = {}  # time, counter, rate up to then

    def rate(self, key: str, now: float, counter: int, *, begun: float) -> int:
        """Return units a second; the first time the average since `begun` (same clock as `now`)."""
        earlier, value, rate = self._samples.get(key, (begun, 0, -1))
        if now - earlier < MIN_INTERVAL_S and rate >= 0:
            return rate
        rate = max(0, int((counter - value) / max(now - earlier, 1e-3)))
        self._samples[key] = (now, counter, rate)
        return rate

    def keep_only(self, keys: set[str], prefix: str) -> None:
        """Forget the samples below a prefix that are not among `keys`."""
        for key in [one for one in self._samples if one.startswith(prefix) and one not in keys]:
            del self._samples[key]


class Stats:
    """Reads what is used; owner of the samples and of the latest volume figures."""

    def __init__(
        self,
        *,
        cgroups: Groups,
        view: Callable[[PodUID], RuntimeView],
        pause_pid: Callable[[PodUID], int],
        log_dir: Callable[[Pod], str],
        volume_path: Callable[[Pod, Volume], str],
        state_dir: str,
        wall_clock: Callable[[], float],
        boot_clock: Callable[[], float],
    ) -> None:
        """Create it without reading anything.

        Args:
            cgroups: Control groups.
            view: What is there of a pod.
            pause_pid: A pod's pause process, 0 without one.
            log_dir: A pod's log directory.
            volume_path: A volume on the host.
            state_dir: A directory on the node's file system.
            wall_clock: Unix time.
            boot_clock: Seconds since boot, on the clock that containers' starts are stamped with.
        """
        self._cgroups = cgroups
        self._view = view
        self._pause_pid = pause_pid
        self._log_dir = log_dir
        self._volume_path = volume_path
        self._state_dir = state_dir
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock
        self._rates = Rates()
        self._volumes: dict[tuple[PodUID, str], tuple[float, VolumeStats]] = {}

    async def pod(self, pod: Pod) -> PodStats:
        """Return what one pod uses now. Walks its disk volumes, in a thread, at most once in `VOLUME_PERIOD_S`."""
        uid = PodUID(pod.metadata.uid)
        qos = qos_class(pod)
        running = [one[0] for one in self._view(uid).containers.values() if one and one[0].state is RunState.RUNNING]
        containers = tuple(self._container(pod, qos, one) for one in running)
        self._rates.keep_only({_key(uid), *(_key(uid, one.id) for one in running)}, _key(uid))
        pause = self._pause_pid(uid)
        begun = min((one.created_mono for one in running), default=self._boot_clock())
        cpu, memory, processes = self._usage(_key(uid), self._cgroups.pod(uid, qos), pause, begun)
        network: tuple[Interface, ...] = ()
        if pause and not pod.spec.host_network:
            with contextlib.suppress(OSError):
                network = counters.interfaces(pause)
        volumes = await self._volume_stats(pod, uid)
        layers = [one for found in containers for one in (found.rootfs, found.logs) if one is not None]
        disk = [one.filesystem for one in volumes if not one.in_memory]
        return PodStats(
            uid=uid,
            time=self._wall_clock(),
            cpu=cpu,
            memory=memory,
            processes=processes,
            network=network,
            containers=containers,
            volumes=volumes,
            ephemeral_bytes=sum(one.used for one in (*layers, *disk)),
        )

    def container(self, pod: Pod, name: str) -> ContainerStats | None:
        """Return what one container uses now, None when it does not run."""
        instances = self._view(PodUID(pod.metadata.uid)).containers.get(name, ())
        if not instances or instances[0].state is not RunState.RUNNING:
            return None
        return self._container(pod, qos_class(pod), instances[0])

    def memory_peaks(self, pod: Pod) -> dict[str, int]:
        """Return the most bytes that each running container has held at once, by instance, where that is known."""
        uid, qos = PodUID(pod.metadata.uid), qos_class(pod)
        found: dict[str, int] = {}
        for instances in self._view(uid).containers.values():
            if instances and instances[0].state is RunState.RUNNING:
                with contextlib.suppress(OSError):
                    peak = counters.group_memory_peak(self._cgroups.child(uid, qos, instances[0].id))
                    found |= {instances[0].id: peak} if peak else {}
        return found

    def node(self, *, network: bool = True) -> NodeStats:
        """Return what the machine uses now; without `network` at a tenth of the price where there are many pods."""
        boot, now = self._boot_clock(), self._wall_clock()
        used = counters.node_cpu_ns()
        processes, most = counters.node_processes()
        return NodeStats(
            time=now,
            started_at=now - boot,
            cpu=Cpu(usage_core_ns=used, usage_nano_cores=self._rates.rate("node", boot, used, begun=0.0)),
            memory=counters.node_memory(),
            processes=processes,
            max_processes=most,
            network=counters.interfaces("self") if network else (),
            filesystem=counters.whole_filesystem(self._state_dir),
        )

    def forget(self, uid: PodUID) -> None:
        """Drop what is kept of a pod."""
        self._rates.keep_only(set(), _key(uid))
        for key in [one for one in self._volumes if one[0] == uid]:
            del self._volumes[key]

    def _container(self, pod: Pod, qos: str, one: ObservedContainer) -> ContainerStats:
        uid = PodUID(pod.metadata.uid)
        group = self._cgroups.child(uid, qos, one.id)
        begun = one.created_mono if one.started_mono is None else one.started_mono
        cpu, memory, processes = self._usage(_key(uid, one.id), group, one.pid, begun)
        rootfs = logs = None
        with contextlib.suppress(OSError):
            if (pod.metadata.annotations or {}).get("minikubelet.io/rootfs") != "host":
                # An overlay tells the figures of its upper layer, which is a tmpfs of the container's own.
                rootfs = counters.whole_filesystem(f"/proc/{one.pid}/root")
        with contextlib.suppress(OSError):
            logs = counters.directory_usage(os.path.join(self._log_dir(pod), one.name))
        return ContainerStats(
            name=one.name,
            id=one.id,
            time=self._wall_clock(),
            started_at=one.created_at if one.started_at is None else one.started_at,
            cpu=cpu,
            memory=memory,
            processes=processes,
            rootfs=rootfs,
            logs=logs,
        )

    def _usage(
        self, key: str, group: CgroupPaths, pid: int, begun: float
    ) -> tuple[Cpu | None, Memory | None, int | None]:
        """Return processor, memory and processes of a group, or where there is none, of a process with its children."""
        used: int | None = None
        memory: Memory | None = None
        processes: int | None = None
        with contextlib.suppress(OSError):
            used = counters.group_cpu_ns(group) if group.version else None
            memory = counters.group_memory(group)
            processes = counters.group_processes(group)
        if pid and (used is None or memory is None or processes is None):
            tree_used, tree_memory, tree_processes = counters.tree_usage(pid)
            used = tree_used if used is None else used
            memory = memory or tree_memory
            processes = tree_processes if processes is None else processes
        if used is None:
            return None, memory, processes
        rate = self._rates.rate(key, self._boot_clock(), used, begun=begun)
        return Cpu(usage_core_ns=used, usage_nano_cores=rate), memory, processes

    async def _volume_stats(self, pod: Pod, uid: PodUID) -> tuple[VolumeStats, ...]:
        found: list[VolumeStats] = []
        now = self._boot_clock()
        for volume in pod.spec.volumes or ():
            if volume.empty_dir is None and not is_projection(volume):
                continue  # a path of the host's, whose use is not the pod's
            key = (uid, volume.name)
            read_at, stats = self._volumes.get(key, (0.0, None))
            if stats is None or now - read_at >= VOLUME_PERIOD_S:
                path = self._volume_path(pod, volume)
                in_memory = os.path.ismount(path)  # then a tmpfs of its own
                try:
                    if in_memory:
                        filesystem = counters.whole_filesystem(path)
                    else:
                        filesystem = await asyncio.to_thread(counters.directory_usage, path)
                except OSError:
                    continue
                stats = VolumeStats(
                    name=volume.name, time=self._wall_clock(), in_memory=in_memory, filesystem=filesystem
                )
                self._volumes[key] = (now, stats)
            found.append(stats)
        return tuple(found)


def _key(uid: PodUID, container: str = "") -> str:
    return f"{uid}/{container}"
