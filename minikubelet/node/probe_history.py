"""What a probe said over time, in bounded memory: equal results in a row are one stretch with a count.

So a probe that always succeeds costs one stretch however long it runs, and the moments at which its answer changed are
all there, the newest `MOST_STRETCHES` of them. It lives as long as the daemon: failures of before are in the events.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

MOST_STRETCHES: Final = 64
MOST_OUTPUT: Final = 256  # characters of an answer that are kept of each stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRun:
    """One run of a probe. Times are seconds; `lateness` is how long after its due moment it began."""

    uid: str
    namespace: str
    pod: str
    container: str
    kind: str  # Liveness, Readiness, Startup
    result: str  # successful, failed, unknown
    output: str
    at: float  # Unix time
    duration: float
    lateness: float
    container_id: str = ""


@dataclass(slots=True)
class Stretch:
    """Runs in a row, of one instance, with one result and, if they failed, one answer. Times are Unix seconds."""

    result: str
    output: str
    container_id: str
    first: float
    last: float
    count: int = 1


class ProbeHistory:
    """The newest run of one probe in full, and its stretches, the oldest first."""

    __slots__ = ("last", "stretches")

    def __init__(self, run: ProbeRun) -> None:
        self.stretches: deque[Stretch] = deque(maxlen=MOST_STRETCHES)
        self.add(run)

    def add(self, run: ProbeRun) -> None:
        """Note a run."""
        self.last = run
        # What a success says, a page perhaps, changes with every run and nothing is to be learned from it.
        output = "" if run.result == "successful" else run.output[:MOST_OUTPUT]
        newest = self.stretches[-1] if self.stretches else None
        if newest and (newest.result, newest.output, newest.container_id) == (run.result, output, run.container_id):
            newest.last = run.at
            newest.count += 1
        else:
            self.stretches.append(Stretch(run.result, output, run.container_id, run.at, run.at))
