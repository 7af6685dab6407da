"""The way outside for pods on machines that have iptables but no nftables: one marked masquerade rule a range."""

from __future__ import annotations

import asyncio
import shutil

from minikubelet.runtime.network.errors import NetworkError
from minikubelet.runtime.network.rtnetlink import IPNetwork


class Masquerade:
    """The rules of one bridge, found again by their comment and content."""

    def __init__(self, bridge: str, ranges: tuple[IPNetwork, ...]) -> None:
        self._bridge = bridge
        self._ranges = ranges

    async def ensure(self) -> None:
        """Add what is missing.

        Raises:
            NetworkError: A program is missing or refused.
        """
        for network in self._ranges:
            if await self._run(network, "-C") is not None:
                failed = await self._run(network, "-A")
                if failed is not None:
                    raise NetworkError(f"cannot let pods reach the outside: {failed}")

    async def remove(self) -> None:
        """Remove the rules that are there."""
        for network in self._ranges:
            await self._run(network, "-D")

    async def _run(self, network: IPNetwork, verb: str) -> str | None:
        """Run one command; None for success, else the first line of the complaint."""
        name = "iptables" if network.version == 4 else "ip6tables"
        program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
        if program is None:
            return f"neither nft nor {name} is installed"
        process = await asyncio.create_subprocess_exec(
            program,
            *("-w", "10", "-t", "nat", verb, "POSTROUTING", "-s", str(network), "!", "-d", str(network)),
            *("!", "-o", self._bridge, "-m", "comment", "--comment", f"minikubelet: {self._bridge}"),
            *("-j", "MASQUERADE"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode == 0:
            return None
        return (errors.decode(errors="replace").strip().splitlines() or [f"{name} failed"])[0]
