"""Does what nobody waits for a moment later, so that it does not stand between an exit and the restart, or a manifest
and its first program: records for people, files that are read after a crash.

What is given is done in order. A start asks for its pause or container within the delay and waits for the kernel then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_DELAY_S: Final = 0.003
# The loop gets its turn after so much of it.
_SLICE_S: Final = 0.002


class Afterwards:
    """Owner of what is still to be done."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque()
        self._timer: asyncio.Handle | None = None

    def __call__(self, work: Callable[[], None]) -> None:
        """Have it done soon; at once where no event loop runs."""
        self._work.append(work)
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            self._timer = loop.call_later(_DELAY_S, self._run)

    def flush(self) -> None:
        """Do all of it now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._work:
            self._next()

    def _run(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        until = loop.time() + _SLICE_S
        while self._work and loop.time() < until:
            self._next()
        if self._work and self._timer is None:
            self._timer = loop.call_soon(self._run)

    def _next(self) -> None:
        work = self._work.popleft()
        try:
            work()
        except Exception:  # one record is not another's
            log.exception("could not do what was left for later")
