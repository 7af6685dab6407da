"""Kills processes with all that they have begun, as /proc and control groups tell it.

Numbers are those of this process' own PID namespace, as fork and kill have them. The pause of a pod with a shared PID
namespace is the first process of that namespace, but its /proc is the host's: there the numbers are others, and one
that means a container here is a kernel thread's there. `NSpid` in /proc/<n>/status says both; see proc(5).
"""

from __future__ import annotations

import os

from minikubelet.linux.files import read_small, write_small
from minikubelet.linux.lean import Final, signal, suppress

# A family that forks faster than it is killed is given up after this many rounds; its container's end ends it.
_KILL_ROUNDS: Final = 20


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants; for the first process of a PID namespace the kernel does the rest."""
    for one in family(pid):
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)


def kill_family(pid: int) -> None:
    """Kill a process that adopts its orphans, with all that it and they have begun, however they hide from it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # so that it begins nothing more, and stays to adopt
    killed = {pid}
    for _ in range(_KILL_ROUNDS):
        victims = set(family(pid)) - killed
        if not victims:
            break
        killed |= victims
        for one in victims:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_group(directories: list[str]) -> None:
    """Kill what is in a control group: what its first process has left, wherever it has hidden."""
    for directory in directories[:1]:
        with suppress(OSError):
            write_small(f"{directory}/cgroup.kill", b"1")
            return
        for _ in range(_KILL_ROUNDS):
            members = b""
            with suppress(OSError):
                members = read_small(f"{directory}/cgroup.procs")
            victims = [int(one) for one in members.split() if one != b"0"]  # 0: of a namespace that is not below ours
            if not victims:
                return
            for one in victims:
                with suppress(OSError):
                    os.kill(one, signal.SIGKILL)


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    depth = len(_numbers("self")) - 1
    top = pid if depth <= 0 else _shown(pid, depth)
    found = [top] if top else []
    for one in found:
        found.extend(_children(one))
    if depth <= 0:
        return found
    below = (_numbers(str(one))[depth:] for one in found[1:])
    return [pid, *(numbers[0] for numbers in below if numbers)]


def _children(shown: int) -> list[int]:
    """Return a process' children as /proc numbers them, whichever of its threads has made them."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{shown}/task"):
            with suppress(OSError):
                found.extend(int(child) for child in read_small(f"/proc/{shown}/task/{thread}/children").split())
    return found


def _shown(pid: int, depth: int) -> int:
    """Return the number that /proc has for a child of ours, 0 without one."""
    own = int(os.readlink("/proc/self"))
    return next((one for one in _children(own) if _numbers(str(one))[depth : depth + 1] == [pid]), 0)


def _numbers(shown: str) -> list[int]:
    """Return a process' numbers, from the namespace that /proc shows to the process' own."""
    with suppress(OSError):
        for line in read_small(f"/proc/{shown}/status").splitlines():
            if line.startswith(b"NSpid:"):
                return [int(one) for one in line.split()[1:]]
    return []
