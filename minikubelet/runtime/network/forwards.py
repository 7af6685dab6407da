"""From the host ports of a pod to single translations: one host address and port to one pod address and port. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from minikubelet.runtime.network.records import HostPort


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One translation. `protocol` is `tcp`, `udp` or `sctp`; an empty `host_ip` means every address of `family`."""

    protocol: str
    family: int
    host_ip: str
    host_port: int
    pod_ip: str
    pod_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One host address and port to hold, and where a connection that arrives there belongs."""

    protocol: str
    host_ip: str
    host_port: int
    pod_ip: str
    pod_port: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What the kernel tells listeners apart by."""
        return self.protocol, self.host_ip, self.host_port


def compute_forwards(ports: Iterable[HostPort], ips: Iterable[str]) -> tuple[Forward, ...]:
    """Say what the kernel should translate, family by family; a host address of another family translates nothing.

    Source: portmap's rule that a mapping's hostIP chooses the family, the unspecified address all of that family.
    """
    found: dict[Forward, None] = {}
    for port in ports:
        for ip in ips:
            family = ipaddress.ip_address(ip).version
            if port.host_ip and ipaddress.ip_address(port.host_ip).version != family:
                continue
            forward = Forward(
                protocol=port.protocol.lower(),
                family=family,
                host_ip=_bound(port.host_ip),
                host_port=port.host_port,
                pod_ip=ip,
                pod_port=port.container_port,
            )
            found[forward] = None
    return tuple(found)


def compute_listeners(ports: Iterable[HostPort], ips: tuple[str, ...]) -> tuple[Listener, ...]:
    """Say which host addresses to hold. Without a hostIP both families are held, whichever the pod has.

    A connection by the family that the pod lacks is carried over to the one it has.
    """
    found: dict[tuple[str, str, int], Listener] = {}
    for port in ports:
        for host_ip in (port.host_ip,) if port.host_ip else ("0.0.0.0", "::"):
            version = ipaddress.ip_address(host_ip).version
            same = [ip for ip in ips if ipaddress.ip_address(ip).version == version]
            listener = Listener(
                protocol=port.protocol.lower(),
                host_ip=str(ipaddress.ip_address(host_ip)),
                host_port=port.host_port,
                pod_ip=(same or list(ips))[0],
                pod_port=port.container_port,
            )
            found.setdefault(listener.key, listener)
    return tuple(found.values())


def _bound(host_ip: str) -> str:
    if not host_ip:
        return ""
    address = ipaddress.ip_address(host_ip)
    return "" if address.is_unspecified else str(address)
