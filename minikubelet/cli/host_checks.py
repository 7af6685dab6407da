"""What this machine can tell about a manifest before it runs: `minikubelet validate --host`.

The rules are pure; what they ask of the machine is in `Machine`. What is sure to fail is an error, what only looks
wrong a warning.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from minikubelet.api.manifest import Manifest, PodDocument, parse_manifest
from minikubelet.api.problems import Problem, Severity
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.support import NO_COMMAND
from minikubelet.api.types import Container, HTTPGetAction, Pod, Probe, TCPSocketAction

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine(Protocol):
    """What is asked of the machine."""

    cpus: int
    memory: int  # bytes

    def find_command(self, name: str, path: str) -> str:
        """Return why a program cannot be executed, "" when it can."""
        ...

    def has_user(self, uid: int) -> bool:
        """Tell whether /etc/passwd has a user."""
        ...

    def mode_of(self, path: str) -> int | None:
        """Return a file's mode with its type, links followed; None when there is none."""
        ...

    def holder_of(self, protocol: str, address: str, port: int) -> str:
        """Return who listens on a port, "" when nobody does."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the machine tells; a warning unless it is sure to fail."""

    field: str
    text: str
    fails: bool = False


def find_problems(pod: Pod, machine: Machine) -> list[Finding]:
    """Return what would go wrong with a Pod on a machine."""
    found: list[Finding] = []
    for path, container in _containers(pod):
        found += _command(pod, container, path, machine)
        found += _user(pod, container, path, machine)
        found += _amounts(container, path, machine)
        found += _probes(container, path)
        found += _hooks(pod, container, path)
    return found + list(_host_paths(pod, machine)) + list(_host_ports(pod, machine))


def _containers(pod: Pod) -> Iterator[tuple[str, Container]]:
    for index, one in enumerate(pod.spec.init_containers or ()):
        yield f"spec.initContainers[{index}]", one
    for index, one in enumerate(pod.spec.containers):
        yield f"spec.containers[{index}]", one


def _command(pod: Pod, container: Container, path: str, machine: Machine) -> Iterator[Finding]:
    words = [*(container.command or ()), *(container.args or ())]
    if not words:
        text = f"no command specified: {NO_COMMAND}"
        yield Finding(f"{path}.command", text, fails=True)
        return
    commands = [(f"{path}.{'command' if container.command else 'args'}[0]", words[0], True)]
    for name, probe in _all_probes(container):
        if probe.exec is not None and probe.exec.command:
            commands.append((f"{path}.{name}.exec.command[0]", probe.exec.command[0], False))
    for where, word, fails in commands:
        if "$(" in word or _is_mounted(container, word):
            continue
        problem = machine.find_command(word, _search_path(container))
        if problem:
            yield Finding(where, problem, fails=fails)


def _search_path(container: Container) -> str:
    values = [one.value for one in container.env or () if one.name == "PATH" and one.value_from is None]
    return values[-1] if values else DEFAULT_PATH


def _is_mounted(container: Container, word: str) -> bool:
    """Tell whether a program may come from a volume, of which the machine cannot tell."""
    if "/" not in word:
        return any(
            f"{folder.rstrip('/')}/".startswith(f"{mount.mount_path.rstrip('/')}/")
            for mount in container.volume_mounts or ()
            for folder in _search_path(container).split(":")
        )
    full = os.path.join(container.working_dir or "/", word)
    return any(full.startswith(f"{one.mount_path.rstrip('/')}/") for one in container.volume_mounts or ())


def _user(pod: Pod, container: Container, path: str, machine: Machine) -> Iterator[Finding]:
    own, of_pod = container.security_context, pod.spec.security_context
    user = own.run_as_user if own is not None else None
    where = f"{path}.securityContext.runAsUser"
    if user is None and of_pod is not None:
        user, where = of_pod.run_as_user, "spec.securityContext.runAsUser"
    not_root = own.run_as_non_root if own is not None else None
    if not_root is None and of_pod is not None:
        not_root = of_pod.run_as_non_root
    if not_root and not user:
        said = "runAsUser breaks it" if user == 0 else "without runAsUser it would run as root"
        yield Finding(f"{path}.securityContext.runAsNonRoot", f"the container is refused: {said}", fails=True)
    if user and not machine.has_user(user):
        yield Finding(where, f"no user of this machine has the id {user}: there is no home directory and no name")


def _amounts(container: Container, path: str, machine: Machine) -> Iterator[Finding]:
    sizes = {"cpu": (machine.cpus * 10**9, f"{machine.cpus} CPUs"), "memory": (machine.memory * 10**9, "")}
    for group, amounts in (("limits", container.resources.limits), ("requests", container.resources.requests)):
        for name, (most, shown) in sizes.items():
            text = (amounts or {}).get(name)
            if group == "requests" and text == (container.resources.limits or {}).get(name):
                continue  # told of the limit, which it may come from
            if text is not None and parse_quantity(text).nanos > most:
                shown = shown or f"{machine.memory // 2**20}Mi of memory"
                where = f"{path}.resources.{group}[{name}]"
                yield Finding(where, f"{text} is more than this machine has ({shown})")


def _all_probes(container: Container) -> Iterator[tuple[str, Probe]]:
    for name, probe in (
        ("startupProbe", container.startup_probe),
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
    ):
        if probe is not None:
            yield name, probe


def _probes(container: Container, path: str) -> Iterator[Finding]:
    for name, probe in _all_probes(container):
        where = f"{path}.{name}"
        for kind, action in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
            if action is not None:
                yield from _probe_port(action, container, f"{where}.{kind}.port")
        if probe.timeout_seconds > probe.period_seconds:
            text = f"{probe.timeout_seconds} s is longer than the period of {probe.period_seconds} s: checks come late"
            yield Finding(f"{where}.timeoutSeconds", text)


def _probe_port(action: HTTPGetAction | TCPSocketAction, container: Container, where: str) -> Iterator[Finding]:
    if action.host:
        return
    names = {one.name for one in container.ports or () if one.name}
    if isinstance(action.port, str):
        if action.port not in names:
            listed = f"; it has {', '.join(sorted(names))}" if names else "; it names none"
            text = f'no port of the container is named "{action.port}"{listed}: every check fails'
            yield Finding(where, text, fails=True)
    elif container.ports and action.port not in {one.container_port for one in container.ports}:
        yield Finding(where, f"the container declares no port {action.port}; a check goes there all the same")


def _hooks(pod: Pod, container: Container, path: str) -> Iterator[Finding]:
    before = container.lifecycle.pre_stop if container.lifecycle is not None else None
    grace = pod.spec.termination_grace_period_seconds or 0
    if before is not None and before.sleep is not None and before.sleep.seconds >= max(grace, 1):
        text = f"{before.sleep.seconds} s take the whole grace period of {grace} s: the program is killed unasked"
        yield Finding(f"{path}.lifecycle.preStop.sleep.seconds", text)


_TYPES: Final = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def _host_paths(pod: Pod, machine: Machine) -> Iterator[Finding]:
    for index, volume in enumerate(pod.spec.volumes or ()):
        source = volume.host_path
        if source is None:
            continue
        where, mode = f"spec.volumes[{index}].hostPath.path", machine.mode_of(source.path)
        kind = (source.type or "").removesuffix("OrCreate")
        created = (source.type or "").endswith("OrCreate")
        if mode is None:
            if kind and not created:
                yield Finding(where, f"{source.path} is not there; it must be {_TYPES[kind][1]}", fails=True)
            elif source.type == "FileOrCreate" and machine.mode_of(os.path.dirname(source.path)) is None:
                yield Finding(where, f"the directory of {source.path} is not there and is not made", fails=True)
            elif not kind:
                yield Finding(where, f"{source.path} is not there: an empty directory will be made")
        elif kind and not _TYPES[kind][0](mode):
            yield Finding(where, f"{source.path} is not {_TYPES[kind][1]}", fails=True)


def _host_ports(pod: Pod, machine: Machine) -> Iterator[Finding]:
    for path, container in _containers(pod):
        for index, port in enumerate(container.ports or ()):
            if not port.host_port:
                continue
            holder = machine.holder_of(port.protocol, port.host_ip, port.host_port)
            if holder:
                where = f"{path}.ports[{index}].hostPort"
                yield Finding(where, f"{port.protocol} port {port.host_port} is taken by {holder}", fails=True)


def missing_objects(pod: Pod, config_maps: set[tuple[str, str]], secrets: set[tuple[str, str]]) -> Iterator[Finding]:
    """Yield the ConfigMaps and Secrets that a Pod needs and nobody defines."""
    for path, kind, name, optional in _references(pod):
        known = config_maps if kind == "ConfigMap" else secrets
        if name and not optional and (pod.metadata.namespace, name) not in known:
            yield Finding(path, f"no manifest defines the {kind} {pod.metadata.namespace}/{name}: the pod waits for it")


def _references(pod: Pod) -> Iterator[tuple[str, str, str, bool]]:
    for path, container in _containers(pod):
        for index, source in enumerate(container.env_from or ()):
            for kind, one in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
                if one is not None:
                    yield f"{path}.envFrom[{index}]", kind, one.name, bool(one.optional)
        for index, variable in enumerate(container.env or ()):
            value = variable.value_from
            if value is None:
                continue
            for kind, reference in (("ConfigMap", value.config_map_key_ref), ("Secret", value.secret_key_ref)):
                if reference is not None:
                    yield f"{path}.env[{index}].valueFrom", kind, reference.name, bool(reference.optional)
    for index, volume in enumerate(pod.spec.volumes or ()):
        if volume.config_map is not None:
            optional = bool(volume.config_map.optional)
            yield f"spec.volumes[{index}].configMap", "ConfigMap", volume.config_map.name, optional
        if volume.secret is not None:
            yield f"spec.volumes[{index}].secret", "Secret", volume.secret.secret_name, bool(volume.secret.optional)


# This machine


class ThisMachine:
    """The machine that this runs on."""

    def __init__(self) -> None:
        """Measure it."""
        self.cpus = os.cpu_count() or 1
        self.memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def find_command(self, name: str, path: str) -> str:
        """Return why a program cannot be executed, "" when it can."""
        if "/" not in name:
            return "" if shutil.which(name, path=path) else f'"{name}": executable file not found in $PATH ({path})'
        full = os.path.join("/", name)
        if not os.path.exists(full):
            return f'"{name}": no such file or directory'
        if os.path.isdir(full):
            return f'"{name}": is a directory'
        return "" if os.access(full, os.X_OK) else f'"{name}": permission denied'

    def has_user(self, uid: int) -> bool:
        """Tell whether /etc/passwd has a user."""
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return False
        return True

    def mode_of(self, path: str) -> int | None:
        """Return a file's mode with its type, links followed; None when there is none."""
        try:
            return os.stat(path).st_mode
        except OSError:
            return None

    def holder_of(self, protocol: str, address: str, port: int) -> str:
        """Return who listens on a port, "" when nobody does."""
        import psutil

        if protocol not in ("TCP", "UDP"):
            return ""
        for one in psutil.net_connections(protocol.lower()):
            listens = one.status == psutil.CONN_LISTEN if protocol == "TCP" else not one.raddr
            if not listens or not one.laddr or one.laddr.port != port:
                continue
            anywhere = ("", "0.0.0.0", "::")
            if address in anywhere or one.laddr.ip in (address, *anywhere):
                return _name_of(one.pid)
        return ""


def _name_of(pid: int | None) -> str:
    import psutil

    if pid is None:
        return "a process of another user"
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"


# Together


def add_host_problems(manifests: Sequence[Manifest], manifest_dir: str) -> None:
    """Add to each manifest what this machine tells about its pods."""
    machine = ThisMachine()
    known = [*manifests, *_installed(manifest_dir)]
    config_maps = {(one.metadata.namespace or "default", one.metadata.name) for m in known for one in m.config_maps}
    secrets = {(one.metadata.namespace or "default", one.metadata.name) for m in known for one in m.secrets}
    for manifest in manifests:
        for document in manifest.pods:
            found = [*find_problems(document.pod, machine), *missing_objects(document.pod, config_maps, secrets)]
            # What will fail is not told a second time as something that this node does not honour.
            failing = {(document.document, one.field) for one in found if one.fails}
            manifest.problems[:] = [one for one in manifest.problems if (one.document, one.field) not in failing]
            manifest.problems.extend(_problem(one, document) for one in found)


def _installed(directory: str) -> Iterator[Manifest]:
    """Yield the manifests that the daemon reads, as far as they can be read."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        if name.endswith((".yaml", ".yml", ".json")) and not name.startswith("."):
            try:
                with open(os.path.join(directory, name), "rb") as file:
                    yield parse_manifest(file.read(), file=name, node_name="node")
            except OSError:
                continue


def _problem(one: Finding, document: PodDocument) -> Problem:
    mark = document.place(one.field)
    return Problem(
        severity=Severity.ERROR if one.fails else Severity.WARNING,
        field=one.field,
        message=f"{one.field}: {one.text}",
        document=document.document,
        line=mark.line,
        column=mark.column,
        is_of_node=not one.fails,
    )
