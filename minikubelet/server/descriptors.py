"""Reads and writes of pipes and terminals from the event loop, one at a time: who does not read is not written to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

CHUNK: Final = 32 * 1024


async def read_some(descriptor: int) -> bytes:
    """Return what there is, waiting for something; b"" at the end, which a terminal tells by EIO."""
    while True:
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await _ready(descriptor, loop.add_reader, loop.remove_reader)
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise


async def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, waiting for room. Raises BrokenPipeError when nobody reads any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await _ready(descriptor, loop.add_writer, loop.remove_writer)


async def _ready(descriptor: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    ready = asyncio.get_running_loop().create_future()

    def set_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, set_ready)
    try:
        await ready
    finally:
        remove(descriptor)


class Descriptors:
    """Descriptors that are closed together at the end, or one by one before."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def own(self, descriptor: int) -> int:
        """Take over a descriptor."""
        self._open.add(descriptor)
        return descriptor

    def pipe(self) -> tuple[int, int]:
        """Return the reading and the writing end of a new pipe, close-on-exec and blocking."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        return self.own(reading), self.own(writing)

    def close(self, *descriptors: int) -> None:
        """Close some now."""
        for one in descriptors:
            if one in self._open:
                self._open.discard(one)
                with contextlib.suppress(OSError):
                    os.close(one)

    def close_all(self) -> None:
        """Close whatever is open."""
        self.close(*tuple(self._open))
