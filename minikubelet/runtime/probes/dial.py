"""TCP connections opened within a time limit, with failures in the words that Kubernetes users know."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any, Final

_ON_ITS_WAY: Final = (errno.EINPROGRESS, errno.EALREADY)


# Host and port, for IPv6 also flow and scope.
Address = tuple[Any, ...]


class DialError(Exception):
    """The connection could not be made; the text is what a Go program would say."""


def host_port(host: str, port: int) -> str:
    """Return `host:port`, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Dialing:
    """A TCP connection to an address, begun; its owner waits for it, or closes the socket.

    The socket says goodbye when it is closed, and is not told to reset: servers would log an error for each probe. The
    kubelet's lingers for a second, which would hold up the whole loop; both leave a port in TIME-WAIT.
    """

    __slots__ = ("_address", "_error", "_shown", "socket")

    def __init__(self, family: int, address: Address, shown: str) -> None:
        """Send the first packet. Raises OSError when there are no descriptors left."""
        self._address = address
        self._shown = shown
        self.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._error = self.socket.connect_ex(self._address)
            if self._error == errno.EINPROGRESS:
                # A pod answers while the packet is being sent, but the kernel takes that up on the way back.
                self._error = self.socket.connect_ex(self._address)
        except BaseException:
            self.socket.close()
            raise

    def is_open(self) -> bool:
        """Tell whether it is open already. Raises DialError when it has failed already, and closes it."""
        if self._error in (0, *_ON_ITS_WAY):
            return self._error == 0
        raise self._failed(OSError(self._error, os.strerror(self._error)))

    async def wait(self) -> socket.socket:
        """Return the open socket. Raises DialError, and closes it."""
        try:
            if not self.is_open():
                await asyncio.get_running_loop().sock_connect(self.socket, self._address)
        except OSError as error:
            raise self._failed(error) from error
        except BaseException:
            self.socket.close()
            raise
        return self.socket

    def _failed(self, error: OSError) -> DialError:
        self.socket.close()
        return DialError(f"dial tcp {self._shown}: connect: {_text(error)}")


def begin_dial(host: str, port: int) -> Dialing | None:
    """Begin a connection to an address; None when the host is a name. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return None
    return Dialing(family, (host, port), host_port(host, port))


async def dial(host: str, port: int) -> socket.socket:
    """Open a TCP connection; the caller closes the socket and limits the time.

    Raises:
        DialError: The name does not resolve or nobody answers.
    """
    begun = begin_dial(host, port)
    if begun is None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise DialError(f"dial tcp: lookup {host}: no such host") from error
        family, _, _, _, address = found[0]
        begun = Dialing(family, address, host_port(host, port))
    return await begun.wait()


def timed_out(host: str, port: int) -> str:
    """Return what is said of a connection that was not made in time."""
    return f"dial tcp {host_port(host, port)}: i/o timeout"


def _text(error: OSError) -> str:
    if error.errno is None:
        return str(error).lower()
    if error.errno == errno.EHOSTUNREACH:
        return "no route to host"
    return os.strerror(error.errno).lower()  # Go prints the C library's texts in lower case
