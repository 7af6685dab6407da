"""Links, addresses and routes in the kernel: one pod's wiring, the bridge, and what is there now.

Everything here blocks, briefly: it runs in the network's own thread, never on the event loop, because the kernel may
hold its lock for long while it tears down other namespaces. That thread also is the only one that ever enters another
network namespace; when the way back failed, it is lost, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import ipaddress
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from minikubelet.runtime.network import rtnetlink
from minikubelet.runtime.network.addresses import AddressPool, pod_mac
from minikubelet.runtime.network.rtnetlink import (
    IFF_UP,
    Address,
    IPAddress,
    IPInterface,
    Link,
    Netlink,
    Route,
)

POD_LINK: Final = "eth0"
_CLONE_NEWNET: Final = 0x40000000
_LOOPBACK_INDEX: Final = 1
_ENGINES: Final = ("bridge", "veth")
_IPV6: Final = "/proc/sys/net/ipv6"
_ACCEPT_RA: Final = "/proc/sys/net/ipv6/conf/default/accept_ra"
_OWN_NETNS: Final = "/proc/thread-self/ns/net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One pod's connection to the bridge. `interfaces` and `gateways` are IPv4 first."""

    link: str
    alias: str
    interfaces: tuple[IPInterface, ...]
    gateways: tuple[IPAddress, ...]
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """What the host's network looked like at one moment."""

    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]

    def link(self, name: str) -> Link | None:
        """Return the named link."""
        return next((link for link in self.links if link.name == name), None)

    def uplink(self) -> Link | None:
        """Return the link of the best default route, IPv4's before IPv6's."""
        ways = sorted((r for r in self.routes if r.default), key=lambda r: (r.destination.version, r.metric))
        indices = [index for way in ways for index in way.links]
        by_index = {link.index: link for link in self.links}
        return next((by_index[index] for index in indices if index in by_index), None)


class Wiring:
    """The kernel's side of the network. Use it from one thread only.

    `lost` is set when that thread could not come back from a pod's namespace and must not be used any more.

    Args:
        bridge: Name of the bridge.
    """

    def __init__(self, bridge: str) -> None:
        self.lost = False
        self._bridge = bridge
        self._host = Netlink()
        self._home = os.open(_OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        found = self._host.link(bridge)
        self._bridge_index, self._mtu = (found.index, found.mtu) if found else (0, 1500)
        # A kernel without IPv6 refuses to be told anything about it.
        self._ipv6 = os.path.exists(_IPV6)

    @property
    def bridge_index(self) -> int:
        """The bridge's index, 0 before it is made."""
        return self._bridge_index

    def close(self) -> None:
        """Close what is open; nothing in the kernel changes."""
        self._host.close()
        os.close(self._home)

    def look(self) -> HostView:
        """Read the host's links, addresses and routes."""
        return HostView(
            links=tuple(self._host.links()),
            addresses=tuple(self._host.addresses()),
            routes=tuple(self._host.routes()),
        )

    def ensure_bridge(self, pools: Iterable[AddressPool], *, mtu: int, alias: str) -> bool:
        """Make the bridge what it should be, changing only what is not; True if it had to be made."""
        found = self._host.link(self._bridge)
        pools = list(pools)
        made = found is None
        if found is None:
            self._host.apply(rtnetlink.make_bridge(self._bridge, mac=pod_mac(pools[0].gateway), mtu=mtu))
            found = self._host.link(self._bridge)
        if found is None:
            raise OSError(errno.ENODEV, f"cannot make the bridge {self._bridge}: it vanished")
        self._bridge_index, self._mtu = found.index, mtu
        if found.alias != alias or found.mtu != mtu or not found.flags & IFF_UP:
            # No link-local address of the kernel's: for two seconds it would be tentative, and IPv6 pods not found.
            self._host.apply(
                rtnetlink.set_link(index=found.index, up=True, mtu=mtu, alias=alias, ipv6_link_local=not self._ipv6)
            )
        wanted = {pool.gateway_interface for pool in pools}
        if any(interface.version == 6 for interface in wanted):
            wanted.add(link_local(found.address))
        self._ensure_bridge_addresses(found.index, wanted)
        return made

    def make_namespace(self) -> int:
        """Make a network namespace by stepping into it and out again; return a descriptor. Raises OSError."""
        if _libc().unshare(_CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            self._go_home()

    def connect(self, wire: Wire, netns: int) -> None:
        """Connect a pod's network namespace to the bridge; what is already there stays as it is.

        Raises:
            OSError: The kernel refused; what was made so far is found again by the pod's record.
        """
        make = rtnetlink.make_veth(
            wire.link,
            master=self._bridge_index,
            mtu=self._mtu,
            peer=POD_LINK,
            peer_mac=pod_mac(wire.interfaces[0].ip),
            peer_netns=netns,
        )
        with self._inside(netns) as pod:
            try:
                self._host.apply(make)
            except FileExistsError:
                if not self._connected(wire.link, pod):
                    self._clear(wire, pod)
                    self._host.apply(make)
            self._set_up_pod(pod, wire)
            # Switching it on comes last: that tells a finished connection from one that a crash cut short.
            self._host.apply(
                rtnetlink.set_bridge_port(wire.link, hairpin=True),
                rtnetlink.set_link(wire.link, up=True, alias=wire.alias, ipv6_link_local=not self._ipv6),
            )

    def reconnect(self, links: Iterable[str]) -> None:
        """Put pods' links that lost their bridge back on it, and give them the bridge's MTU."""
        found = [link for name in links if (link := self._host.link(name)) is not None]
        lost = [link.name for link in found if link.master != self._bridge_index]
        self._host.apply(
            *(rtnetlink.set_link(name, master=self._bridge_index) for name in lost),
            *(rtnetlink.set_bridge_port(name, hairpin=True) for name in lost),
            # A pod keeps its own end as it was made: what it may send stays smaller than what the host may.
            *(rtnetlink.set_link(link.name, mtu=self._mtu) for link in found if link.mtu != self._mtu),
        )

    def remove(self, links: Iterable[str], group: int) -> None:
        """Remove links that exist; one removal costs the kernel about 20 ms of waiting, and so do fifty in a group."""
        names = list(links)
        moved = self._host.try_each(rtnetlink.set_link(name, group=group) for name in names)
        if any(error is None for error in moved):
            try:
                self._host.apply(rtnetlink.remove_group(group))
            except OSError as gone:
                # A pod's namespace that died meanwhile took the links with it.
                if gone.errno != errno.ENODEV:
                    raise
        for error in moved:
            if error is not None and error.errno != errno.ENODEV:
                raise error

    def loopback_up(self, netns: int) -> None:
        """Switch a namespace's loopback on, for pods that others connect."""
        with self._inside(netns) as pod:
            pod.apply(rtnetlink.set_link(index=_LOOPBACK_INDEX, up=True))

    def remove_bridge(self) -> None:
        """Remove the bridge if it is there."""
        for error in self._host.try_each([rtnetlink.remove_link(self._bridge)]):
            if error is not None and error.errno != errno.ENODEV:
                raise error

    def _ensure_bridge_addresses(self, index: int, wanted: set[IPInterface]) -> None:
        there = {a.interface for a in self._host.addresses() if a.index == index}
        self._host.apply(
            *(rtnetlink.add_address(index, interface) for interface in wanted - there),
            *(rtnetlink.remove_address(index, interface) for interface in there - wanted),
        )

    def _connected(self, name: str, pod: Netlink) -> bool:
        """Whether the host's link and the pod's are the two ends of one pair."""
        here, there = self._host.link(name), pod.link(POD_LINK)
        if here is None or there is None or here.master != self._bridge_index:
            return False
        return here.peer == there.index and there.peer == here.index

    def _clear(self, wire: Wire, pod: Netlink) -> None:
        """Remove the remains of an earlier sandbox: the host's end, or a foreign link of the pod's name."""
        self.remove([wire.link], wire.group)
        pod.try_each([rtnetlink.remove_link(POD_LINK)])

    def _set_up_pod(self, pod: Netlink, wire: Wire) -> None:
        link = pod.link(POD_LINK)
        if link is None:
            raise OSError(errno.ENODEV, f"cannot set up {POD_LINK} of the pod: it vanished")
        pod.apply(
            rtnetlink.set_link(index=_LOOPBACK_INDEX, up=True),
            rtnetlink.set_link(index=link.index, up=True),
            *(rtnetlink.add_address(link.index, interface) for interface in wire.interfaces),
            *(rtnetlink.add_default_route(link.index, gateway) for gateway in wire.gateways),
        )

    @contextmanager
    def _inside(self, netns: int) -> Generator[Netlink]:
        """Give a socket of another network namespace, made by stepping in and out of it."""
        _enter(netns)
        try:
            pod = Netlink()
            if self._ipv6:
                _ignore_router_advertisements()
        finally:
            self._go_home()
        with pod:
            yield pod

    def _go_home(self) -> None:
        try:
            _enter(self._home)
        except OSError:
            self.lost = True
            raise


def link_local(mac: str) -> IPInterface:
    """Return the link-local address of a hardware address (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((octets[0] ^ 0x02,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return ipaddress.IPv6Interface((b"\xfe\x80" + bytes(6) + identifier, 64))


def node_addresses(view: HostView, *, without: str) -> tuple[str, ...]:
    """Return the node's address of each family, IPv4 first: the uplink's, or else another link's.

    Bridges and veth pairs do not count unless they are the uplink: other container engines live there.

    Args:
        view: The host's network.
        without: A link that never counts, the pods' bridge.

    Source: without `--node-ip` the kubelet takes the address of the interface with the default route.
    """
    uplink = view.uplink()
    first = uplink.index if uplink else -1
    links = {link.index: link for link in view.links}

    def counts(address: Address) -> bool:
        link = links.get(address.index)
        if link is None or link.name == without or address.interface.is_loopback:
            return False
        return address.scope == 0 and not address.temporary and (link.index == first or link.kind not in _ENGINES)

    found = sorted(filter(counts, view.addresses), key=lambda a: (a.interface.version, a.index == first), reverse=True)
    by_family = {address.interface.version: str(address.interface.ip) for address in reversed(found)}
    return tuple(by_family.values()) or ("127.0.0.1",)


def _ignore_router_advertisements() -> None:
    """Make links to come in this namespace ignore routers: another pod could play one (CVE-2020-10749)."""
    with contextlib.suppress(OSError), open(_ACCEPT_RA, "wb", buffering=0) as file:
        file.write(b"0")


def _enter(netns: int) -> None:
    """Move this thread into a network namespace (os.setns needs Python 3.12)."""
    libc = _libc()
    if libc.setns(netns, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter the pod's network namespace: {os.strerror(code)}")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
