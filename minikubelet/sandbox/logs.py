"""Writes what containers print, as the container runtime interface's log format has it, and rotates the files.

A line is `<RFC 3339 with nanoseconds> stdout|stderr F|P <text>`; P marks a piece of a longer line. All lines of one
read get one time stamp, and whole blocks are prefixed at once: that is what makes a million lines a second possible
here. A full disk must not stop the program that prints: lines are then dropped and counted, and the count is written
when there is room again.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import Final

MAX_LINE: Final = 16384
READ_SIZE: Final = 1024 * 1024
_LONG_LINE: Final = re.compile(rb"[^\n]{16385}")


def timestamp(nanoseconds: int) -> bytes:
    """Return the local time in RFC 3339 with nine digits of the second."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{rest:09d}{zone[:3]}:{zone[3:]}".encode()


class LogFile:
    """One container instance's log: appended to, rotated by size, bounded in number."""

    def __init__(self, path: str, *, max_size: int, max_files: int) -> None:
        """Open for appending, making the directory. Raises OSError."""
        self._path = path
        self._max_size = max_size
        self._max_files = max(2, max_files)
        self._descriptor = -1
        self._size = 0
        self._inode = 0
        self._dropped = 0
        self._checked = 0.0
        self._open()

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o640)
        found = os.fstat(self._descriptor)
        self._size, self._inode = found.st_size, found.st_ino

    def write(self, data: bytes, lines: int) -> str | None:
        """Append whole lines; return the path of a file that was rotated away, for compressing."""
        try:
            self._ensure_there()
            if self._dropped:
                note = b"%s stderr F minikubelet: %d lines lost: no space for the log\n"
                data = note % (timestamp(time.time_ns()), self._dropped) + data
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            self._dropped += lines
            return None
        self._dropped = 0
        self._size += len(data)
        return self._rotate() if self._size >= self._max_size else None

    def _ensure_there(self) -> None:
        """Open anew when somebody deleted or replaced the file; looked at once a second."""
        now = time.monotonic()
        if self._descriptor >= 0 and now - self._checked < 1.0:
            return
        self._checked = now
        with contextlib.suppress(FileNotFoundError):
            if self._descriptor >= 0 and os.lstat(self._path).st_ino == self._inode:
                return
        self.close()
        self._open()

    def _rotate(self) -> str | None:
        rotated = f"{self._path}.{time.strftime('%Y%m%d-%H%M%S')}"
        if os.path.exists(rotated) or os.path.exists(rotated + ".gz"):
            return None  # at most one rotation a second: names have no finer time
        try:
            os.rename(self._path, rotated)
            self.close()
            self._open()
        except OSError:
            return None
        return rotated

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def tidy_rotated(path: str, max_files: int) -> None:
    """Compress all rotated files but the newest and remove those over the limit; runs in a process of its own."""
    import gzip
    import shutil

    directory, name = os.path.split(path)
    rotated = sorted(entry for entry in os.listdir(directory) if entry.startswith(name + "."))
    finished = [entry for entry in rotated if not entry.endswith(".tmp")]
    for entry in finished[: max(0, len(finished) - (max_files - 1))]:
        os.unlink(os.path.join(directory, entry))
    for entry in finished[max(0, len(finished) - (max_files - 1)) : -1]:
        if entry.endswith(".gz"):
            continue
        source = os.path.join(directory, entry)
        with open(source, "rb") as plain, gzip.open(source + ".tmp", "wb", compresslevel=6) as packed:
            shutil.copyfileobj(plain, packed)
        os.rename(source + ".tmp", source + ".gz")
        os.unlink(source)


class LineStream:
    """Cuts one stream into log lines; holds back the beginning of a line that is not finished."""

    def __init__(self, name: str) -> None:
        """Args: name: `stdout` or `stderr`."""
        self._name = name.encode()
        self._rest = b""

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Return the finished lines of the new data, formatted, and how many there are."""
        block = self._rest + data if self._rest else data
        end = block.rfind(b"\n")
        whole, self._rest = block[: end + 1], block[end + 1 :]
        stamp = timestamp(time.time_ns())
        full = stamp + b" " + self._name + b" F "
        output, count = b"", 0
        if whole:
            if b"\r\n" in whole:
                whole = whole.replace(b"\r\n", b"\n")
            if len(whole) > MAX_LINE and _LONG_LINE.search(whole):
                output, count = self._cut_long(whole, stamp)
            else:
                count = whole.count(b"\n")
                output = full + whole[:-1].replace(b"\n", b"\n" + full) + b"\n"
        while len(self._rest) >= MAX_LINE:
            output += stamp + b" " + self._name + b" P " + self._rest[:MAX_LINE] + b"\n"
            self._rest = self._rest[MAX_LINE:]
            count += 1
        return output, count

    def _cut_long(self, whole: bytes, stamp: bytes) -> tuple[bytes, int]:
        full, part = stamp + b" " + self._name + b" F ", stamp + b" " + self._name + b" P "
        pieces: list[bytes] = []
        for line in whole[:-1].split(b"\n"):
            rest = line
            while len(rest) > MAX_LINE:
                pieces.append(part + rest[:MAX_LINE])
                rest = rest[MAX_LINE:]
            pieces.append(full + rest)
        return b"\n".join(pieces) + b"\n", len(pieces)

    def finish(self) -> tuple[bytes, int]:
        """Return what is left at the end of the stream, as a piece without its line end."""
        if not self._rest:
            return b"", 0
        line = timestamp(time.time_ns()) + b" " + self._name + b" P " + self._rest + b"\n"
        self._rest = b""
        return line, 1
