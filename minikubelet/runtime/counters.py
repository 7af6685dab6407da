"""What the kernel counts, read from its files: of control groups (either version), of processes, of file systems.

Each function reads a file or two and keeps nothing. A group or process that has gone in between raises OSError.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Final

from minikubelet.runtime.cgroups import CgroupPaths

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# A version 1 group without a limit shows the largest number of pages instead of "max".
_V1_UNLIMITED: Final = 1 << 60
_BLOCK: Final = 512  # the unit of st_blocks, whatever the file system


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes, and faults since the group was made. The working set is what cannot be had back without swapping.

    `available` is what is left up to the limit, None without a limit.
    """

    usage: int = 0
    working_set: int = 0
    rss: int = 0
    swap: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    available: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """Bytes and inodes: what one user of a file system takes (`used`) and what the whole has."""

    used: int
    inodes_used: int
    capacity: int
    available: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One network interface's counters since it was made."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def group_cpu_ns(paths: CgroupPaths) -> int | None:
    """Return the processor time a group has used, in nanoseconds; None when nobody counts it."""
    if paths.version == 2:
        # cpu.stat counts in every group of a version 2 tree, with or without the controller.
        directory = paths.directories[0]
        return _fields(os.path.join(directory, "cpu.stat")).get("usage_usec", 0) * 1000
    directory_v1 = paths.controller("cpuacct")
    return None if directory_v1 is None else int(_read(os.path.join(directory_v1, "cpuacct.usage")))


def group_memory(paths: CgroupPaths) -> Memory | None:
    """Return what a group holds of memory; None when nobody counts it."""
    directory = paths.controller("memory")
    if directory is None:
        return None
    stat = _fields(os.path.join(directory, "memory.stat"))
    if paths.version == 2:
        usage = int(_read(os.path.join(directory, "memory.current")))
        limit = _limit(os.path.join(directory, "memory.max"))
        swap = _number(os.path.join(directory, "memory.swap.current"))
        prefix, rss_key = "", "anon"
    else:
        usage = int(_read(os.path.join(directory, "memory.usage_in_bytes")))
        limit = _limit(os.path.join(directory, "memory.limit_in_bytes"))
        prefix, rss_key = "total_", "total_rss"
        swap = stat.get("total_swap", 0)
    working_set = max(0, usage - stat.get(f"{prefix}inactive_file", 0))
    return Memory(
        usage=usage,
        working_set=working_set,
        rss=stat.get(rss_key, 0),
        swap=swap,
        page_faults=stat.get(f"{prefix}pgfault", 0),
        major_page_faults=stat.get(f"{prefix}pgmajfault", 0),
        available=None if limit is None else max(0, limit - working_set),
    )


def group_memory_peak(paths: CgroupPaths) -> int | None:
    """Return the most bytes that a group has held at once; None when nobody counts them (version 2: Linux 5.19)."""
    directory = paths.controller("memory")
    name = "memory.peak" if paths.version == 2 else "memory.max_usage_in_bytes"
    return None if directory is None else _number(os.path.join(directory, name)) or None


def group_processes(paths: CgroupPaths) -> int | None:
    """Return how many processes and threads a group holds; None when nobody counts them."""
    directory = paths.controller("pids")
    return None if directory is None else int(_read(os.path.join(directory, "pids.current")))


def tree_usage(pid: int) -> tuple[int, Memory, int]:
    """Return nanoseconds, memory and number of processes of a process and its descendants, where there are no groups.

    What ended processes used is counted as far as their parents waited for them.
    """
    nanoseconds = rss = faults = major = count = 0
    pending = [pid]
    while pending:
        one = pending.pop()
        with contextlib.suppress(OSError, ValueError):
            words = _read(f"/proc/{one}/stat").rpartition(")")[2].split()
            nanoseconds += sum(int(word) for word in words[11:15]) * 10**9 // _TICKS
            faults += int(words[7])
            major += int(words[9])
            rss += int(words[21]) * _PAGE
            count += int(words[17])
            pending.extend(int(word) for word in _read(f"/proc/{one}/task/{one}/children").split())
    memory = Memory(usage=rss, working_set=rss, rss=rss, page_faults=faults, major_page_faults=major)
    return nanoseconds, memory, count


def interfaces(pid: int | str) -> tuple[Interface, ...]:
    """Return the interfaces of a process' network namespace, without the loopback."""
    found: list[Interface] = []
    for line in _read(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            continue
        n = [int(word) for word in rest.split()]
        found.append(
            Interface(
                name=name.strip(),
                rx_bytes=n[0],
                rx_packets=n[1],
                rx_errors=n[2],
                rx_dropped=n[3],
                tx_bytes=n[8],
                tx_packets=n[9],
                tx_errors=n[10],
                tx_dropped=n[11],
            )
        )
    return tuple(found)


def whole_filesystem(path: str) -> Filesystem:
    """Return the figures of the file system that a path lies on; all that is used counts as ours."""
    found = os.statvfs(path)
    return Filesystem(
        used=(found.f_blocks - found.f_bfree) * found.f_frsize,
        inodes_used=found.f_files - found.f_ffree,
        capacity=found.f_blocks * found.f_frsize,
        available=found.f_bavail * found.f_frsize,
        inodes=found.f_files,
        inodes_free=found.f_ffree,
    )


def directory_usage(path: str) -> Filesystem:
    """Return what a directory's files take on their file system; walks it, follows no link, counts hard links once."""
    used, inodes, seen = _walk(path)
    whole = whole_filesystem(path)
    return Filesystem(
        used=used,
        inodes_used=inodes + len(seen),
        capacity=whole.capacity,
        available=whole.available,
        inodes=whole.inodes,
        inodes_free=whole.inodes_free,
    )


def _walk(path: str) -> tuple[int, int, set[int]]:
    used, inodes = 0, 0
    linked: set[int] = set()
    top = os.stat(path, follow_symlinks=False)
    pending = [path]
    while pending:
        directory = pending.pop()
        with contextlib.suppress(OSError):
            used += os.stat(directory, follow_symlinks=False).st_blocks * _BLOCK
            inodes += 1
            with os.scandir(directory) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_dev != top.st_dev:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    if found.st_nlink > 1:
                        if found.st_ino in linked:
                            continue
                        linked.add(found.st_ino)
                    else:
                        inodes += 1
                    used += found.st_blocks * _BLOCK
    return used, inodes, linked


def node_cpu_ns() -> int:
    """Return the processor time that all processors have worked, in nanoseconds."""
    words = _read("/proc/stat").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[:8])
    return (user + nice + system + irq + softirq + steal) * 10**9 // _TICKS


def node_memory() -> Memory:
    """Return the memory of the whole machine."""
    info: dict[str, int] = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        info[name] = int(rest.split()[0]) * 1024
    vm = _fields("/proc/vmstat")
    usage = info["MemTotal"] - info["MemFree"]
    working_set = max(0, usage - info.get("Inactive(file)", 0))
    return Memory(
        usage=usage,
        working_set=working_set,
        rss=info.get("AnonPages", 0),
        swap=info.get("SwapTotal", 0) - info.get("SwapFree", 0),
        page_faults=vm.get("pgfault", 0),
        major_page_faults=vm.get("pgmajfault", 0),
        available=info["MemTotal"] - working_set,
    )


def node_processes() -> tuple[int, int]:
    """Return how many processes and threads the machine has, and how many it may have."""
    running = _read("/proc/loadavg").split()[3].partition("/")[2]
    return int(running), min(_number("/proc/sys/kernel/pid_max"), _number("/proc/sys/kernel/threads-max"))


def _limit(path: str) -> int | None:
    text = _read(path).strip()
    return None if text == "max" or int(text) >= _V1_UNLIMITED else int(text)


def _number(path: str) -> int:
    try:
        return int(_read(path))
    except FileNotFoundError:
        return 0  # no swap accounting, or no such controller


def _fields(path: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        found[name] = int(value)
    return found


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
