"""When probes run: one heap of times and one timer for all of them."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from minikubelet.node.pod_probes import ContainerProbe


class ProbeBeats:
    """Owner of the timer; a probe's `due` says which of its times in the heap still counts."""

    def __init__(self, clock: Callable[[], float], on_due: Callable[[ContainerProbe, float], None]) -> None:
        """Create it.

        Args:
            clock: Boot time in seconds.
            on_due: Told of a probe whose time has come, and of the time that it is now; may schedule.
        """
        self._clock = clock
        self._on_due = on_due
        self._heap: list[tuple[float, int, ContainerProbe]] = []
        self._number = 0  # of what is scheduled: probes themselves have no order
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def schedule(self, probe: ContainerProbe, due: float) -> None:
        """Have a probe run then, and not when it was to run before; `arm` follows."""
        probe.due = due
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, probe))

    def arm(self) -> None:
        """Set the one timer to the next beat."""
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._beat)

    def stop(self) -> None:
        """Let nothing run any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        """Begin every run that is due."""
        self._timer = None
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, probe = heapq.heappop(self._heap)
            if probe.due == due:  # not stopped or moved meanwhile
                self._on_due(probe, now)
        self.arm()
