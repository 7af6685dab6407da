"""What the kernel says of this boot, of processes and of the memory of control groups."""

from __future__ import annotations

import errno
import os
import time

from minikubelet.linux.files import read_small
from minikubelet.linux.lean import Final, suppress

NEVER: Final = float("inf")  # a time of `boot_time` that does not come


def boot_time() -> float:
    """Return seconds of the clock that all processes of this boot share and that counts suspended time too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return read_small("/proc/sys/kernel/random/boot_id").decode().strip()


def start_ticks(pid: str) -> int:
    """Return when a process started, in clock ticks since boot: with the pid it names one process for ever."""
    try:
        return int(read_small(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return 0
        raise


def oom_kills(cgroup: str) -> int:
    """Return how often the kernel has killed for want of memory in a group (version 1 or 2); 0 without one."""
    if not cgroup:
        return 0
    # Looked for instead of tried: an exception touches more of a pause's memory than all that comes after it.
    name = "memory.events" if os.access(f"{cgroup}/memory.events", os.F_OK) else "memory.oom_control"
    try:
        for line in read_small(f"{cgroup}/{name}").splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass  # the group is gone
    return 0


def memory_peak(cgroup: str) -> int:
    """Return the most bytes that a group (version 2 or 1) has used at once; 0 where the kernel does not say."""
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        with suppress(OSError, ValueError):
            return int(read_small(f"{cgroup}/{name}"))
    return 0
