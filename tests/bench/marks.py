"""How a started program says that it is there: a line in a FIFO, stamped when it arrives.

The program is a shell whose first act is to write the line; nothing of Python is started in a pod that is measured. The
FIFO lies in a directory that pods mount, and a process reads it all the time, so that no writer waits.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from pathlib import Path


class Marks:
    """The reading end."""

    def __init__(self, directory: Path) -> None:
        """Make the directory with the FIFO in it."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "marks"
        os.mkfifo(path)
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def wait(self, words: Iterable[str], limit_s: float = 120.0) -> dict[str, float]:
        """Return when each word arrived first, in seconds of the monotonic clock; other words are passed over.

        Raises:
            TimeoutError: Some did not arrive.
        """
        missing, found = set(words), dict[str, float]()
        deadline = time.monotonic() + limit_s
        while missing:
            ready, _, _ = select.select([self._fifo], [], [], max(0.0, deadline - time.monotonic()))
            now = time.monotonic()
            if not ready:
                raise TimeoutError(f"{len(missing)} programs did not start within {limit_s} s: {sorted(missing)[:5]}")
            *lines, self._rest = (self._rest + os.read(self._fifo, 65536)).split(b"\n")
            for line in lines:
                word = line.decode()
                if word in missing:
                    missing.discard(word)
                    found[word] = now
        return found

    def drain(self) -> None:
        """Forget what has arrived."""
        while select.select([self._fifo], [], [], 0)[0]:
            os.read(self._fifo, 65536)

    def close(self) -> None:
        """Let go of the FIFO."""
        os.close(self._fifo)


def program(word: str, directory: str) -> list[str]:
    """Return the command of a program that says its word first, and ends at once on SIGTERM."""
    return ["/bin/sh", "-c", f"echo {word} > {directory}/marks; trap 'exit 0' TERM; sleep 100000 & wait"]
