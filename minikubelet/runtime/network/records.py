"""What was given to each pod, one small file a pod: `<state>/network/<uid>.json`.

The file is written before the kernel is asked for anything, so that whatever a crash leaves half made has a record by
which it is found. It is not synced: a power cut also takes the namespaces, and a torn file is set aside at the next
start.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.linux.files import write_atomic

log = structlog.get_logger(__name__)

_VERSION: Final = 1
_CURSOR: Final = "latest-addresses"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """One `ports[]` entry with a hostPort. An empty `host_ip` means all addresses of the node."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""

    def describe(self) -> str:
        """Say the port as people do: `TCP 192.0.2.1:80`."""
        host = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip or "*"
        return f"{self.protocol} {host}:{self.host_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetwork:
    """The network of one pod as recorded.

    `link` is the host's end of the veth pair; `boot_id` tells a reboot, after which neither links nor rules are left.
    `cni` holds, for a pod whose network CNI plugins made, what DEL needs: the configuration as it was at ADD time and
    the result.
    """

    uid: PodUID
    pod: str
    ips: tuple[str, ...]
    link: str = ""
    boot_id: str = ""
    host_ports: tuple[HostPort, ...] = ()
    cni: dict[str, Any] = field(default_factory=dict[str, Any])
    version: int = _VERSION


class Records:
    """The directory of records.

    Args:
        directory: `<state>/network`; made when missing.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def write(self, network: PodNetwork) -> None:
        """Write or replace a pod's record."""
        data = msgspec.json.encode(network)
        path = self._path(network.uid)
        try:
            write_atomic(path, data, mode=0o600)
        except FileNotFoundError:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            write_atomic(path, data, mode=0o600)

    def remove(self, uid: PodUID) -> None:
        """Remove a pod's record, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(uid))

    def read_all(self) -> dict[PodUID, PodNetwork]:
        """Read every record. A file that cannot be understood is set aside (`.bad`) and said in the log."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        found: dict[PodUID, PodNetwork] = {}
        for path in self._files():
            try:
                with open(path, "rb") as file:
                    network = parse_record(file.read())
            except ValueError as error:
                log.warning("network record set aside", path=path, error=str(error))
                os.replace(path, f"{path}.bad")
                continue
            found[network.uid] = network
        return found

    def read_latest(self) -> list[str]:
        """Return the addresses given last, so that a new daemon does not give a just released one again."""
        try:
            with open(os.path.join(self._directory, _CURSOR), encoding="ascii", errors="replace") as file:
                return file.read(1024).split()
        except OSError:
            return []

    def write_latest(self, addresses: list[str]) -> None:
        """Remember the addresses given last. Losing this loses a courtesy only, so nothing is renamed or synced."""
        with contextlib.suppress(OSError), open(os.path.join(self._directory, _CURSOR), "w", encoding="ascii") as file:
            file.write(" ".join(addresses) + "\n")

    def _path(self, uid: PodUID) -> str:
        return os.path.join(self._directory, f"{uid}.json")

    def _files(self) -> Iterator[str]:
        for name in sorted(os.listdir(self._directory)):
            path = os.path.join(self._directory, name)
            if name.endswith(".json"):
                yield path
            elif name.endswith(".json.tmp"):
                os.unlink(path)


def parse_record(data: bytes) -> PodNetwork:
    """Read a record.

    Raises:
        ValueError: It is not one of ours, or of another version.
    """
    try:
        network = msgspec.json.decode(data, type=PodNetwork)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if network.version != _VERSION:
        raise ValueError(f"version {network.version} is not {_VERSION}")
    for ip in network.ips:
        ipaddress.ip_address(ip)
    return network
