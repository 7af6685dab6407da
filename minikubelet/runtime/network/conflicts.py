"""Whether this machine already uses what the settings ask for. Pure: looks at what was seen, asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from minikubelet.runtime.network import names
from minikubelet.runtime.network.rtnetlink import IPNetwork, Link
from minikubelet.runtime.network.wiring import HostView

_LINK_NAME_MAX: Final = 15


def find_conflict(
    view: HostView,
    *,
    bridge: str,
    state_dir: str,
    ranges: Sequence[IPNetwork],
    in_use: Callable[[str], bool],
) -> str | None:
    """Return one line that names the first conflict and the way out of it, or None.

    Args:
        view: The host's network.
        bridge: The wanted bridge name.
        state_dir: The state directory whose daemon may take an existing bridge over.
        ranges: The wanted pod ranges.
        in_use: Whether the state directory that an existing bridge names still is one; if not, its daemon is gone for
            good and the bridge may be taken over.
    """
    found = view.link(bridge)
    return (
        _bad_name(bridge)
        or _bad_ranges(ranges)
        or (_taken(found, state_dir, in_use) if found else None)
        or _overlap(view, found.index if found else -1, ranges)
    )


def _bad_name(bridge: str) -> str | None:
    if 0 < len(bridge) <= _LINK_NAME_MAX and not set(bridge) & set('/ \t\n:"%'):
        return None
    return (
        f"cannot use {bridge!r} as the bridge: a link name has 1 to {_LINK_NAME_MAX} characters, without space, / or :"
    )


def _bad_ranges(ranges: Sequence[IPNetwork]) -> str | None:
    versions = [network.version for network in ranges]
    if ranges and len(set(versions)) == len(versions):
        return None
    listed = ", ".join(str(network) for network in ranges)
    return f"cannot use {listed or 'no range'} as the pod CIDR: give one range, or one of each IP family"


def _taken(found: Link, state_dir: str, in_use: Callable[[str], bool]) -> str | None:
    begin = f"cannot use {found.name} as the bridge: "
    if found.kind != "bridge":
        return f"{begin}the machine has a link of that name that is no bridge; choose another name (--bridge)"
    owner = names.bridge_owner(found.alias)
    if owner is None:
        return f"{begin}a bridge of that name exists that minikubelet did not make; choose another name (--bridge)"
    if found.alias == names.bridge_alias(state_dir) or not in_use(owner):
        return None
    return f"{begin}it belongs to the minikubelet with the state directory {owner}; choose another name (--bridge)"


def _overlap(view: HostView, own: int, ranges: Iterable[IPNetwork]) -> str | None:
    links = {link.index: link.name for link in view.links}
    for network in ranges:
        begin = f"cannot use {network} as the pod CIDR: it overlaps "
        for route in view.routes:
            if route.default or own in route.links or not _meet(route.destination, network):
                continue
            by = ", ".join(links.get(index, str(index)) for index in route.links) or "no link"
            return f"{begin}the route {route.destination} ({by}); choose another range (--pod-cidr)"
        for address in view.addresses:
            if address.index != own and _meet(address.interface.network, network):
                by = links.get(address.index, str(address.index))
                return f"{begin}the address {address.interface} ({by}); choose another range (--pod-cidr)"
    return None


def _meet(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)
