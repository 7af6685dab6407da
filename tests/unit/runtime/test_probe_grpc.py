"""What a gRPC probe asks and makes of the answer, against a server of the test's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import grpclib.const
import grpclib.server
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from minikubelet.runtime.probes.grpc import probe_grpc
from minikubelet.runtime.probes.result import ProbeReply, Verdict

CHECK = "/grpc.health.v1.Health/Check"
FAILURE = Verdict.FAILURE


class Codec:
    """Hands messages on as bytes."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Health:
    """Answers a check by the service that it names."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Any]] = []

    async def check(self, stream: Any) -> None:
        message = await stream.recv_message()
        self.asked.append((message, stream.user_agent))
        service = message[2:].decode()
        if service == "slow":
            await asyncio.sleep(60)
        if service == "strange":
            raise GRPCError(Status.NOT_FOUND, "unknown service")
        if service == "old":
            raise GRPCError(Status.UNIMPLEMENTED, "no")
        if service == "garbled":
            await stream.send_message(b"\x0d")
            return
        await stream.send_message(b"\x08\x02" if service == "down" else b"\x08\x01")

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        return {CHECK: grpclib.const.Handler(self.check, grpclib.const.Cardinality.UNARY_UNARY, bytes, bytes)}


def serve(health: Health, test: Callable[[int], Awaitable[None]]) -> None:
    async def run() -> None:
        server = grpclib.server.Server([health], codec=Codec())  # type: ignore[arg-type,list-item]
        with socket.create_server(("127.0.0.1", 0)) as listening:
            await server.start(sock=listening)
            try:
                await test(listening.getsockname()[1])
            finally:
                server.close()
                await server.wait_closed()

    asyncio.run(run())


async def ask(port: int, service: str = "", timeout: float = 10.0) -> ProbeReply:
    return await probe_grpc("127.0.0.1", port, service, timeout_s=timeout, user_agent="kube-probe/1.36")


def test_answers():
    health = Health()

    async def test(port: int) -> None:
        assert await ask(port) == ProbeReply(Verdict.SUCCESS, "service healthy")
        assert health.asked == [(b"", "kube-probe/1.36")]
        assert await ask(port, "web") == ProbeReply(Verdict.SUCCESS, "service healthy")
        assert health.asked[-1][0] == b"\x0a\x03web"
        assert await ask(port, "down") == ProbeReply(FAILURE, 'service unhealthy (responded with "NOT_SERVING")')
        text = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
        assert await ask(port, "strange") == ProbeReply(FAILURE, text)
        text = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no"
        assert await ask(port, "old") == ProbeReply(FAILURE, text)
        text = (
            "error: health rpc probe failed: rpc error: code = Internal desc = cannot read health answer: wire type 5"
        )
        assert await ask(port, "garbled") == ProbeReply(FAILURE, text)
        text = "timeout: health rpc did not complete within 0.3s"
        assert await ask(port, "slow", timeout=0.3) == ProbeReply(FAILURE, text)

    serve(health, test)


def test_nobody_there_is_waited_for_until_the_time_is_over():
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        text = f'timeout: failed to connect service "127.0.0.1:{port}" within 0.2s: context deadline exceeded'
        assert await ask(port, timeout=0.2) == ProbeReply(FAILURE, text)

    asyncio.run(test())


def test_what_speaks_something_else_is_nobody():
    async def test() -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reply = await ask(port, timeout=0.5)
        assert reply.verdict is FAILURE
        assert reply.output.startswith("timeout: failed to connect service")

    asyncio.run(test())


def test_a_server_that_comes_in_time_is_found(monkeypatch):
    monkeypatch.setattr("minikubelet.runtime.probes.grpc._FIRST_PAUSE_S", 0.05)
    health = Health()

    async def run() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # nobody listens yet: connections are refused
            asking = asyncio.create_task(ask(bound.getsockname()[1], timeout=30))
            await asyncio.sleep(0)
            server = grpclib.server.Server([health], codec=Codec())  # type: ignore[arg-type,list-item]
            asyncio.get_running_loop().call_later(0.2, bound.listen)
            await asyncio.sleep(0.2)
            await server.start(sock=bound)
            assert (await asking).verdict is Verdict.SUCCESS
            server.close()
            await server.wait_closed()

    asyncio.run(run())
