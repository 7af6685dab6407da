"""Waiting for an event beside tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def wait_for_first(
    event: asyncio.Event, tasks: Iterable[asyncio.Future[Any]] = (), *, timeout_s: float | None = None
) -> None:
    """Wait until an event is set, one of the tasks is done or the time is over; the tasks go on.

    What waits for the event ends with the caller, also when that is cancelled: a task that nobody holds would be
    destroyed while it waits.
    """
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiting, *tasks}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
