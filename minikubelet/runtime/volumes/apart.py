"""Work on disks, away from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

Result = TypeVar("Result")


# Threads that are kept for more work, and for how many seconds.
_MOST_IDLE: Final = 8
_IDLE_S: Final = 5.0


class _Hands:
    """Threads that have done their work and may do more; one that hangs is not among them, and keeps nobody waiting."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []

    def give(self, work: Callable[[], None]) -> None:
        """Have it done by a thread that has nothing else to do. Raises RuntimeError when there is no room for one."""
        try:
            box = self._idle.pop()
        except IndexError:
            box = queue.SimpleQueue()
            threading.Thread(target=self._live, args=(box,), name="disk", daemon=True).start()
        box.put(work)

    def _live(self, box: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                work = box.get(timeout=_IDLE_S)
            except queue.Empty:
                try:
                    self._idle.remove(box)
                except ValueError:
                    work = box.get()  # taken at this very moment: the work is on its way
                else:
                    return
            work()
            if len(self._idle) >= _MOST_IDLE:
                return
            self._idle.append(box)


_hands: Final = _Hands()


def run_apart(work: Callable[..., Result], *arguments: Any) -> asyncio.Future[Result]:
    """Run what may hang on a disk for ever, in a thread that does nothing else meanwhile; await what it comes to.

    Not in the pool of `asyncio.to_thread`: a few calls that hang would fill it for every pod, and a daemon that leaves
    would wait for them.

    Raises:
        OSError: There is no room for another thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def tell(settle: Callable[[Any], None], value: Any) -> None:
        def unless_given_up() -> None:
            if not done.done():
                settle(value)

        with contextlib.suppress(RuntimeError):  # the loop has gone meanwhile
            loop.call_soon_threadsafe(unless_given_up)

    def run() -> None:
        try:
            result = work(*arguments)
        except Exception as error:
            tell(done.set_exception, error)
        else:
            tell(done.set_result, result)

    try:
        _hands.give(run)
    except RuntimeError:  # so says Python
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    return done
