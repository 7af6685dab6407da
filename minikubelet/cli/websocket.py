"""A WebSocket client over the daemon's Unix socket: as much of RFC 6455 as talking to that one server takes.

Our own, as the libraries' import costs more than a whole `exec`, and as the masking that the RFC asks of clients guards
caches and proxies that are not between us and our daemon: with the mask zero a copied file is not touched byte by byte.
Sending never blocks: what the daemon does not take yet waits in `unsent`, so two full pipes cannot hold each other up.
"""

from __future__ import annotations

import argparse
import base64
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from minikubelet.cli import client
from minikubelet.cli.main import CommandFailed

_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_NO_MASK: Final = b"\0\0\0\0"
_READ: Final = 1 << 18
_PATIENCE_S: Final = 30.0


class WebSocket:
    """An open connection. `select` it by `fileno`; after every wake-up call `receive` and `flush`."""

    def __init__(
        self, options: argparse.Namespace, path: str, query: Sequence[tuple[str, str]], protocols: Sequence[str]
    ) -> None:
        """Connect. Raises DaemonDown, ServerError or CommandFailed."""
        self._socket = client.connect(client.socket_path(options))
        self._socket.settimeout(_PATIENCE_S)
        self._received = bytearray()
        self._message = bytearray()
        self.unsent = bytearray()
        self.closed = False
        try:
            self._shake_hands(path, query, protocols)
        except TimeoutError as error:
            raise CommandFailed(
                "the daemon gave no answer; see whether it is well with 'minikubelet status'"
            ) from error
        self._socket.setblocking(False)

    def _shake_hands(self, path: str, query: Sequence[tuple[str, str]], protocols: Sequence[str]) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path}?{client.query_text(query)} HTTP/1.1",
            "Host: minikubelet",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            f"Sec-WebSocket-Protocol: {', '.join(protocols)}",
        ]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if not self._read_more():
                raise CommandFailed("the daemon closed the connection; see its log")
        head = self._received[:end].decode("latin-1")
        del self._received[: end + 4]
        status, _, reason = head.split("\r\n", 1)[0].partition(" ")[2].partition(" ")
        if status != "101":
            raise client.error_of(int(status), reason, self._body(head))

    def _read_more(self) -> bool:
        data = self._socket.recv(_READ)
        self._received += data
        return bool(data)

    def _body(self, head: str) -> bytes:
        length = next(
            (int(one.split(":")[1]) for one in head.lower().split("\r\n") if one.startswith("content-length:")), 0
        )
        while len(self._received) < length and self._read_more():
            pass
        return bytes(self._received[:length])

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send one binary message, now or when the daemon takes it."""
        self._send_frame(_BINARY, data)

    def _send_frame(self, kind: int, data: bytes) -> None:
        length = len(data)
        if length < 126:
            head = struct.pack("!BB", _FINAL | kind, _MASKED | length)
        elif length < 65536:
            head = struct.pack("!BBH", _FINAL | kind, _MASKED | 126, length)
        else:
            head = struct.pack("!BBQ", _FINAL | kind, _MASKED | 127, length)
        self.unsent += head + _NO_MASK + data
        self.flush()

    def flush(self) -> None:
        """Send of what waits as much as goes."""
        try:
            while self.unsent:
                with memoryview(self.unsent) as view:
                    sent = self._socket.send(view[:_READ])
                del self.unsent[:sent]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.closed = True
            self.unsent.clear()

    def receive(self) -> Iterator[bytes]:
        """Yield the messages that are there; `closed` is set behind the last one.

        Reads once only: a flood of output must not keep anybody from sending.
        """
        try:
            self.closed = not self._read_more() or self.closed
        except BlockingIOError:
            pass
        except ConnectionError:
            self.closed = True
        yield from self._messages()

    def _messages(self) -> Iterator[bytes]:
        while (frame := self._take_frame()) is not None:
            first, data = frame
            kind = first & 0x0F
            if kind == _CLOSE:
                self.closed = True
                return
            if kind == _PING:
                self._send_frame(_PONG, data)
            elif kind in (0, _TEXT, _BINARY):
                self._message += data
                if first & _FINAL:
                    whole = bytes(self._message)
                    self._message.clear()
                    yield whole

    def _take_frame(self) -> tuple[int, bytes] | None:
        data = self._received
        if len(data) < 2:
            return None
        length, start = data[1] & 0x7F, 2
        if length == 126:
            start = 4
            length = struct.unpack_from("!H", data, 2)[0] if len(data) >= start else 0
        elif length == 127:
            start = 10
            length = struct.unpack_from("!Q", data, 2)[0] if len(data) >= start else 0
        if len(data) < start + length:
            return None
        frame = data[0], bytes(data[start : start + length])
        del data[: start + length]
        return frame

    def close(self) -> None:
        """Say good-bye, if it can be said at once, and close."""
        if not self.closed:
            self._send_frame(_CLOSE, struct.pack("!H", 1000))
            if self.unsent:
                select.select([], [self._socket], [], 0.2)
                self.flush()
        self._socket.close()

    @property
    def socket(self) -> socket.socket:
        """Return the socket itself."""
        return self._socket
