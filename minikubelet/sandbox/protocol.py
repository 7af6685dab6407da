"""How the daemon and the long-lived processes talk: length-prefixed JSON over a stream socket, descriptors beside it.

A request carries an `id` and is answered by one message with the same number under `re`, holding either a result or an
`error`. Messages with `event` come unasked. Both sides open with `hello`, which names the protocol version; a newer
daemon keeps to what an older pause understands.
"""

from __future__ import annotations

import _socket as socket
import os
import struct
import sys

from minikubelet.linux.lean import Any, Final
from minikubelet.sandbox.wire import dumps, loads

VERSION: Final = 2  # since 2: attach, cancel, terminals made in the container
MAX_MESSAGE: Final = 16 * 1024 * 1024
_MAX_DESCRIPTORS: Final = 8
# Below what malloc maps anew for each read.
_READ_SIZE: Final = 64 * 1024
_SEND_SIZE: Final = 256 * 1024
_ORDER: Final[Any] = sys.intern(sys.byteorder)  # the same object as the literal, which is used anyway
_RIGHTS_SPACE: Final = socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4)
_ONE_RIGHT: Final = socket.CMSG_LEN(4)

Message = dict[str, Any]


class ProtocolError(Exception):
    """The peer does not speak this protocol; the connection is of no use any more."""


def encode(message: Message) -> bytes:
    """Return a message as it goes over the wire."""
    body = to_line(message)
    return len(body).to_bytes(4, "little") + body


def to_line(message: Message) -> bytes:
    """Return a message as JSON without white space or line end."""
    return dumps(message).encode()


def from_line(line: bytes | bytearray) -> Message:
    """Return the object that a line of JSON is. Raises ValueError."""
    found = loads(line.decode())
    if not isinstance(found, dict):
        raise ValueError("not one JSON object")
    return found


def send(connection: socket.SocketType, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message on a blocking socket, descriptors with its first byte."""
    data = encode(message)
    sent = 0
    if descriptors:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
        sent = connection.sendmsg([data], rights)
    connection.sendall(data[sent:])


def send_descriptor(connection: socket.SocketType, descriptor: int) -> None:
    """Send a descriptor with one byte. Raises OSError."""
    connection.sendmsg([b"d"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))])


def receive_descriptor(connection: socket.SocketType, flags: int = 0) -> int:
    """Return a descriptor that comes with one byte, -1 when none does. Raises OSError."""
    _, control, _, _ = connection.recvmsg(1, _ONE_RIGHT, flags | socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(payload) == 4:
            return int.from_bytes(payload, _ORDER)
    return -1


class Outbox:
    """Messages on their way into a non-blocking socket, descriptors with their message's first byte."""

    __slots__ = (
        "_bytes",
        "_rights",
    )

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._rights: list[tuple[int, list[int]]] = []  # where in the bytes they go

    def __len__(self) -> int:
        return len(self._bytes)

    def put(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Queue a message. Descriptors are duplicated, so they stay the caller's. Raises OSError for want of some."""
        data = encode(message)
        if descriptors:
            own: list[int] = []
            self._rights.append((len(self._bytes), own))
            try:
                for one in descriptors:
                    own.append(os.dup(one))
            except OSError:
                self._rights.pop()
                _close_all(own)
                raise
        self._bytes += data

    def send(self, connection: socket.SocketType) -> None:
        """Send what waits. Raises BlockingIOError when the socket takes no more for now, OSError when it is broken."""
        while self._bytes:
            # Never more than a socket takes: with a slow reader, all that waits would be copied for each piece.
            end = min(self._rights[0][0] if self._rights else len(self._bytes), _SEND_SIZE)
            if end:
                sent = connection.send(self._bytes[:end])
            else:
                own = self._rights[0][1]
                rights = bytearray()
                for one in own:
                    rights += one.to_bytes(4, _ORDER)
                sent = connection.sendmsg([self._bytes[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                del self._rights[0]  # not before: a full socket has taken nothing
                _close_all(own)
            del self._bytes[:sent]
            if self._rights:
                self._rights = [(at - sent, one) for at, one in self._rights]

    def close(self) -> None:
        """Give up what waits."""
        self._bytes.clear()
        for _, own in self._rights:
            _close_all(own)
        self._rights.clear()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


class Decoder:
    """Turns what a socket gives into messages; descriptors go to the message that they arrived with."""

    __slots__ = (
        "_buffer",
        "_descriptors",
    )

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._descriptors: list[int] = []

    def close(self) -> None:
        """Close descriptors that no message took: the connection is over."""
        _close_all(self._descriptors)

    def read(self, connection: socket.SocketType) -> list[tuple[Message, list[int]]] | None:
        """Read once from a non-blocking socket.

        Returns:
            The messages that are now complete, None at the end of the connection.

        Raises:
            ProtocolError: Garbage, or a message over the limit.
            BlockingIOError: Nothing to read.
        """
        # The kernel ends a read behind the piece that brings descriptors, and they come with a message's first byte:
        # they are of the last message that begins in this read, be it complete or not.
        received: list[int] = []
        data, control, _, _ = connection.recvmsg(_READ_SIZE, _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.extend(struct.unpack_from(f"{len(payload) // 4}i", payload))
        if not data:
            return None
        messages: list[tuple[Message, list[int]]] = []
        try:
            if self._buffer:
                self._buffer += data
                del self._buffer[: self._take_messages(self._buffer, messages)]
            else:  # whole messages mostly: these need no buffer
                self._buffer += data[self._take_messages(data, messages) :]
        finally:
            target = messages[-1][1] if messages and not self._buffer else self._descriptors
            target.extend(received)
        return messages

    def _take_messages(self, block: bytes | bytearray, messages: list[tuple[Message, list[int]]]) -> int:
        """Take the messages that are complete; return where they end."""
        at = 0
        while len(block) - at >= 4:
            length = int.from_bytes(block[at : at + 4], "little")
            if length > MAX_MESSAGE:
                raise ProtocolError(f"message of {length} bytes is over the limit of {MAX_MESSAGE}")
            if len(block) - at < 4 + length:
                break
            body = block[at + 4 : at + 4 + length]
            at += 4 + length
            try:
                message = from_line(body)
            except (ValueError, RecursionError) as error:
                raise ProtocolError(f"not a JSON object: {bytes(body[:40])!r}") from error
            messages.append((message, self._descriptors))
            self._descriptors = []
        return at
