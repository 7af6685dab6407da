"""The nftables table of one daemon: masquerade for its pods, translation of host ports. Text is pure, `Nft` runs it.

One table per bridge, named after it, so that an operator sees at once whose it is and several daemons never meet.
Host ports are elements of four maps, so that a pod's coming and going is one small transaction. What each chain does
is said in comments of the ruleset, which `nft list` keeps out of the kernel but this page keeps for the reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from minikubelet.linux.faults import point
from minikubelet.runtime.network.errors import NetworkError, os_error_text
from minikubelet.runtime.network.forwards import Forward
from minikubelet.runtime.network.names import table_name
from minikubelet.runtime.network.rtnetlink import IPNetwork
from minikubelet.runtime.network.watch import RulesWatch

_TIMEOUT_S: Final = 30.0
_IP_FAMILIES: Final = ("ip", "ip6", "inet")

_TABLE: Final = """\
add table inet {table}
delete table inet {table}
table inet {table} {{
  map any4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map one4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  map any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
  map one6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
  # The bridge routes 127.0.0.0/8 for the host's own connections to host ports; nobody on the bridge may use that.
  chain guard {{
    type filter hook prerouting priority -300; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
  }}
  chain host-ports {{
    meta l4proto {{ tcp, udp, sctp }} dnat ip to ip daddr . meta l4proto . th dport map @one4
    meta l4proto {{ tcp, udp, sctp }} dnat ip to meta l4proto . th dport map @any4
    meta l4proto {{ tcp, udp, sctp }} dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    meta l4proto {{ tcp, udp, sctp }} dnat ip6 to meta l4proto . th dport map @any6
  }}
  chain incoming {{
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local jump host-ports
  }}
  chain outgoing {{
    type nat hook output priority -100; policy accept;
    # IPv6 has no route_localnet: the sockets that hold the ports carry ::1.
    ip6 daddr ::1 return
    fib daddr type local jump host-ports
  }}
  chain leaving {{
    type nat hook postrouting priority 100; policy accept;
    # The host reached a host port by its loopback: the pod could not answer 127.0.0.1.
    oifname "{bridge}" ip saddr 127.0.0.0/8 ct status dnat masquerade
{ranges}
  }}
}}
"""

# A pod reached a pod by a host port: the answer must come back through the host. And the way outside.
_RANGE: Final = """\
    {family} saddr {range} oifname "{bridge}" ct status dnat masquerade
    {family} saddr {range} {family} daddr != {range} oifname != "{bridge}" masquerade"""


def whole_table(bridge: str, ranges: Iterable[IPNetwork], forwards: Sequence[Forward]) -> str:
    """Return the transaction that makes the table exactly this, whatever it was."""
    lines = [
        _RANGE.format(family="ip" if network.version == 4 else "ip6", range=network, bridge=bridge)
        for network in ranges
    ]
    text = _TABLE.format(table=table_name(bridge), bridge=bridge, ranges="\n".join(lines))
    return text + change_elements("add", bridge, forwards)


def change_elements(verb: str, bridge: str, forwards: Iterable[Forward]) -> str:
    """Return the commands that `add` or `delete` host ports."""
    return "".join(f"{verb} element inet {table_name(bridge)} {_element(f)}\n" for f in forwards)


def replace_elements(bridge: str, old: Iterable[Forward], new: Iterable[Forward]) -> str:
    """Return one transaction that takes the old host ports out, whether they are there or not, and puts the new in."""
    # Adding first makes the deletion sure; an element that is there with the same value may be added again.
    old = list(old)
    return (
        change_elements("add", bridge, old)
        + change_elements("delete", bridge, old)
        + change_elements("add", bridge, new)
    )


def no_table(bridge: str) -> str:
    """Return the transaction that removes the table, whether it is there or not."""
    return f"add table inet {table_name(bridge)}\ndelete table inet {table_name(bridge)}\n"


def _element(forward: Forward) -> str:
    key = f"{forward.protocol} . {forward.host_port}"
    value = f"{forward.pod_ip} . {forward.pod_port}"
    if forward.host_ip:
        return f"one{forward.family} {{ {forward.host_ip} . {key} : {value} }}"
    return f"any{forward.family} {{ {key} : {value} }}"


class Nft:
    """Runs transactions on one table through the `nft` program, one after the other.

    Args:
        program: Path of nft.
        table: Name of the table.
    """

    def __init__(self, program: str, table: str) -> None:
        self._program = program
        self._table = table
        self._lock = asyncio.Lock()
        self._watch: RulesWatch | None = None

    def watch(self, ring: Callable[[], None]) -> None:
        """Ring when somebody else changes the table."""
        self._watch = RulesWatch(self._table, ring)

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def run(self, transaction: str) -> None:
        """Carry out a transaction, wholly or not at all.

        Raises:
            NetworkError: nft or the kernel refused it.
        """
        if not transaction:
            return
        async with self._lock:
            if self._watch is not None:
                self._watch.pause()
            own = 0
            try:
                await self._run(transaction)
                own = 1
            finally:
                if self._watch is not None:
                    self._watch.resume(own=own)

    async def dropping_chains(self) -> list[str]:
        """Return `family table chain` of each base chain of others that drops forwarded packets by default.

        An accept of ours cannot overrule another table's drop, and its rules are not ours to change. Docker and ufw
        make such chains.
        """
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-j", "list", "chains"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        with contextlib.suppress(ValueError, LookupError, TypeError):
            chains: list[dict[str, str]] = [x["chain"] for x in json.loads(output)["nftables"] if "chain" in x]
            return [
                f"{chain['family']} {chain['table']} {chain['name']}"
                for chain in chains
                if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] in _IP_FAMILIES
            ]
        return []

    async def _run(self, transaction: str) -> None:
        try:
            point("network.nft")
            process = await asyncio.create_subprocess_exec(
                *(self._program, "-f", "-"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:  # no more processes, descriptors or memory
            raise NetworkError(os_error_text("cannot change the nftables rules", error)) from error
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, errors = await process.communicate(transaction.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise NetworkError(f"cannot change the nftables rules: nft took more than {_TIMEOUT_S:.0f} s") from None
        if process.returncode != 0:
            first = errors.decode(errors="replace").strip().splitlines()
            raise NetworkError(f"cannot change the nftables rules: {first[0] if first else 'nft failed'}")


def find_nft() -> str | None:
    """Return the path of nft, which is often outside the PATH of services."""
    return shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin:/usr/local/sbin")
