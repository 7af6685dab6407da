"""What others change on the host while pods run, as bells: the network then looks afresh and repairs.

Operators reload firewalls (which flushes every table, ours too), delete links, change the uplink's MTU or the node's
address. The kernel tells all of it through netlink groups; nothing here polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

from minikubelet.runtime.network.rtnetlink import RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, attributes

_NETLINK_NETFILTER: Final = 12
_RECEIVE_BYTES: Final = 256 * 1024
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_NFNLGRP_NFTABLES: Final = 7
_NFT_NEWGEN: Final = (10 << 8) | 15
_NFTA_TABLE: Final = 1
# RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
_ROUTE_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_RTM_DELADDR: Final = 21
_ROUTES: Final = (24, 25)


class LinkWatch:
    """Rings when a watched link, an address of the node or a default route changes.

    Args:
        ring: Called on the loop.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._watched: set[int] = set()
        self._quiet = 0
        self._socket = _open(socket.NETLINK_ROUTE, _ROUTE_GROUPS)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def watch(self, links: set[int], *, quiet: int) -> None:
        """Watch these links, and the addresses of all but the `quiet` one (the bridge, whose we set)."""
        self._watched, self._quiet = links, quiet

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        heard = False
        for kind, body in _messages(self._socket):
            heard = heard or kind is None or self._matters(kind, body)
        if heard:
            self._ring()

    def _matters(self, kind: int, body: bytes) -> bool:
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            return _index(body) in self._watched
        if kind in (RTM_NEWADDR, _RTM_DELADDR):
            # Its fourth byte is the scope: what counts for a link alone is never the node's, and each veth brings one.
            return body[3] == 0 and _index(body) != self._quiet
        # A route's second byte is the length of its destination: 0 is the way to everywhere.
        return kind in _ROUTES and body[1] == 0


class RulesWatch:
    """Rings when somebody else changes our nftables table.

    Own changes are told from others' by pausing: all messages of a transaction are in the socket before the program
    that made it ends, and each transaction ends with one generation message.
    """

    def __init__(self, table: str, ring: Callable[[], None]) -> None:
        self._table = table.encode()
        self._ring = ring
        self._touched = False
        self._socket = _open(_NETLINK_NETFILTER, 0)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def pause(self) -> None:
        """Leave messages where they are: a transaction of our own begins."""
        asyncio.get_running_loop().remove_reader(self._socket)

    def resume(self, *, own: int) -> None:
        """Go on, passing over `own` transactions that changed our table."""
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        self._read(own)

    def _read(self, own: int = 0) -> None:
        changes = 0
        for kind, body in _messages(self._socket):
            if kind is None:
                changes += own + 1
            elif kind != _NFT_NEWGEN:
                self._touched = self._touched or attributes(body[4:]).get(_NFTA_TABLE, b"")[:-1] == self._table
            elif self._touched:
                self._touched = False
                changes += 1
        if changes > own:
            self._ring()


def _index(body: bytes) -> int:
    """Return the link's index, which stands at the same place in messages on links and on addresses."""
    index: int = struct.unpack_from("=i", body, 4)[0]
    return index


def _open(protocol: int, groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        made.setblocking(False)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        made.bind((0, groups))
    except OSError:
        made.close()
        raise
    return made


def _messages(source: socket.socket) -> Iterator[tuple[int | None, bytes]]:
    """Give every message that waits; a kind of None says that the kernel had to drop some."""
    while True:
        try:
            data = source.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            yield None, b""
            continue
        offset = 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if length < 16:
                break
            yield kind, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3
