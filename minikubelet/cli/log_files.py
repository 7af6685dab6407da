"""Reads the log files of containers: whole logs with their rotated parts, the last lines, and what is being written.

Each line of a file is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; P marks a part of a line that is longer than the
format allows. Files are `<restart count>.log`, rotated ones `<restart count>.log.<time>` and the same with `.gz`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

Json = dict[str, Any]

_BLOCK: Final = 1 << 16
# A line without end is printed in pieces of this size.
_LONGEST: Final = 1 << 20
# What one turn reads of a file that is followed.
_TURN: Final = 1 << 20


class LogLine(NamedTuple):
    """One line that a container printed; `whole` is False for a piece of an endless one."""

    stamp: bytes
    stream: bytes
    text: bytes
    whole: bool = True


def container_directory(log_dir: str, pod: Json, container: str) -> str:
    """Return where a container's log files lie."""
    return os.path.join(pod_directory(log_dir, pod), container)


def pod_directory(log_dir: str, pod: Json) -> str:
    """Return where the log files of a pod lie."""
    meta = pod["metadata"]
    return os.path.join(log_dir, "pods", f"{meta['namespace']}_{meta['name']}_{meta['uid']}")


def restart_counts(directory: str) -> list[int]:
    """Return the restart counts that there are logs of, in order."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(int(one[:-4]) for one in names if one.endswith(".log") and one[:-4].isdigit())


def parts(path: str) -> list[str]:
    """Return a log's rotated files, the oldest first, and then the log itself."""
    directory, name = os.path.split(path)
    try:
        names = os.listdir(directory)
    except OSError:
        names = []
    rotated = [one for one in names if one.startswith(f"{name}.") and not one.endswith(".tmp")]
    packed = {one for one in rotated if one.endswith(".gz")}
    rotated = [one for one in rotated if f"{one}.gz" not in packed]  # packed, and not yet removed
    return [*(os.path.join(directory, one) for one in sorted(rotated, key=lambda one: one.removesuffix(".gz"))), path]


class Assembler:
    """Joins the parts of long lines, for each stream apart."""

    def __init__(self) -> None:
        self._rest: dict[bytes, tuple[bytes, bytes]] = {}

    def feed(self, line: bytes) -> LogLine | None:
        """Return the line that this one completes, or None."""
        words = line.split(b" ", 3)
        if len(words) < 4 or words[1] not in (b"stdout", b"stderr"):
            return None
        stamp, stream, tag, text = words
        if stream in self._rest:
            stamp, before = self._rest.pop(stream)
            text = before + text
        if tag.startswith(b"P"):
            if len(text) < _LONGEST:
                self._rest[stream] = (stamp, text)
                return None
            return LogLine(stamp, stream, text, whole=False)
        return LogLine(stamp, stream, text)

    def rest(self) -> Iterator[LogLine]:
        """Yield what each stream ends with when its last line has no end, as a program's last words often have none."""
        rest, self._rest = self._rest, {}
        for stream, (stamp, text) in sorted(rest.items(), key=lambda one: one[1][0]):
            yield LogLine(stamp, stream, text, whole=False)


def read_log(path: str, *, tail: int = -1) -> Iterator[LogLine]:
    """Yield the lines of a log with its rotated parts, or only its last ones. Raises FileNotFoundError."""
    assembler = Assembler()
    if tail < 0:
        for part in parts(path):
            for line in _lines(part):
                if (found := assembler.feed(line)) is not None:
                    yield found
        yield from assembler.rest()
        return
    kept: list[LogLine] = []
    for part in reversed(parts(path)):
        if tail <= len(kept):
            break
        kept = [*_last_lines(part, tail - len(kept), ends=part == path), *kept]
    yield from kept


def _lines(path: str) -> Iterator[bytes]:
    if path.endswith(".gz"):
        import gzip

        with gzip.open(path, "rb") as packed:
            yield from (line.rstrip(b"\n") for line in packed)
        return
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def _last_lines(path: str, wanted: int, *, ends: bool) -> list[LogLine]:
    """Return the last lines of one file, read from its end as far as is needed; `ends` is False for a rotated part."""
    if path.endswith(".gz"):
        return list(deque(read_pieces(_lines(path), ends=ends), maxlen=wanted))
    with open(path, "rb") as file:
        position = os.fstat(file.fileno()).st_size
        data = b""
        while position > 0:
            step = min(max(_BLOCK, len(data)), position)
            position -= step
            file.seek(position)
            data = file.read(step) + data
            # One line more than wanted, so that the first one is surely whole.
            if data.count(b" F ") > wanted + 1 and len(list(read_pieces(_whole(data, position)))) > wanted:
                break
    return list(read_pieces(_whole(data, position), ends=ends))[-wanted:] if wanted else []


def _whole(data: bytes, position: int) -> list[bytes]:
    lines = data.split(b"\n")[:-1]
    return lines[1:] if position > 0 else lines


def read_pieces(lines: Iterator[bytes] | list[bytes], *, ends: bool = True) -> Iterator[LogLine]:
    """Yield the lines that raw lines make, with what is left of them if they `end` here."""
    assembler = Assembler()
    for line in lines:
        if (found := assembler.feed(line)) is not None:
            yield found
    if ends:
        yield from assembler.rest()


class Follower:
    """Follows one container over rotations and restarts; never waits."""

    def __init__(self, directory: str, count: int, *, at_end: bool) -> None:
        """Create it.

        Args:
            directory: Of the container's logs.
            count: The restart count to begin with.
            at_end: Begin behind what is there already.
        """
        self._directory = directory
        self._count = count
        self._file: Any = None
        self._rest = b""
        self._assembler = Assembler()
        self._last_words: list[LogLine] = []  # of an instance that is over
        self._at_end = at_end
        self._drained = False
        self._left = 1
        self._queue: list[str] = []

    def pump(self, most: int = _TURN) -> Iterator[LogLine]:
        """Yield what was written since the last call, to be read to its end.

        Args:
            most: So many bytes, more or less; if there is more than that, `behind` is true afterwards. A program may
                write faster than it is read, and others want their turn.
        """
        self._left = most
        while True:
            yield from self._read()
            if self.behind:
                return
            goes_on = self._go_on()
            yield from self._last_words
            self._last_words = []
            if not goes_on:
                return

    def rest(self) -> Iterator[LogLine]:
        """Yield the last words of a container that has ended."""
        yield from self._assembler.rest()

    def history(self, *, rotated: bool = True) -> Iterator[LogLine]:
        """Yield what is there when this begins, perhaps with the rotated parts; the rest is for `pump`."""
        path = self._path()
        for part in parts(path)[:-1] if rotated else ():
            for line in _lines(part):
                if (found := self._assembler.feed(line)) is not None:
                    yield found
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return
        yield from self.pump(max(size, _BLOCK))

    def _read(self) -> Iterator[LogLine]:
        if self._file is None and not self._open():
            return
        while chunk := self._file.read(_BLOCK) if self._left > 0 else b"":
            self._left -= len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            for line in whole:
                if (found := self._assembler.feed(line)) is not None:
                    yield found

    @property
    def behind(self) -> bool:
        """Tell whether the last pump stopped before it had read all."""
        return self._left <= 0

    def _path(self) -> str:
        return os.path.join(self._directory, f"{self._count}.log")

    def _open(self) -> bool:
        path = self._queue.pop(0) if self._queue else self._path()
        try:
            self._file = open(path, "rb")  # noqa: SIM115  # kept open between calls
        except FileNotFoundError:
            return False
        if self._at_end:
            self._file.seek(0, os.SEEK_END)
        self._at_end = False
        return True

    def _go_on(self) -> bool:
        """Turn to the next file if this one is read for good; True when there may be more to read."""
        if self._file is None:
            later = self._later()
            if later:
                self._count = later[0]
            return bool(later)
        following = self._following()
        if following is None:
            return False
        if not self._drained:
            self._drained = True  # nobody writes it any more, but its last words may have come meanwhile
            return True
        self._close()
        self._queue = following
        if not following:
            self._last_words = list(self._assembler.rest())
            self._count = self._later()[0]
        return True

    def _later(self) -> list[int]:
        return [one for one in restart_counts(self._directory) if one > self._count]

    def _following(self) -> list[str] | None:
        """Return what is to be read after this file: paths of this log, nothing for the next one, None for wait."""
        if self._queue:
            return self._queue
        inode = os.fstat(self._file.fileno()).st_ino
        files = [one for one in parts(self._path()) if not one.endswith(".gz")]
        inodes = [_inode(one) for one in files]
        if inodes[-1] == inode or inodes[-1] == 0:
            return [] if self._later() else None
        return files[inodes.index(inode) + 1 :] if inode in inodes else files[-1:]

    def _close(self) -> None:
        self._file.close()
        self._file, self._drained = None, False
        if not self._queue:
            self._rest = b""


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0
