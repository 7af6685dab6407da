"""What a daemon that was to take its pods along had to leave, in words for whoever told it to.

A process in an uninterruptible sleep (a dead disk or network file system) cannot be ended by anybody; a daemon that
waited for it would never end either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# When none of the pods that are to end has ended for so long, those that are left are given up.
PATIENCE_S: Final = 30.0
# And after a second request to end, when all has been killed.
HURRIED_PATIENCE_S: Final = 2.0

ADVICE: Final = "to clean up, start minikubelet with the same directories once they have ended, or restart the machine"
_STATES: Final = {
    "D": "in uninterruptible sleep: it waits for a disk or a network file system",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "dead, but not reaped",
}


def describe_left(pod: str, processes: Mapping[str, int]) -> str:
    """Return one line about a pod that could not be ended."""
    parts = [f"{what} (process {pid}, {_state_of(pid)})" for what, pid in processes.items()]
    return f"pod {pod} is left behind: {', '.join(parts) or 'its files or network could not be removed, see the log'}"


def _state_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            letter = file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return "ended meanwhile"
    return _STATES.get(letter, "running")
