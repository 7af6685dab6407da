"""Ends all pods for a daemon that takes them along, and says in words for its user what it had to leave.

A process in an uninterruptible sleep (a dead disk or network file system) cannot be ended by anybody; a daemon that
waited for it would never end either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.pods import pod_key
from minikubelet.node.pod_manager import PodManager
from minikubelet.runtime.pauses import Pauses

log = structlog.get_logger(__name__)

# A node that goes with its terminal does not keep the user waiting for a program that is deaf to SIGTERM.
GRACE_S: Final = 2.0
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


async def take_pods_along(pods: PodManager, pauses: Pauses, hurried: asyncio.Event) -> tuple[str, ...]:
    """End every pod; one that cannot be ended is left behind.

    Args:
        pods: The workers.
        pauses: Killed when nobody waits for the pods to end by themselves any more.
        hurried: Set when that is so.

    Returns:
        A line for each pod that is left behind.
    """
    drain = asyncio.create_task(pods.drain(grace_s=GRACE_S, patience_s=PATIENCE_S), name="drain")
    hurry = asyncio.create_task(hurried.wait(), name="hurry")
    await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if not drain.done():
        pauses.kill_all()
        await asyncio.wait({drain}, timeout=HURRIED_PATIENCE_S)
    drain.cancel()
    hurry.cancel()
    await asyncio.gather(drain, hurry, return_exceptions=True)
    left = tuple(_describe(pod, pauses.alive(PodUID(pod.metadata.uid))) for pod in pods.pods())
    for line in left:
        log.error(line, advice=ADVICE)
    return left


def _describe(pod: Pod, processes: Mapping[str, int]) -> str:
    """Return one line about a pod that could not be ended; its processes are named by what they are."""
    parts = [f"{what} (process {pid}, {_state_of(pid)})" for what, pid in processes.items()]
    what = ", ".join(parts) or "its files or network could not be removed, see the log"
    return f"pod {pod_key(pod)} is left behind: {what}"


def _state_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            letter = file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return "ended meanwhile"
    return _STATES.get(letter, "running")
