"""The gRPC probe: the standard health protocol over grpclib, in clear text.

The two messages of `grpc.health.v1` have one field each, so they are packed here instead of by generated code.
Source: kubernetes pkg/probe/grpc (v1.36).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from minikubelet.lifecycle.restart import go_duration
from minikubelet.runtime.probes.dial import host_port
from minikubelet.runtime.probes.result import ProbeReply, Verdict

_METHOD: Final = "/grpc.health.v1.Health/Check"
_STATUS_NAMES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING: Final = 1
# Between attempts to connect, as Go's client has them.
_FIRST_PAUSE_S: Final = 1.0
_PAUSE_GROWTH: Final = 1.6


async def probe_grpc(host: str, port: int, service: str, *, timeout_s: float, user_agent: str) -> ProbeReply:
    """Ask for the health of `service` ("" for the server as a whole)."""
    # Imported here: HTTP/2 costs memory that a node without gRPC probes need not pay.
    import grpclib.client
    from grpclib.const import Status
    from grpclib.exceptions import GRPCError, ProtocolError

    # It takes the user agent from nowhere else, and nobody else uses it here.
    vars(grpclib.client)["USER_AGENT"] = user_agent
    where = host_port(host, port)
    attempts = _Attempts(host, port, service)
    try:
        async with asyncio.timeout(timeout_s):
            status = await attempts.status()
    except TimeoutError:
        if not attempts.connected:
            what = f'timeout: failed to connect service "{where}" within {_seconds(timeout_s)}'
            return ProbeReply(Verdict.FAILURE, f"{what}: context deadline exceeded")
        return ProbeReply(Verdict.FAILURE, f"timeout: health rpc did not complete within {_seconds(timeout_s)}")
    except GRPCError as error:
        if error.status is Status.UNIMPLEMENTED:
            what = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
            return ProbeReply(Verdict.FAILURE, f"{what}: {error.message or ''}")
        what = f"rpc error: code = {_code_name(error.status.name)} desc = {error.message or ''}"
        return ProbeReply(Verdict.FAILURE, f"error: health rpc probe failed: {what}")
    except (ProtocolError, ValueError) as error:
        what = f"rpc error: code = Internal desc = {error}"
        return ProbeReply(Verdict.FAILURE, f"error: health rpc probe failed: {what}")
    if status != _SERVING:
        name = _STATUS_NAMES.get(status, str(status))
        return ProbeReply(Verdict.FAILURE, f'service unhealthy (responded with "{name}")')
    return ProbeReply(Verdict.SUCCESS, "service healthy")


class _Attempts:
    """Connects and asks, again and again as Go's client, which waits for a connection for as long as it may."""

    def __init__(self, host: str, port: int, service: str) -> None:
        self._host, self._port, self._service = host, port, service
        self.connected = False

    async def status(self) -> int:
        """Return the status that the server answers with. Raises GRPCError, ProtocolError or ValueError."""
        from grpclib.exceptions import StreamTerminatedError

        pause = _FIRST_PAUSE_S
        while True:
            try:
                # A task of its own: grpclib cancels the one in which a connection is lost, and leaves it so.
                return await asyncio.create_task(self._ask())
            except (OSError, StreamTerminatedError):
                self.connected = False
            await asyncio.sleep(pause)
            pause *= _PAUSE_GROWTH

    async def _ask(self) -> int:
        from grpclib.client import Channel, UnaryUnaryMethod

        codec: Any = _HealthCodec()
        channel = Channel(self._host, self._port, codec=codec)
        try:
            await channel.__connect__()
            self.connected = True
            method: Any = UnaryUnaryMethod(channel, _METHOD, str, int)
            answer: int = await method(self._service)
            return answer
        finally:
            channel.close()


def _seconds(value: float) -> str:
    return go_duration(value) if value.is_integer() else f"{value:g}s"


def _code_name(name: str) -> str:
    """Return Go's spelling of a status code: `NotFound` for NOT_FOUND."""
    return {"OK": "OK", "CANCELLED": "Canceled"}.get(name) or name.title().replace("_", "")


class _HealthCodec:
    """HealthCheckRequest{string service = 1} out, HealthCheckResponse{enum status = 1} in."""

    __content_subtype__ = "proto"

    def encode(self, message: str, message_type: type[str]) -> bytes:
        text = message.encode()
        return b"\x0a" + _varint(len(text)) + text if text else b""

    def decode(self, data: bytes, message_type: type[int]) -> int:
        status, position = 0, 0
        while position < len(data):
            key, position = _read_varint(data, position)
            if key & 7 == 0:
                value, position = _read_varint(data, position)
                status = value if key >> 3 == 1 else status
            elif key & 7 == 2:
                length, position = _read_varint(data, position)
                position += length
            else:
                raise ValueError(f"cannot read health answer: wire type {key & 7}")
        return status


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while position < len(data):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    raise ValueError("cannot read health answer: it ends within a number")
