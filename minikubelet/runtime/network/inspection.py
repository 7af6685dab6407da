"""What minikubelet has left on this machine's network, for `doctor`: found without asking any daemon.

This runs in a short-lived command, so it may use pyroute2, whose memory the daemon does not pay for.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import pyroute2

from minikubelet.runtime.network import names
from minikubelet.runtime.network.nft import find_nft

_TABLE_START: Final = "minikubelet-"


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeFinding:
    """A bridge of ours, or what is left of one.

    `state_dir` is its owner's, empty when the bridge itself is gone; `abandoned` says that no such directory exists.
    `table` tells whether its nftables table is there.
    """

    bridge: str
    state_dir: str
    abandoned: bool
    links: tuple[str, ...]
    table: bool

    def describe(self) -> str:
        """Say in a line what it is."""
        owner = f"of {self.state_dir}" if self.state_dir else "whose bridge is gone"
        state = ", left behind" if self.abandoned else ""
        table = ", nftables table" if self.table else ""
        return f"bridge {self.bridge} {owner}{state}: {len(self.links)} pod links{table}"


def inspect_network() -> tuple[BridgeFinding, ...]:
    """Return every bridge of ours on this machine with what belongs to it. Do not call it inside an event loop."""
    with _open() as route:
        links = [_link(message) for message in route.get_links()]
    return compute_findings(links, _tables(), os.path.isdir)


def compute_findings(
    links: Iterable[tuple[str, str, str]], tables: Iterable[str], exists: Callable[[str], bool]
) -> tuple[BridgeFinding, ...]:
    """Put links and tables together by bridge.

    Args:
        links: Name, kind and alias of each link.
        tables: Names of the nftables tables.
        exists: Whether a state directory does.
    """
    listed = list(links)
    owners = {name: names.bridge_owner(alias) for name, kind, alias in listed if kind == "bridge"}
    ours = {name: owner for name, owner in owners.items() if owner is not None}
    of_tables = {table.removeprefix(_TABLE_START) for table in tables if table.startswith(_TABLE_START)}
    return tuple(
        BridgeFinding(
            bridge=bridge,
            state_dir=ours.get(bridge, ""),
            abandoned=not exists(ours[bridge]) if bridge in ours else True,
            links=tuple(n for n, kind, _ in listed if kind == "veth" and n.startswith(names.link_prefix(bridge))),
            table=bridge in of_tables,
        )
        for bridge in sorted(ours.keys() | of_tables)
    )


def _open() -> Any:
    """Open the library's socket as Any: it is untyped."""
    return pyroute2.IPRoute()


def _link(message: Any) -> tuple[str, str, str]:
    info = message.get("linkinfo")
    kind = info.get("kind") if info is not None else None
    return str(message.get("ifname")), str(kind or ""), str(message.get("ifalias") or "")


def _tables() -> list[str]:
    program = find_nft()
    if program is None:
        return []
    output = subprocess.run([program, "-j", "list", "tables"], check=False, capture_output=True).stdout
    try:
        listed: list[dict[str, dict[str, str]]] = json.loads(output)["nftables"]
    except (ValueError, LookupError, TypeError):
        return []
    return [entry["table"]["name"] for entry in listed if "table" in entry]
