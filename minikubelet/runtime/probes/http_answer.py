"""Reads the answer to a GET: the common form by one pattern, every other by h11, which decides what is HTTP.

Most answers come whole in one or two pieces: a status, plain headers, one Content-Length. Those are read here at a
tenth of what a protocol machine costs; whatever has another form goes to h11 from its first byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import h11

BODY_LIMIT: Final = 10 * 1024

# As strict as h11: nothing that it refuses or reads differently may pass. Statuses that have no body do not.
_HEAD: Final = re.compile(
    rb"HTTP/1\.[01] (?!204|304)([2-5][0-9][0-9])(?: [\x20-\x7e]*)?\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*\r\n)*)\r\n"
)
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")


# How an answer is to be read hangs on the request's method alone.
_GET: Final = h11.Request(method="GET", target="/", headers=[("Host", "")])


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """Status, headers and the first `BODY_LIMIT` bytes of the body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """Return the first header of that (lower-case) name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


class AnswerReader:
    """Takes an answer piece by piece until it is whole, or longer than what is kept of it."""

    def __init__(self) -> None:
        """Create it for one answer."""
        self._machine: h11.Connection | None = None
        self._data = b""
        self._plain: _Head | None = None
        self._status = 0
        self._headers: tuple[tuple[bytes, bytes], ...] = ()
        self._body = bytearray()

    @property
    def has_head(self) -> bool:
        """Tell whether status and headers are there."""
        return self._plain is not None or self._status != 0

    def take(self, piece: bytes) -> HttpReply | None:
        """Take a piece, b"" for the end of the connection; return the answer once it is there.

        Raises:
            h11.RemoteProtocolError: It is not HTTP, or it ended too early.
        """
        if self._machine is not None:
            return self._take_by_machine(self._machine, piece)
        first = not self._data
        self._data += piece
        if first:
            self._plain = _read_head(self._data)
        if self._plain is not None and piece:
            if len(self._data) < self._plain.wanted:
                return None
            body = self._data[self._plain.size : self._plain.wanted][:BODY_LIMIT]
            return HttpReply(status=self._plain.status, headers=self._plain.headers, body=body)
        machine = self._machine = h11.Connection(our_role=h11.CLIENT)
        machine.send(_GET)
        machine.send(h11.EndOfMessage())
        if not piece and self._data:
            machine.receive_data(self._data)
            return self._events(machine) or self._take_by_machine(machine, b"")
        return self._take_by_machine(machine, self._data)

    def _take_by_machine(self, machine: h11.Connection, piece: bytes) -> HttpReply | None:
        machine.receive_data(piece)
        return self._events(machine)

    def _events(self, machine: h11.Connection) -> HttpReply | None:
        while (event := machine.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                self._status, self._headers = event.status_code, tuple(event.headers)
            elif isinstance(event, h11.Data):
                self._body += event.data
            whole = isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or len(self._body) > BODY_LIMIT
            if self._status and whole:
                return HttpReply(status=self._status, headers=self._headers, body=bytes(self._body[:BODY_LIMIT]))
            if isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("server closed the connection without sending an answer")
        return None


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before the body; `wanted` is how many bytes of the whole answer are to be had."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    size: int
    wanted: int


def _read_head(data: bytes) -> _Head | None:
    """Return the head of an answer of the common form, or None."""
    found = _HEAD.match(data)
    if found is None:
        return None
    pairs = (line.partition(b":") for line in found[2].split(b"\r\n")[:-1])
    headers = tuple((name.lower(), value.strip(b" \t")) for name, _, value in pairs)
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]) or any(n == b"transfer-encoding" for n, _ in headers):
        return None
    size = found.end()
    return _Head(int(found[1]), headers, size, size + min(int(lengths[0]), BODY_LIMIT))
