"""Many small changes made as one, without making the first one wait.

The first item is handled at once; those that come while it is being handled are handled together when it is done. So
one pod's change takes as long as before, and fifty pods' changes take about as long as two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Hands items on in batches.

    Args:
        handle: Handles a batch; what it raises is raised to everyone whose item was in it.
    """

    def __init__(self, handle: Callable[[list[T]], Awaitable[None]]) -> None:
        self._handle = handle
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Hand an item on and wait until it is handled. It is, even if the one who waits is cancelled."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        await done

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._handle([item for item, _ in batch])
            except Exception as error:
                _settle(batch, error)
            except BaseException:
                self._task = None
                for _, done in batch + self._waiting:
                    done.cancel()
                raise
            else:
                _settle(batch, None)
        self._task = None


def _settle(batch: list[tuple[T, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, done in batch:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
