"""TLS as HTTPS probes need it: the standard library's state machine over a socket, certificates unchecked.

The library is 7 MB, and a tenth of the start, of a daemon that needs it for such probes only: it serves on a socket
file. asyncio and aiohttp load it where they find it, and do without where they do not. So it is hidden from them
and comes with the first such probe.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

_LIBRARY: Final = ("ssl", "_ssl")
# Its other user, where Python has these of its own; some distributions' has not.
_HASHES: Final = "_hashlib"
_OWN_HASHES: Final = ("_md5", "_sha1", *(("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")))
# Modules that have less in them without it: who wants them later loads them again.
_LESSER: Final = ("http.client", "urllib.request")
_READ_SIZE: Final = 16 * 1024

Result = TypeVar("Result")


class Wire(Protocol):
    """What bytes go over."""

    async def send(self, data: bytes) -> None:
        """Send all. Raises OSError."""

    async def receive(self) -> bytes:
        """Return what comes next, nothing at the end. Raises OSError."""

    def close(self) -> None:
        """Give it up."""


@contextmanager
def hidden() -> Iterator[None]:
    """Have modules that are loaded meanwhile find no TLS, unless it is loaded already."""
    names = (*_LIBRARY, _HASHES) if all(map(find_spec, _OWN_HASHES)) else _LIBRARY
    absent = [one for one in names if one not in sys.modules]
    lesser = [one for one in _LESSER if one not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # such a module cannot be imported
    try:
        yield
    finally:
        for name in (*absent, *lesser):
            sys.modules.pop(name, None)


@cache
def _context() -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsWire:
    """TLS over another wire, as a client."""

    def __init__(self, wire: Wire, host: str) -> None:
        """Args: host: Who is called; a name goes with the handshake, an address does not."""
        context = _context()
        import ssl

        name = None if ":" in host or host.replace(".", "").isdigit() else host
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._wants_more = ssl.SSLWantReadError

    async def shake_hands(self) -> None:
        """Begin. Raises OSError."""
        try:
            await self._do(self._tls.do_handshake)
        except EOFError:
            raise ConnectionError("EOF") from None

    async def send(self, data: bytes) -> None:
        """Send all. Raises OSError."""
        await self._do(partial(self._tls.write, data))

    async def receive(self) -> bytes:
        """Return what comes next, nothing at the end, said or not. Raises OSError."""
        try:
            return await self._do(partial(self._tls.read, _READ_SIZE))
        except EOFError:
            return b""

    def close(self) -> None:
        """Give it up; the peer's goodbye is not worth waiting for."""
        self._wire.close()

    async def _do(self, step: Callable[[], Result]) -> Result:
        """Take a step as soon as what it needs has come. Raises EOFError: it will not."""
        while True:
            try:
                result = step()
            except self._wants_more:
                await self._flush()
                data = await self._wire.receive()
                if not data:
                    raise EOFError from None
                self._incoming.write(data)
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._wire.send(self._outgoing.read())
