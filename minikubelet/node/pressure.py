"""Watches what a node can run out of: room and inodes of its directories, descriptors, processes.

Pods that run go on whatever is used up; what the daemon cannot do meanwhile it does again by itself. This says why, in
the words of the kubelet's node conditions where it has them, and that it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from minikubelet.node.health import Health
from minikubelet.runtime.cgroups import CgroupTree, find_trees

PERIOD_S: Final = 5.0
# Below these, writes of a few records may fail at any moment. Far below the kubelet's 10 % (it would evict).
_MIN_FREE_BYTES: Final = 1024 * 1024
_MIN_FREE_INODES: Final = 16
_FULL: Final = 0.95
_FEW_PROCESSES: Final = 4  # a pod's start takes as many at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What is left on one file system; `inodes` is 0 where it does not count them."""

    free_bytes: int
    free_inodes: int
    inodes: int
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much of something bounded is used."""

    used: int
    limit: int


def disk_problem(path: str, disk: Disk) -> str:
    """Say what is wrong with a directory's file system; "" when nothing is."""
    if disk.read_only:
        return f"{path}: the file system is read-only: remount it writable (disk errors stand in the log of the kernel)"
    if disk.free_bytes < _MIN_FREE_BYTES:
        return f"{path}: no space left on the file system: make room there"
    if disk.inodes and disk.free_inodes < _MIN_FREE_INODES:
        return f"{path}: no inodes left on the file system (df -i): remove files there"
    return ""


def descriptor_problem(usage: Usage) -> str:
    """Say that descriptors run out."""
    if usage.used < _FULL * usage.limit:
        return ""
    return f"{usage.used} of {usage.limit} file descriptors are open: raise LimitNOFILE of the unit"


def process_problem(machine: Usage, groups: Mapping[str, Usage]) -> str:
    """Say that processes run out.

    Args:
        machine: All processes and threads.
        groups: Those of the control groups that the daemon is in and that have a limit, by path.
    """
    if machine.used >= _FULL * machine.limit:
        return f"{machine.used} of {machine.limit} processes and threads exist: raise kernel.pid_max or end some"
    for path, usage in groups.items():
        if usage.used >= _FULL * usage.limit or usage.limit - usage.used < _FEW_PROCESSES:
            text = f"{usage.used} of {usage.limit} processes and threads of {path} exist"
            return f"{text}: raise its pids.max (TasksMax of the unit)"
    return ""


class PressureWatch:
    """Measures every few seconds and tells the node's health."""

    def __init__(self, health: Health, directories: Mapping[str, str]) -> None:
        """Args: directories: What each is for (`state`, `run`, `log`) and where it lies."""
        self._health = health
        self._directories = directories
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._task = asyncio.create_task(self._run(), name="pressure")

    def stop(self) -> None:
        """Measure no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(PERIOD_S)

    def check(self) -> None:
        """Measure once."""
        for what, path in self._directories.items():
            self._health.set(f"{what} directory", _disk_problem_of(path))
        self._health.set("descriptors", descriptor_problem(descriptors()))
        self._health.set("processes", process_problem(processes(), group_processes()))


def _disk_problem_of(path: str) -> str:
    try:
        return disk_problem(path, measure_disk(path))
    except OSError as error:
        return f"{path}: {error.strerror}: the daemon needs this directory"


def measure_disk(path: str) -> Disk:
    """Measure the file system of a directory. Raises OSError."""
    found = os.statvfs(path)
    return Disk(
        free_bytes=found.f_bavail * found.f_frsize,
        free_inodes=found.f_favail,
        inodes=found.f_files,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def descriptors() -> Usage:
    """Return this process' open descriptors and their limit; full where not even counting them is possible."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = limit
    return Usage(used=used, limit=limit)


def processes() -> Usage:
    """Return the machine's processes and threads and how many there can be."""
    try:
        with open("/proc/loadavg") as file:
            used = int(file.read().split()[3].partition("/")[2])
        limit = min(_number("/proc/sys/kernel/pid_max"), _number("/proc/sys/kernel/threads-max"))
    except (OSError, ValueError, IndexError):
        return Usage(used=0, limit=1)
    return Usage(used=used, limit=limit)


def group_processes() -> dict[str, Usage]:
    """Return processes and limits of the control groups around this process that have a limit, innermost first."""
    found: dict[str, Usage] = {}
    path = _own_directory()
    while path and os.path.isfile(os.path.join(path, "cgroup.procs")):
        with contextlib.suppress(OSError, ValueError):  # the root has none, and "max" is no number
            limit = _number(os.path.join(path, "pids.max"))
            found[path] = Usage(used=_number(os.path.join(path, "pids.current")), limit=limit)
        path = os.path.dirname(path)
    return found


def _own_directory() -> str:
    try:
        with open("/proc/self/cgroup") as own:
            return pids_directory(find_trees(_group_mounts(), own.read()))
    except (OSError, ValueError):
        return ""


@functools.cache  # every pod adds to the list of mounts; those of control groups stay
def _group_mounts() -> str:
    with open("/proc/self/mountinfo") as file:
        return "".join(line for line in file if " - cgroup" in line)


def pids_directory(trees: Sequence[CgroupTree]) -> str:
    """Return the directory of this process' group that counts its processes; "" without one."""
    return next((one.base for one in trees if one.version == 2 or "pids" in one.controllers), "")


def _number(path: str) -> int:
    with open(path) as file:
        return int(file.read())
