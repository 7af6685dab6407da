"""CNI network configurations and results as values: which file counts, what each plugin is told. Pure but for reading.

Source: CNI specification 1.1.0, sections 1 (configuration format) and 4 (execution); file choice as containerd's.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import structlog

from minikubelet.runtime.network.errors import CNIError
from minikubelet.runtime.network.records import HostPort

log = structlog.get_logger(__name__)

_SUFFIXES: Final = (".conflist", ".conf", ".json")
_VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_FILE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkList:
    """One network: its plugins in order, each as its JSON object."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def at_least(self, version: str) -> bool:
        """Whether the network's version of the specification is the given one or newer."""
        return _number(self.version) >= _number(version)


def load_network(directory: str) -> NetworkList | None:
    """Return the network of the first good file, by name; None when the directory has no configuration.

    A bad file is said in the log and passed over, as containerd does.

    Raises:
        CNIError: There are configurations, but none that can be used.
    """
    try:
        found = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIXES) and name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return None
    problems: list[str] = []
    for name in found:
        path = os.path.join(directory, name)
        try:
            with open(path, "rb") as file:
                return parse_network(file.read(_FILE_BYTES_MAX), single=not name.endswith(".conflist"))
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
            log.warning("CNI configuration passed over", path=path, error=str(error))
    if problems:
        raise CNIError(f"cannot use the CNI configuration {problems[0]}")
    return None


def parse_network(data: bytes, *, single: bool) -> NetworkList:
    """Read a configuration list, or a single plugin's configuration as a list of one.

    Raises:
        ValueError: It is not one.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    raw = cast("dict[str, Any]", value)
    if single and "plugins" not in raw:
        raw = {"name": raw.get("name"), "cniVersion": raw.get("cniVersion", ""), "plugins": [raw]}
    return network_of(raw)


def network_of(raw: Mapping[str, Any]) -> NetworkList:
    """Read a configuration list that is already JSON. Raises ValueError."""
    name, plugins = raw.get("name"), raw.get("plugins")
    if not isinstance(name, str) or not name:
        raise ValueError("it has no name")
    if not isinstance(plugins, list) or not plugins:
        raise ValueError("it has no plugins")
    listed: list[Any] = list(plugins)  # pyright: ignore[reportUnknownArgumentType] - JSON
    for plugin in listed:
        kind: Any = cast("dict[str, Any]", plugin).get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not kind or "/" in kind:
            raise ValueError("a plugin has no type")
    return NetworkList(
        name=name,
        version=_choose_version(raw),
        plugins=tuple(listed),
        disable_check=raw.get("disableCheck") in (True, "true"),
        disable_gc=raw.get("disableGC") in (True, "true"),
        raw=raw,
    )


def plugin_input(
    network: NetworkList,
    plugin: Mapping[str, Any],
    *,
    runtime_config: Mapping[str, Any],
    previous: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return what a plugin reads: its configuration with the network's name and version and what it asked to be told.

    Args:
        network: The list the plugin stands in.
        plugin: Its own object.
        runtime_config: What we could tell, by capability.
        previous: The result of the plugin before, or the network's for CHECK and DEL.
        extra: More keys, as GC has.
    """
    told = {key: value for key, value in runtime_config.items() if _capabilities(plugin).get(key) is True}
    whole: dict[str, Any] = {**plugin, "name": network.name, "cniVersion": network.version}
    if told:
        whole["runtimeConfig"] = told
    if previous is not None:
        whole["prevResult"] = previous
    return json.dumps({**whole, **(extra or {})}).encode()


def runtime_config(host_ports: Iterable[HostPort], ips: Sequence[str] = ()) -> dict[str, Any]:
    """Return what capabilities may ask for: the pod's port mappings, and the addresses it had before."""
    mappings = [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.lower(),
            **({"hostIP": port.host_ip} if port.host_ip else {}),
        }
        for port in host_ports
    ]
    told: dict[str, Any] = {"portMappings": mappings} if mappings else {}
    if ips:
        told["ips"] = list(ips)
    return told


def result_addresses(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the pod's addresses in a result, IPv4 first; those of links outside the pod's sandbox do not count.

    Raises:
        ValueError: The result is not one.
    """
    interfaces: list[dict[str, Any]] = list(result.get("interfaces") or ())
    entries: list[dict[str, Any]] = list(result.get("ips") or ())
    found: list[str] = []
    for entry in entries:
        index: int | None = entry.get("interface")
        if index is not None and interfaces and not interfaces[index].get("sandbox"):
            continue
        found.append(str(entry["address"]))
    # The form of versions before 0.3.0.
    found += [str(result[old]["ip"]) for old in ("ip4", "ip6") if old in result]
    ips = dict.fromkeys(str(ipaddress.ip_interface(text).ip) for text in found)
    return tuple(sorted(ips, key=lambda ip: ":" in ip))


def _choose_version(raw: Mapping[str, Any]) -> str:
    """Return the newest version of `cniVersions` that we speak, else `cniVersion`."""
    offered: list[Any] = raw.get("cniVersions") or []
    spoken = [str(version) for version in [*offered, raw.get("cniVersion") or "0.2.0"] if version in _VERSIONS]
    if not spoken:
        raise ValueError(f"its cniVersion {raw.get('cniVersion')!r} is not known")
    return max(spoken, key=_number)


def _capabilities(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    found = plugin.get("capabilities")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
