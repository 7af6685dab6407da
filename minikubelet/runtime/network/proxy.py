"""Host ports held and carried by this process, with plain sockets.

Where nftables translates, these sockets see no traffic but that which the kernel cannot translate (`[::1]`, a family
that the pod lacks); they then hold the port, so that no other program takes it unnoticed. Without nftables they carry
everything; the pod then sees the host's address instead of the client's, and the ports rest while the daemon does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog

from minikubelet.linux.faults import point
from minikubelet.runtime.network.forwards import Listener

log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT_S: Final = 10.0
_BACKLOG: Final = 1024
_DATAGRAM_BYTES: Final = 65536
_FLOW_IDLE_S: Final = 60.0
_FLOWS_MAX: Final = 1024
_DATAGRAMS_PER_TURN: Final = 64
_IPPROTO_SCTP: Final = 132
_IP_PKTINFO: Final = 8
_IP_FREEBIND: Final = 15
_UNSUPPORTED: Final = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)

Target = tuple[str, int]


class Unsupported(Exception):
    """The kernel has no such family or protocol; the text says which."""


class Proxy:
    """One held host port. Make it with `open_proxy`; `close` drops its connections too."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close

    def close(self) -> None:
        """Give the port back."""
        self._close()


async def open_proxy(listener: Listener) -> Proxy:
    """Hold a host port and carry what arrives there to the pod.

    Raises:
        Unsupported: The kernel lacks IPv6 or SCTP.
        OSError: EADDRINUSE if something else holds the port.
    """
    point("network.host-port")
    target = (listener.pod_ip, listener.pod_port)
    held = bind_listener(listener.protocol, listener.host_ip, listener.host_port)
    if listener.protocol == "udp":
        return Proxy(_Datagrams(held, target).close)
    return await _open_stream(held, target, listener.protocol)


def bind_listener(protocol: str, host_ip: str, port: int) -> socket.socket:
    """Bind (and for streams listen on) a host address; an address that this host does not have yet is allowed.

    Raises:
        Unsupported, OSError: As `open_proxy`.
    """
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    held = make_socket(family, protocol)
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if protocol != "udp":
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host_ip, port))
        if protocol != "udp":
            held.listen(_BACKLOG)
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6:
            raise Unsupported("IPv6 is switched off") from None
        raise
    return held


def make_socket(family: int, protocol: str) -> socket.socket:
    """Make a non-blocking socket for a Kubernetes protocol name in lower case."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    number = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": _IPPROTO_SCTP}[protocol]
    try:
        made = socket.socket(family, kind, number)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise Unsupported(f"the kernel has no {protocol.upper()} for {_family_name(family)}") from None
        raise
    made.setblocking(False)
    return made


def _family_name(family: int) -> str:
    return "IPv6" if family == socket.AF_INET6 else "IPv4"


class _Half(asyncio.Protocol):
    """One side of a carried connection: what it reads, the other side writes, with back-pressure and half-close."""

    def __init__(self, live: set[asyncio.Transport]) -> None:
        self._live = live
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._live.add(transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(RuntimeError):
                self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(RuntimeError):
                self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None:
            self._live.discard(self.transport)
        if self.other is not None and self.other.transport is not None:
            if exc is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()


class _Client(_Half):
    """The client's side: reading waits until the pod has answered the connection."""

    def __init__(
        self, live: set[asyncio.Transport], target: Target, protocol: str, tasks: set[asyncio.Task[None]]
    ) -> None:
        super().__init__(live)
        self._target = target
        self._protocol = protocol
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect(self.transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        pod = make_socket(family, self._protocol)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await loop.sock_connect(pod, self._target)
        except OSError:
            pod.close()
            transport.abort()
            return
        except BaseException:
            pod.close()
            raise
        if transport.is_closing():
            pod.close()
            return
        other = _Half(self._live)
        other.other = self
        self.other = other
        await loop.create_connection(lambda: other, sock=pod)
        with contextlib.suppress(RuntimeError):
            transport.resume_reading()


async def _open_stream(held: socket.socket, target: Target, protocol: str) -> Proxy:
    live: set[asyncio.Transport] = set()
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: _Client(live, target, protocol, tasks), sock=held, backlog=_BACKLOG)
    except BaseException:
        held.close()
        raise

    def close() -> None:
        server.close()
        for task in list(tasks):
            task.cancel()
        for transport in list(live):
            transport.abort()

    return Proxy(close)


class _Flow:
    """The datagrams of one client: a socket of its own towards the pod, and the local address that it used."""

    __slots__ = ("local", "pod", "used_at")

    def __init__(self, pod: socket.socket, local: bytes, used_at: float) -> None:
        self.pod = pod
        self.local = local
        self.used_at = used_at


class _Datagrams:
    """UDP host port: a flow for each client, forgotten after a minute of silence; the oldest makes room for a new."""

    def __init__(self, held: socket.socket, target: Target) -> None:
        self._held = held
        self._target = target
        self._ipv6 = held.family == socket.AF_INET6
        self._flows: OrderedDict[tuple[str, int], _Flow] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        # An answer must leave from the address that was asked, or the client does not take it for one.
        if self._ipv6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            held.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._loop.add_reader(held, self._from_clients)

    def close(self) -> None:
        self._loop.remove_reader(self._held)
        self._held.close()
        if self._sweep is not None:
            self._sweep.cancel()
        while self._flows:
            self._drop(next(iter(self._flows)))

    def _from_clients(self) -> None:
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                data, ancillary, _, client = self._held.recvmsg(_DATAGRAM_BYTES, 128)
            except OSError:
                return
            flow = self._flow(client[:2], client, self._local(ancillary))
            if flow is not None:
                with contextlib.suppress(OSError):
                    flow.pod.send(data)

    def _flow(self, key: tuple[str, int], client: tuple[str, int], local: bytes) -> _Flow | None:
        flow = self._flows.get(key)
        if flow is None:
            flow = self._open_flow(key, client, local)
        if flow is not None:
            flow.used_at = self._loop.time()
            self._flows.move_to_end(key)
        return flow

    def _open_flow(self, key: tuple[str, int], client: tuple[str, int], local: bytes) -> _Flow | None:
        if len(self._flows) >= _FLOWS_MAX:
            self._drop(next(iter(self._flows)))
        try:
            pod = make_socket(socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET, "udp")
            pod.connect(self._target)
        except OSError as error:
            log.warning("host port datagram dropped", target=self._target, error=str(error))
            return None
        flow = _Flow(pod, local, self._loop.time())
        self._flows[key] = flow
        self._loop.add_reader(pod, self._from_pod, flow, client)
        if self._sweep is None:
            self._sweep = self._loop.call_later(_FLOW_IDLE_S, self._drop_idle)
        return flow

    def _from_pod(self, flow: _Flow, client: tuple[str, int]) -> None:
        level, kind = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) if self._ipv6 else (socket.IPPROTO_IP, _IP_PKTINFO)
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                data = flow.pod.recv(_DATAGRAM_BYTES)
            except OSError:
                return
            flow.used_at = self._loop.time()
            with contextlib.suppress(OSError):
                self._held.sendmsg([data], [(level, kind, flow.local)] if flow.local else [], 0, client)

    def _local(self, ancillary: list[tuple[int, int, bytes]]) -> bytes:
        """Return the packet info that makes an answer leave from the address asked: no interface, that address."""
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                return struct.pack("=I4s4s", 0, data[4:8], bytes(4))
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                return data[:16] + (data[16:20] if data[:2] == b"\xfe\x80" else bytes(4))
        return b""

    def _drop(self, key: tuple[str, int]) -> None:
        flow = self._flows.pop(key)
        self._loop.remove_reader(flow.pod)
        flow.pod.close()

    def _drop_idle(self) -> None:
        horizon = self._loop.time() - _FLOW_IDLE_S
        for key in [key for key, flow in self._flows.items() if flow.used_at <= horizon]:
            self._drop(key)
        self._sweep = self._loop.call_later(_FLOW_IDLE_S, self._drop_idle) if self._flows else None
