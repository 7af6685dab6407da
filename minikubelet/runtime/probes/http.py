"""HTTP GET as probes and hooks do it: one new connection, no proxy, no compression, certificates unchecked.

The wire is asyncio's sockets, the protocol h11's; this module adds what the Go client does around them: redirects on
the same host, the header rules and the words of its errors.
Source: kubernetes pkg/probe/http, pkg/probe/util.go; Go net/http client (redirects).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final
from urllib.parse import urljoin, urlsplit

import h11

from minikubelet.runtime.port import RuntimeFailure
from minikubelet.runtime.probes.dial import DialError, Dialing, begin_dial, dial, host_port
from minikubelet.runtime.probes.http_answer import AnswerReader, HttpReply
from minikubelet.runtime.probes.result import ProbeReply, Verdict, Wait
from minikubelet.runtime.probes.tls import TlsWire, Wire

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


class HttpProbe:
    """A GET that is asked again and again: what does not change is made once."""

    def __init__(self, url: str, headers: Headers, *, timeout_s: float, follow_elsewhere: bool = False) -> None:
        """Take what `http_get` takes."""
        self._request = _first_request(url, headers)
        self._timeout_s = timeout_s
        self._follow_elsewhere = follow_elsewhere

    def __call__(self) -> ProbeReply | Wait:
        """Ask: what connects at once, as a pod does, has its request before this returns."""
        try:
            begun = _begin(self._request)
        except HttpError as error:
            return ProbeReply(Verdict.FAILURE, str(error))
        return partial(self._wait, begun)

    async def _wait(self, begun: _Begun | None) -> ProbeReply:
        try:
            return _judge(await _get(self._request, begun, self._timeout_s, self._follow_elsewhere))
        except HttpError as error:
            return ProbeReply(Verdict.FAILURE, str(error))


def _judge(reply: HttpReply) -> ProbeReply:
    """Say what an answer means: 200 to 399 is success, a redirect that was not followed a warning."""
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

    Args:
        url: Whole URL, path and query as written.
        headers: What to send; a `Host` header sets the request's host (`request_headers` fills the defaults).
        timeout_s: Limit of the whole exchange, redirects and body included.
        follow_elsewhere: Follow redirects to other hosts too.

    Raises:
        HttpError: Nothing answered in time, the answer is not HTTP, or there were ten redirects.
        BodyError: Status and headers came, the body did not.
    """
    return await _get(_first_request(url, headers), None, timeout_s, follow_elsewhere)


async def _get(request: _Request, begun: _Begun | None, timeout_s: float, follow_elsewhere: bool) -> HttpReply:
    origin = request.parts.hostname
    reader = AnswerReader()
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(_MAX_REDIRECTS):
                reply = await _exchange(request, begun, reader)
                location = reply.header(b"location") if reply.status in _REDIRECTS else None
                if not location:
                    return reply
                following = _follow(request, location)
                if following.parts.hostname != origin and not follow_elsewhere:
                    return reply
                request, begun, reader = following, None, AnswerReader()
    except TimeoutError:
        if reader.has_head:
            what = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            raise BodyError(what) from None
        raise HttpError(
            f'Get "{request.url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        ) from None
    raise HttpError(f'Get "{request.url}": stopped after {_MAX_REDIRECTS} redirects')


class _Request:
    """One GET. Port and message are made when they are needed, as each may turn out to be none."""

    def __init__(self, url: str, host_header: str, headers: tuple[tuple[str, str], ...]) -> None:
        self.url = url
        self.parts = urlsplit(url)
        self.host = self.parts.hostname or ""
        self.is_tls = self.parts.scheme == "https"
        self.host_header = host_header
        self.headers = headers

    @cached_property
    def port(self) -> int:
        """Raises ValueError."""
        return self.parts.port or (443 if self.is_tls else 80)

    @cached_property
    def message(self) -> bytes:
        """The request as it is sent. Raises h11.LocalProtocolError."""
        target = self.parts.path or "/"
        if self.parts.query:
            target += "?" + self.parts.query
        host = self.host_header or (host_port(self.host, self.port) if self.parts.port else self.host)
        lines = [("Host", host), *self.headers, ("Connection", "close")]
        request = h11.Request(method="GET", target=target.encode("ascii", "replace"), headers=lines)
        protocol = h11.Connection(our_role=h11.CLIENT)
        return (protocol.send(request) or b"") + (protocol.send(h11.EndOfMessage()) or b"")


def _first_request(url: str, headers: Headers) -> _Request:
    host = next((value for name, value in headers if name.lower() == "host"), "")
    return _Request(url, host, tuple((name, value) for name, value in headers if name.lower() != "host"))


def _follow(request: _Request, location: str) -> _Request:
    # A Host of the caller's own stays through relative redirects only, as in Go.
    stays = not urlsplit(location).scheme
    return _Request(urljoin(request.url, location), request.host_header if stays else "", request.headers)


@dataclass(frozen=True, slots=True)
class _Begun:
    """An exchange as far as it goes without waiting."""

    dialing: Dialing
    sent: bool


def _begin(request: _Request) -> _Begun | None:
    """Connect and send the request as far as nothing has to be waited for. Raises HttpError."""
    dialing = None
    try:
        dialing = begin_dial(request.host, request.port)
        if dialing is None or request.is_tls or not dialing.is_open():
            return _Begun(dialing, sent=False) if dialing else None
        if dialing.socket.send(request.message) == len(request.message):
            return _Begun(dialing, sent=True)
    except DialError as error:
        raise HttpError(f'Get "{request.url}": {error}') from error
    except (OSError, ValueError, h11.LocalProtocolError):
        pass  # who waits begins anew, and tells
    if dialing is not None:
        dialing.socket.close()
    return None


async def _exchange(request: _Request, begun: _Begun | None, reader: AnswerReader) -> HttpReply:
    try:
        connection = await (begun.dialing.wait() if begun else dial(request.host, request.port))
    except (DialError, ValueError) as error:
        raise HttpError(f'Get "{request.url}": {error}') from error
    wire: Wire = _PlainWire(connection)
    try:
        if request.is_tls:
            wire = encrypted = TlsWire(wire, request.host)
            await encrypted.shake_hands()
        if begun is None or not begun.sent:
            await wire.send(request.message)
        while (reply := reader.take(await wire.receive())) is None:
            pass
        return reply
    except (OSError, h11.RemoteProtocolError) as error:
        if reader.has_head:
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
