"""TCP connections opened within a time limit, with failures in the words that Kubernetes users know."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any, Final

# How long Go's dialer waits before it tries a name's addresses of the other family beside the first.
_FALLBACK_DELAY_S: Final = 0.3
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

    A name may stand for several addresses: each is tried, as Go's `net.Dialer` does it, those of the first one's
    family in order, and the others beside them after a while or as soon as those have failed (RFC 6555).

    Raises:
        DialError: The name does not resolve, or nobody answers: why at the first address.
    """
    begun = begin_dial(host, port)
    if begun is not None:
        return await begun.wait()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DialError(f"dial tcp: lookup {host}: no such host") from error
    addresses: list[tuple[int, Address]] = [(family, address) for family, _, _, _, address in found]
    near = [one for one in addresses if one[0] == addresses[0][0]]
    far = [one for one in addresses if one[0] != addresses[0][0]]
    return await (_dial_beside(near, far) if far else _dial_in_turn(near))


async def _dial_in_turn(addresses: list[tuple[int, Address]]) -> socket.socket:
    """Connect to the first address that answers. Raises the DialError of the first."""
    failure: DialError | None = None
    for family, address in addresses:
        shown = host_port(*address[:2])
        try:
            return await Dialing(family, address, shown).wait()
        except DialError as error:
            failure = failure or error
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6; others are not the address' fault
                raise
            failure = failure or DialError(f"dial tcp {shown}: socket: {_text(error)}")
    assert failure is not None
    raise failure


async def _dial_beside(near: list[tuple[int, Address]], far: list[tuple[int, Address]]) -> socket.socket:
    """Connect to one of two families, the second one after a delay. Raises the DialError of the first."""
    first = asyncio.create_task(_dial_in_turn(near))
    tasks = [first]
    try:
        await asyncio.wait(tasks, timeout=_FALLBACK_DELAY_S)
        if not first.done() or first.exception() is not None:
            tasks.append(asyncio.create_task(_dial_in_turn(far)))
        waiting = set(tasks)
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in tasks:
                if one.done() and one.exception() is None:
                    tasks.remove(one)
                    return one.result()
        return first.result()
    finally:
        for one in tasks:
            one.cancel()
            one.add_done_callback(_close_late)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """Close a connection that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def timed_out(host: str, port: int) -> str:
    """Return what is said of a connection that was not made in time."""
    return f"dial tcp {host_port(host, port)}: i/o timeout"


def _text(error: OSError) -> str:
    if error.errno is None:
        return str(error).lower()
    if error.errno == errno.EHOSTUNREACH:
        return "no route to host"
    return os.strerror(error.errno).lower()  # Go prints the C library's texts in lower case
