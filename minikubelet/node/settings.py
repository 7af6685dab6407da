"""The node's configuration: a file with KubeletConfiguration's field names, environment variables and flags over it."""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import msgspec
import structlog

from minikubelet.api.nodes import SourceError
from minikubelet.api.quantity import QuantityError, parse_quantity
from minikubelet.api.source import decode_text, read_documents
from minikubelet.lifecycle.restart import MAX_DELAY_S
from minikubelet.linux.files import write_atomic
from minikubelet.node import settings_record

log = structlog.get_logger(__name__)

ROOTS: Final = {
    "config_dir": "/etc/minikubelet",
    "state_dir": "/var/lib/minikubelet",
    "run_dir": "/run/minikubelet",
    "log_dir": "/var/log",
}


class SettingsError(Exception):
    """The configuration cannot be used; the text is one clear line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the daemon is told. Durations are seconds, sizes bytes."""

    config_dir: str = ROOTS["config_dir"]
    state_dir: str = ROOTS["state_dir"]
    run_dir: str = ROOTS["run_dir"]
    log_dir: str = ROOTS["log_dir"]
    node_name: str = ""
    bridge: str = "minikubelet0"
    pod_cidr: str = "10.88.0.0/16"  # one range, or one of each family with a comma between
    cni_conf_dir: str = "/etc/cni/net.d"
    cni_bin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
    static_pod_path: str = ""
    file_check_frequency: float = 20.0
    max_pods: int = 110
    node_labels: Mapping[str, str] = field(default_factory=dict)
    system_reserved: Mapping[str, str] = field(default_factory=dict)
    kube_reserved: Mapping[str, str] = field(default_factory=dict)
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    container_log_max_size: int = 10 * 1024 * 1024
    container_log_max_files: int = 5
    pod_pids_limit: int = -1
    single_process_oom_kill: bool = False
    max_container_restart_period: float = 300.0
    shutdown_grace_period: float = 0.0
    shutdown_grace_period_critical_pods: float = 0.0
    shutdown_grace_period_by_pod_priority: tuple[Mapping[str, int], ...] = ()
    strict_static: bool = False
    trusted_uid: int = 0  # who may write manifests besides root

    @property
    def manifest_dir(self) -> str:
        """Return the directory of manifests."""
        return self.static_pod_path or os.path.join(self.config_dir, "manifests")

    @property
    def socket_path(self) -> str:
        """Return the API's socket."""
        return os.path.join(self.run_dir, "minikubelet.sock")


# File key to attribute; what is not here is unknown.
KEYS: Final = {
    "staticPodPath": "static_pod_path",
    "fileCheckFrequency": "file_check_frequency",
    "maxPods": "max_pods",
    "nodeLabels": "node_labels",
    "systemReserved": "system_reserved",
    "kubeReserved": "kube_reserved",
    "allowedUnsafeSysctls": "allowed_unsafe_sysctls",
    "podCIDR": "pod_cidr",
    "podLogsDir": "log_dir",
    "cniConfDir": "cni_conf_dir",
    "cniBinDir": "cni_bin_dirs",
    "clusterDNS": "cluster_dns",
    "clusterDomain": "cluster_domain",
    "resolvConf": "resolv_conf",
    "containerLogMaxSize": "container_log_max_size",
    "containerLogMaxFiles": "container_log_max_files",
    "podPidsLimit": "pod_pids_limit",
    "singleProcessOOMKill": "single_process_oom_kill",
    "shutdownGracePeriod": "shutdown_grace_period",
    "shutdownGracePeriodCriticalPods": "shutdown_grace_period_critical_pods",
    "shutdownGracePeriodByPodPriority": "shutdown_grace_period_by_pod_priority",
    "nodeName": "node_name",
    "bridge": "bridge",
    "strictStatic": "strict_static",
}
_TYPE: Final = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
_RESERVED: Final = ("system_reserved", "kube_reserved")
_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def load_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Return the settings: defaults, then the file, then MINIKUBELET_* variables, then flags.

    Raises:
        SettingsError: Something cannot be understood; says where.
    """
    over: dict[str, Any] = {}
    for one in fields(Settings):
        text = environment.get("MINIKUBELET_" + one.name.upper())
        if text is not None:
            over[one.name] = _convert(one.name, text, f"environment variable MINIKUBELET_{one.name.upper()}")
        if flags.get(one.name) is not None:
            over[one.name] = _convert(one.name, flags[one.name], f"flag --{one.name.replace('_', '-')}")
    roots = {name: value for name, value in over.items() if name in ROOTS}
    settings = replace(Settings(**roots), **_from_file(os.path.join(roots.get("config_dir", ROOTS["config_dir"]))))
    settings = replace(settings, **over)
    _check_numbers(settings)
    _check_shutdown(settings)
    if not settings.file_check_frequency:  # nothing stands for the default, as in the kubelet
        settings = replace(settings, file_check_frequency=Settings().file_check_frequency)
    # The pods' processes have other working directories than the daemon.
    paths = {name: os.path.abspath(getattr(settings, name)) for name in ROOTS}
    if settings.static_pod_path:
        paths["static_pod_path"] = os.path.abspath(settings.static_pod_path)
    settings = replace(settings, **paths)
    # The kubelet's node names are in lower case, whoever gives them.
    return replace(settings, node_name=(settings.node_name.strip() or socket.gethostname()).lower())


def write_record(settings: Settings) -> None:
    """Keep in the run directory what the daemon was started with, for who comes when it has gone. Raises OSError."""
    write_atomic(settings_record.path(settings.run_dir), msgspec.json.encode(settings))


def read_record(run_dir: str) -> Settings | None:
    """Return what the last daemon of a run directory was started with; None if that is not known."""
    found = settings_record.read(run_dir)
    try:
        return msgspec.convert(found, Settings) if found else None
    except msgspec.ValidationError:
        return None


def _check_numbers(settings: Settings) -> None:
    """Raise SettingsError for numbers that the kubelet's configuration check refuses, too."""
    period = settings.max_container_restart_period
    wrong = (
        (settings.max_pods < 0, f"maxPods: {settings.max_pods} is a negative number"),
        (settings.file_check_frequency < 0, f"fileCheckFrequency: {settings.file_check_frequency:g} s is negative"),
        (settings.container_log_max_files < 2, f"containerLogMaxFiles: {settings.container_log_max_files} is not > 1"),
        (
            not 1 <= period <= MAX_DELAY_S,
            f"crashLoopBackOff.maxContainerRestartPeriod: {period:g} s is not between 1 s and {MAX_DELAY_S:g} s",
        ),
        *(
            (0 < seconds < 1, f"{name}: {seconds:g} s is neither 0 nor at least 1 s")
            for name, seconds in (
                ("shutdownGracePeriod", settings.shutdown_grace_period),
                ("shutdownGracePeriodCriticalPods", settings.shutdown_grace_period_critical_pods),
            )
        ),
    )
    for is_wrong, text in wrong:
        if is_wrong:
            raise SettingsError(f"cannot use {text}")


def _check_shutdown(settings: Settings) -> None:
    """Raise SettingsError for periods that contradict each other, as the kubelet's configuration check does."""
    total, critical = settings.shutdown_grace_period, settings.shutdown_grace_period_critical_pods
    by_priority = settings.shutdown_grace_period_by_pod_priority
    if critical > total:
        raise SettingsError(
            f"cannot use shutdownGracePeriodCriticalPods: {critical:g} s is more than shutdownGracePeriod, {total:g} s"
        )
    if by_priority and (total or critical):
        raise SettingsError("cannot use both shutdownGracePeriodByPodPriority and shutdownGracePeriod: leave one out")
    for one in by_priority:
        keys = one.keys() if isinstance(one, Mapping) else set()
        if keys != {"priority", "shutdownGracePeriodSeconds"} or not all(isinstance(v, int) for v in one.values()):
            raise SettingsError(
                f"cannot use shutdownGracePeriodByPodPriority: {one!r} is not "
                "{priority: NUMBER, shutdownGracePeriodSeconds: NUMBER}"
            )


def _from_file(directory: str) -> dict[str, Any]:
    path = os.path.join(directory, "config.yaml")
    try:
        with open(path, "rb") as file:
            documents, _ = read_documents(decode_text(file.read()))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except SourceError as error:
        raise SettingsError(f"cannot read {path}:{error.mark.line}:{error.mark.column}: {error.message}") from error
    values: dict[str, Any] = {}
    if not documents or documents[0].value is None:
        return values
    if not isinstance(documents[0].value, dict):
        raise SettingsError(f"cannot read {path}:1:1: expected a mapping of KubeletConfiguration fields")
    for name, (mark, node) in documents[0].value.items():
        where = f"{path}:{mark.line}:{mark.column}: {name}"
        if name in _TYPE:
            if node.plain() != _TYPE[name]:
                raise SettingsError(f"cannot use {where}: {node.plain()!r} is not {_TYPE[name]}")
            continue
        if name == "crashLoopBackOff":
            plain = node.plain() or {}
            values["max_container_restart_period"] = _convert(
                "max_container_restart_period", plain.get("maxContainerRestartPeriod", "300s"), where
            )
            continue
        attribute = KEYS.get(name)
        if attribute is None:
            close = difflib.get_close_matches(name, KEYS, n=1)
            hint = f', did you mean "{close[0]}"?' if close else ""
            log.warning(
                "configuration field not supported, ignored", field=name, place=f"{path}:{mark.line}", hint=hint
            )
            continue
        values[attribute] = _convert(attribute, node.plain(), where)
    return values


def _convert(name: str, value: Any, where: str) -> Any:
    default = getattr(Settings(), name)
    try:
        if isinstance(default, bool):
            return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
        if isinstance(default, dict):
            found = _mapping(value)
            if name in _RESERVED:
                for quantity in found.values():
                    parse_quantity(quantity)
            return found
        if isinstance(default, tuple):
            return tuple(value) if isinstance(value, list) else tuple(str(value).split(","))
        if isinstance(default, float):
            return value if isinstance(value, float) else _seconds(str(value))
        if isinstance(default, int):
            return parse_quantity(str(value)).value()
    except (KeyError, ValueError, QuantityError) as error:
        raise SettingsError(f"cannot use {where}: {value!r} is not {_expected(default)}") from error
    if not isinstance(value, str):
        raise SettingsError(f"cannot use {where}: {value!r} is not a text")
    return value


def _mapping(value: Any) -> dict[str, str]:
    """Return a mapping of texts, also from `a=b,c=d`."""
    if isinstance(value, dict):
        return {str(name): str(text) for name, text in value.items()}
    pairs = [one.partition("=") for one in str(value).split(",") if one]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("no equals sign")
    return {name: text for name, _, text in pairs}


def _seconds(text: str) -> float:
    total, number = 0.0, ""
    unit = ""
    for character in text + " ":
        if character.isdigit() or character == ".":
            if unit:
                total, number, unit = total + float(number) * _DURATIONS[unit], "", ""
            number += character
        else:
            unit += character.strip()
    return total + float(number) * _DURATIONS[unit or "s"]


def _expected(default: Any) -> str:
    match default:
        case bool():
            return "true or false"
        case float():
            return "a duration like 20s"
        case int():
            return "a number"
        case dict():
            return "a mapping, of names to quantities where it reserves resources"
        case _:
            return "a list"
