"""Waiting for an event beside tasks leaves nothing behind that waits on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from minikubelet.node.waiting import wait_for_first

pytestmark = pytest.mark.anyio


async def test_whoever_is_cancelled_while_waiting_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    waiter = asyncio.create_task(wait_for_first(asyncio.Event()))
    await asyncio.sleep(0)
    waiter.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiter
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_it_returns_for_the_event_for_a_task_or_when_the_time_is_over_and_ends_no_task() -> None:
    event, open_end = asyncio.Event(), asyncio.get_running_loop().create_future()
    await wait_for_first(event, timeout_s=0.001)
    await wait_for_first(event, {open_end, asyncio.create_task(asyncio.sleep(0))})
    event.set()
    await wait_for_first(event, {open_end})
    assert not open_end.done()
