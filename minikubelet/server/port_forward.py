"""`portforward`: connections from a client to ports inside a pod's network namespace.

Two protocols. kubectl speaks SPDY inside a WebSocket, any number of connections, each a pair of streams (data and
error) of one request. Older clients name the ports in the query and get two channels for each: data and error.
Source: kubelet pkg/server/portforward/{httpstream,websocket,constants}.go (v1.36), containerd sandbox_portforward.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiohttp import WSMsgType, web

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.port import RuntimeFailure
from minikubelet.server.channels import Channels, open_web_socket
from minikubelet.server.context import Context
from minikubelet.server.errors import ApiError
from minikubelet.server.spdy import (
    TUNNEL,
    Codec,
    Frame,
    Kind,
    SpdyError,
    data_frame,
    ping_frame,
    reset_frame,
)

log = structlog.get_logger(__name__)

_CHANNELS: Final = (
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "portforward.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
)
_CHUNK: Final = 32 * 1024
_CONNECT_LIMIT_S: Final = 30.0
# How long a program that has said all may still be told something; a client waits for our end before it ends itself.
_LAST_WORDS_S: Final = 1.0
_MAX_STREAMS: Final = 512  # of one client
_MAX_PORTS: Final = 32
_MAX_WAITING: Final = 64  # pieces that wait for a slow program, of one connection
_LOCALHOSTS: Final = ((socket.AF_INET, "127.0.0.1", "tcp4"), (socket.AF_INET6, "::1", "tcp6"))

Sender = Callable[[bytes], Awaitable[None]]


class ForwardError(Exception):
    """The port cannot be reached; the text is for the client."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose ports are meant."""

    pauses: Pauses
    uid: PodUID
    netns: str

    async def connect(self, port: int) -> socket.socket:
        """Connect to a port of the pod's localhost, by IPv4 or else by IPv6. Raises ForwardError."""
        failures: list[str] = []
        for family, host, network in _LOCALHOSTS:
            try:
                return await self._connect(family, host, port)
            except RuntimeFailure as failure:
                raise ForwardError(f"error forwarding port {port} to pod {self.uid}, uid : {failure}") from failure
            except (OSError, TimeoutError) as error:
                cause = os.strerror(error.errno).lower() if error.errno else "i/o timeout"
                shown = f"[{host}]" if ":" in host else host
                failures.append(f"dial {network} {shown}:{port}: connect: {cause}")
        place = f'inside namespace "{self.netns}"'
        text = f"failed to connect to localhost:{port} {place}, IPv4: {failures[0]} IPv6 {failures[1]}"
        raise ForwardError(f"error forwarding port {port} to pod {self.uid}, uid : {text}")

    async def _connect(self, family: int, host: str, port: int) -> socket.socket:
        made = await self.pauses.open_socket(self.uid, family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.set_inheritable(False)
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                await asyncio.get_running_loop().sock_connect(made, (host, port))
        except BaseException:
            made.close()
            raise
        return made


class Connection:
    """One connection to a port: what comes from the client waits in a short queue until the program takes it."""

    def __init__(self, target: Target, port: int, send: Sender) -> None:
        """Create it without connecting.

        Args:
            target: The pod.
            port: Its port.
            send: Sends a piece to the client, waiting for a slow one; b"" is the end.
        """
        self._target = target
        self._port = port
        self._send = send
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)

    async def put(self, data: bytes) -> None:
        """Take a piece from the client, b"" for its end; waits while too much is waiting already."""
        await self._waiting.put(data)

    async def run(self) -> None:
        """Carry both directions until the program's has ended: a client may end its own long before.

        Raises:
            ForwardError: The port cannot be reached.
        """
        connection = await self._target.connect(self._port)
        incoming = asyncio.create_task(self._from_program(connection))
        outgoing = asyncio.create_task(self._to_program(connection))
        try:
            await asyncio.wait([incoming])
            await asyncio.wait([outgoing], timeout=_LAST_WORDS_S)
        finally:
            for task in (incoming, outgoing):
                task.cancel()
            await asyncio.gather(incoming, outgoing, return_exceptions=True)
            connection.close()

    async def _from_program(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(connection, _CHUNK):
                await self._send(data)
        finally:
            with contextlib.suppress(OSError):
                await self._send(b"")

    async def _to_program(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await self._waiting.get():
            await loop.sock_sendall(connection, data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)


class PortForward:
    """Serves port-forward of all pods."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer with a tunnel or with channels."""
        pod = self._context.pod(request.match_info["namespace"], request.match_info["name"])
        uid = PodUID(pod["metadata"]["uid"])
        if self._context.pauses.netns(uid) < 0:
            phase = pod.get("status", {}).get("phase", "Unknown")
            raise ApiError(
                500, f"unable to upgrade connection: unable to forward port: pod is not running, it is {phase}"
            )
        target = Target(self._context.pauses, uid, f"/proc/{self._context.pauses.pause_pid(uid)}/ns/net")
        ports = _ports(request.query.getall("ports", []))
        with self._context.streams.take():
            web_socket = await open_web_socket(request, _CHANNELS if ports else (TUNNEL,))
            try:
                if ports:
                    await _forward_channels(Channels(web_socket), target, ports)
                else:
                    await Tunnel(web_socket, target).run()
            finally:
                with contextlib.suppress(ConnectionError):
                    await web_socket.close()
            return web_socket


def _ports(texts: list[str]) -> list[int]:
    ports: list[int] = []
    for text in (one for part in texts for one in part.split(",")):
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise ApiError(400, f"unable to upgrade connection: invalid port {text!r}")
        ports.append(int(text))
    if len(ports) > _MAX_PORTS:
        raise ApiError(400, f"unable to upgrade connection: more than {_MAX_PORTS} ports")
    return ports


async def _forward_channels(client: Channels, target: Target, ports: list[int]) -> None:
    """Connect each port at once; channel 2n is the data of the nth, 2n+1 its errors."""
    connections: list[Connection] = []
    for number, port in enumerate(ports):
        announced = struct.pack("<H", port)
        await client.send(2 * number, announced)
        await client.send(2 * number + 1, announced)
        connections.append(Connection(target, port, _channel_sender(client, 2 * number)))

    async def run(number: int) -> None:
        try:
            await connections[number].run()
        except ForwardError as error:
            with contextlib.suppress(ConnectionError):
                await client.send(2 * number + 1, str(error).encode())

    async def listen() -> None:
        while (message := await client.receive()) is not None:
            number, is_error = divmod(message.channel, 2)
            if not is_error and number < len(connections) and (message.data or message.end):
                await connections[number].put(message.data)

    listener = asyncio.create_task(listen())
    runners: asyncio.Future[list[None]] = asyncio.gather(*(run(number) for number in range(len(ports))))
    both: list[asyncio.Future[Any]] = [listener, runners]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        listener.cancel()
        runners.cancel()
        await asyncio.gather(listener, runners, return_exceptions=True)


def _channel_sender(client: Channels, channel: int) -> Sender:
    async def send(data: bytes) -> None:
        if data:
            await client.send(channel, data)

    return send


class Tunnel:
    """SPDY inside a WebSocket."""

    def __init__(self, web_socket: web.WebSocketResponse, target: Target) -> None:
        self._socket = web_socket
        self._target = target
        self._codec = Codec()
        self._errors: dict[str, int] = {}  # request to its error stream
        self._connections: dict[int, Connection] = {}  # data stream to what it is connected to
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the client goes or breaks the protocol."""
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                for frame in self._codec.feed(message.data):
                    if frame.kind is Kind.GOAWAY:
                        return
                    await self._take(frame)
        except SpdyError as error:
            log.info("port forwarding ended", reason=str(error))
        except ConnectionError:
            return
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, frame: Frame) -> None:
        match frame.kind:
            case None:
                connection = self._connections.get(frame.stream)
                if connection is not None:
                    if frame.data:
                        await connection.put(frame.data)
                    if frame.fin:
                        await connection.put(b"")
            case Kind.SYN_STREAM:
                await self._open_stream(frame)
            case Kind.PING:
                await self._socket.send_bytes(ping_frame(frame.stream))
            case Kind.RST_STREAM:
                task = self._tasks.get(frame.stream)
                if task is not None:
                    task.cancel()
            case _:
                return

    async def _open_stream(self, frame: Frame) -> None:
        """Take up one of a request's two streams; the error stream comes first, the data stream begins the work."""
        kind, request = frame.headers.get("streamtype", ""), frame.headers.get("requestid", "")
        port = frame.headers.get("port", "")
        usable = kind in ("error", "data") and port.isdigit() and 0 < int(port) < 65536
        pending = len(self._errors) + len(self._tasks)
        if not usable or pending >= _MAX_STREAMS or (kind == "data" and request not in self._errors):
            await self._socket.send_bytes(reset_frame(frame.stream, 3))
            return
        await self._socket.send_bytes(self._codec.syn_reply(frame.stream))
        if kind == "error":
            self._errors[request] = frame.stream
            return
        connection = Connection(self._target, int(port), self._stream_sender(frame.stream))
        self._connections[frame.stream] = connection
        task = asyncio.create_task(self._serve(frame.stream, self._errors.pop(request), connection))
        self._tasks[frame.stream] = task
        task.add_done_callback(lambda _: self._tasks.pop(frame.stream, None))
        if frame.fin:
            await connection.put(b"")

    async def _serve(self, stream: int, errors: int, connection: Connection) -> None:
        """Serve one connection; its failure goes to the error stream, which is closed in any case."""
        text = ""
        try:
            await connection.run()
        except ForwardError as error:
            text = str(error)
        finally:
            del self._connections[stream]
            with contextlib.suppress(ConnectionError):
                if text:
                    await self._socket.send_bytes(data_frame(errors, text.encode()))
                    await self._socket.send_bytes(data_frame(stream, b"", fin=True))
                await self._socket.send_bytes(data_frame(errors, b"", fin=True))

    def _stream_sender(self, stream: int) -> Sender:
        async def send(data: bytes) -> None:
            await self._socket.send_bytes(data_frame(stream, data, fin=not data))

        return send
