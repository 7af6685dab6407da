"""The network of the node: what the pod workers ask, and the owner of what each pod was given.

Order is what makes crashes harmless. A pod's record is written before the kernel (or a plugin) is asked for anything,
and removed after everything else of the pod is gone; so at start each link, rule, attachment or pinned namespace that
no record of a known pod explains is a leftover, and is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.linux.kernel import boot_id
from minikubelet.linux.libc import MNT_DETACH, MS_BIND, MS_REC, MS_SHARED
from minikubelet.runtime.network import names
from minikubelet.runtime.network import nft as rules
from minikubelet.runtime.network.bridge import BridgeBackend
from minikubelet.runtime.network.cni import DEFAULT_BIN_DIRS, CNIBackend
from minikubelet.runtime.network.errors import NetworkConflict, NetworkError, os_error_text
from minikubelet.runtime.network.hostports import HostPorts
from minikubelet.runtime.network.iptables import Masquerade
from minikubelet.runtime.network.records import HostPort, PodNetwork, Records
from minikubelet.runtime.network.thread import NetworkThread
from minikubelet.runtime.network.watch import LinkWatch
from minikubelet.runtime.network.wiring import HostView, node_addresses

log = structlog.get_logger(__name__)

_NETNS_DIRECTORY: Final = "/run/netns"
_CNI_CONF_DIR: Final = "/etc/cni/net.d"
_REPAIR_DELAY_S: Final = 0.2


class ConnectionToCome:
    """A pod's network while it is made and connected, beside other work for the pod."""

    def __init__(self, namespace: Future[int], connecting: asyncio.Task[tuple[str, ...]]) -> None:
        self._namespace = namespace
        self._connecting = connecting

    async def namespace(self) -> int:
        """Return a descriptor of the network namespace, good until `close`. Raises NetworkError."""
        try:
            return await asyncio.shield(asyncio.wrap_future(self._namespace))
        except OSError as error:
            raise NetworkError(os_error_text("cannot make a network namespace", error)) from error

    async def addresses(self) -> tuple[str, ...]:
        """Return the pod's addresses when it is connected. Raises as `Network.attach` does."""
        return await asyncio.shield(self._connecting)

    async def close(self) -> None:
        """Wait until nothing goes on any more, and let go of the namespace, whatever came of it."""
        await asyncio.wait({self._connecting})
        self._connecting.exception()  # asked for, as nobody else does when there is no pause
        if self._namespace.exception() is None:
            os.close(self._namespace.result())


class Network:
    """Gives pods their network.

    Args:
        state_dir: The daemon's state directory; records lie in `<state_dir>/network`.
        bridge: Name of the bridge, ours alone.
        pod_cidrs: One range, or one of each family.
        host_ports: `nftables`, `proxy` (carry host ports in this process), or `auto`: nftables where it works.
        netns_directory: Where pauses pin network namespaces.
        cni_conf_dir: With a CNI configuration in it at start, plugins connect the pods and no bridge is made.
        cni_bin_dirs: Where plugins are looked for.
        on_host_change: Called when `host_ips` has changed.

    Raises:
        NetworkConflict: A range is not one, or nftables is asked for and not installed.
    """

    def __init__(
        self,
        *,
        state_dir: str,
        bridge: str,
        pod_cidrs: tuple[str, ...],
        host_ports: str = "auto",
        netns_directory: str = _NETNS_DIRECTORY,
        cni_conf_dir: str = _CNI_CONF_DIR,
        cni_bin_dirs: tuple[str, ...] = DEFAULT_BIN_DIRS,
        on_host_change: Callable[[], None] | None = None,
    ) -> None:
        self._bridge_name = bridge
        self._netns_directory = netns_directory
        self._on_host_change = on_host_change
        self._records = Records(os.path.join(state_dir, "network"))
        self._thread = NetworkThread(bridge)
        self._bridge = BridgeBackend(
            state_dir=state_dir, bridge=bridge, pod_cidrs=pod_cidrs, thread=self._thread, records=self._records
        )
        self._cni = CNIBackend(conf_dir=cni_conf_dir, bin_dirs=cni_bin_dirs, thread=self._thread, records=self._records)
        self._by_plugins = False
        self._masquerade = Masquerade(bridge, self._bridge.ranges)
        self._backend = host_ports
        program = None if host_ports == "proxy" else rules.find_nft()
        if host_ports == "nftables" and program is None:
            raise NetworkConflict("cannot publish host ports by nftables: the program nft is not installed")
        self._host_ports = HostPorts(
            bridge, self._bridge.ranges, rules.Nft(program, names.table_name(bridge)) if program else None
        )
        self._pods: dict[PodUID, PodNetwork] = {}
        self._connected: set[PodUID] = set()
        self._boot_id = boot_id()
        self._host_ips: tuple[str, ...] = ("127.0.0.1",)
        self._watch: LinkWatch | None = None
        self._repair: asyncio.Task[None] | None = None

    async def start(self, known: Collection[PodUID]) -> None:
        """Make the node's side of the network and release what belongs to no known pod.

        Args:
            known: The pods that may go on using what they have.

        Raises:
            NetworkConflict: The machine uses the bridge's name or the range already.
            NetworkError: The kernel refused something that pods cannot do without.
        """
        view = await self._look()
        self._by_plugins = self._cni.configured() is not None
        if not self._by_plugins:
            await self._bridge.start(view)
        self._host_ips = node_addresses(view, without=self._bridge_name)
        await self._take_over(view, set(known))
        await self._start_host_ports()
        self._watch = LinkWatch(self._heard)
        await self._watch_links(view)
        log.info(
            "network ready",
            bridge=None if self._by_plugins else self._bridge_name,
            pod_cidrs=[str(network) for network in self._bridge.ranges],
            host_ips=list(self._host_ips),
            host_ports="nftables" if self._host_ports.in_kernel else "proxy",
        )

    @property
    def makes_namespaces(self) -> bool:
        """Whether `begin` may be used: plugins want a namespace that has its name already."""
        return not self._by_plugins

    async def begin(self, uid: PodUID, *, pod: str, host_ports: tuple[HostPort, ...] = ()) -> ConnectionToCome:
        """Make a network namespace and connect it, as `attach` does; only what is asked for is waited for."""
        namespace = self._thread.make_namespace()
        connecting = asyncio.create_task(self.attach(uid, pod=pod, netns_fd=namespace, host_ports=host_ports))
        await asyncio.sleep(0)  # the task asks the thread now, not when its caller waits for something
        return ConnectionToCome(namespace, connecting)

    async def attach(
        self, uid: PodUID, *, pod: str, netns_fd: int | Future[int], host_ports: tuple[HostPort, ...] = ()
    ) -> tuple[str, ...]:
        """Connect a pod and publish its host ports; finishes the job of an earlier attempt.

        Args:
            uid: The pod; on the bridge it keeps its address until `detach`.
            pod: `namespace/name`, for people.
            netns_fd: Its network namespace; used during the call only. One that is still being made, without plugins.
            host_ports: Its ports with a hostPort.

        Returns:
            Its addresses, IPv4 first.

        Raises:
            AddressesExhausted, HostPortInUse, NetworkError: Nothing is lost: try again, or `detach`.
        """
        known = self._pods.get(uid)
        if known is not None and bool(known.link) is self._by_plugins:
            # Plugins took the bridge's place, or the other way round, since the pod was connected.
            await self.detach(uid)
            known = None
        if self._by_plugins and isinstance(netns_fd, int):
            network = await self._attach_by_plugins(known, uid, pod, netns_fd, host_ports)
        else:
            network = self._stamp(self._bridge.give(known, uid, pod), host_ports)
            self._pods[uid] = network
            await self._bridge.connect(network, netns_fd)
        self._pods[uid] = network
        self._connected.add(uid)
        await self._host_ports.publish(network)
        return network.ips

    async def detach(self, uid: PodUID) -> None:
        """Release a pod's host ports, link and address; nothing happens for a pod that has none.

        Raises:
            NetworkError: Something could not be removed; the address stays taken until it is. Try again.
        """
        network = self._pods.get(uid)
        if network is None:
            return
        await self._host_ports.withdraw(uid)
        await self._disconnect(network)
        self._connected.discard(uid)
        if self._pods.pop(uid, None) is not None:
            self._bridge.release(network.ips)

    def addresses(self, uid: PodUID) -> tuple[str, ...]:
        """Return a connected pod's addresses, IPv4 first; empty when its link is not there (any more): attach anew."""
        return self._pods[uid].ips if uid in self._connected else ()

    def host_ips(self) -> tuple[str, ...]:
        """Return the node's address of each family, IPv4 first: the one of the link with the default route."""
        return self._host_ips

    def netns_name(self, uid: PodUID, pod: str) -> str:
        """Return the name to pin a pod's network namespace under; `start` removes those of unknown pods."""
        return names.netns_name(self._bridge_name, pod, uid)

    async def port_conflict(self, host_ports: Iterable[HostPort]) -> str | None:
        """Say, for admission, which port a program outside minikubelet holds, with its name; None when all are free."""
        return await self._host_ports.held_by_others(host_ports)

    async def stop(self, *, remove: bool) -> None:
        """Leave. Pods keep their network, except host ports carried by this process.

        Args:
            remove: Also remove the bridge, the links, the rules and the records, and put settings back.

        Raises:
            NetworkError: Something could not be removed; the rest was.
        """
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._repair is not None:
            self._repair.cancel()
        try:
            if remove:
                await self._remove_all()
            else:
                await self._host_ports.stop(remove=False)
        finally:
            await self._thread.close()

    async def _attach_by_plugins(
        self, known: PodNetwork | None, uid: PodUID, pod: str, netns_fd: int, host_ports: tuple[HostPort, ...]
    ) -> PodNetwork:
        fresh = known or PodNetwork(uid=uid, pod=pod, ips=())
        network = self._stamp(replace(fresh, pod=pod), host_ports)
        self._pods[uid] = network
        try:
            await self._thread.run_inside(netns_fd, lambda wiring, netns: wiring.loopback_up(netns))
        except OSError as error:
            raise NetworkError(os_error_text(f"cannot connect the pod {pod}", error)) from error
        netns_path = self._netns_path(network, netns_fd)
        async for step in self._cni.connect(network, netns_fd, netns_path):
            self._pods[uid] = network = step
        return network

    def _stamp(self, network: PodNetwork, host_ports: tuple[HostPort, ...]) -> PodNetwork:
        return replace(network, boot_id=self._boot_id, host_ports=host_ports)

    def _netns_path(self, network: PodNetwork, netns_fd: int) -> str:
        """Return the pinned name of a namespace, which outlives us, or else our own descriptor's."""
        pinned = os.path.join(self._netns_directory, self.netns_name(network.uid, network.pod))
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(pinned), os.fstat(netns_fd)):
                return pinned
        return f"/proc/{os.getpid()}/fd/{netns_fd}"

    async def _disconnect(self, network: PodNetwork) -> None:
        if network.link:
            await self._bridge.disconnect(network)
        elif network.cni:
            await self._cni.disconnect(network)
        await self._thread.call(lambda: self._records.remove(network.uid))

    async def _look(self) -> HostView:
        try:
            return await self._thread.run(lambda wiring: wiring.look())
        except OSError as error:
            raise NetworkError(os_error_text("cannot read the host's network", error)) from error

    async def _take_over(self, view: HostView, known: set[PodUID]) -> None:
        """Keep what belongs to known pods, remove the rest."""
        for uid, network in (await self._thread.call(self._records.read_all)).items():
            if uid in known and (not network.link or self._bridge.adopt(network)):
                self._pods[uid] = network
                if network.boot_id == self._boot_id and self._is_connected(network, view):
                    self._connected.add(uid)
                continue
            log.info("network of a pod that is gone released", pod=network.pod, uid=uid, ips=list(network.ips))
            try:
                await self._disconnect(network)
            except NetworkError as error:
                log.warning("network not released, trying again at the next start", pod=network.pod, error=str(error))
        connected = [self._pods[uid] for uid in self._connected if self._pods[uid].link]
        await self._bridge.remove_stray_links(view, {network.link for network in connected})
        if self._by_plugins:
            await self._cni.collect_garbage(self._pods.values())
        else:
            await self._bridge.repair(view, connected)
        await self._thread.call(lambda: self._unpin_unknown(known))
        if self._netns_directory == _NETNS_DIRECTORY and not _pinned(_NETNS_DIRECTORY, names.NETNS_PREFIX):
            await self._thread.call(lambda: _share_mount(_NETNS_DIRECTORY))

    def _is_connected(self, network: PodNetwork, view: HostView) -> bool:
        return self._bridge.is_connected(network, view) if network.link else bool(network.cni.get("result"))

    def _unpin_unknown(self, known: set[PodUID]) -> None:
        for name in _pinned(self._netns_directory, names.netns_prefix(self._bridge_name)):
            if not any(names.netns_belongs_to(name, uid) for uid in known):
                _unpin(os.path.join(self._netns_directory, name))
                log.info("leftover network namespace unpinned", name=name)

    async def _start_host_ports(self) -> None:
        live = [self._pods[uid] for uid in self._connected if self._pods[uid].host_ports]
        if self._by_plugins:
            # Plugins that take port mappings translate; the sockets then hold the ports, else they carry them.
            self._host_ports = HostPorts(self._bridge_name, (), None)
            await self._host_ports.start(live)
            return
        try:
            await self._host_ports.start(live)
        except NetworkError as error:
            if self._backend == "nftables":
                raise
            log.warning("nftables not usable, host ports are carried by the daemon", error=str(error))
            await self._host_ports.stop(remove=False)
            self._host_ports = HostPorts(self._bridge_name, self._bridge.ranges, None)
            await self._host_ports.start(live)
        if self._host_ports.in_kernel:
            await self._bridge.open_loopback()
            for chain in await self._host_ports.dropping_chains():
                log.warning(
                    "another firewall drops forwarded packets by default, pods may not reach the outside",
                    chain=chain,
                    remedy=f"let it accept what comes in or goes out by {self._bridge_name}",
                )
            return
        try:
            await self._masquerade.ensure()
        except NetworkError as error:
            log.warning("pods reach each other and the host only", error=str(error))

    async def _remove_all(self) -> None:
        await self._host_ports.stop(remove=True)
        for network in list(self._pods.values()):
            if not network.link:
                await self._disconnect(network)
        if not self._by_plugins:
            if not self._host_ports.in_kernel:
                await self._masquerade.remove()
            await self._bridge.remove()
        for uid in list(self._pods):
            self._records.remove(uid)
        self._pods.clear()
        self._connected.clear()

    def _heard(self) -> None:
        """Something changed on the host: look afresh, a moment later, for changes come in bursts."""
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._look_again())

    async def _look_again(self) -> None:
        await asyncio.sleep(_REPAIR_DELAY_S)
        try:
            view = await self._look()
            if not self._by_plugins:
                pods = [self._pods[uid] for uid in self._connected if self._pods[uid].link]
                await self._bridge.repair(view, pods)
                if self._host_ports.in_kernel:
                    await self._bridge.open_loopback()
        except NetworkError as error:
            log.warning("network not repaired", error=str(error))
            return
        await self._watch_links(view)
        addresses = node_addresses(view, without=self._bridge_name)
        if addresses != self._host_ips:
            log.info("node addresses changed", host_ips=list(addresses))
            self._host_ips = addresses
            if self._on_host_change is not None:
                self._on_host_change()

    async def _watch_links(self, view: HostView) -> None:
        uplink = view.uplink()
        bridge = await self._thread.run(lambda wiring: wiring.bridge_index)
        if self._watch is not None:
            self._watch.watch({bridge, uplink.index if uplink else bridge}, quiet=bridge)


def _pinned(directory: str, prefix: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def _unpin(path: str) -> None:
    """Take a pinned namespace's name away; whoever is inside keeps the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    # A reboot leaves the file without its mount where /run is on disk, so a failure here means nothing.
    libc.umount2(os.fsencode(path), MNT_DETACH)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        # Mounted where we cannot reach it: somebody mounted something over the directory. It is not in our way.
        log.warning("leftover network namespace cannot be unpinned", path=path, error=error.strerror)


def _share_mount(path: str) -> None:
    """Make the directory a shared mount of its own, as `ip netns add` does once on each machine.

    Done by iproute2 after we have pinned namespaces there, it would hide our mounts below its own, and what is hidden
    can never be unmounted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs(path, mode=0o755, exist_ok=True)
    name = os.fsencode(path)
    if libc.mount(b"", name, b"none", MS_SHARED | MS_REC, None) == 0:
        return
    if ctypes.get_errno() == errno.EINVAL and libc.mount(name, name, b"none", MS_BIND | MS_REC, None) == 0:
        libc.mount(b"", name, b"none", MS_SHARED | MS_REC, None)
