"""From a log file's lines to what `logs` prints. Pure.

Source: cri-client pkg/logs/logs.go (parseCRILog, logWriter) and cri-api's log format (v1.36): a line that cannot be
parsed is left out, pieces (P) are joined, the stamp stands once before a joined line, and the limit counts what is
printed, stamps included.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

_LINE: Final = re.compile(rb"([^ \n]+) (stdout|stderr) ([^ \n]+) ([^\n]*\n?)")
_WHOLE_OR_PIECE: Final = re.compile(
    rb"^\d{4}-\d\d-\d\dT[^ \n]+ (?:stdout|stderr) (?:P(?::[^ \n]*)? ([^\n]*)\n|(?!P[ :])[^ \n]+ ([^\n]*\n))",
    re.MULTILINE,
)
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_BLOCK: Final = 64 * 1024


class LineError(ValueError):
    """Not a line of the container runtime interface's log format."""


class Entry:
    """One line of a log file."""

    __slots__ = ("partial", "stamp", "stream", "text")

    def __init__(self, stamp: bytes, stream: bytes, text: bytes, *, partial: bool) -> None:
        self.stamp = stamp
        self.stream = stream
        self.text = text
        self.partial = partial


def parse_line(line: bytes) -> Entry:
    """Return a line's parts; the text keeps its line end unless it is a piece of a longer line.

    Raises:
        LineError: It is not such a line.
    """
    found = _LINE.fullmatch(line)
    if found is None or _STAMP.fullmatch(found[1]) is None:
        raise LineError(f"not a log line: {line[:80]!r}")
    partial = found[3].split(b":", 1)[0] == b"P"
    text = found[4].removesuffix(b"\n") if partial else found[4]
    return Entry(found[1], found[2], text, partial=partial)


class Stamps:
    """Reads time stamps as Unix nanoseconds; remembers the second, which most lines share with the line before."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], int] = {}

    def nanoseconds(self, stamp: bytes) -> int:
        """Return a stamp's time. Raises ValueError."""
        found = _STAMP.fullmatch(stamp)
        if found is None:
            raise LineError(f"not a time: {stamp!r}")
        key = (found[1], found[3])
        second = self._known.get(key)
        if second is None:
            self._known.clear()
            second = int(datetime.fromisoformat((found[1] + found[3]).decode()).timestamp())
            self._known[key] = second
        return second * 1_000_000_000 + int((found[2] or b"0").ljust(9, b"0"))


def shown_stamp(stamp: bytes) -> bytes:
    """Return a stamp with nine digits and UTC as `Z`, as it stands before printed lines."""
    found = _STAMP.fullmatch(stamp)
    if found is None:
        return stamp
    zone = b"Z" if found[3] == b"+00:00" else found[3]
    return found[1] + b"." + (found[2] or b"").ljust(9, b"0") + zone


class LogFormatter:
    """Turns blocks of whole lines into what is printed."""

    def __init__(
        self, *, since: int | None = None, timestamps: bool = False, limit: int | None = None, stream: str = ""
    ) -> None:
        """Begin a log.

        Args:
            since: Leave out what is older, Unix nanoseconds.
            timestamps: Put the stamp before each line.
            limit: Print at most so many bytes.
            stream: `stdout` or `stderr` alone, "" for both.
        """
        self._since = since
        self._timestamps = timestamps
        self._left = limit
        self._stream = stream.encode()
        self._stamps = Stamps()
        self._at_line_start = True

    @property
    def is_full(self) -> bool:
        """Tell whether the limit has been reached."""
        return self._left is not None and self._left <= 0

    def feed(self, block: bytes) -> bytes:
        """Return what is printed of further whole lines."""
        if self._since is None and not self._timestamps and not self._stream:
            return self._cut(b"".join(piece or whole for piece, whole in _WHOLE_OR_PIECE.findall(block)))
        return b"".join(self._lines(block.splitlines(keepends=True) if b"\r" not in block else _split(block)))

    def _lines(self, lines: Iterable[bytes]) -> Iterable[bytes]:
        for line in lines:
            if self.is_full:
                return
            try:
                entry = parse_line(line)
                seen = self._shows(entry)
            except ValueError:
                continue
            starts = self._at_line_start
            self._at_line_start = entry.text.endswith(b"\n") or not entry.text
            if seen:
                prefix = shown_stamp(entry.stamp) + b" " if self._timestamps and starts else b""
                yield self._cut(prefix + entry.text)

    def _shows(self, entry: Entry) -> bool:
        if self._since is not None and self._stamps.nanoseconds(entry.stamp) < self._since:
            return False
        return not self._stream or entry.stream == self._stream

    def _cut(self, text: bytes) -> bytes:
        if self._left is None:
            return text
        text = text[: self._left]
        self._left -= len(text)
        return text


def _split(block: bytes) -> list[bytes]:
    """Cut at line feeds only."""
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def tail_start(descriptor: int, size: int, lines: int) -> int:
    """Return where the last lines of a file begin, reading from its end only as far as needed."""
    if lines <= 0:
        return size
    end, wanted = size, lines + 1
    while end > 0:
        begin = max(0, end - _BLOCK)
        block = os.pread(descriptor, end - begin, begin)
        found = block.count(b"\n")
        if found >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rfind(b"\n", 0, at)
            return begin + at + 1
        wanted -= found
        end = begin
    return 0
