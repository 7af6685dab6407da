"""What one run of a probe said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """Outcome of one run; WARNING counts as success and is told in an event."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class ProbeReply:
    """Outcome and output of one run."""

    verdict: Verdict
    output: str = ""


# One question: the answer if it is there at once, or else what to call and wait for. Asking raises nothing itself.
Wait = Callable[[], Awaitable[ProbeReply]]
Ask = Callable[[], ProbeReply | Wait]
