"""As much of SPDY/3.1 as port forwarding needs, without a socket: bytes in, frames out, and the other way round.

Header blocks are compressed in one stream for the whole connection, so every one of them must be read. Windows are
not kept: kubectl's implementation neither waits for them nor opens them; what bounds a stream is the WebSocket below.
Source: SPDY protocol draft 3.1, sections 2.2, 2.6; its dictionary is section 2.6.10.1.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"  # the WebSocket's sub-protocol
MAX_FRAME: Final = 1024 * 1024
MAX_HEADERS: Final = 16 * 1024
FLAG_FIN: Final = 1
_CONTROL: Final = 0x80000000
_VERSION: Final = 3

_NAMES: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
).split()
_WORDS: Final = (*_NAMES, "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_REST: Final = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    b"Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    b"Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    b"00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    b"application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    b"charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = b"".join(struct.pack(">I", len(one)) + one.encode() for one in _WORDS) + _REST


class SpdyError(Exception):
    """The peer does not keep to the protocol; the connection is of no use any more."""


class Kind(IntEnum):
    """Kinds of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame; `kind` is None for data, `stream` is the number of a ping for PING."""

    kind: Kind | None
    stream: int
    data: bytes = b""
    fin: bool = False
    headers: dict[str, str] = field(default_factory=dict)


class Codec:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are now complete. Raises SpdyError."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFFFFFF
            if length > MAX_FRAME:
                raise SpdyError(f"frame of {length} bytes is over the limit of {MAX_FRAME}")
            if len(self._buffer) < 8 + length:
                break
            body = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            frame = self._frame(first, second >> 24, body)
            if frame is not None:
                frames.append(frame)
        return frames

    def _frame(self, first: int, flags: int, body: bytes) -> Frame | None:
        fin = bool(flags & FLAG_FIN)
        if not first & _CONTROL:
            return Frame(kind=None, stream=first, data=body, fin=fin)
        if first >> 16 & 0x7FFF != _VERSION:
            raise SpdyError(f"version {first >> 16 & 0x7FFF} is not spoken")
        try:
            kind = Kind(first & 0xFFFF)
        except ValueError:
            return None  # as the protocol wants it, unknown frames are passed over
        if kind in (Kind.SETTINGS, Kind.GOAWAY, Kind.WINDOW_UPDATE):
            return Frame(kind=kind, stream=0)
        if len(body) < 4:
            raise SpdyError(f"{kind.name} of {len(body)} bytes is too short")
        (stream,) = struct.unpack_from(">I", body)
        skipped = {Kind.SYN_STREAM: 10, Kind.SYN_REPLY: 4, Kind.HEADERS: 4}.get(kind)
        headers = self._headers(body[skipped:]) if skipped is not None else {}
        number = stream if kind is Kind.PING else stream & 0x7FFFFFFF
        return Frame(kind=kind, stream=number, fin=fin, headers=headers)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS)
            if self._inflate.unconsumed_tail:
                raise SpdyError(f"headers are over the limit of {MAX_HEADERS} bytes")
            (count,) = struct.unpack_from(">I", plain)
            texts: list[str] = []
            at = 4
            for _ in range(2 * min(count, MAX_HEADERS)):
                (length,) = struct.unpack_from(">I", plain, at)
                texts.append(plain[at + 4 : at + 4 + length].decode())
                at += 4 + length
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"headers cannot be read: {error}") from error
        return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}

    def header_block(self, headers: dict[str, str]) -> bytes:
        """Return headers compressed; the order of calls is the order of sending."""
        plain = struct.pack(">I", len(headers))
        for text in (text for pair in headers.items() for text in pair):
            plain += struct.pack(">I", len(text.encode())) + text.encode()
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def syn_stream(self, stream: int, headers: dict[str, str], *, fin: bool = False) -> bytes:
        """Return the opening of a stream, and with `fin` the end of this side of it."""
        body = struct.pack(">IIH", stream, 0, 0) + self.header_block(headers)
        return control_frame(Kind.SYN_STREAM, body, FLAG_FIN if fin else 0)

    def syn_reply(self, stream: int) -> bytes:
        """Return the acceptance of a stream."""
        return control_frame(Kind.SYN_REPLY, struct.pack(">I", stream) + self.header_block({}))


def control_frame(kind: Kind, body: bytes, flags: int = 0) -> bytes:
    """Return a control frame."""
    return struct.pack(">II", _CONTROL | _VERSION << 16 | kind, flags << 24 | len(body)) + body


def data_frame(stream: int, data: bytes, *, fin: bool = False) -> bytes:
    """Return a piece of a stream, or its last."""
    return struct.pack(">II", stream, (FLAG_FIN if fin else 0) << 24 | len(data)) + data


def reset_frame(stream: int, status: int) -> bytes:
    """Return the end of a stream by an error: 1 protocol error, 3 refused, 5 cancelled."""
    return control_frame(Kind.RST_STREAM, struct.pack(">II", stream, status))


def ping_frame(number: int) -> bytes:
    """Return (the answer to) a ping."""
    return control_frame(Kind.PING, struct.pack(">I", number))
