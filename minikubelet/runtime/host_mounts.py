"""The host's file systems that a container sees beside the root's own."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Sequence
from typing import Final

from minikubelet.linux.mounts import unescape

# File systems of the kernel's own; a container gets fresh ones of the kinds it needs.
_PSEUDO: Final = (
    "proc|sysfs|devtmpfs|devpts|tmpfs|ramfs|cgroup|cgroup2|securityfs|pstore|bpf|tracefs|debugfs|mqueue|hugetlbfs|"
    "configfs|fusectl|rpc_pipefs|nsfs|binfmt_misc|autofs|efivarfs"
)
# Id, parent, device, root and mount point, options and optional fields, type; see proc_pid_mountinfo(5).
_LINE: Final = re.compile(rf"^\d+ \d+ \S+ \S+ (\S+) .*? - (?!(?:{_PSEUDO}) )\S".encode(), re.MULTILINE)
# The part of the time that may go into reading the list: it has a line for every mount of every pod.
_SHARE: Final = 0.05


def shown_mounts(mountinfo: bytes, hidden: Sequence[str]) -> list[str]:
    """Return the mount points that containers see, in the order of mounting.

    Args:
        mountinfo: What /proc/self/mountinfo says.
        hidden: Paths of which, and below which, nothing is shown.
    """
    points = [unescape(os.fsdecode(one)) for one in _LINE.findall(mountinfo)]
    tops = ("/proc", "/sys", "/dev", *hidden)
    return [one for one in points if one != "/" and not any(one == top or one.startswith(top + "/") for top in tops)]


class HostMounts:
    """The list as it is now, or was a moment ago: while many pods come, it changes all the time."""

    def __init__(self, hidden: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: hidden: As in `shown_mounts`; clock: Seconds."""
        self._hidden = hidden
        self._clock = clock
        self._file = open("/proc/self/mountinfo", "rb", buffering=0)  # noqa: SIM115 - kept, as it tells of changes
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLPRI)
        self._changed = True
        self._again_at = 0.0
        self._points: list[str] = []

    def points(self) -> list[str]:
        """Return the mount points."""
        self._changed |= bool(self._poll.poll(0))
        begun = self._clock()
        if self._changed and begun >= self._again_at:
            self._changed = False
            self._file.seek(0)
            self._points = shown_mounts(self._file.readall(), self._hidden)
            ended = self._clock()
            self._again_at = ended + (ended - begun) / _SHARE
        return self._points

    def close(self) -> None:
        """Let go of the list."""
        self._file.close()
