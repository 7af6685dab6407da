"""Reads one container instance's log from its file, follows it, and goes on over rotations without losing a line.

A rotated file keeps its content under a new name and is compressed later; names are in the order of time. So what was
rotated since the live file was opened is known by name: the first of these is the file that was open, and is read from
its descriptor whatever it is called now.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
from typing import Final

from minikubelet.sandbox.logs import rotated_files
from minikubelet.server.log_format import tail_start

_CHUNK: Final = 64 * 1024


class LogFile:
    """A place in a log. `read` gives whole lines up to the end as it is now; call it again for what came since."""

    def __init__(self, path: str, *, tail: int | None = None) -> None:
        """Open the live file, at its beginning or some lines before its end. Raises OSError."""
        self._path = path
        self._known: set[str] = set()
        self._queue: list[str] = []  # what comes after the open file; empty when that is the live one
        self._rest = b""
        self._file: io.RawIOBase | gzip.GzipFile = self._open_live(first=True)
        if tail is not None and isinstance(self._file, io.FileIO):
            descriptor = self._file.fileno()
            self._file.seek(tail_start(descriptor, os.fstat(descriptor).st_size, tail))

    def read(self) -> bytes:
        """Return the next whole lines, b"" when there are none for now. Raises OSError."""
        while True:
            data = self._file.read(_CHUNK)
            if not data:
                if not self._queue and not self._is_rotated_away():
                    return b""
                # Nothing is written to a file that was renamed, but something may have been just before.
                data = self._file.read(_CHUNK)
                if not data:
                    if not self._advance():
                        return b""
                    continue
            end = data.rfind(b"\n") + 1
            if end:
                lines, self._rest = self._rest + data[:end], data[end:]
                return lines
            self._rest += data

    def rest(self) -> bytes:
        """Return the beginning of a line that is not finished."""
        return self._rest

    def close(self) -> None:
        """Close what is open."""
        self._file.close()

    def _is_rotated_away(self) -> bool:
        """Tell whether the open live file has been renamed; then line up what comes after it."""
        assert isinstance(self._file, io.FileIO)
        try:
            if os.stat(self._path).st_ino == os.fstat(self._file.fileno()).st_ino:
                return False
        except FileNotFoundError:
            return False  # between the rename and the new file, or the pod is gone
        self._queue = [*self._new()[1:], self._path]
        return True

    def _advance(self) -> bool:
        """Open the next file; False when it is not there yet."""
        following = self._queue.pop(0)
        try:
            opened = self._open_live() if following == self._path else _open(following)
        except FileNotFoundError:
            if not self._queue:
                self._queue = [self._path]
                return False
            return True  # that one was removed as too old
        self._file.close()
        self._file = opened
        return True

    def _open_live(self, *, first: bool = False) -> io.RawIOBase | gzip.GzipFile:
        """Open the live file, or the first of those that were rotated away before we came to it."""
        while True:
            new = self._new()
            if new and not first:
                self._queue = [*new[1:], self._path]
                return _open(new[0])
            opened = open(self._path, "rb", buffering=0)  # noqa: SIM115 - open until `close`
            new = self._new()
            if not new:
                return opened
            opened.close()
            if not first:
                self._queue = [*new[1:], self._path]
                return _open(new[0])

    def _new(self) -> list[str]:
        """Return the rotated files that were not there when last asked, the oldest first."""
        now: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            now = [one.removesuffix(".gz") for one in rotated_files(self._path)]
        new = [one for one in now if one not in self._known]
        self._known = set(now)
        return new


def _open(path: str) -> io.RawIOBase | gzip.GzipFile:
    """Open a rotated file, compressed or not. Raises FileNotFoundError."""
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        return gzip.open(path + ".gz", "rb")
