"""TCP connections opened within a time limit, with failures in the words that Kubernetes users know."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final


class DialError(Exception):
    """The connection could not be made; the text is what a Go program would say."""


# Go prints the C library's texts in lower case.
_LINGER_AT_ONCE: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"


def host_port(host: str, port: int) -> str:
    """Return `host:port`, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def dial(host: str, port: int) -> socket.socket:
    """Open a TCP connection; the caller closes the socket and limits the time.

    The socket is told to reset on close: thousands of probes would otherwise leave as many ports in TIME-WAIT.

    Raises:
        DialError: The name does not resolve or nobody answers.
    """
    loop = asyncio.get_running_loop()
    family, address = await _resolve(loop, host, port)
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_AT_ONCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(connection, address)
    except OSError as error:
        connection.close()
        raise DialError(f"dial tcp {host_port(host, port)}: connect: {_text(error)}") from error
    except BaseException:
        connection.close()
        raise
    return connection


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> tuple[int, tuple[str, int]]:
    if ":" in host:
        return socket.AF_INET6, (host, port)
    if host.replace(".", "").isdigit():
        return socket.AF_INET, (host, port)
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DialError(f"dial tcp: lookup {host}: no such host") from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def timed_out(host: str, port: int) -> str:
    """Return what is said of a connection that was not made in time."""
    return f"dial tcp {host_port(host, port)}: i/o timeout"


def _text(error: OSError) -> str:
    if error.errno is None:
        return str(error).lower()
    if error.errno == errno.EHOSTUNREACH:
        return "no route to host"
    return os.strerror(error.errno).lower()
