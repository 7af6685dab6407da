"""Ends pods in the order of their priority when the machine is about to shut down, and holds the shutdown meanwhile.

logind asks before it shuts down (systemd-inhibit(1), delay locks) and tells with the signal PrepareForShutdown. One
child does both for us: `systemd-inhibit` holds the lock for as long as its own child, `busctl monitor`, prints the
signals. To let the shutdown go on is to end that child; it also ends when the daemon dies, whatever the daemon dies of.

Source: kubelet pkg/kubelet/nodeshutdown (graceful node shutdown, v1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.status import PodEnd
from minikubelet.linux.files import write_atomic
from minikubelet.node.health import Health
from minikubelet.node.services import EndPods
from minikubelet.runtime.wording import words

log = structlog.get_logger(__name__)

REASON: Final = "Terminated"
MESSAGE: Final = "Pod was terminated in response to imminent node shutdown."
CRITICAL_PRIORITY: Final = 2_000_000_000

_LOGIND: Final = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_MATCH: Final = f"type='signal',interface='{_LOGIND[2]}',member='PrepareForShutdown'"
_DROP_IN: Final = "/etc/systemd/logind.conf.d/99-minikubelet.conf"
_RETRY_S: Final = 10.0


@dataclass(frozen=True, slots=True, order=True)
class PriorityPeriod:
    """Pods of this priority and above (up to the next one's) have this many seconds to end."""

    priority: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Group:
    """Pods that are ended together, within a period."""

    period_s: float
    pods: tuple[Pod, ...]


def periods(total_s: float, critical_s: float, by_priority: Sequence[PriorityPeriod]) -> tuple[PriorityPeriod, ...]:
    """Return the configured periods, lowest priority first; none when graceful shutdown is off.

    Args:
        total_s: `shutdownGracePeriod`.
        critical_s: `shutdownGracePeriodCriticalPods`, part of the total.
        by_priority: `shutdownGracePeriodByPodPriority`, which takes the place of both.
    """
    if by_priority:
        return tuple(sorted(by_priority))
    if total_s <= 0:
        return ()
    return (PriorityPeriod(0, total_s - critical_s), PriorityPeriod(CRITICAL_PRIORITY, critical_s))


def group_by_priority(configured: Sequence[PriorityPeriod], pods: Sequence[Pod]) -> tuple[Group, ...]:
    """Return the pods in the groups in which they are ended, first group first.

    A pod belongs to the highest configured priority that is not above its own, or else to the lowest one.
    """
    groups: list[list[Pod]] = [[] for _ in configured]
    for pod in pods:
        own = pod.spec.priority or 0
        fitting = [index for index, one in enumerate(configured) if one.priority <= own]
        groups[fitting[-1] if fitting else 0].append(pod)
    return tuple(Group(one.period_s, tuple(found)) for one, found in zip(configured, groups, strict=True))


def grace_of(pod: Pod, period_s: float) -> float:
    """Return how long a pod's containers may take: its own grace period, but not more than its group has."""
    own = pod.spec.termination_grace_period_seconds
    return min(30.0 if own is None else float(own), period_s)


class NodeShutdown:
    """Owner of the shutdown lock, and of whether the machine goes down."""

    def __init__(
        self,
        configured: Sequence[PriorityPeriod],
        *,
        pods: Callable[[], Sequence[Pod]],
        end_pods: EndPods,
        health: Health,
    ) -> None:
        """Create it without a process.

        Args:
            configured: From `periods`; none switches everything off.
            pods: The node's pods at the time of the shutdown.
            end_pods: Ends some of them.
            health: Told when shutdowns cannot be held.
        """
        self._configured = tuple(configured)
        self._pods = pods
        self._end_pods = end_pods
        self._health = health
        self._is_under_way = False
        self._task: asyncio.Task[None] | None = None
        self._child: asyncio.subprocess.Process | None = None

    @property
    def is_under_way(self) -> bool:
        """Tell whether the machine goes down: no pod is started any more."""
        return self._is_under_way

    def start(self) -> None:
        """Take the lock and listen, where there is systemd and the node is configured for it."""
        if not self._configured:
            return
        if shutil.which("systemd-inhibit") is None or not os.path.isdir("/run/systemd/system"):
            log.warning("graceful node shutdown needs systemd, which is not here")
            return
        self._task = asyncio.create_task(self._run(), name="node shutdown")

    async def stop(self) -> None:
        """Give the lock back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._release()

    async def _run(self) -> None:
        while True:
            try:
                await self._prepare_logind()
                await self._listen()
                problem = "the lock against shutdowns was lost, taken again"
            except OSError as error:
                problem = f"cannot hold shutdowns until pods have ended: {words(error)}"
            await self._release()
            self._health.set("node shutdown", problem)
            await asyncio.sleep(_RETRY_S)

    async def _prepare_logind(self) -> None:
        """Let logind wait as long as our pods may take: its own limit is 5 s."""
        needed = sum(one.period_s for one in self._configured)
        allowed = await _inhibit_delay_s()
        if allowed is None or allowed >= needed:
            return
        os.makedirs(os.path.dirname(_DROP_IN), mode=0o755, exist_ok=True)
        text = f"# By minikubelet, for graceful node shutdown.\n[Login]\nInhibitDelayMaxSec={needed:.0f}\n"
        write_atomic(_DROP_IN, text.encode())
        await _call("systemctl", "kill", "--signal=HUP", "systemd-logind.service")

    async def _listen(self) -> None:
        """Hold the lock and act on signals; returns when the child has ended."""
        command = (
            *("setpriv", "--pdeathsig", "TERM", "--"),
            *("systemd-inhibit", "--what=shutdown", "--mode=delay", "--who=minikubelet", "--why=pods are ended first"),
            *("busctl", "--system", "--json=short", f"--match={_MATCH}", "monitor"),
        )
        self._child = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._child.stdout is not None
        self._health.set("node shutdown", "")
        while line := await self._child.stdout.readline():
            begins = begins_shutdown(line)
            if begins is None:
                continue
            self._is_under_way = begins
            if begins:
                await self._end_all()
                await self._release()
            else:
                log.info("node shutdown cancelled")

    async def _end_all(self) -> None:
        for group in group_by_priority(self._configured, self._pods()):
            if not group.pods:
                continue
            log.info("node shuts down, ending pods", pods=len(group.pods), period_s=group.period_s)
            try:
                async with asyncio.timeout(group.period_s):
                    await self._end_group(group)
            except TimeoutError:
                log.warning("pods not ended in time, shutdown goes on", period_s=group.period_s)

    async def _end_group(self, group: Group) -> None:
        end = PodEnd(reason=REASON, message=MESSAGE, disruption=MESSAGE)
        await self._end_pods(group.pods, end, lambda pod: grace_of(pod, group.period_s))

    async def _release(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
            await child.wait()


def begins_shutdown(line: bytes) -> bool | None:
    """Return what one line of `busctl monitor --json` says: True or False for PrepareForShutdown, None otherwise."""
    try:
        message = json.loads(line)
        if message["member"] != "PrepareForShutdown" or message["path"] != _LOGIND[1]:
            return None
        return bool(message["payload"]["data"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return None


async def _inhibit_delay_s() -> float | None:
    text = await _call("busctl", "get-property", *_LOGIND, "InhibitDelayMaxUSec")
    words = text.split()
    return int(words[1]) / 1e6 if len(words) == 2 and words[1].isdecimal() else None


async def _call(*command: str) -> str:
    child = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    output, _ = await child.communicate()
    return output.decode(errors="replace")
