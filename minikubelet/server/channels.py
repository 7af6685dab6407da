"""Several streams over one WebSocket: every message begins with the number of its channel.

0 is stdin, 1 stdout, 2 stderr, 3 the final status, 4 the terminal's size. Version 5 adds the message FF n, by which the
client ends channel n; before version 4 channel 3 carries plain text. In the base64 forms the number is a digit and the
rest base64 text.
Source: apimachinery pkg/util/remotecommand/constants.go, apiserver pkg/util/wsstream (v1.36).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import WSMsgType, web

from minikubelet.server.errors import ApiError

Json = dict[str, Any]

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
RESIZE: Final = 4
_CLOSE: Final = 255

MAX_MESSAGE: Final = 1024 * 1024

COMMAND_PROTOCOLS: Final = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "v5.base64.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
)


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sent on one channel; `end` says that nothing more comes on it."""

    channel: int
    data: bytes = b""
    end: bool = False


class Channels:
    """One WebSocket that carries channels."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        """Args: socket: Prepared, so that its sub-protocol is known."""
        self._socket = socket
        protocol = socket.ws_protocol or ""
        self._is_text = "base64" in protocol
        self._ends_channels = protocol.startswith("v5.")
        self._status_is_json = protocol.startswith(("v4.", "v5."))

    @property
    def response(self) -> web.WebSocketResponse:
        """Return the answer to the request that opened it."""
        return self._socket

    async def send(self, channel: int, data: bytes) -> None:
        """Send a piece, waiting for a slow reader. Raises ConnectionResetError when there is nobody."""
        if self._is_text:
            await self._socket.send_str(chr(48 + channel) + base64.b64encode(data).decode())
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def receive(self) -> Message | None:
        """Return the next message, None when the client has gone. Unintelligible ones are passed over."""
        while True:
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.BINARY:
                    found = self._decode(message.data)
                case WSMsgType.TEXT:
                    found = self._decode_text(message.data)
                case _:
                    return None
            if found is not None:
                return found

    def _decode(self, data: bytes) -> Message | None:
        if not data:
            return None
        if data[0] == _CLOSE and self._ends_channels:
            return Message(data[1], end=True) if len(data) == 2 else None
        return Message(data[0], bytes(data[1:]))

    def _decode_text(self, text: str) -> Message | None:
        if not self._is_text:
            return self._decode(text.encode())
        if not text or not "0" <= text[0] <= "9":
            return None
        try:
            return Message(ord(text[0]) - 48, base64.b64decode(text[1:], validate=True))
        except (binascii.Error, ValueError):
            return None

    async def finish(self, status: Json) -> None:
        """Send how it ended and close; a client that has gone meanwhile is no error."""
        try:
            if self._status_is_json:
                await self.send(ERROR, json.dumps(status).encode())
            elif status["status"] != "Success":
                await self.send(ERROR, status["message"].encode())
            await self._socket.close()
        except ConnectionError:
            return


async def open_web_socket(request: web.Request, protocols: tuple[str, ...]) -> web.WebSocketResponse:
    """Answer the upgrade of a request, with one of the protocols.

    Raises:
        ApiError: It is no WebSocket upgrade, or no protocol is common to both.
    """
    upgrade = request.headers.get("Upgrade", "").lower()
    if "spdy" in upgrade:
        text = "SPDY/3.1 is not spoken here: use WebSocket, as kubectl 1.31 and later do"
        raise ApiError(400, f"unable to upgrade connection: {text}")
    if upgrade != "websocket":
        raise ApiError(400, "unable to upgrade: missing upgrade headers in request: Upgrade: websocket")
    offered = [one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if one.strip()]
    if offered and not set(offered) & set(protocols):
        text = f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts {protocols}"
        raise ApiError(403, text)
    socket = web.WebSocketResponse(protocols=protocols, compress=False, max_msg_size=MAX_MESSAGE, timeout=5.0)
    await socket.prepare(request)
    return socket
