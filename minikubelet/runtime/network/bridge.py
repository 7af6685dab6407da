"""Pods on a bridge of our own: an address of the pod range each, a veth pair, the host as their router."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network import names
from minikubelet.runtime.network.addresses import AddressPool
from minikubelet.runtime.network.batching import Batcher
from minikubelet.runtime.network.conflicts import find_conflict
from minikubelet.runtime.network.errors import NetworkConflict, NetworkError, os_error_text
from minikubelet.runtime.network.records import PodNetwork, Records
from minikubelet.runtime.network.rtnetlink import IFF_UP, IPNetwork
from minikubelet.runtime.network.sysctls import Sysctls
from minikubelet.runtime.network.thread import NetworkThread
from minikubelet.runtime.network.wiring import HostView, Wire, Wiring

log = structlog.get_logger(__name__)

_MTU_WITHOUT_UPLINK: Final = 1500
_MTU_MAX: Final = 65535


class BridgeBackend:
    """The bridge and what hangs on it.

    Args:
        state_dir: The daemon's state directory, which the bridge's alias names as its owner.
        bridge: Name of the bridge.
        pod_cidrs: The pod ranges.
        thread: Where kernel and files are asked.
        records: The pods' records.
    """

    def __init__(
        self, *, state_dir: str, bridge: str, pod_cidrs: tuple[str, ...], thread: NetworkThread, records: Records
    ) -> None:
        self._state_dir = state_dir
        self._bridge = bridge
        self._pools = sorted((AddressPool(cidr) for cidr in pod_cidrs), key=lambda pool: pool.network.version)
        self._thread = thread
        self._records = records
        self._sysctls = Sysctls(os.path.join(state_dir, "network", "changed-sysctls"))
        self._group = names.link_group(bridge)
        # Removing fifty links costs the kernel what removing one does.
        self._leaving = Batcher[str](self._remove_links)

    @property
    def ranges(self) -> tuple[IPNetwork, ...]:
        """The pod ranges, IPv4 first."""
        return tuple(pool.network for pool in self._pools)

    async def start(self, view: HostView) -> None:
        """Make the bridge, or take it over.

        Raises:
            NetworkConflict: Its name or the range is in use.
            NetworkError: The kernel refused.
        """
        conflict = find_conflict(
            view, bridge=self._bridge, state_dir=self._state_dir, ranges=self.ranges, in_use=os.path.isdir
        )
        if conflict is not None:
            raise NetworkConflict(conflict)
        await self.repair(view, ())
        latest = await self._thread.call(self._records.read_latest)
        for pool, text in ((pool, text) for text in latest for pool in self._pools):
            with contextlib.suppress(ValueError):
                pool.resume_after(ipaddress.ip_address(text))

    async def repair(self, view: HostView, pods: Iterable[PodNetwork]) -> None:
        """Make bridge, settings and the connected pods' ports what they should be, changing only what is not.

        Raises:
            NetworkError: The kernel refused.
        """
        uplink = view.uplink()
        mtu = min(uplink.mtu, _MTU_MAX) if uplink else _MTU_WITHOUT_UPLINK
        links = [pod.link for pod in pods]

        def work(wiring: Wiring) -> None:
            if wiring.ensure_bridge(self._pools, mtu=mtu, alias=names.bridge_alias(self._state_dir)):
                log.info("bridge made", bridge=self._bridge, mtu=mtu)
            self._set_sysctls(uplink.name if uplink else None)
            wiring.reconnect(links)

        try:
            await self._thread.run(work)
        except OSError as error:
            raise NetworkError(os_error_text("cannot set up the network", error)) from error

    async def open_loopback(self) -> None:
        """Let the host reach host ports on 127.0.0.1; only behind the rule that keeps the bridge from using it."""
        if self._pools[0].network.version == 4:
            name = f"net/ipv4/conf/{self._bridge}/route_localnet"
            await self._thread.call(
                lambda: self._sysctls.ensure(name, "1", reason="host ports on 127.0.0.1", remember=False)
            )

    def adopt(self, network: PodNetwork) -> bool:
        """Take a recorded pod's addresses; False when they are of another range or someone else's by now."""
        taken: list[str] = []
        for ip in network.ips:
            if not any(pool.reserve(ipaddress.ip_address(ip)) for pool in self._pools):
                self.release(taken)
                return False
            taken.append(ip)
        return len(taken) == len(self._pools)

    def give(self, known: PodNetwork | None, uid: PodUID, pod: str) -> PodNetwork:
        """Give a pod its addresses, or those it has.

        Raises:
            AddressesExhausted: A range is used up.
        """
        if known is None:
            known = PodNetwork(uid=uid, pod=pod, ips=self._allocate())
        return replace(known, pod=pod, link=names.link_name(self._bridge, uid))

    async def connect(self, network: PodNetwork, netns: int | Future[int]) -> None:
        """Write the record and connect the pod, whose namespace may be on its way. Raises NetworkError."""

        def work(wiring: Wiring, netns: int) -> None:
            self._records.write(network)
            self._records.write_latest([str(pool.latest) for pool in self._pools])
            wiring.connect(self._wire(network), netns)

        try:
            if isinstance(netns, int):
                await self._thread.run_inside(netns, work)
            else:
                await self._thread.run_behind(netns, work)
        except OSError as error:
            raise NetworkError(os_error_text(f"cannot connect the pod {network.pod}", error)) from error

    async def disconnect(self, network: PodNetwork) -> None:
        """Remove a pod's link; its addresses stay taken until `release`. Raises NetworkError."""
        try:
            await self._leaving.add(network.link)
        except OSError as error:
            raise NetworkError(os_error_text(f"cannot disconnect the pod {network.pod}", error)) from error

    def release(self, ips: Iterable[str]) -> None:
        """Give a pod's addresses back."""
        for ip in ips:
            for pool in self._pools:
                pool.release(ipaddress.ip_address(ip))

    def is_connected(self, network: PodNetwork, view: HostView) -> bool:
        """Whether a recorded pod's connection was finished: its link is switched on last."""
        link = view.link(network.link)
        return link is not None and bool(link.flags & IFF_UP)

    async def remove_stray_links(self, view: HostView, expected: set[str]) -> None:
        """Remove the pods' links of this bridge that nobody knows."""
        stray = [name for name in _own_links(view, self._bridge) if name not in expected]
        if stray:
            await self._remove_links(stray)
            log.info("leftover links removed", links=stray)

    async def remove(self) -> None:
        """Remove the bridge and every link of it, and put settings back unless another daemon needs them."""

        def work(wiring: Wiring) -> None:
            wiring.remove(_own_links(wiring.look(), self._bridge), self._group)
            wiring.remove_bridge()
            self._sysctls.restore(
                lambda: any(names.bridge_owner(link.alias) for link in wiring.look().links if link.kind == "bridge")
            )

        try:
            await self._thread.run(work)
        except OSError as error:
            raise NetworkError(os_error_text(f"cannot remove the bridge {self._bridge}", error)) from error

    async def _remove_links(self, links: list[str]) -> None:
        await self._thread.run(lambda wiring: wiring.remove(links, self._group))

    def _allocate(self) -> tuple[str, ...]:
        """Take an address of each range, or of none when one is used up."""
        exhausted = [pool for pool in self._pools if pool.free <= 0]
        return tuple(str(pool.allocate()) for pool in exhausted or self._pools)

    def _wire(self, network: PodNetwork) -> Wire:
        by_version = {pool.network.version: pool for pool in self._pools}
        addresses = [ipaddress.ip_address(ip) for ip in network.ips]
        return Wire(
            link=network.link,
            alias=names.link_alias(network.pod, network.uid),
            interfaces=tuple(by_version[address.version].interface(address) for address in addresses),
            gateways=tuple(by_version[address.version].gateway for address in addresses),
            group=self._group,
        )

    def _set_sysctls(self, uplink: str | None) -> None:
        for pool in self._pools:
            if pool.network.version == 4:
                self._sysctls.ensure("net/ipv4/ip_forward", "1", reason="pods reach the outside")
                continue
            if uplink is not None and _accepts_router_advertisements(uplink):
                self._sysctls.ensure(
                    f"net/ipv6/conf/{uplink}/accept_ra", "2", reason="router advertisements in spite of forwarding"
                )
            self._sysctls.ensure("net/ipv6/conf/all/forwarding", "1", reason="pods reach the outside")
            self._sysctls.ensure(
                f"net/ipv6/conf/{self._bridge}/accept_ra", "0", reason="pods are no routers", remember=False
            )


def _own_links(view: HostView, bridge: str) -> list[str]:
    """Return the pods' links of a bridge: named by us, of our kind, and on no other bridge."""
    found = view.link(bridge)
    masters = (0, found.index) if found else (0,)
    prefix = names.link_prefix(bridge)
    return [x.name for x in view.links if x.name.startswith(prefix) and x.kind == "veth" and x.master in masters]


def _accepts_router_advertisements(link: str) -> bool:
    try:
        with open(f"/proc/sys/net/ipv6/conf/{link}/accept_ra", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False
