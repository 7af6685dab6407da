"""Work on disks, away from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def run_apart(work: Callable[..., Result], *arguments: Any) -> Result:
    """Run what may hang on a disk for ever, in a thread of its own.

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

    thread = threading.Thread(target=run, name=getattr(work, "__name__", "disk"), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # so says Python
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    return await done
