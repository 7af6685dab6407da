"""Writes what containers print, as the container runtime interface's log format has it, and rotates the files.

A line is `<RFC 3339 with nanoseconds> stdout|stderr F|P <text>`; P marks a piece of a longer line. All lines of one
read get one time stamp, and whole blocks are prefixed at once: that is what makes a million lines a second possible
here. A full disk must not stop the program that prints: lines are then dropped and counted, and the count is written
when there is room again.
"""

from __future__ import annotations

import os
import time

from minikubelet.linux.faults import point
from minikubelet.linux.lean import Final, suppress

MAX_LINE: Final = 16384
READ_SIZE: Final = 256 * 1024
_MODE: Final = 0o640  # what programs print is not for everybody


def timestamp(nanoseconds: int) -> bytes:
    """Return the local time in RFC 3339 with nine digits of the second."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{rest:09d}{offset}".encode()


class LogFile:
    """One container instance's log: appended to, rotated by size, bounded in number."""

    __slots__ = (
        "_checked",
        "_descriptor",
        "_dropped",
        "_max_size",
        "_rotated_at",
        "_rotations",
        "_size",
        "max_files",
        "path",
        "trouble",
    )

    def __init__(self, path: str, *, max_size: int, max_files: int) -> None:
        """Open for appending, making the directory. Raises OSError."""
        self.path = path
        self.max_files = max(2, max_files)
        self._max_size = max_size
        self._descriptor = -1
        self._size = 0
        self._dropped = 0
        self.trouble = ""  # why lines are being lost; "" when none are
        self._checked = 0.0
        self._rotated_at = ""
        self._rotations = 0
        self._open()

    def _open(self) -> None:
        point("log.open")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self.path, flags, _MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            self._descriptor = os.open(self.path, flags, _MODE)
        self._size = os.lseek(self._descriptor, 0, os.SEEK_END)

    def write(self, data: bytes) -> bool:
        """Append whole lines; return whether a file was rotated away, so that it can be compressed.

        A full file is rotated when there is more to write, not before: a program's last lines stay in the file that
        `logs` reads.
        """
        try:
            self._ensure_there()
            rotated = self._size >= self._max_size and self._rotate()
        except OSError as error:
            self._drop(data.count(b"\n"), error)
            return False
        if self._dropped:
            note = b"%s stderr F minikubelet: %d lines lost: no space for the log\n"
            if self._append(note % (timestamp(time.time_ns()), self._dropped)) == 0:
                self._dropped = 0
                self.trouble = ""
        self._dropped += self._append(data)
        return rotated

    def _drop(self, lines: int, error: OSError) -> None:
        self._dropped += lines
        self.trouble = f"lines are lost, {self.path}: {error.strerror}"

    def _append(self, data: bytes) -> int:
        """Write lines; return how many of them had no room. What is written are whole lines only."""
        view = memoryview(data)
        written = 0
        try:
            point("log.write")
            while written < len(data):
                written += os.write(self._descriptor, view[written:])
        except OSError as error:
            self._drop(0, error)
            kept = data.rfind(b"\n", 0, written) + 1
            if written > kept:
                # The beginning of a line would swallow the line that is written next.
                with suppress(OSError):
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - (written - kept))
            self._size += kept
            return data.count(b"\n", kept)
        self._size += written
        return 0

    def _ensure_there(self) -> None:
        """Open anew when somebody deleted or replaced the file; looked at once a second."""
        now = time.monotonic()
        if self._descriptor >= 0 and now - self._checked < 1.0:
            return
        self._checked = now
        with suppress(FileNotFoundError):
            if self._descriptor >= 0 and os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor)):
                return
        self._close_file()
        self._open()

    def _rotate(self) -> bool:
        """Rename the file as the kubelet does (`<name>.<time>`) and begin a new one. Raises OSError if that fails."""
        try:
            self._size = os.fstat(self._descriptor).st_size
            if self._size < self._max_size:
                return False  # somebody emptied it
            point("log.rotate")
            os.rename(self.path, self._rotated_name())
        except OSError:
            return False
        self._close_file()
        with suppress(OSError):
            for old in rotated_files(self.path)[: -(self.max_files - 1)]:
                os.unlink(old)
        self._open()  # the next write tries again
        return True

    def _rotated_name(self) -> str:
        """Return a new name, later in order than all before: rotations of one second are told apart by a number."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self._rotations = self._rotations + 1 if stamp == self._rotated_at else 0
        self._rotated_at = stamp
        return f"{self.path}.{stamp}" + (f".{self._rotations:03d}" if self._rotations else "")

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Close the file; what was lost and could not be told yet is told if there is room now."""
        if self._dropped:
            self.write(b"")
        self._close_file()


def rotated_files(path: str) -> list[str]:
    """Return the rotated files of a log, compressed or not, the oldest first."""
    directory, name = os.path.split(path)
    names = set(os.listdir(directory))
    found = (
        one for one in names if one.startswith(name + ".") and not one.endswith(".tmp") and one + ".gz" not in names
    )
    return [os.path.join(directory, one) for one in sorted(found, key=lambda one: one.removesuffix(".gz"))]


def compress_rotated(path: str) -> None:
    """Compress all rotated files of a log but the newest; takes long, so it runs in a process of its own.

    The files may be removed meanwhile, because newer ones took their place. Raises OSError.
    """
    import gzip
    import shutil

    directory, name = os.path.split(path)
    names = set(os.listdir(directory))
    for one in names:
        if one.startswith(name + ".") and (one.endswith(".tmp") or one + ".gz" in names):
            os.unlink(os.path.join(directory, one))  # of a compression that was killed
    for source in rotated_files(path)[:-1]:
        if source.endswith(".gz"):
            continue
        beside = source + ".tmp"
        try:
            point("log.compress")
            with (
                open(source, "rb") as plain,
                open(beside, "wb", opener=_private) as file,
                gzip.open(file, "wb", compresslevel=6) as packed,
            ):
                shutil.copyfileobj(plain, packed)
            os.rename(beside, source + ".gz")
            os.unlink(source)
        except FileNotFoundError:
            continue
        except OSError:
            os.unlink(beside)
            raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)


class LineStream:
    """Cuts one stream into log lines; holds back the beginning of a line that is not finished."""

    __slots__ = (
        "_name",
        "_rest",
        "name",
    )

    def __init__(self, name: str) -> None:
        """Args: name: `stdout` or `stderr`."""
        self.name = name
        self._name = name.encode()
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the finished lines of the new data, formatted. Of an endless line, less than 16 KiB is held back."""
        block = self._rest + data if self._rest else data
        end = block.rfind(b"\n") + 1
        self._rest = block[end:]
        stamp = timestamp(time.time_ns())
        output = self._format(block[:end], stamp) if end else b""
        if len(self._rest) < MAX_LINE:
            return output
        cut = len(self._rest) - len(self._rest) % MAX_LINE
        part = stamp + b" " + self._name + b" P "
        pieces = [part + self._rest[at : at + MAX_LINE] + b"\n" for at in range(0, cut, MAX_LINE)]
        self._rest = self._rest[cut:]
        return output + b"".join(pieces)

    def _format(self, whole: bytes, stamp: bytes) -> bytes:
        """Prefix whole lines."""
        full = stamp + b" " + self._name + b" F "
        # A single byte is found many times faster than two, and few programs print carriage returns.
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n")
        if has_long_line(whole):
            return self._cut_long(whole, stamp)
        return b"".join((full, whole[:-1].replace(b"\n", b"\n" + full), b"\n"))

    def _cut_long(self, whole: bytes, stamp: bytes) -> bytes:
        full, part = stamp + b" " + self._name + b" F ", stamp + b" " + self._name + b" P "
        pieces: list[bytes] = []
        for line in whole[:-1].split(b"\n"):
            last = max(0, len(line) - 1) // MAX_LINE * MAX_LINE
            pieces.extend(part + line[at : at + MAX_LINE] for at in range(0, last, MAX_LINE))
            pieces.append(full + line[last:])
        return b"\n".join(pieces) + b"\n"

    def finish(self) -> bytes:
        """Return what is left at the end of the stream, as a piece without its line end."""
        if not self._rest:
            return b""
        line = timestamp(time.time_ns()) + b" " + self._name + b" P " + self._rest + b"\n"
        self._rest = b""
        return line


def has_long_line(whole: bytes) -> bool:
    """Tell whether any line of whole lines is over the limit, in hops of the limit instead of line by line."""
    at, end = 0, len(whole)
    while end - at > MAX_LINE:
        newline = whole.rfind(b"\n", at, at + MAX_LINE + 1)
        if newline < 0:
            return True
        at = newline + 1
    return False
