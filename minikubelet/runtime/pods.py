"""The container runtime of this node: carries out what pod workers decide, on pauses, network, volumes and cgroups.

Each method finishes what an earlier, interrupted call of it began; what must be undone is undone in the reverse
order of how it was made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID
from minikubelet.lifecycle.resources import pod_shares
from minikubelet.linux import mounts
from minikubelet.linux.faults import point
from minikubelet.runtime import launch
from minikubelet.runtime.accounts import Accounts
from minikubelet.runtime.cgroups import CgroupPaths, Cgroups
from minikubelet.runtime.container_mounts import container_mounts
from minikubelet.runtime.host_mounts import HostMounts
from minikubelet.runtime.id_ranges import IdRangeError, IdRanges
from minikubelet.runtime.network.errors import NetworkError
from minikubelet.runtime.network.hosts_files import HostsFiles, NamedPod
from minikubelet.runtime.network.network import ConnectionToCome, Network
from minikubelet.runtime.network.records import HostPort
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.pod_etc import PodEtc
from minikubelet.runtime.pod_logs import PodLogs
from minikubelet.runtime.port import (
    ContainerFailure,
    ExecResult,
    GroupFailure,
    RuntimeFailure,
    RuntimeView,
    SandboxFailure,
)
from minikubelet.runtime.start_note import read_notes, remove_notes, write_note
from minikubelet.runtime.sysctls import pod_sysctls
from minikubelet.runtime.volumes.apart import run_apart
from minikubelet.runtime.volumes.manager import Volumes
from minikubelet.runtime.wording import words
from minikubelet.sandbox.namespaces import unpin
from minikubelet.sandbox.spec import SandboxSpec

log = structlog.get_logger(__name__)

_CONTAINER_ID_BYTES: Final = 32
_MAX_HOSTNAME: Final = 64  # of the kernel
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
        self._etc = PodEtc(
            hosts_files,
            node_name=settings.node_name,
            cluster_domain=settings.cluster_domain,
            cluster_dns=settings.cluster_dns,
            resolv_conf=settings.resolv_conf,
        )
        self.logs = PodLogs(settings.log_dir)
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

    def next_restart_count(self, pod: Pod, container: str) -> int:
        """Return the restart count for a container of which no instance is known: by its logs, 0 without one."""
        return self.logs.next_restart_count(pod, container)

    def untold_starts(self, pod: Pod) -> tuple[ContainerID, ...]:
        """Return the instances that were started, also by an earlier daemon, without telling what came of it."""
        return read_notes(self.pod_dir(pod))

    def note_told(self, pod: Pod, container_ids: Iterable[ContainerID]) -> None:
        """Note that what came of these starts is about to be told, so that no later daemon tells it again."""
        remove_notes(self.pod_dir(pod), container_ids)

    # Making

    async def prepare(self, pod: Pod) -> None:
        """Make directories, control group and volumes. Raises VolumeFailure, GroupFailure or OSError."""
        point("pod.prepare")
        directory = self.pod_dir(pod)
        os.makedirs(os.path.join(directory, "containers"), mode=0o700, exist_ok=True)
        volumes = run_apart(self._volumes.set_up, pod) if pod.spec.volumes else None
        failure: GroupFailure | None = None
        try:
            group = self._cgroups.make_pod(pod.metadata.uid, self._qos(pod))
            self._apply_limits(pod, None, group)
            self._cgroups.share(pod.metadata.uid, self._qos(pod), pod_shares(pod))
        except OSError as error:
            failure = GroupFailure(words(error))
        if volumes is not None:
            await volumes
        if failure is not None:
            raise failure

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
        hostname, _ = self._etc.hostname(pod)
        if len(hostname) > _MAX_HOSTNAME:
            what = f"FQDN {hostname} is too long ({_MAX_HOSTNAME} characters is the max, {len(hostname)} characters"
            raise SandboxFailure(f"Failed to construct FQDN from Pod hostname and cluster domain, {what} requested)")
        for reason, message in self._etc.dns_config(pod).events:
            self._warn(pod, reason, message)
        network: ConnectionToCome | None = None
        if self._may_connect_early(pod):
            network = await self._network.begin(uid, pod=key, host_ports=host_port_mappings(pod))
        try:
            spec = self._sandbox_spec(pod, attempt, hostname, given_netns=network is not None)
            netns = await self._pauses.create_sandbox(spec, network.namespace if network is not None else None)
            point("pod.create-sandbox.made")
            if network is not None:
                ips = await network.addresses()
            elif pod.spec.host_network:
                ips = self._network.host_ips()
            else:
                ips = await self._connect(pod, netns)
        except NetworkError as error:
            await self._pauses.stop_sandbox(uid)
            raise SandboxFailure(f'failed to set up network for pod "{pod.metadata.name}": {error}') from error
        finally:
            # Without a pause, the link goes with the namespace; what is recorded of it is found at the next attempt.
            if network is not None:
                await network.close()
        self._set_ips(pod, ips)

    def _may_connect_early(self, pod: Pod) -> bool:
        """Whether a pod's network may be made beside its pause: each is half a sandbox' time, most of it the kernel's.

        A pod's sysctls are defaults of links to come, so they must be set first, and what belongs to a user namespace
        must be made in it.
        """
        own_sysctls = pod.spec.security_context is not None and bool(pod.spec.security_context.sysctls)
        alone = pod.spec.host_network or pod.spec.host_users is False or own_sysctls
        return self._network.makes_namespaces and not alone

    def _netns_path(self, pod: Pod) -> str:
        """Return the name that a pod's pause gives its network namespace."""
        meta = pod.metadata
        return f"/run/netns/{self._network.netns_name(PodUID(meta.uid), f'{meta.namespace}/{meta.name}')}"

    def _sandbox_spec(self, pod: Pod, attempt: int, hostname: str, *, given_netns: bool) -> SandboxSpec:
        """Make what a sandbox lies in, and return what the pause is to be. Raises SandboxFailure."""
        uid = PodUID(pod.metadata.uid)
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
        return SandboxSpec(
            uid=uid,
            id=secrets.token_hex(_CONTAINER_ID_BYTES),
            attempt=attempt,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            hostname=hostname,
            run_dir=self._pauses.run_dir,
            pod_dir=self.pod_dir(pod),
            netns_path="" if pod.spec.host_network else self._netns_path(pod),
            host_network=pod.spec.host_network,
            given_netns=given_netns,
            host_ipc=pod.spec.host_ipc,
            host_pid=pod.spec.host_pid,
            share_pid=bool(pod.spec.share_process_namespace),
            shm_dir="/dev/shm" if pod.spec.host_ipc else shm,
            cgroup_dirs=list(leaf.directories),
            sysctls=pod_sysctls(pod),
            user_namespace=id_map,
        )

    def remove_dead_links(self) -> None:
        """Remove links to logs that lead nowhere, but for those of starts that are under way."""
        pods = os.path.join(self._settings.state_dir, "pods")
        self.logs.remove_dead_links(lambda uid: bool(read_notes(os.path.join(pods, uid))))

    async def _connect(self, pod: Pod, netns: int) -> tuple[str, ...]:
        """Connect a pod's network namespace; return its addresses. Raises NetworkError."""
        return await self._network.attach(
            PodUID(pod.metadata.uid),
            pod=f"{pod.metadata.namespace}/{pod.metadata.name}",
            netns_fd=netns,
            host_ports=host_port_mappings(pod),
        )

    async def adopt(self, pod: Pod) -> None:
        """Take up a pod that an earlier daemon started: its addresses and logs, and its connection if that was lost."""
        uid = PodUID(pod.metadata.uid)
        for name, instances in self.view(uid).containers.items():
            for one in instances:
                self.logs.link_again(pod, name, one.id, one.restart_count)
        self._cgroups.share(uid, self._qos(pod), pod_shares(pod))
        if pod.spec.host_network:
            self._set_ips(pod, self._network.host_ips())
            return
        ips = self._network.addresses(uid)
        if not ips and self._pauses.netns(uid) >= 0:
            try:
                ips = await self._connect(pod, self._pauses.netns(uid))
            except NetworkError as error:
                log.error("cannot reconnect pod", pod=f"{pod.metadata.namespace}/{pod.metadata.name}", error=str(error))
        self._set_ips(pod, ips)
        self._etc.keep_hosts(pod, self.pod_dir(pod))

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
        hostname, _ = self._etc.hostname(pod)
        try:
            self._etc.write(pod, self.pod_dir(pod), self._network.addresses(uid))
            directory = os.path.join(self.pod_dir(pod), "containers", container.name)
            os.makedirs(directory, mode=0o700, exist_ok=True)
            message = os.path.join(directory, identity)
            with open(message, "xb"):
                os.chmod(message, 0o666)
            group = self._cgroups.make_child(pod.metadata.uid, self._qos(pod), identity)
            self._apply_limits(pod, container, group)
        except OSError as error:
            raise ContainerFailure(launch.CREATE_ERROR, f"cannot prepare container: {words(error)}") from error
        log_path = self.logs.path(pod, container.name, restart_count)
        spec = launch.container_spec(
            pod,
            container,
            accounts=self._accounts,
            container_id=identity,
            restart_count=restart_count,
            variables=variables,
            hostname=hostname,
            mounts=container_mounts(
                pod,
                container,
                pod_dir=self.pod_dir(pod),
                message=message,
                variables=variables,
                source_path=self._volumes.source_path,
            ),
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
        self.logs.link(pod, container.name, identity, log_path)
        write_note(self.pod_dir(pod), identity)
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
        self.logs.unlink(pod, name, identity)
        await self._cgroups.remove_child(pod.metadata.uid, self._qos(pod), identity)

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
                self.logs.unlink(pod, name, container_id)
                self.logs.remove_old(pod, name)
        await self._pauses.remove_container(uid, container_id)
        await self._cgroups.remove_child(pod.metadata.uid, self._qos(pod), container_id)

    async def stop_sandbox(self, pod: Pod) -> None:
        """End the pause with all that is left in it; release the addresses."""
        point("pod.stop-sandbox")
        uid = PodUID(pod.metadata.uid)
        await self._pauses.stop_sandbox(uid)
        # Programs of a pod in the machine's PID namespace may have children that outlived them.
        await self._cgroups.kill_pod(pod.metadata.uid)
        # A pause that was killed on its way up, before it could be known, has left its namespace's name.
        unpin(self._netns_path(pod))
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
        await run_apart(self._remove_files, (self.logs.directory(pod),), self.pod_dir(pod))

    async def remove_leftover(self, uid: PodUID) -> None:
        """Remove all that is left of a pod of which nothing but its UID is known. Raises OSError, RuntimeFailure or
        NetworkError: call again later."""
        await self._pauses.stop_sandbox(uid)
        await self._network.detach(uid)
        await run_apart(self._volumes.tear_down, uid)
        await run_apart(
            self._remove_files, self.logs.directories(uid), os.path.join(self._settings.state_dir, "pods", uid)
        )
        self._pauses.forget(uid)

    def _remove_files(self, logs: Iterable[str], state: str) -> None:
        """Remove a pod's logs with the links to them, then its state, but nothing that is mounted below it.

        Any of it may be large, so this runs in a thread. The state goes last: while it is there, a daemon that comes
        later finishes this.
        """
        for directory in logs:
            point("pod.forget.directory")
            self.logs.unlink_below(directory)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)
        mounts.unmount_below(state)
        if mounts.mount_points_below(state):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), state)
        point("pod.forget.directory")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(state)


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
