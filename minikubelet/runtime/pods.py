"""The container runtime of this node: carries out what pod workers decide, on pauses, network, volumes and cgroups.

Each method finishes what an earlier, interrupted call of it began; what must be undone is undone in the reverse
order of how it was made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from minikubelet.api.expansion import expand
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import Container, Pod, VolumeMount
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID
from minikubelet.lifecycle.resources import pod_shares
from minikubelet.lifecycle.restart import count_from_logs
from minikubelet.linux import mounts
from minikubelet.linux.faults import point
from minikubelet.runtime import etc_files, launch
from minikubelet.runtime.accounts import Accounts
from minikubelet.runtime.cgroups import CgroupPaths, Cgroups
from minikubelet.runtime.host_mounts import HostMounts
from minikubelet.runtime.id_ranges import IdRangeError, IdRanges
from minikubelet.runtime.network.errors import NetworkError
from minikubelet.runtime.network.hosts_files import HostsFiles, NamedPod
from minikubelet.runtime.network.network import Network
from minikubelet.runtime.network.records import HostPort
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.port import (
    ContainerFailure,
    ExecResult,
    GroupFailure,
    RuntimeFailure,
    RuntimeView,
    SandboxFailure,
)
from minikubelet.runtime.sysctls import pod_sysctls
from minikubelet.runtime.volumes.apart import run_apart
from minikubelet.runtime.volumes.manager import Volumes
from minikubelet.runtime.wording import words
from minikubelet.sandbox.rootfs import open_sub_path
from minikubelet.sandbox.spec import MountSpec, SandboxSpec

log = structlog.get_logger(__name__)

_CONTAINER_ID_BYTES: Final = 32
_MAX_LINK_NAME: Final = 255 - len(".log")
_MAX_HOSTNAME: Final = 64  # of the kernel
_LOGS_KEPT: Final = 5  # instances of a container, the one that runs included
_RESOLVED_UPSTREAM: Final = "/run/systemd/resolve/resolv.conf"
# Bytes of a container's writable layer without an ephemeral-storage limit: the kernel's default, half the memory.
_NO_LIMIT: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """What of the node's configuration the runtime needs."""

    state_dir: str
    run_dir: str
    log_dir: str  # holds `pods` and `containers`
    node_name: str
    cluster_domain: str = "cluster.local"
    cluster_dns: tuple[str, ...] = ()
    resolv_conf: str = "/etc/resolv.conf"
    log_max_size: int = 10 * 1024 * 1024
    log_max_files: int = 5
    seccomp_profiles_dir: str = "/var/lib/minikubelet/seccomp"
    hidden_paths: tuple[str, ...] = ()


class PodRuntime:
    """Carries out one pod's actions; the owner of `<state>/pods/<uid>` but for the journal."""

    def __init__(
        self,
        *,
        settings: RuntimeSettings,
        pauses: Pauses,
        network: Network,
        hosts_files: HostsFiles,
        cgroups: Cgroups,
        id_ranges: IdRanges,
        volumes: Volumes,
        variables: Callable[[Pod, Container], Mapping[str, str]],
        qos: Callable[[Pod], str],
        apply_limits: Callable[[Pod, Container | None, CgroupPaths], None],
        unenforced: Callable[[Pod, CgroupPaths], list[str]],
        oom_score: Callable[[Pod, Container], int],
        warn: Callable[[Pod, str, str], None],
        count_user_namespaced: Callable[[str], None],
    ) -> None:
        """Create it from its parts.

        Args:
            settings: Directories and the like.
            pauses: Processes.
            network: Addresses and host ports.
            hosts_files: The names of this node's pods.
            cgroups: Control groups.
            id_ranges: Ids of user namespaces.
            volumes: Volumes.
            variables: The environment a Pod asks for; raises ContainerFailure.
            qos: A Pod's QoS class.
            apply_limits: Writes resources into a pod's (no container) or a container's group.
            unenforced: Names the limits of a pod that its group cannot hold.
            oom_score: A container's oom_score_adj.
            warn: Records a Warning event about a pod: reason and message.
            count_user_namespaced: Told `started` and `errors` of pods with a user namespace of their own.
        """
        self._settings = settings
        self._pauses = pauses
        self._network = network
        self._hosts_files = hosts_files
        self._accounts = Accounts()
        self._host_mounts = HostMounts(settings.hidden_paths)
        self._cgroups = cgroups
        self._id_ranges = id_ranges
        self._volumes = volumes
        self._variables = variables
        self._qos = qos
        self._apply_limits = apply_limits
        self._unenforced = unenforced
        self._oom_score = oom_score
        self._warn = warn
        self._count = count_user_namespaced

    # Seeing

    def view(self, uid: PodUID) -> RuntimeView:
        """Return what is there now."""
        return self._pauses.view(uid)

    def pod_dir(self, pod: Pod) -> str:
        """Return the directory of a pod's state."""
        return os.path.join(self._settings.state_dir, "pods", pod.metadata.uid)

    def log_dir(self, pod: Pod) -> str:
        """Return the directory of a pod's logs."""
        meta = pod.metadata
        return os.path.join(self._settings.log_dir, "pods", f"{meta.namespace}_{meta.name}_{meta.uid}")

    def log_path(self, pod: Pod, container: str, restart_count: int) -> str:
        """Return the log file of one instance."""
        return os.path.join(self.log_dir(pod), container, f"{restart_count}.log")

    def next_restart_count(self, pod: Pod, container: str) -> int:
        """Return the restart count for a container of which no instance is known: by its logs, 0 without one."""
        with contextlib.suppress(OSError):
            return count_from_logs(os.listdir(os.path.join(self.log_dir(pod), container)))
        return 0

    # Making

    def remove_dead_links(self) -> None:
        """Remove links to logs that lead nowhere: a daemon may have died between such a link and its instance.

        Source: kubelet kuberuntime_gc.go `evictPodLogsDirectories` (v1.36).
        """
        directory = os.path.join(self._settings.log_dir, "containers")
        with contextlib.suppress(OSError), os.scandir(directory) as found:
            for one in found:
                if one.name.endswith(".log") and one.is_symlink() and not os.path.exists(one.path):
                    os.unlink(one.path)

    async def prepare(self, pod: Pod) -> None:
        """Make directories, control group and volumes. Raises VolumeFailure, GroupFailure or OSError."""
        point("pod.prepare")
        directory = self.pod_dir(pod)
        os.makedirs(os.path.join(directory, "containers"), mode=0o700, exist_ok=True)
        if pod.spec.volumes:
            await run_apart(self._volumes.set_up, pod)
        try:
            group = self._cgroups.make_pod(pod.metadata.uid, self._qos(pod))
            self._apply_limits(pod, None, group)
            self._cgroups.share(pod.metadata.uid, self._qos(pod), pod_shares(pod))
        except OSError as error:
            raise GroupFailure(words(error)) from error

    async def create_sandbox(self, pod: Pod, attempt: int) -> None:
        """Make the pause and connect its network. Raises SandboxFailure."""
        with self._counting(pod, "started"):
            await self._create_sandbox(pod, attempt)

    @contextlib.contextmanager
    def _counting(self, pod: Pod, what: str = "") -> Iterator[None]:
        """Count what is begun for a pod with a user namespace, and what fails."""
        if pod.spec.host_users is not False:
            yield
            return
        if what:
            self._count(what)
        try:
            yield
        except RuntimeFailure:
            self._count("errors")
            raise

    async def _create_sandbox(self, pod: Pod, attempt: int) -> None:
        point("pod.create-sandbox")
        uid = PodUID(pod.metadata.uid)
        key = f"{pod.metadata.namespace}/{pod.metadata.name}"
        hostname, _ = self._hostname(pod)
        if len(hostname) > _MAX_HOSTNAME:
            what = f"FQDN {hostname} is too long ({_MAX_HOSTNAME} characters is the max, {len(hostname)} characters"
            raise SandboxFailure(f"Failed to construct FQDN from Pod hostname and cluster domain, {what} requested)")
        for reason, message in self._dns_config(pod).events:
            self._warn(pod, reason, message)
        shm = os.path.join(self.pod_dir(pod), "shm")
        if not pod.spec.host_ipc:
            os.makedirs(shm, mode=0o777, exist_ok=True)
            if not os.path.ismount(shm):
                mounts.mount_tmpfs(shm, size=64 * 1024 * 1024, mode=0o1777)
        leaf = self._cgroups.make_pause(pod.metadata.uid, self._qos(pod))
        missing = self._unenforced(pod, self._cgroups.pod(uid, self._qos(pod)))
        if missing:
            what = f"cannot enforce limits of {', '.join(missing)}"
            self._warn(pod, "LimitsNotEnforced", f"{what}: {self._cgroups.problem or 'no such controller'}")
        id_map = None
        if pod.spec.host_users is False:
            try:
                id_map = self._id_ranges.take(uid)
                if not pod.spec.host_ipc:
                    os.chown(shm, id_map.first, id_map.first)
            except (IdRangeError, OSError) as error:
                raise SandboxFailure(f"cannot allocate user namespace: {words(error)}") from error
        spec = SandboxSpec(
            uid=uid,
            id=secrets.token_hex(_CONTAINER_ID_BYTES),
            attempt=attempt,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            hostname=hostname,
            run_dir=self._pauses.run_dir,
            pod_dir=self.pod_dir(pod),
            netns_path="" if pod.spec.host_network else f"/run/netns/{self._network.netns_name(uid, key)}",
            host_network=pod.spec.host_network,
            host_ipc=pod.spec.host_ipc,
            host_pid=pod.spec.host_pid,
            share_pid=bool(pod.spec.share_process_namespace),
            shm_dir="/dev/shm" if pod.spec.host_ipc else shm,
            cgroup_dirs=list(leaf.directories),
            sysctls=pod_sysctls(pod),
            oom_score_adj=-998,
            user_namespace=id_map,
        )
        netns = await self._pauses.create_sandbox(spec)
        point("pod.create-sandbox.made")
        if pod.spec.host_network:
            self._set_ips(pod, self._network.host_ips())
            return
        try:
            ips = await self._network.attach(uid, pod=key, netns_fd=netns, host_ports=host_port_mappings(pod))
        except NetworkError as error:
            await self._pauses.stop_sandbox(uid)
            raise SandboxFailure(f'failed to set up network for pod "{pod.metadata.name}": {error}') from error
        self._set_ips(pod, ips)

    async def adopt(self, pod: Pod) -> None:
        """Take up a pod that an earlier daemon started: its addresses, and its connection if that was lost."""
        uid = PodUID(pod.metadata.uid)
        self._cgroups.share(uid, self._qos(pod), pod_shares(pod))
        if pod.spec.host_network:
            self._set_ips(pod, self._network.host_ips())
            return
        ips = self._network.addresses(uid)
        if not ips and self._pauses.netns(uid) >= 0:
            key = f"{pod.metadata.namespace}/{pod.metadata.name}"
            try:
                ips = await self._network.attach(
                    uid, pod=key, netns_fd=self._pauses.netns(uid), host_ports=host_port_mappings(pod)
                )
            except NetworkError as error:
                log.error("cannot reconnect pod", pod=key, error=str(error))
        self._set_ips(pod, ips)
        if _knows_other_pods(pod):
            self._hosts_files.keep(uid, pod.metadata.namespace, os.path.join(self.pod_dir(pod), "etc-hosts"))

    def follow_host_addresses(self, pods: Iterable[Pod]) -> None:
        """Give the pods on the host's network the addresses that the node has now."""
        for pod in pods:
            if pod.spec.host_network and self._pauses.netns(PodUID(pod.metadata.uid)) >= 0:
                self._set_ips(pod, self._network.host_ips())

    def _set_ips(self, pod: Pod, ips: tuple[str, ...]) -> None:
        """Note where a pod is reached, for its status and for other pods."""
        uid = PodUID(pod.metadata.uid)
        self._pauses.set_ips(uid, ips)
        if not ips:
            self._hosts_files.remove(uid)
            return
        meta = pod.metadata
        called = meta.name.removesuffix(f"-{self._settings.node_name.lower()}")
        self._hosts_files.add(
            NamedPod(
                uid=uid,
                namespace=meta.namespace,
                names=tuple(dict.fromkeys((called, meta.name))),
                ips=ips,
                hostname=pod.spec.hostname,
                subdomain=pod.spec.subdomain,
            )
        )

    async def start_container(self, pod: Pod, container: Container, restart_count: int) -> ObservedContainer:
        """Create and start one container. Raises ContainerFailure."""
        with self._counting(pod):
            return await self._start_container(pod, container, restart_count)

    async def _start_container(self, pod: Pod, container: Container, restart_count: int) -> ObservedContainer:
        point("pod.start-container")
        uid = PodUID(pod.metadata.uid)
        identity = secrets.token_hex(_CONTAINER_ID_BYTES)
        variables = self._variables(pod, container)
        hostname, domain = self._hostname(pod)
        try:
            self._write_etc_files(pod, hostname, domain)
            directory = os.path.join(self.pod_dir(pod), "containers", container.name)
            os.makedirs(directory, mode=0o700, exist_ok=True)
            message = os.path.join(directory, identity)
            with open(message, "xb"):
                os.chmod(message, 0o666)
            group = self._cgroups.make_child(pod.metadata.uid, self._qos(pod), identity)
            self._apply_limits(pod, container, group)
        except OSError as error:
            raise ContainerFailure(launch.CREATE_ERROR, f"cannot prepare container: {words(error)}") from error
        log_path = self.log_path(pod, container.name, restart_count)
        spec = launch.container_spec(
            pod,
            container,
            accounts=self._accounts,
            container_id=identity,
            restart_count=restart_count,
            variables=variables,
            hostname=hostname,
            mounts=self._mounts(pod, container, message, variables),
            hidden_paths=self._settings.hidden_paths,
            host_mounts=self._host_mounts.points(),
            cgroup_dirs=group.directories,
            memory_cgroup=group.controller("memory") or "",
            oom_score_adj=self._oom_score(pod, container),
            rootfs_size=_writable_size(container),
            log_path=log_path,
            log_max_size=self._settings.log_max_size,
            log_max_files=self._settings.log_max_files,
            seccomp_profiles_dir=self._settings.seccomp_profiles_dir,
        )
        self._link_log(pod, container.name, identity, log_path)
        try:
            point("pod.start-container.prepared")
            return await self._pauses.start_container(uid, spec)
        except ContainerFailure:
            raise
        except (RuntimeFailure, OSError) as failure:
            if not any(one.id == identity for one in self.view(uid).containers.get(container.name, ())):
                await self._undo_container(pod, container.name, identity)
            raise ContainerFailure(launch.CREATE_ERROR, words(failure)) from failure

    def close(self) -> None:
        """Let go of what is kept open."""
        self._host_mounts.close()

    async def _undo_container(self, pod: Pod, name: str, identity: str) -> None:
        """Take away what was made for an instance that never came to be."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.pod_dir(pod), "containers", name, identity))
        self._unlink_log(pod, name, identity)
        await self._cgroups.remove_child(pod.metadata.uid, self._qos(pod), identity)

    def _hostname(self, pod: Pod) -> tuple[str, str]:
        settings = self._settings
        return etc_files.pod_hostname(pod, node_name=settings.node_name, cluster_domain=settings.cluster_domain)

    def _write_etc_files(self, pod: Pod, hostname: str, domain: str) -> None:
        """Write the pod's files anew, in place: running containers have them mounted."""
        point("pod.etc-files")
        directory = self.pod_dir(pod)
        aliases = pod.spec.host_aliases or ()
        if pod.spec.host_network:
            hosts = etc_files.host_network_hosts_file(_read("/etc/hosts"), aliases)
        else:
            ips = self._network.addresses(PodUID(pod.metadata.uid))
            hosts = etc_files.hosts_file(ips, hostname, domain, aliases)
        knows_others = _knows_other_pods(pod)
        if knows_others:
            hosts += self._hosts_files.block(pod.metadata.namespace)
        resolv = self._dns_config(pod).text()
        for name, text in (("hosts", hosts), ("resolv.conf", resolv), ("hostname", hostname + "\n")):
            path = os.path.join(directory, f"etc-{name}")
            # The container may have made it as large as it liked: no more is read than tells whether it is the same.
            if not os.path.exists(path) or _read(path, len(text) + 1) != text:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                os.chmod(path, 0o644)
        if knows_others:
            self._hosts_files.keep(
                PodUID(pod.metadata.uid), pod.metadata.namespace, os.path.join(directory, "etc-hosts")
            )

    def _dns_config(self, pod: Pod) -> etc_files.DNSConfig:
        settings = self._settings
        node_file = _read(settings.resolv_conf) if settings.resolv_conf else None
        if node_file is not None and not pod.spec.host_network and etc_files.asks_local_resolver(node_file):
            # That address is this machine's loopback, which a pod with a network of its own does not reach.
            node_file = _read(_RESOLVED_UPSTREAM) or node_file
        return etc_files.dns_config(
            pod, node_file, cluster_dns=settings.cluster_dns, cluster_domain=settings.cluster_domain
        )

    def _mounts(self, pod: Pod, container: Container, message: str, variables: Mapping[str, str]) -> list[MountSpec]:
        """Return a container's mounts, outer ones first; a volume at the place of a file of ours replaces it."""
        directory = self.pod_dir(pod)
        context = container.security_context
        read_only_root = bool(context.read_only_root_filesystem) if context is not None else False
        found = [
            MountSpec(kind="bind", source=f"{directory}/etc-hosts", target="/etc/hosts", own=True),
            MountSpec(
                kind="bind",
                source=f"{directory}/etc-resolv.conf",
                target="/etc/resolv.conf",
                read_only=read_only_root,
                own=True,
            ),
            MountSpec(
                kind="bind",
                source=f"{directory}/etc-hostname",
                target="/etc/hostname",
                read_only=read_only_root,
                own=True,
            ),
            MountSpec(
                kind="bind",
                source=message,
                target=container.termination_message_path or "/dev/termination-log",
                own=True,
            ),
        ]
        own = [self._volume_mount(pod, container, one, variables) for one in container.volume_mounts or ()]
        covered = {one.target.rstrip("/") for one in own}
        found = [one for one in found if one.target not in covered]
        return sorted((*found, *own), key=lambda one: one.target.rstrip("/").count("/"))

    def _volume_mount(
        self, pod: Pod, container: Container, one: VolumeMount, variables: Mapping[str, str]
    ) -> MountSpec:
        volume = next(v for v in pod.spec.volumes or () if v.name == one.name)
        source = self._volumes.source_path(pod, volume)
        sub_path = one.sub_path
        if one.sub_path_expr:
            sub_path = _expand_sub_path(one.sub_path_expr, variables)
        if sub_path:
            _prepare_sub_path(source, sub_path, one, container)
        privileged = container.security_context is not None and container.security_context.privileged
        if one.mount_propagation == "Bidirectional" and not privileged:
            text = "Bidirectional mount propagation is available only to privileged containers"
            raise ContainerFailure(launch.CREATE_ERROR, text)
        target = one.mount_path if one.mount_path.startswith("/") else "/" + one.mount_path
        always_read_only = any((volume.config_map, volume.secret, volume.downward_api, volume.projected))
        propagation = {"HostToContainer": "rslave", "Bidirectional": "rshared"}.get(one.mount_propagation or "", "")
        if propagation:
            _check_propagation(source, propagation)
        return MountSpec(
            kind="bind",
            source=source,
            target=os.path.normpath(target),
            sub_path=sub_path,
            own=volume.host_path is None,
            read_only=one.read_only or always_read_only,
            recursive_read_only=one.recursive_read_only in ("Enabled", "IfPossible"),
            propagation=propagation,
        )

    def _link_log(self, pod: Pod, container: str, identity: str, log_path: str) -> None:
        """Make the link under which log collectors look; a failure is no reason not to run."""
        path = self._log_link(pod, container, identity)
        try:
            point("log.link")
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            os.symlink(log_path, path)
        except OSError as error:
            log.warning("cannot link log", path=path, error=str(error))

    def _log_link(self, pod: Pod, container: str, identity: str) -> str:
        name = f"{pod.metadata.name}_{pod.metadata.namespace}_{container}-{identity}"[:_MAX_LINK_NAME] + ".log"
        return os.path.join(self._settings.log_dir, "containers", name)

    def _unlink_log(self, pod: Pod, container: str, identity: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log_link(pod, container, identity))

    # Steering

    async def signal(self, pod: Pod, container_id: ContainerID, signal: int) -> None:
        """Send a signal to the container's main process."""
        await self._pauses.signal(PodUID(pod.metadata.uid), container_id, signal)

    async def kill(self, pod: Pod, container_id: ContainerID) -> None:
        """Kill every process of the container."""
        await self._pauses.kill(PodUID(pod.metadata.uid), container_id)

    async def exec(
        self, pod: Pod, container_id: ContainerID, command: tuple[str, ...], *, timeout_s: float | None, limit: int
    ) -> ExecResult:
        """Run a command in a running container."""
        return await self._pauses.exec(
            PodUID(pod.metadata.uid), container_id, command, timeout_s=timeout_s, limit=limit
        )

    def termination_message_file(self, pod: Pod, container: str, container_id: ContainerID) -> str:
        """Return the file on the host that an instance's termination message path is."""
        return os.path.join(self.pod_dir(pod), "containers", container, container_id)

    # Removing

    async def remove_container(self, pod: Pod, container_id: ContainerID) -> None:
        """Forget a dead instance with its files."""
        point("pod.remove-container")
        uid = PodUID(pod.metadata.uid)
        for name, instances in self._pauses.view(uid).containers.items():
            if any(one.id == container_id for one in instances):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.pod_dir(pod), "containers", name, container_id))
                self._unlink_log(pod, name, container_id)
                self._remove_old_logs(os.path.join(self.log_dir(pod), name))
        await self._pauses.remove_container(uid, container_id)
        await self._cgroups.remove_child(pod.metadata.uid, self._qos(pod), container_id)

    def _remove_old_logs(self, directory: str) -> None:
        """Keep the logs of a container's newest instances; without that, every restart would leave one."""
        with contextlib.suppress(OSError):
            numbers = {name: count_from_logs((name,)) for name in os.listdir(directory)}
            kept = sorted(set(numbers.values()))[-_LOGS_KEPT:]
            for name, number in numbers.items():
                if number and number not in kept:  # 0: it is no log
                    os.unlink(os.path.join(directory, name))

    async def stop_sandbox(self, pod: Pod) -> None:
        """End the pause with all that is left in it; release the addresses."""
        point("pod.stop-sandbox")
        uid = PodUID(pod.metadata.uid)
        await self._pauses.stop_sandbox(uid)
        # Programs of a pod in the machine's PID namespace may have children that outlived them.
        await self._cgroups.kill_pod(pod.metadata.uid)
        point("pod.stop-sandbox.stopped")
        await self._network.detach(uid)
        self._set_ips(pod, ())
        mounts.unmount(os.path.join(self.pod_dir(pod), "shm"), detach=True)

    async def clean_up(self, pod: Pod) -> None:
        """Remove volumes and control groups."""
        point("pod.clean-up")
        await run_apart(self._volumes.tear_down, pod.metadata.uid)
        await self._cgroups.remove_pod(pod.metadata.uid)

    async def forget(self, pod: Pod) -> None:
        """Remove records and logs."""
        point("pod.forget")
        self._pauses.forget(PodUID(pod.metadata.uid))
        await run_apart(self._remove_files, (self.log_dir(pod),), self.pod_dir(pod))

    async def remove_leftover(self, uid: PodUID) -> None:
        """Remove all that is left of a pod of which nothing but its UID is known. Raises OSError, RuntimeFailure or
        NetworkError: call again later."""
        await self._pauses.stop_sandbox(uid)
        await self._network.detach(uid)
        await run_apart(self._volumes.tear_down, uid)
        logs = os.path.join(self._settings.log_dir, "pods")
        named = [os.path.join(logs, one) for one in os.listdir(logs) if one.endswith(f"_{uid}")]
        await run_apart(self._remove_files, named, os.path.join(self._settings.state_dir, "pods", uid))
        self._pauses.forget(uid)

    def _remove_files(self, logs: Iterable[str], state: str) -> None:
        """Remove a pod's logs with the links to them, then its state, but nothing that is mounted below it.

        Any of it may be large, so this runs in a thread. The state goes last: while it is there, a daemon that comes
        later finishes this. Links are found by where they lead: a daemon may have died before it knew its instance.
        """
        for directory in logs:
            point("pod.forget.directory")
            self._unlink_logs_below(directory)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)
        mounts.unmount_below(state)
        if mounts.mount_points_below(state):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), state)
        point("pod.forget.directory")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(state)

    def _unlink_logs_below(self, directory: str) -> None:
        links = os.path.join(self._settings.log_dir, "containers")
        namespace, _, rest = os.path.basename(directory).partition("_")
        start = f"{rest.partition('_')[0]}_{namespace}_"[:_MAX_LINK_NAME]
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(links):
                if not name.startswith(start):
                    continue  # another pod's: with very many, to read them all would take long
                with contextlib.suppress(OSError):  # no link, or gone meanwhile
                    if os.readlink(os.path.join(links, name)).startswith(directory + "/"):
                        os.unlink(os.path.join(links, name))


def _knows_other_pods(pod: Pod) -> bool:
    """Tell whether a pod resolves the names of others: the policies under which it would ask a cluster's DNS."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network)


def host_port_mappings(pod: Pod) -> tuple[HostPort, ...]:
    """Return the host ports that a pod asks for."""
    return tuple(
        HostPort(
            host_port=port.host_port,
            container_port=port.container_port,
            protocol=port.protocol or "TCP",
            host_ip=port.host_ip,
        )
        for container in (*pod.spec.containers, *_sidecars(pod))
        for port in container.ports or ()
        if port.host_port
    )


def _sidecars(pod: Pod) -> list[Container]:
    return [one for one in pod.spec.init_containers or () if one.restart_policy == "Always"]


def _writable_size(container: Container) -> int:
    text = (container.resources.limits or {}).get("ephemeral-storage")
    return parse_quantity(text).value() if text else _NO_LIMIT


def _expand_sub_path(text: str, variables: Mapping[str, str]) -> str:
    """Return a subPathExpr with its references replaced; a missing or empty one is an error."""
    known = {name: value for name, value in variables.items() if value}
    for name in _references(text):
        if name not in known:
            raise ContainerFailure(launch.CONFIG_ERROR, f'missing value for "{name}"')
    return expand(text, known)


def _prepare_sub_path(source: str, sub_path: str, one: VolumeMount, container: Container) -> None:
    """Make a sub-path's missing directories, so that what is wrong with it is told before anything starts.

    The mount itself resolves the path again, just as safely, for a container may exchange it at any moment.
    """
    what = f'failed to prepare subPath for volumeMount "{one.name}" of container "{container.name}"'
    if os.path.isabs(sub_path) or ".." in sub_path.split("/"):
        raise ContainerFailure(launch.CONFIG_ERROR, what)
    try:
        top = os.open(source, os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(open_sub_path(top, sub_path))
        finally:
            os.close(top)
    except OSError as error:
        log.warning("cannot prepare subPath", volume=one.name, sub_path=sub_path, error=str(error))
        raise ContainerFailure(launch.CONFIG_ERROR, what) from error


def _check_propagation(source: str, propagation: str) -> None:
    """Refuse propagation that the host's mount does not have, with containerd's words."""
    point, fields = mounts.propagation_of(os.path.realpath(source))
    shared, slave = any(f.startswith("shared:") for f in fields), any(f.startswith("master:") for f in fields)
    if propagation == "rshared" and not shared:
        what = "it is not a shared mount"
    elif propagation == "rslave" and not (shared or slave):
        what = "it is not a shared or slave mount"
    else:
        return
    text = f'failed to generate container spec: path "{source}" is mounted on "{point}" but {what}'
    raise ContainerFailure(launch.CREATE_ERROR, text)


def _references(text: str) -> list[str]:
    return re.findall(r"\$\(([^)]*)\)", text.replace("$$", ""))


def _read(path: str, limit: int = -1) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError:
        return ""
