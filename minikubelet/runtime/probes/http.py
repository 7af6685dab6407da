"""HTTP GET as probes and hooks do it: one new connection, no proxy, no compression, certificates unchecked.

The wire is asyncio's sockets, the protocol h11's; this module adds what the Go client does around them: redirects on
the same host, the header rules, the body limit and the words of its errors.
Source: kubernetes pkg/probe/http, pkg/probe/util.go; Go net/http client (redirects).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

from minikubelet.runtime.port import RuntimeFailure
from minikubelet.runtime.probes.dial import DialError, dial, host_port
from minikubelet.runtime.probes.result import ProbeReply, Verdict

if TYPE_CHECKING:
    import ssl

BODY_LIMIT: Final = 10 * 1024
_MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_DEFAULTED: Final = ("User-Agent", "Accept")
# What Go takes from the request itself, whatever its headers say.
_NOT_SENT: Final = ("Content-Length", "Transfer-Encoding", "Trailer")
_READ_SIZE: Final = 16 * 1024

Headers = Sequence[tuple[str, str]]


class HttpError(Exception):
    """No answer was had; the text is the Go client's."""


class BodyError(RuntimeFailure):
    """The answer began, but its body did not come whole in time: that says nothing about the server's health."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """Status, headers and the first `BODY_LIMIT` bytes of the body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """Return the first header of that (lower-case) name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    url: str
    parts: SplitResult
    host_header: str
    headers: tuple[tuple[str, str], ...]


async def probe_http(url: str, headers: Headers, *, timeout_s: float, follow_elsewhere: bool = False) -> ProbeReply:
    """Ask once and judge the answer: 200 to 399 is success, a redirect that was not followed a warning.

    Args:
        url: Whole URL, path and query as written.
        headers: What to send; a `Host` header sets the request's host (`request_headers` fills the defaults).
        timeout_s: Limit of the whole exchange, redirects and body included.
        follow_elsewhere: Follow redirects to other hosts too.

    Raises:
        BodyError: The asking itself failed, as the kubelet sees it: status and headers came, the body did not.
    """
    try:
        reply = await http_get(url, headers, timeout_s=timeout_s, follow_elsewhere=follow_elsewhere)
    except HttpError as error:
        return ProbeReply(Verdict.FAILURE, str(error))
    body = reply.body.decode("utf-8", "replace")
    if 300 <= reply.status < 400:
        return ProbeReply(Verdict.WARNING, f"Probe terminated redirects, Response body: {body}")
    if 200 <= reply.status < 300:
        return ProbeReply(Verdict.SUCCESS, body)
    return ProbeReply(Verdict.FAILURE, f"HTTP probe failed with statuscode: {reply.status}")


def request_headers(given: Headers, *, user_agent: str) -> tuple[tuple[str, str], ...]:
    """Return what to send: the given headers, `User-Agent` and `Accept` unless given; an empty value removes one."""
    named = [(_canonical(name), value) for name, value in given]
    names = {name for name, _ in named}
    headers = [(name, value) for name, value in named if name not in _NOT_SENT and (value or name not in _DEFAULTED)]
    if "User-Agent" not in names:
        headers.append(("User-Agent", user_agent))
    if "Accept" not in names:
        headers.append(("Accept", "*/*"))
    return tuple(headers)


def _canonical(name: str) -> str:
    """Return a header's name as Go sends it: `X-Api-Key`."""
    return "-".join(part.capitalize() for part in name.split("-"))


async def http_get(url: str, headers: Headers, *, timeout_s: float, follow_elsewhere: bool = False) -> HttpReply:
    """GET a URL with the redirects that stay on its host.

    Raises:
        HttpError: Nothing answered in time, the answer is not HTTP, or there were ten redirects.
        BodyError: Status and headers came, the body did not.
    """
    host = next((value for name, value in headers if name.lower() == "host"), "")
    kept = tuple((name, value) for name, value in headers if name.lower() != "host")
    request = _Request(url=url, parts=urlsplit(url), host_header=host, headers=kept)
    origin = request.parts.hostname
    progress = _Progress()
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(_MAX_REDIRECTS):
                reply = await _exchange(request, progress)
                location = reply.header(b"location")
                if reply.status not in _REDIRECTS or not location:
                    return reply
                following = _follow(request, location)
                if following.parts.hostname != origin and not follow_elsewhere:
                    return reply
                request = following
    except TimeoutError:
        if progress.answered:
            what = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            raise BodyError(what) from None
        raise HttpError(
            f'Get "{request.url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        ) from None
    raise HttpError(f'Get "{request.url}": stopped after {_MAX_REDIRECTS} redirects')


def _follow(request: _Request, location: str) -> _Request:
    url = urljoin(request.url, location)
    # A Host of the caller's own stays through relative redirects only, as in Go.
    stays = not urlsplit(location).scheme
    return replace(request, url=url, parts=urlsplit(url), host_header=request.host_header if stays else "")


class _Progress:
    """How far the current exchange has come."""

    answered = False  # status and headers are there


async def _exchange(request: _Request, progress: _Progress) -> HttpReply:
    progress.answered = False
    host = request.parts.hostname or ""
    try:
        port = request.parts.port or (443 if request.parts.scheme == "https" else 80)
        connection = await dial(host, port)
    except (DialError, ValueError) as error:
        raise HttpError(f'Get "{request.url}": {error}') from error
    wire: _Wire = _PlainWire(connection)
    try:
        if request.parts.scheme == "https":
            wire = await _tls_wire(connection, host)
        return await _talk(wire, request, host_port(host, port) if request.parts.port else host, progress)
    except (OSError, h11.RemoteProtocolError) as error:
        if progress.answered:
            raise BodyError("unexpected EOF") from error
        raise HttpError(f'Get "{request.url}": {_wire_error(error)}') from error
    except h11.LocalProtocolError as error:
        raise HttpError(f'Get "{request.url}": net/http: {error}') from error
    finally:
        wire.close()


def _wire_error(error: Exception) -> str:
    text = str(error)
    if isinstance(error, ConnectionResetError):
        return "read: connection reset by peer"
    if isinstance(error, h11.RemoteProtocolError):
        return "EOF" if "without sending" in text else f"malformed HTTP response: {text}"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return "http: server gave HTTP response to HTTPS client"
    return text


async def _talk(wire: _Wire, request: _Request, default_host: str, progress: _Progress) -> HttpReply:
    protocol = h11.Connection(our_role=h11.CLIENT)
    target = request.parts.path or "/"
    if request.parts.query:
        target += "?" + request.parts.query
    lines = [("Host", request.host_header or default_host), *request.headers, ("Connection", "close")]
    message = protocol.send(h11.Request(method="GET", target=target.encode("ascii", "replace"), headers=lines))
    ending = protocol.send(h11.EndOfMessage())
    await wire.send((message or b"") + (ending or b""))
    status, headers, body = 0, (), bytearray()
    found: tuple[tuple[bytes, bytes], ...] = headers
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await wire.receive())
        elif isinstance(event, h11.Response):
            status, found = event.status_code, tuple(event.headers)
            progress.answered = True
        elif isinstance(event, h11.Data):
            body += event.data
        if status and (isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or len(body) > BODY_LIMIT):
            return HttpReply(status=status, headers=found, body=bytes(body[:BODY_LIMIT]))
        if isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("server closed the connection without sending an answer")


class _Wire(Protocol):
    async def send(self, data: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    def close(self) -> None: ...


class _PlainWire:
    """A socket; no transport objects stand between, which halves the cost of a probe."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._connection, data)

    async def receive(self) -> bytes:
        return await self._loop.sock_recv(self._connection, _READ_SIZE)

    def close(self) -> None:
        self._connection.close()


class _TlsWire:
    """asyncio's TLS stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(_READ_SIZE)

    def close(self) -> None:
        # Abort, not close: the peer's goodbye is not worth waiting for.
        with contextlib.suppress(OSError):
            self._writer.transport.abort()


async def _tls_wire(connection: socket.socket, host: str) -> _TlsWire:
    # An address is no server name.
    name = "" if ":" in host or host.replace(".", "").isdigit() else host
    context = _context()
    reader, writer = await asyncio.open_connection(sock=connection, ssl=context, server_hostname=name)
    return _TlsWire(reader, writer)


@cache
def _context() -> ssl.SSLContext:
    import ssl  # 2 MiB that only HTTPS probes need

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
