"""Which host ports are published, by whom they are held, and the kernel kept in step.

Every host port is held by a socket of this process, nftables or not: that finds a port that is in use, keeps others
from taking it, and serves what the kernel's translation cannot (`proxy`). With nftables the kernel translates.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network import conntrack, proxy
from minikubelet.runtime.network import nft as rules
from minikubelet.runtime.network.batching import Batcher
from minikubelet.runtime.network.errors import HostPortInUse, NetworkError
from minikubelet.runtime.network.forwards import Forward, Listener, compute_forwards, compute_listeners
from minikubelet.runtime.network.records import HostPort, PodNetwork
from minikubelet.runtime.network.rtnetlink import IPNetwork

log = structlog.get_logger(__name__)

_ANY: Final = ("0.0.0.0", "::")
_REPAIR_DELAY_S: Final = 0.2
_REPAIR_DELAY_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    pod: str
    listeners: tuple[Listener, ...]
    forwards: tuple[Forward, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    old: tuple[Forward, ...]
    new: tuple[Forward, ...]


class HostPorts:
    """The published host ports of one daemon.

    Args:
        bridge: Name of the bridge, after which the table is named.
        ranges: The pod ranges, for the masquerade.
        nft: Runs transactions; None to carry host ports in this process only.
    """

    def __init__(self, bridge: str, ranges: tuple[IPNetwork, ...], nft: rules.Nft | None) -> None:
        self._bridge = bridge
        self.ranges = ranges
        self._nft = nft
        self._published: dict[PodUID, _Published] = {}
        self._proxies: dict[tuple[str, str, int], proxy.Proxy] = {}
        # Set when the table may differ from what is published: it is then made anew as a whole.
        self._stale = False
        self._changes = Batcher[_Change](self._apply)
        self._repair: asyncio.Task[None] | None = None

    @property
    def in_kernel(self) -> bool:
        """Whether the kernel translates host ports."""
        return self._nft is not None

    async def start(self, pods: Iterable[PodNetwork]) -> None:
        """Take over the host ports of pods that run on, and make the table anew.

        A port that somebody took in the meantime is said in the log only: the kernel translates it all the same.

        Raises:
            NetworkError: nftables refused the table.
        """
        for pod in pods:
            published = _publish(pod)
            try:
                await self._hold(published)
            except NetworkError as error:
                log.warning("host port not held", pod=pod.pod, error=str(error))
            self._published[pod.uid] = published
        await self._rebuild()
        if self._nft is not None:
            self._nft.watch(self._heard)

    async def dropping_chains(self) -> list[str]:
        """Return the other firewalls' chains that drop forwarded packets unless a rule of theirs accepts them."""
        return await self._nft.dropping_chains() if self._nft is not None else []

    async def publish(self, pod: PodNetwork) -> None:
        """Publish a pod's host ports, instead of those it had.

        Raises:
            HostPortInUse: Another pod or program holds one.
            NetworkError: The kernel refused; the pod then has none.
        """
        before = self._published.get(pod.uid)
        wanted = _publish(pod)
        if before == wanted or (before is None and not pod.host_ports):
            return
        await self.withdraw(pod.uid)
        await self._hold(wanted)
        self._published[pod.uid] = wanted
        try:
            await self._changes.add(_Change(old=(), new=wanted.forwards))
        except BaseException:
            self._published.pop(pod.uid, None)
            self._release(wanted.listeners)
            raise

    async def withdraw(self, uid: PodUID) -> None:
        """Take a pod's host ports back.

        Raises:
            NetworkError: The kernel refused; it does not have to be asked again, the next change of any pod repairs.
        """
        published = self._published.pop(uid, None)
        if published is None:
            return
        self._release(published.listeners)
        await self._changes.add(_Change(old=published.forwards, new=()))

    async def held_by_others(self, ports: Iterable[HostPort]) -> str | None:
        """Say which of the ports a program outside our pods holds, and its name; None when all are free."""
        for listener in compute_listeners(ports, ("127.0.0.1",)):
            if self._holder(listener) is not None:
                continue
            try:
                proxy.bind_listener(listener.protocol, listener.host_ip, listener.host_port).close()
            except proxy.Unsupported:
                continue
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    continue
                return f"host port {_describe(listener)} is held by {await find_holder(listener)}"
        return None

    async def stop(self, *, remove: bool) -> None:
        """Let go of the sockets; with `remove` also of the table."""
        for held in self._proxies.values():
            held.close()
        self._proxies.clear()
        if self._repair is not None:
            self._repair.cancel()
        if self._nft is not None:
            self._nft.close()
            if remove:
                self._published.clear()
                await self._nft.run(rules.no_table(self._bridge))

    async def _apply(self, changes: list[_Change]) -> None:
        if self._nft is None:
            return
        old = [forward for change in changes for forward in change.old]
        new = [forward for change in changes for forward in change.new]
        if not self._stale:
            try:
                await self._nft.run(rules.replace_elements(self._bridge, old, new))
            except NetworkError as error:
                log.warning("nftables table is not as it was left", error=str(error))
                self._stale = True
        if self._stale:
            await self._rebuild()
        if any(forward.protocol == "udp" for forward in (*old, *new)):
            await asyncio.to_thread(conntrack.forget, withdrawn=old, published=new)

    async def _rebuild(self) -> None:
        """Make the whole table anew, in one transaction."""
        if self._nft is None:
            return
        forwards = [forward for published in self._published.values() for forward in published.forwards]
        await self._nft.run(rules.whole_table(self._bridge, self.ranges, forwards))
        self._stale = False

    def _heard(self) -> None:
        """Somebody else changed the table: make it anew, a moment later, for reloads come in several steps."""
        self._stale = True
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._repair_rules())

    async def _repair_rules(self) -> None:
        delay = _REPAIR_DELAY_S
        while True:
            await asyncio.sleep(delay)
            if not self._stale:
                return
            delay = min(delay * 2, _REPAIR_DELAY_MAX_S)
            log.warning("nftables table was changed by another program, making it anew", table=self._bridge)
            try:
                await self._rebuild()
            except NetworkError as error:
                log.warning("nftables table not made", error=str(error))

    async def _hold(self, published: _Published) -> None:
        opened: list[Listener] = []
        try:
            for listener in published.listeners:
                await self._open(listener)
                opened.append(listener)
        except BaseException:
            self._release(opened)
            raise

    async def _open(self, listener: Listener) -> None:
        holder = self._holder(listener)
        if holder is not None:
            raise HostPortInUse(f"cannot use host port {_describe(listener)}: it is held by pod {holder}")
        try:
            self._proxies[listener.key] = await proxy.open_proxy(listener)
        except proxy.Unsupported as error:
            if self._nft is None and ":" not in listener.host_ip:
                raise NetworkError(f"cannot use host port {_describe(listener)}: {error}") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise NetworkError(f"cannot use host port {_describe(listener)}: {error.strerror}") from error
            name = await find_holder(listener)
            raise HostPortInUse(f"cannot use host port {_describe(listener)}: it is held by {name}") from None

    def _release(self, listeners: Iterable[Listener]) -> None:
        for listener in listeners:
            held = self._proxies.pop(listener.key, None)
            if held is not None:
                held.close()

    def _holder(self, wanted: Listener) -> str | None:
        """Return the pod of ours that holds the same port at an overlapping address."""
        for published in self._published.values():
            if any(_overlap(wanted, held) for held in published.listeners):
                return published.pod
        return None


def _publish(pod: PodNetwork) -> _Published:
    return _Published(
        pod=pod.pod,
        listeners=compute_listeners(pod.host_ports, pod.ips),
        forwards=compute_forwards(pod.host_ports, pod.ips),
    )


def _overlap(one: Listener, other: Listener) -> bool:
    if (one.protocol, one.host_port) != (other.protocol, other.host_port):
        return False
    if (":" in one.host_ip) is not (":" in other.host_ip):
        return False
    return one.host_ip == other.host_ip or one.host_ip in _ANY or other.host_ip in _ANY


def _describe(listener: Listener) -> str:
    port = HostPort(
        host_port=listener.host_port,
        container_port=listener.pod_port,
        protocol=listener.protocol.upper(),
        host_ip="" if listener.host_ip in _ANY else listener.host_ip,
    )
    return port.describe()


async def find_holder(listener: Listener) -> str:
    """Name the program that holds a port: `nginx (pid 123)`. Walks /proc, so it runs beside the loop."""
    return await asyncio.to_thread(_find_holder, listener) or "another program"


def _find_holder(listener: Listener) -> str | None:
    if listener.protocol not in ("tcp", "udp"):
        return None
    import psutil  # needed on conflict only

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(listener.protocol):
            local: tuple[str, int] | tuple[()] = connection.laddr
            if not local or local[1] != listener.host_port or connection.pid is None:
                continue
            if connection.type == socket.SOCK_STREAM and connection.status != psutil.CONN_LISTEN:
                continue
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return None
