"""Connections into a pod's network namespace, by kubectl's SPDY tunnel and by the older channels."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import struct
from collections.abc import AsyncIterator

import aiohttp
import pytest
import yaml

from minikubelet.server.port_forward import TUNNEL
from minikubelet.server.spdy import Codec, Frame, Kind, control_frame, data_frame, ping_frame
from tests.conftest import Node
from tests.integration.server.conftest import Api, pod_path

pytestmark = [pytest.mark.root, pytest.mark.anyio, pytest.mark.usefixtures("servers")]

SERVER = """
import socket, threading
def serve(connection):
    first = connection.recv(65536)
    if first.startswith(b"big"):
        for _ in range(160):
            connection.sendall(b"x" * 65536)
    elif first.startswith(b"count"):
        total = len(first)
        while data := connection.recv(65536):
            total += len(data)
        connection.sendall(b"%d" % total)
    elif first.startswith(b"bye"):
        connection.sendall(b"bye")
    else:
        while first:
            connection.sendall(first)
            first = connection.recv(65536)
    connection.close()
def listen(family, host, port):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(256)
    while True:
        threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
threading.Thread(target=listen, args=(socket.AF_INET6, "::1", 8086)).start()
threading.Thread(target=listen, args=(socket.AF_INET, "127.0.0.1", 8080)).start()
print("ready", flush=True)
"""


@pytest.fixture(scope="module")
def servers(cluster: Node) -> None:
    cluster.write("server.yaml", _manifest())
    pod = cluster.wait_pod("server", lambda one: one["status"]["phase"] == "Running", "Running")
    cluster.wait(lambda: "ready" in cluster.log(pod, "main"), "the server")


def _manifest() -> str:
    container = {"name": "main", "image": "host", "command": ["python3", "-c", SERVER]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return yaml.dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"}, "spec": spec})


class Tunnel:
    """kubectl's side of the tunnel."""

    def __init__(self, web_socket: aiohttp.ClientWebSocketResponse) -> None:
        self.web_socket = web_socket
        self.codec = Codec()
        self.frames: dict[int, asyncio.Queue[Frame]] = {}
        self.number = 1
        self.request = 0

    async def read(self) -> None:
        async for message in self.web_socket:
            for frame in self.codec.feed(message.data):
                self.frames.setdefault(frame.stream, asyncio.Queue()).put_nowait(frame)

    async def open_stream(self, kind: str, port: int) -> int:
        stream, self.number = self.number, self.number + 2
        headers = {"streamtype": kind, "port": str(port), "requestid": str(self.request)}
        body = struct.pack(">IIH", stream, 0, 0) + self.codec.header_block(headers)
        await self.web_socket.send_bytes(control_frame(Kind.SYN_STREAM, body))
        return stream

    async def connect(self, port: int) -> tuple[int, int]:
        """Return the error and the data stream of a new connection."""
        errors = await self.open_stream("error", port)
        data = await self.open_stream("data", port)
        self.request += 1
        for stream in (errors, data):
            assert (await self.next(stream)).kind is Kind.SYN_REPLY
        return errors, data

    async def next(self, stream: int) -> Frame:
        return await self.frames.setdefault(stream, asyncio.Queue()).get()

    async def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send in pieces that are cut anywhere, as messages of a WebSocket may be."""
        wire = b"".join(data_frame(stream, data[at : at + 16384]) for at in range(0, len(data), 16384))
        wire += data_frame(stream, b"", fin=True) if fin else b""
        for at in range(0, len(wire), 10007):
            await self.web_socket.send_bytes(wire[at : at + 10007])

    async def rest(self, stream: int) -> bytes:
        """Return everything up to the end of a stream."""
        found = bytearray()
        while True:
            frame = await self.next(stream)
            found += frame.data
            if frame.fin:
                return bytes(found)


@contextlib.asynccontextmanager
async def tunnel(api: Api, pod: str = "server") -> AsyncIterator[Tunnel]:
    async with api.socket(f"{pod_path(pod)}/portforward", TUNNEL, query=[]) as web_socket:
        assert web_socket.protocol == TUNNEL
        one = Tunnel(web_socket)
        reader = asyncio.create_task(one.read())
        try:
            async with asyncio.timeout(45):
                yield one
        finally:
            reader.cancel()


async def test_many_connections_at_once_to_the_pods_loopback(api: Api) -> None:
    async with tunnel(api) as client:

        async def talk(number: int, streams: tuple[int, int]) -> None:
            errors, data = streams
            text = f"hello {number}".encode()
            await client.send(data, text)
            frame = await client.next(data)
            assert frame.data == text, (number, frame, await client.rest(errors))
            await client.send(data, b"", fin=True)
            assert await client.rest(data) == b""
            assert await client.rest(errors) == b""

        streams = [await client.connect(8086 if number % 5 == 0 else 8080) for number in range(50)]
        await asyncio.gather(*(talk(number, one) for number, one in enumerate(streams)))


async def test_large_transfers_and_half_close(api: Api) -> None:
    async with tunnel(api) as client:
        errors, data = await client.connect(8080)
        await client.send(data, b"big")
        found = await client.rest(data)
        assert hashlib.sha256(found).digest() == hashlib.sha256(b"x" * 160 * 65536).digest()
        assert await client.rest(errors) == b""
        _, data = await client.connect(8080)
        await client.send(data, b"count" + b"y" * 5_000_000, fin=True)
        assert await client.rest(data) == b"5000005"


async def test_the_programs_end_ends_the_connection(api: Api) -> None:
    async with tunnel(api) as client:
        errors, data = await client.connect(8080)
        await client.send(data, b"bye")
        assert await client.rest(data) == b"bye"
        assert await client.rest(errors) == b""


async def test_refused_port_is_said_on_the_error_stream(api: Api) -> None:
    async with tunnel(api) as client:
        errors, data = await client.connect(9)
        text = (await client.rest(errors)).decode()
        assert "error forwarding port 9 to pod" in text
        assert "IPv4: dial tcp4 127.0.0.1:9: connect: connection refused" in text
        assert await client.rest(data) == b""
        await client.web_socket.send_bytes(ping_frame(7))
        assert (await client.next(7)).kind is Kind.PING
        stream = await client.open_stream("data", 8080)  # without its error stream
        assert (await client.next(stream)).kind is Kind.RST_STREAM


async def test_garbage_ends_only_this_tunnel(api: Api) -> None:
    async with tunnel(api) as client:
        await client.web_socket.send_bytes(b"\x80\x03\x00\x01\x00\x00\x00\x0cgarbagegarbage")
        async with asyncio.timeout(40):
            while not client.web_socket.closed:
                await asyncio.sleep(0.01)
    async with tunnel(api) as client:
        _, data = await client.connect(8080)
        await client.send(data, b"still here")
        assert (await client.next(data)).data == b"still here"


async def test_channels_of_older_clients(api: Api) -> None:
    query = [("ports", "8080"), ("ports", "9")]
    async with api.socket(f"{pod_path('server')}/portforward", "v4.channel.k8s.io", query=query) as web_socket:
        greetings = [await web_socket.receive_bytes() for _ in range(4)]
        assert greetings == [bytes((n,)) + struct.pack("<H", port) for n, port in enumerate((8080, 8080, 9, 9))]
        await web_socket.send_bytes(b"\0hello")
        found: dict[int, bytes] = {}
        while len(found) < 2:
            message = await web_socket.receive_bytes()
            found[message[0]] = message[1:]
        assert found[0] == b"hello"
        assert b"connection refused" in found[3]


@pytest.mark.parametrize("ports", ["0", "65536", "x", "-1"])
async def test_ports_that_are_none(api: Api, ports: str) -> None:
    status, body = await api.ask(f"{pod_path('server')}/portforward", ports=ports)
    assert (status, "invalid port" in body["message"]) == (400, True)
