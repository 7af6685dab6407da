"""The gRPC probe: the standard health protocol over grpclib, in clear text.

The two messages of `grpc.health.v1` have one field each, so they are packed here instead of by generated code.
Source: kubernetes pkg/probe/grpc (v1.36).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from minikubelet.runtime.probes.dial import host_port, timed_out
from minikubelet.runtime.probes.result import ProbeReply, Verdict

_METHOD: Final = "/grpc.health.v1.Health/Check"
_STATUS_NAMES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING: Final = 1


async def probe_grpc(host: str, port: int, service: str, *, timeout_s: float, user_agent: str) -> ProbeReply:
    """Ask for the health of `service` ("" for the server as a whole)."""
    # Imported here: HTTP/2 costs memory that a node without gRPC probes need not pay.
    from grpclib.client import Channel, UnaryUnaryMethod
    from grpclib.const import Status
    from grpclib.exceptions import GRPCError, StreamTerminatedError

    codec: Any = _HealthCodec()
    channel = Channel(host, port, codec=codec)
    method: Any = UnaryUnaryMethod(channel, _METHOD, str, int)
    connected = False
    try:
        async with asyncio.timeout(timeout_s):
            await channel.__connect__()
            connected = True
            status = await method(service, metadata={"user-agent": user_agent})
    except TimeoutError:
        if not connected:
            what = f'timeout: failed to connect service "{host_port(host, port)}" within {_seconds(timeout_s)}'
            return ProbeReply(Verdict.FAILURE, f"{what}: {timed_out(host, port)}")
        return ProbeReply(Verdict.FAILURE, f"timeout: health rpc did not complete within {_seconds(timeout_s)}")
    except GRPCError as error:
        if error.status is Status.UNIMPLEMENTED:
            what = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
            return ProbeReply(Verdict.FAILURE, f"{what}: {error.message}")
        return ProbeReply(Verdict.FAILURE, f"error: health rpc probe failed: {error.message or error.status.name}")
    except (OSError, StreamTerminatedError) as error:
        return ProbeReply(Verdict.FAILURE, f'error: failed to connect service at "{host_port(host, port)}": {error}')
    finally:
        channel.close()
    if status != _SERVING:
        name = _STATUS_NAMES.get(status, str(status))
        return ProbeReply(Verdict.FAILURE, f'service unhealthy (responded with "{name}")')
    return ProbeReply(Verdict.SUCCESS, "service healthy")


def _seconds(value: float) -> str:
    return f"{value:g}s"


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
