"""The few rtnetlink messages that pod networking needs, packed by hand.

Two thirds of a pod's wiring time are the kernel's, so the library must not cost more than the kernel: a pod takes about
2 ms this way and 6 ms through pyroute2's asynchronous class, which also adds 14 MiB to the daemon. Requests are sent
in batches: the kernel carries out every message of one `send` inside that call, and answers each with one
acknowledgement, so nothing here waits for anything but the kernel's own locks.

Not thread-safe: each `Netlink` belongs to the thread that uses it.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from minikubelet.linux.faults import point

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# linux/netlink.h
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_DUMP: Final = 0x300
_NLM_F_REPLACE: Final = 0x100
_NLM_F_EXCL: Final = 0x200
_NLM_F_CREATE: Final = 0x400
_NLM_F_CAPPED: Final = 0x100
_NLM_F_ACK_TLVS: Final = 0x200
_NLM_F_DUMP_INTR: Final = 0x10
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLMSGERR_ATTR_MSG: Final = 1
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NLA_F_NESTED: Final = 0x8000
_NLA_TYPE_MASK: Final = 0x3FFF

# linux/rtnetlink.h
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_RT_TABLE_MAIN: Final = 254
_RT_TABLE_LOCAL: Final = 255
_RTPROT_STATIC: Final = 4
_RTN_UNICAST: Final = 1
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_MULTIPATH: Final = 9
_RTA_TABLE: Final = 15

# linux/if_link.h, linux/if_addr.h, linux/veth.h
IFF_UP: Final = 0x1
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_AF_SPEC: Final = 26
_IFLA_GROUP: Final = 27
_IFLA_NET_NS_FD: Final = 28
_IFLA_EXT_MASK: Final = 29
_RTEXT_FILTER_SKIP_STATS: Final = 8
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_INFO_SLAVE_KIND: Final = 4
_IFLA_INFO_SLAVE_DATA: Final = 5
_IFLA_BRPORT_MODE: Final = 4
_IFLA_INET6_ADDR_GEN_MODE: Final = 8
_IN6_ADDR_GEN_MODE_NONE: Final = 1
_VETH_INFO_PEER: Final = 1
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4
_IFA_FLAGS: Final = 8
_IFA_F_NODAD: Final = 0x02

_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVE_BYTES: Final = 256 * 1024
_BATCH: Final = 64  # messages at once: the answers to some 300 would not fit the socket's buffer, and be lost
# A list that changed while the kernel gave it is asked for again for so long. Where many pods come and go that happens
# several times in a row; what is asked for is also kept short, as only a list of several pieces can change in between.
_DUMP_LIMIT_S: Final = 10.0
_DUMP_PAUSE_S: Final = 0.001
# The kernel answers inside the request; this only keeps a lost answer from stopping the network for ever.
_RECEIVE_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class Message:
    """One request: its type and flags, its body, and words for an error ("make the bridge mk0")."""

    kind: int
    flags: int
    body: bytes
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface as the kernel lists it. `peer` is the other end's index for veth, `master` 0 for none."""

    index: int
    name: str
    kind: str
    flags: int
    mtu: int
    address: str
    master: int
    peer: int
    alias: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address on a link. `scope` 0 is global, 253 link, 254 host."""

    index: int
    interface: IPInterface
    scope: int
    temporary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route outside the table of local addresses. `links` holds several indices for a multipath route."""

    destination: IPNetwork
    links: tuple[int, ...]
    metric: int
    table: int

    @property
    def default(self) -> bool:
        """Whether this is a way to everywhere."""
        return self.destination.prefixlen == 0


def make_bridge(name: str, *, mac: str, mtu: int) -> Message:
    """Make a bridge, down, with an address that does not change as its ports come and go."""
    info = _nested(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, "bridge"))
    body = _link_body() + _text(_IFLA_IFNAME, name) + _mac(mac) + _number(_IFLA_MTU, mtu) + info
    return Message(RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body, f"make the bridge {name}")


def make_veth(name: str, *, master: int, mtu: int, peer: str, peer_mac: str, peer_netns: int) -> Message:
    """Make a veth pair, both ends down: `name` here as a port of the bridge, `peer` in the given network namespace."""
    peer_body = _link_body() + _text(_IFLA_IFNAME, peer) + _mac(peer_mac)
    peer_body += _number(_IFLA_MTU, mtu) + _number(_IFLA_NET_NS_FD, peer_netns)
    data = _nested(_IFLA_INFO_DATA, _nested(_VETH_INFO_PEER, peer_body))
    info = _nested(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, "veth") + data)
    body = _link_body() + _text(_IFLA_IFNAME, name) + _number(_IFLA_MTU, mtu) + _number(_IFLA_MASTER, master) + info
    return Message(RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body, f"make the veth pair {name}")


def set_bridge_port(name: str, *, hairpin: bool) -> Message:
    """Let a bridge port send a packet back where it came from: a pod may reach its own host port."""
    data = _nested(_IFLA_INFO_SLAVE_DATA, _byte(_IFLA_BRPORT_MODE, int(hairpin)))
    info = _nested(_IFLA_LINKINFO, _text(_IFLA_INFO_SLAVE_KIND, "bridge") + data)
    return Message(RTM_NEWLINK, 0, _link_body() + _text(_IFLA_IFNAME, name) + info, f"set up the bridge port {name}")


def set_link(
    name: str = "",
    *,
    index: int = 0,
    up: bool | None = None,
    mtu: int | None = None,
    alias: str | None = None,
    group: int | None = None,
    master: int | None = None,
    ipv6_link_local: bool = True,
) -> Message:
    """Change a link, found by its index or its name; what is None stays."""
    flags = IFF_UP if up else 0
    change = 0 if up is None else IFF_UP
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, flags, change)
    if name:
        body += _text(_IFLA_IFNAME, name)
    if mtu is not None:
        body += _number(_IFLA_MTU, mtu)
    if alias is not None:
        body += _attribute(_IFLA_IFALIAS, alias.encode()[:255])
    if group is not None:
        body += _number(_IFLA_GROUP, group)
    if master is not None:
        body += _number(_IFLA_MASTER, master)
    if not ipv6_link_local:
        mode = _byte(_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE)
        body += _nested(_IFLA_AF_SPEC, _nested(socket.AF_INET6, mode))
    return Message(_RTM_SETLINK, 0, body, f"set up the link {name or index}")


def remove_link(name: str) -> Message:
    """Remove a link; of a veth pair both ends."""
    return Message(RTM_DELLINK, 0, _link_body() + _text(_IFLA_IFNAME, name), f"remove the link {name}")


def remove_group(group: int) -> Message:
    """Remove every link of a group in one go, which costs the kernel little more than removing one."""
    return Message(RTM_DELLINK, 0, _link_body() + _number(_IFLA_GROUP, group), f"remove the links of group {group}")


def add_address(index: int, interface: IPInterface) -> Message:
    """Give a link an address, usable at once: a bridge of our own needs no duplicate address detection."""
    return _address_message(RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_REPLACE, index, interface, f"add {interface}")


def remove_address(index: int, interface: IPInterface) -> Message:
    """Take an address from a link."""
    return _address_message(_RTM_DELADDR, 0, index, interface, f"remove {interface}")


def add_default_route(index: int, gateway: IPAddress) -> Message:
    """Send everything else to the gateway."""
    family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, _RTN_UNICAST, 0)
    body += _attribute(_RTA_GATEWAY, gateway.packed) + _number(_RTA_OIF, index)
    return Message(_RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_REPLACE, body, f"route to {gateway}")


class Netlink:
    """One rtnetlink socket, of the network namespace that its maker was in. Close it, or use it in a `with`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            timeout = struct.pack("@ll", _RECEIVE_TIMEOUT_S, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def apply(self, *messages: Message) -> None:
        """Carry out the messages in order. A failed one does not keep the kernel from trying those after it.

        Raises:
            OSError: The first failure: its errno, and what was being done with the kernel's own explanation.
        """
        first: OSError | None = None
        for error in self.try_each(messages):
            first = first or error
        if first is not None:
            raise first

    def try_each(self, messages: Iterable[Message]) -> list[OSError | None]:
        """Carry out the messages in order and return what became of each."""
        batch = list(messages)
        return [result for at in range(0, len(batch), _BATCH) for result in self._try_batch(batch[at : at + _BATCH])]

    def _try_batch(self, batch: list[Message]) -> list[OSError | None]:
        start = self._sequence + 1
        self._sequence += len(batch)
        packed = (
            _HEADER.pack(16 + len(m.body), m.kind, m.flags | _NLM_F_REQUEST | _NLM_F_ACK, start + i, 0) + m.body
            for i, m in enumerate(batch)
        )
        point("network.change")
        self._socket.send(b"".join(packed))
        results: list[OSError | None] = [None] * len(batch)
        waiting = set(range(len(batch)))
        while waiting:
            for kind, flags, sequence, body in split(self._socket.recv(_RECEIVE_BYTES)):
                place = sequence - start
                if kind == _NLMSG_ERROR and place in waiting:
                    waiting.discard(place)
                    results[place] = _error(flags, body, batch[place].purpose)
        return results

    def link(self, name: str) -> Link | None:
        """Return the named link, or None when there is none."""
        request = Message(_RTM_GETLINK, 0, _link_body() + _text(_IFLA_IFNAME, name), f"look at the link {name}")
        try:
            return next((_parse_link(body) for kind, body in self._ask(request) if kind == RTM_NEWLINK), None)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def links(self) -> list[Link]:
        """List every link of the namespace."""
        body = _link_body() + _number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
        request = Message(_RTM_GETLINK, _NLM_F_DUMP, body, "list the links")
        return [_parse_link(body) for kind, body in self._ask(request) if kind == RTM_NEWLINK]

    def addresses(self) -> list[Address]:
        """List every address of the namespace."""
        request = Message(_RTM_GETADDR, _NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, 0), "list the addresses")
        return [_parse_address(body) for kind, body in self._ask(request) if kind == RTM_NEWADDR]

    def routes(self) -> list[Route]:
        """List the unicast routes of every table but the local one."""
        request = Message(_RTM_GETROUTE, _NLM_F_DUMP, _ROUTE.pack(*([0] * 9)), "list the routes")
        found = (_parse_route(body) for kind, body in self._ask(request) if kind == _RTM_NEWROUTE)
        return [route for route in found if route is not None]

    def _ask(self, request: Message) -> list[tuple[int, bytes]]:
        """Ask a question; a list that changed while the kernel gave it is asked for again."""
        deadline = time.monotonic() + _DUMP_LIMIT_S
        while (answers := self._ask_once(request)) is None:
            if time.monotonic() > deadline:
                raise OSError(errno.EINTR, f"cannot {request.purpose}: it kept changing")
            time.sleep(_DUMP_PAUSE_S)
        return answers

    def _ask_once(self, request: Message) -> list[tuple[int, bytes]] | None:
        self._sequence += 1
        sequence = self._sequence
        # A dump ends with NLMSG_DONE; a single answer is followed by the acknowledgement asked for.
        flags = request.flags | _NLM_F_REQUEST | (0 if request.flags & _NLM_F_DUMP else _NLM_F_ACK)
        header = _HEADER.pack(16 + len(request.body), request.kind, flags, sequence, 0)
        self._socket.send(header + request.body)
        answers: list[tuple[int, bytes]] = []
        whole = True
        while True:
            for kind, answer_flags, answered, body in split(self._socket.recv(_RECEIVE_BYTES)):
                if answered != sequence:
                    continue
                whole = whole and not answer_flags & _NLM_F_DUMP_INTR
                if kind == _NLMSG_ERROR and (error := _error(answer_flags, body, request.purpose)) is not None:
                    raise error
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    return answers if whole else None
                answers.append((kind, body))


def attributes(data: bytes) -> dict[int, bytes]:
    """Split a run of attributes; of a repeated one the last counts."""
    found: dict[int, bytes] = {}
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split what was received into messages: kind, flags, sequence and body of each."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16:
            break
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _error(flags: int, body: bytes, purpose: str) -> OSError | None:
    code: int = -struct.unpack_from("=i", body)[0]
    if code == 0:
        return None
    text = os.strerror(code)
    if flags & _NLM_F_ACK_TLVS:
        request_length: int = struct.unpack_from("=I", body, 4)[0]
        skip = 20 if flags & _NLM_F_CAPPED else 4 + ((request_length + 3) & ~3)
        explained = attributes(body[skip:]).get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
        text = f"{text}: {explained}" if explained else text
    return OSError(code, f"cannot {purpose}: {text}")


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = attributes(body[_LINK.size :])
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=_string(found, _IFLA_IFNAME),
        kind=_string(info, _IFLA_INFO_KIND),
        flags=flags,
        mtu=_integer(found, _IFLA_MTU),
        address=found.get(_IFLA_ADDRESS, b"").hex(":"),
        master=_integer(found, _IFLA_MASTER),
        peer=_integer(found, _IFLA_LINK),
        alias=_string(found, _IFLA_IFALIAS),
    )


def _parse_address(body: bytes) -> Address:
    family, prefix, flags, scope, index = _ADDRESS.unpack_from(body)
    found = attributes(body[_ADDRESS.size :])
    # On a point-to-point link IFA_ADDRESS is the far end.
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    interface: IPInterface
    interface = ipaddress.IPv4Interface((packed, prefix)) if family == socket.AF_INET else _interface6(packed, prefix)
    # The same bit means "secondary" for IPv4, where it says nothing about lifetime.
    temporary = family == socket.AF_INET6 and bool(flags & 0x01)
    return Address(index=index, interface=interface, scope=scope, temporary=temporary)


def _interface6(packed: bytes, prefix: int) -> ipaddress.IPv6Interface:
    return ipaddress.IPv6Interface((packed, prefix))


def _parse_route(body: bytes) -> Route | None:
    family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6) or kind != _RTN_UNICAST:
        return None
    found = attributes(body[_ROUTE.size :])
    table = _integer(found, _RTA_TABLE) or table
    if table == _RT_TABLE_LOCAL:
        return None
    empty = bytes(4 if family == socket.AF_INET else 16)
    packed = found.get(_RTA_DST, empty)
    destination: IPNetwork
    if family == socket.AF_INET:
        destination = ipaddress.IPv4Network((packed, prefix))
    else:
        destination = ipaddress.IPv6Network((packed, prefix))
    links = (_integer(found, _RTA_OIF),) if _RTA_OIF in found else _next_hops(found.get(_RTA_MULTIPATH, b""))
    return Route(destination=destination, links=links, metric=_integer(found, _RTA_PRIORITY), table=table)


def _next_hops(data: bytes) -> tuple[int, ...]:
    links: list[int] = []
    offset = 0
    while offset + 8 <= len(data):
        length, index = struct.unpack_from("=HxxI", data, offset)
        if length < 8:
            break
        links.append(index)
        offset += (length + 3) & ~3
    return tuple(links)


def _address_message(kind: int, flags: int, index: int, interface: IPInterface, purpose: str) -> Message:
    packed = interface.ip.packed
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, interface.network.prefixlen, 0, 0, index)
    body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    if interface.version == 6:
        body += _number(_IFA_FLAGS, _IFA_F_NODAD)
    elif interface.network.prefixlen < 31:
        body += _attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    return Message(kind, flags, body, purpose)


def _link_body() -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def _nested(kind: int, data: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, data)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _byte(kind: int, value: int) -> bytes:
    return _attribute(kind, bytes((value,)))


def _mac(mac: str) -> bytes:
    return _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))


def _string(found: Mapping[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _integer(found: Mapping[int, bytes], kind: int) -> int:
    data = found.get(kind, b"")
    return int.from_bytes(data[:4], "little" if struct.pack("=H", 1) == b"\x01\x00" else "big") if data else 0
