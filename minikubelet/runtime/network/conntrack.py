"""Connections that the kernel remembers: UDP has no handshake, so a remembered one outlives a change of host ports.

A client that went on sending while a host port was published would for ever be answered by nobody, and one that goes
on after it was withdrawn would reach an address that is another pod's by then. The kernel forgets what matches; one
that is too old for that (before 6.3) refuses, but lists it, and forgets one entry after the other.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from minikubelet.runtime.network.forwards import Forward
from minikubelet.runtime.network.rtnetlink import attributes, split

_NETLINK_NETFILTER: Final = 12
_LIST: Final = (1 << 8) | 1
_DELETE: Final = (1 << 8) | 2
_REQUEST_ACK: Final = 0x5
_REQUEST_DUMP: Final = 0x301
_ERROR: Final = 2
_DONE: Final = 3
_ROOM: Final = 1 << 16
_PATIENCE_S: Final = 1.0  # the kernel has answered when a request is sent
_NESTED: Final = 0x8000
_CTA_TUPLE_ORIG: Final = 1
_CTA_TUPLE_REPLY: Final = 2
_CTA_ID: Final = 12
_CTA_ZONE: Final = 18
_CTA_FILTER: Final = 25
_CTA_TUPLE_IP: Final = 1
_CTA_TUPLE_PROTO: Final = 2
_CTA_IP_V4_SRC: Final = 1
_CTA_IP_V6_SRC: Final = 3
_CTA_PROTO_NUM: Final = 1
_CTA_PROTO_SRC_PORT: Final = 2
_CTA_PROTO_DST_PORT: Final = 3
_CTA_FILTER_ORIG_FLAGS: Final = 1
_CTA_FILTER_REPLY_FLAGS: Final = 2
# Which parts of a tuple count (nf_conntrack_netlink.c, CTA_FILTER_F_*).
_MATCH_IP_SRC: Final = 1 << 0
_MATCH_PROTOCOL: Final = 1 << 3
_MATCH_SRC_PORT: Final = 1 << 4
_MATCH_DST_PORT: Final = 1 << 5


def forget(*, withdrawn: Iterable[Forward], published: Iterable[Forward]) -> None:
    """Forget the connections that were translated to withdrawn pod ports, and those to published host ports."""
    _send(
        [_by_pod_port(forward) for forward in withdrawn if forward.protocol == "udp"]
        + [_by_host_port(forward) for forward in published if forward.protocol == "udp"]
    )


def _by_host_port(forward: Forward) -> bytes:
    protocol = _attribute(_CTA_PROTO_NUM, bytes((socket.IPPROTO_UDP,)))
    protocol += _attribute(_CTA_PROTO_DST_PORT, struct.pack(">H", forward.host_port))
    tuple_ = _attribute(_CTA_TUPLE_ORIG | _NESTED, _attribute(_CTA_TUPLE_PROTO | _NESTED, protocol))
    return _message(forward, tuple_, original=_MATCH_PROTOCOL | _MATCH_DST_PORT, reply=0)


def _by_pod_port(forward: Forward) -> bytes:
    protocol = _attribute(_CTA_PROTO_NUM, bytes((socket.IPPROTO_UDP,)))
    protocol += _attribute(_CTA_PROTO_SRC_PORT, struct.pack(">H", forward.pod_port))
    source = _CTA_IP_V4_SRC if forward.family == 4 else _CTA_IP_V6_SRC
    ip = _attribute(_CTA_TUPLE_IP | _NESTED, _attribute(source, ipaddress.ip_address(forward.pod_ip).packed))
    tuple_ = _attribute(_CTA_TUPLE_REPLY | _NESTED, ip + _attribute(_CTA_TUPLE_PROTO | _NESTED, protocol))
    return _message(forward, tuple_, original=0, reply=_MATCH_IP_SRC | _MATCH_PROTOCOL | _MATCH_SRC_PORT)


def _message(forward: Forward, tuple_: bytes, *, original: int, reply: int) -> bytes:
    wanted = _attribute(_CTA_FILTER_ORIG_FLAGS, struct.pack("=I", original))
    wanted += _attribute(_CTA_FILTER_REPLY_FLAGS, struct.pack("=I", reply))
    family = socket.AF_INET if forward.family == 4 else socket.AF_INET6
    return struct.pack("=BBH", family, 0, 0) + tuple_ + _attribute(_CTA_FILTER | _NESTED, wanted)


def _send(filters: Iterable[bytes]) -> None:
    wanted = list(filters)
    if not wanted:
        return
    # What fails costs half a minute of silence at worst.
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as made:
        made.settimeout(_PATIENCE_S)
        for one in wanted:
            if _is_refused(made, one):
                for entry in list(_listed(made, one)):
                    _is_refused(made, entry)


def _is_refused(made: socket.socket, entries: bytes) -> bool:
    made.send(_request(_DELETE, _REQUEST_ACK, entries))
    return any(struct.unpack_from("=i", body)[0] != 0 for kind, _, _, body in split(made.recv(_ROOM)) if kind == _ERROR)


def _listed(made: socket.socket, wanted: bytes) -> Iterator[bytes]:
    """Yield what names each entry that matches."""
    made.send(_request(_LIST, _REQUEST_DUMP, wanted))
    while True:
        for kind, _, _, body in split(made.recv(_ROOM)):
            if kind in (_ERROR, _DONE):
                return
            yield body[:4] + b"".join(
                _attribute(number | (_NESTED if number == _CTA_TUPLE_ORIG else 0), data)
                for number, data in attributes(body[4:]).items()
                if number in (_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE)
            )


def _request(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
