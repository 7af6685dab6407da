"""The network of the node: what the pod workers ask, and the owner of addresses, links and host ports.

Order is what makes crashes harmless. A pod's record is written before the kernel is asked for anything, and removed
after everything else of the pod is gone; so at start each link, rule or pinned namespace that no record explains is a
leftover, and is removed. All kernel work runs in one thread of its own (`wiring` says why).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network import names
from minikubelet.runtime.network import nft as rules
from minikubelet.runtime.network.addresses import AddressPool
from minikubelet.runtime.network.batching import Batcher
from minikubelet.runtime.network.conflicts import find_conflict
from minikubelet.runtime.network.errors import NetworkConflict, NetworkError
from minikubelet.runtime.network.hostports import HostPorts
from minikubelet.runtime.network.iptables import Masquerade
from minikubelet.runtime.network.records import HostPort, PodNetwork, Records
from minikubelet.runtime.network.sysctls import Sysctls
from minikubelet.runtime.network.watch import LinkWatch
from minikubelet.runtime.network.wiring import HostView, Wire, Wiring, node_addresses

log = structlog.get_logger(__name__)

_NETNS_DIRECTORY: Final = "/run/netns"
_MNT_DETACH: Final = 2
_MTU_WITHOUT_UPLINK: Final = 1500
_REPAIR_DELAY_S: Final = 0.2
_MTU_MAX: Final = 65535

T = TypeVar("T")


class Network:
    """Gives pods their network.

    Args:
        state_dir: The daemon's state directory; records lie in `<state_dir>/network`.
        bridge: Name of the bridge, ours alone.
        pod_cidrs: One range, or one of each family.
        host_ports: `nftables`, `proxy` (carry host ports in this process, no masquerade), or `auto`.
        netns_directory: Where pauses pin network namespaces.
        on_host_change: Called when `host_ips` has changed.
    """

    def __init__(
        self,
        *,
        state_dir: str,
        bridge: str,
        pod_cidrs: tuple[str, ...],
        host_ports: str = "auto",
        netns_directory: str = _NETNS_DIRECTORY,
        cni_conf_dir: str = "/etc/cni/net.d",
        on_host_change: Callable[[], None] | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._directory = os.path.join(state_dir, "network")
        self._bridge = bridge
        self._pools = sorted((AddressPool(cidr) for cidr in pod_cidrs), key=lambda pool: pool.network.version)
        self._netns_directory = netns_directory
        self._on_host_change = on_host_change
        self._records = Records(self._directory)
        self._pods: dict[PodUID, PodNetwork] = {}
        self._sysctls = Sysctls(os.path.join(self._directory, "changed-sysctls"))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._wiring: Wiring | None = None
        self._boot_id = _boot_id()
        self._connected: set[PodUID] = set()
        # Removing fifty links costs the kernel what removing one does.
        self._leaving = Batcher[str](lambda links: self._in_thread(self._remove_links, links))
        self._host_ips: tuple[str, ...] = ("127.0.0.1",)
        self._watch: LinkWatch | None = None
        self._repair: asyncio.Task[None] | None = None
        program = None if host_ports == "proxy" else rules.find_nft()
        if host_ports == "nftables" and program is None:
            raise NetworkConflict("cannot publish host ports by nftables: the program nft is not installed")
        self._backend = host_ports
        ranges = tuple(pool.network for pool in self._pools)
        self._host_ports = HostPorts(bridge, ranges, rules.Nft(program, names.table_name(bridge)) if program else None)
        self._masquerade = Masquerade(bridge, ranges)

    async def start(self, known: Collection[PodUID]) -> None:
        """Make the node's side of the network and release what belongs to no known pod.

        Args:
            known: The pods that may go on using what they have.

        Raises:
            NetworkConflict: The machine uses the bridge's name or the range already.
            NetworkError: The kernel refused something that pods cannot do without.
        """
        try:
            view = await self._in_thread(self._look)
            conflict = find_conflict(
                view,
                bridge=self._bridge,
                state_dir=self._state_dir,
                ranges=[pool.network for pool in self._pools],
                in_use=os.path.isdir,
            )
            if conflict is not None:
                raise NetworkConflict(conflict)
            await self._in_thread(self._prepare_host, view)
        except OSError as error:
            raise NetworkError(_text("cannot set up the network", error)) from error
        self._host_ips = node_addresses(view, without=self._bridge)
        await self._take_over(view, set(known))
        await self._start_host_ports()
        self._watch = LinkWatch(self._heard)
        self._watch_links(view)
        log.info(
            "network ready",
            bridge=self._bridge,
            pod_cidrs=[str(pool.network) for pool in self._pools],
            host_ips=list(self._host_ips),
            host_ports="nftables" if self._host_ports.in_kernel else "proxy",
        )

    async def attach(
        self, uid: PodUID, *, pod: str, netns_fd: int, host_ports: tuple[HostPort, ...] = ()
    ) -> tuple[str, ...]:
        """Connect a pod and publish its host ports; finishes the job of an earlier attempt.

        Args:
            uid: The pod; it keeps its address until `detach`.
            pod: `namespace/name`, for people.
            netns_fd: Its network namespace; used during the call only.
            host_ports: Its ports with a hostPort.

        Returns:
            Its addresses, IPv4 first.

        Raises:
            AddressesExhausted, HostPortInUse, NetworkError: Nothing is lost: try again, or `detach`.
        """
        network = self._give(uid, pod, host_ports)
        try:
            await self._in_thread(self._connect, network, netns_fd)
        except OSError as error:
            raise NetworkError(_text(f"cannot connect the pod {pod}", error)) from error
        self._connected.add(uid)
        await self._host_ports.publish(network)
        return network.ips

    async def detach(self, uid: PodUID) -> None:
        """Release a pod's host ports, link and address; nothing happens for a pod that has none.

        Raises:
            NetworkError: Something could not be removed; the address stays taken until it is.
        """
        network = self._pods.get(uid)
        if network is None:
            return
        await self._host_ports.withdraw(uid)
        try:
            await self._leaving.add(network.link)
            await self._in_thread(self._records.remove, uid)
        except OSError as error:
            raise NetworkError(_text(f"cannot disconnect the pod {network.pod}", error)) from error
        self._connected.discard(uid)
        if self._pods.pop(uid, None) is not None:
            self._release(network.ips)

    def addresses(self, uid: PodUID) -> tuple[str, ...]:
        """Return a connected pod's addresses, IPv4 first; empty when its link is not there (any more): attach anew."""
        return self._pods[uid].ips if uid in self._connected else ()

    def host_ips(self) -> tuple[str, ...]:
        """Return the node's addresses: those of the interface with the default route first, IPv4 before IPv6."""
        return self._host_ips

    def netns_name(self, uid: PodUID, pod: str) -> str:
        """Return the name to pin a pod's network namespace under; `start` removes those of unknown pods."""
        return names.netns_name(self._bridge, pod, uid)

    async def port_conflict(self, host_ports: Iterable[HostPort]) -> str | None:
        """Say, for admission, which port a program outside minikubelet holds, with its name; None when all are free."""
        return await self._host_ports.held_by_others(host_ports)

    async def stop(self, *, remove: bool) -> None:
        """Leave. Pods keep their network, except host ports carried by this process.

        Args:
            remove: Also remove the bridge, the links, the rules and the records, and put settings back.
        """
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._repair is not None:
            self._repair.cancel()
        await self._host_ports.stop(remove=remove)
        if remove and not self._host_ports.in_kernel:
            await self._masquerade.remove()
        with contextlib.suppress(OSError):
            await self._in_thread(self._remove_host if remove else self._close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    # What follows until `_give` runs in the network's thread.

    def _wires(self) -> Wiring:
        if self._wiring is None:
            self._wiring = Wiring(self._bridge)
        return self._wiring

    def _look(self) -> HostView:
        return self._wires().look()

    def _prepare_host(self, view: HostView) -> None:
        uplink = view.uplink()
        mtu = min(uplink.mtu, _MTU_MAX) if uplink else _MTU_WITHOUT_UPLINK
        made = self._wires().ensure_bridge(self._pools, mtu=mtu, alias=names.bridge_alias(self._state_dir))
        if made:
            log.info("bridge made", bridge=self._bridge, mtu=mtu)
        self._set_sysctls(uplink.name if uplink else None)

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

    def _set_route_localnet(self) -> None:
        if self._pools[0].network.version == 4:
            name = f"net/ipv4/conf/{self._bridge}/route_localnet"
            self._sysctls.ensure(name, "1", reason="host ports on 127.0.0.1", remember=False)

    def _connect(self, network: PodNetwork, netns_fd: int) -> None:
        self._records.write(network)
        self._records.write_latest([str(pool.latest) for pool in self._pools])
        self._wires().connect(self._wire(network), netns_fd)

    def _reconnect(self, links: list[str]) -> None:
        self._wires().reconnect(links)

    def _remove_links(self, links: list[str]) -> None:
        self._wires().remove(links, names.link_group(self._bridge))

    def _remove_host(self) -> None:
        wiring = self._wires()
        wiring.remove(_own_links(wiring.look(), self._bridge), names.link_group(self._bridge))
        wiring.remove_bridge()
        others = any(names.bridge_owner(link.alias) for link in wiring.look().links if link.kind == "bridge")
        if not others:
            # Other daemons on this machine need the same settings.
            self._sysctls.restore()
        for uid in list(self._pods):
            self._records.remove(uid)
        self._close()

    def _close(self) -> None:
        if self._wiring is not None:
            self._wiring.close()
            self._wiring = None

    def _unpin(self, unknown: Iterable[str]) -> None:
        for name in unknown:
            _unpin(os.path.join(self._netns_directory, name))
            log.info("leftover network namespace unpinned", name=name)

    # And this on the loop.

    def _give(self, uid: PodUID, pod: str, host_ports: tuple[HostPort, ...]) -> PodNetwork:
        known = self._pods.get(uid)
        if known is None:
            known = PodNetwork(uid=uid, pod=pod, ips=self._allocate())
        link = names.link_name(self._bridge, uid)
        network = replace(known, pod=pod, link=link, boot_id=self._boot_id, host_ports=host_ports)
        self._pods[uid] = network
        return network

    def _allocate(self) -> tuple[str, ...]:
        """Take an address of each range, or of none."""
        exhausted = [pool for pool in self._pools if pool.free <= 0]
        return tuple(str(pool.allocate()) for pool in exhausted or self._pools)

    def _release(self, ips: Iterable[str]) -> None:
        for ip in ips:
            for pool in self._pools:
                pool.release(ipaddress.ip_address(ip))

    def _wire(self, network: PodNetwork) -> Wire:
        by_version = {pool.network.version: pool for pool in self._pools}
        addresses = [ipaddress.ip_address(ip) for ip in network.ips]
        pools = [(by_version[address.version], address) for address in addresses if address.version in by_version]
        return Wire(
            link=network.link,
            alias=names.link_alias(network.pod, network.uid),
            interfaces=tuple(pool.interface(address) for pool, address in pools),
            gateways=tuple(pool.gateway for pool, _ in pools),
            group=names.link_group(self._bridge),
        )

    async def _take_over(self, view: HostView, known: set[PodUID]) -> None:
        """Keep what belongs to known pods, remove the rest."""
        present = {link.name for link in view.links}
        for pool, latest in ((pool, latest) for latest in self._records.read_latest() for pool in self._pools):
            with contextlib.suppress(ValueError):
                pool.resume_after(ipaddress.ip_address(latest))
        for uid, network in self._records.read_all().items():
            if uid not in known or not self._reserve(network):
                self._records.remove(uid)
                log.info("network of a pod that is gone released", pod=network.pod, uid=uid, ips=list(network.ips))
                continue
            self._pods[uid] = network
            if network.boot_id == self._boot_id and network.link in present:
                self._connected.add(uid)
        await self._remove_leftovers(view, known)

    async def _remove_leftovers(self, view: HostView, known: set[PodUID]) -> None:
        expected = {self._pods[uid].link for uid in self._connected}
        stale = [name for name in _own_links(view, self._bridge) if name not in expected]
        pinned = [
            name
            for name in _pinned(self._netns_directory, names.netns_prefix(self._bridge))
            if not any(names.netns_belongs_to(name, uid) for uid in known)
        ]
        try:
            if stale:
                await self._in_thread(self._remove_links, stale)
                log.info("leftover links removed", links=stale)
            if pinned:
                await self._in_thread(self._unpin, pinned)
            await self._in_thread(self._reconnect, [name for name in expected if name in {x.name for x in view.links}])
        except OSError as error:
            raise NetworkError(_text("cannot remove what earlier pods left", error)) from error

    def _reserve(self, network: PodNetwork) -> bool:
        """Take a recorded pod's addresses; False when they are of another range or someone else's by now."""
        taken: list[str] = []
        for ip in network.ips:
            if not any(pool.reserve(ipaddress.ip_address(ip)) for pool in self._pools):
                self._release(taken)
                return False
            taken.append(ip)
        return len(taken) == len(self._pools)

    def _heard(self) -> None:
        """Something changed on the host: look afresh, a moment later, for changes come in bursts."""
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._look_again())

    async def _look_again(self) -> None:
        await asyncio.sleep(_REPAIR_DELAY_S)
        try:
            view = await self._in_thread(self._look)
            await self._in_thread(self._prepare_host, view)
            await self._in_thread(self._reconnect, [self._pods[uid].link for uid in self._connected])
            if self._host_ports.in_kernel:
                await self._in_thread(self._set_route_localnet)
        except OSError as error:
            log.warning("network not repaired", error=_text("cannot repair the network", error))
            return
        self._watch_links(view)
        addresses = node_addresses(view, without=self._bridge)
        if addresses != self._host_ips:
            log.info("node addresses changed", host_ips=list(addresses))
            self._host_ips = addresses
            if self._on_host_change is not None:
                self._on_host_change()

    def _watch_links(self, view: HostView) -> None:
        if self._watch is not None:
            uplink, bridge = view.uplink(), self._wires().bridge_index
            self._watch.watch({bridge, uplink.index if uplink else bridge}, quiet=bridge)

    async def _start_host_ports(self) -> None:
        live = [self._pods[uid] for uid in self._connected if self._pods[uid].host_ports]
        try:
            await self._host_ports.start(live)
        except NetworkError as error:
            if self._backend == "nftables":
                raise
            log.warning("nftables not usable, host ports are carried by the daemon", error=str(error))
            await self._host_ports.stop(remove=False)
            self._host_ports = HostPorts(self._bridge, self._host_ports.ranges, None)
            await self._host_ports.start(live)
        if self._host_ports.in_kernel:
            # Only now, behind the rule that keeps the bridge from using it.
            await self._in_thread(self._set_route_localnet)
            return
        try:
            await self._masquerade.ensure()
        except NetworkError as error:
            log.warning("pods reach each other and the host only", error=str(error))


def _own_links(view: HostView, bridge: str) -> list[str]:
    """Return the pods' links of a bridge: named by us, of our kind, and on no other bridge."""
    found = view.link(bridge)
    masters = (0, found.index) if found else (0,)
    prefix = names.link_prefix(bridge)
    return [x.name for x in view.links if x.name.startswith(prefix) and x.kind == "veth" and x.master in masters]


def _pinned(directory: str, prefix: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def _unpin(path: str) -> None:
    """Take a pinned namespace's name away; whoever is inside keeps the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    # A reboot leaves the file without its mount, where /run is on disk.
    libc.umount2(os.fsencode(path), _MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _accepts_router_advertisements(link: str) -> bool:
    try:
        with open(f"/proc/sys/net/ipv6/conf/{link}/accept_ra", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _text(what: str, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{what}: {reason.removeprefix('cannot ')}" + (f" ({error.filename})" if error.filename else "")
