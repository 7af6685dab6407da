"""The sandboxes of pods: each is a pause with its namespaces, connected to the network and known by its names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.pods import pod_key, sidecars
from minikubelet.linux import mounts
from minikubelet.linux.faults import point
from minikubelet.runtime.id_ranges import IdRangeError, IdRanges
from minikubelet.runtime.network.errors import NetworkError
from minikubelet.runtime.network.hosts_files import HostsFiles, NamedPod
from minikubelet.runtime.network.network import ConnectionToCome, Network
from minikubelet.runtime.network.records import HostPort
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.pod_etc import PodEtc
from minikubelet.runtime.pod_groups import PodGroups
from minikubelet.runtime.port import SandboxFailure
from minikubelet.runtime.settings import RuntimeSettings
from minikubelet.runtime.sysctls import pod_sysctls
from minikubelet.runtime.wording import words
from minikubelet.sandbox.namespaces import unpin
from minikubelet.sandbox.spec import IdMap, SandboxSpec

log = structlog.get_logger(__name__)

_ID_BYTES: Final = 32
_MAX_HOSTNAME: Final = 64  # of the kernel
_SHM_BYTES: Final = 64 * 1024 * 1024


class PodSandboxes:
    """Makes, connects and ends sandboxes."""

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        pauses: Pauses,
        network: Network,
        hosts_files: HostsFiles,
        etc: PodEtc,
        groups: PodGroups,
        id_ranges: IdRanges,
        warn: Callable[[Pod, str, str], None],
    ) -> None:
        """Create it.

        Args:
            settings: Directories and the like.
            pauses: Processes.
            network: Addresses and host ports.
            hosts_files: The names of this node's pods.
            etc: What pods find in /etc.
            groups: Control groups.
            id_ranges: Ids of user namespaces.
            warn: Records a Warning event about a pod: reason and message.
        """
        self._settings = settings
        self._pauses = pauses
        self._network = network
        self._hosts_files = hosts_files
        self._etc = etc
        self._groups = groups
        self._id_ranges = id_ranges
        self._warn = warn

    async def create(self, pod: Pod, attempt: int) -> None:
        """Make the pause and connect its network. Raises SandboxFailure, NetworkError or OSError.

        Args:
            pod: The pod, prepared.
            attempt: How many sandboxes it had before.
        """
        point("pod.create-sandbox")
        uid = PodUID(pod.metadata.uid)
        hostname = self._hostname(pod)
        for reason, message in self._etc.dns_config(pod).events:
            self._warn(pod, reason, message)
        network: ConnectionToCome | None = None
        if self._may_connect_early(pod):
            network = await self._network.begin(uid, pod=pod_key(pod), host_ports=host_port_mappings(pod))
        try:
            spec = self._spec(pod, attempt, hostname, given_netns=network is not None)
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

    def _hostname(self, pod: Pod) -> str:
        hostname, _ = self._etc.hostname(pod)
        if len(hostname) > _MAX_HOSTNAME:
            what = f"FQDN {hostname} is too long ({_MAX_HOSTNAME} characters is the max, {len(hostname)} characters"
            raise SandboxFailure(f"Failed to construct FQDN from Pod hostname and cluster domain, {what} requested)")
        return hostname

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
        return f"/run/netns/{self._network.netns_name(PodUID(pod.metadata.uid), pod_key(pod))}"

    def _spec(self, pod: Pod, attempt: int, hostname: str, *, given_netns: bool) -> SandboxSpec:
        """Make what a sandbox lies in, and return what the pause is to be. Raises SandboxFailure or OSError."""
        pod_dir = self._settings.pod_dir(pod.metadata.uid)
        shm = "/dev/shm" if pod.spec.host_ipc else self._make_shm(pod)
        group = self._groups.make_pause(pod)
        if missing := self._groups.unenforced(pod):
            self._warn(pod, "LimitsNotEnforced", missing)
        return SandboxSpec(
            uid=pod.metadata.uid,
            id=secrets.token_hex(_ID_BYTES),
            attempt=attempt,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            hostname=hostname,
            run_dir=self._pauses.run_dir,
            pod_dir=pod_dir,
            netns_path="" if pod.spec.host_network else self._netns_path(pod),
            host_network=pod.spec.host_network,
            given_netns=given_netns,
            host_ipc=pod.spec.host_ipc,
            host_pid=pod.spec.host_pid,
            share_pid=bool(pod.spec.share_process_namespace),
            shm_dir=shm,
            cgroup_dirs=list(group.directories),
            sysctls=pod_sysctls(pod),
            user_namespace=self._take_ids(pod, shm),
        )

    def _shm(self, pod: Pod) -> str:
        return os.path.join(self._settings.pod_dir(pod.metadata.uid), "shm")

    def _make_shm(self, pod: Pod) -> str:
        """Make the pod's shared memory; return where it is mounted."""
        shm = self._shm(pod)
        os.makedirs(shm, mode=0o777, exist_ok=True)
        if not os.path.ismount(shm):
            mounts.mount_tmpfs(shm, size=_SHM_BYTES, mode=0o1777)
        return shm

    def _take_ids(self, pod: Pod, shm: str) -> IdMap | None:
        """Give a pod with a user namespace its range of ids. Raises SandboxFailure."""
        if pod.spec.host_users is not False:
            return None
        try:
            ids = self._id_ranges.take(PodUID(pod.metadata.uid))
            if not pod.spec.host_ipc:
                os.chown(shm, ids.first, ids.first)
        except (IdRangeError, OSError) as error:
            raise SandboxFailure(f"cannot allocate user namespace: {words(error)}") from error
        return ids

    async def _connect(self, pod: Pod, netns: int) -> tuple[str, ...]:
        """Connect a pod's network namespace; return its addresses. Raises NetworkError."""
        return await self._network.attach(
            PodUID(pod.metadata.uid), pod=pod_key(pod), netns_fd=netns, host_ports=host_port_mappings(pod)
        )

    async def adopt(self, pod: Pod) -> None:
        """Take up a sandbox that an earlier daemon made: its addresses, and its connection if that was lost."""
        uid = PodUID(pod.metadata.uid)
        if pod.spec.host_network:
            self._set_ips(pod, self._network.host_ips())
            return
        ips = self._network.addresses(uid)
        if not ips and self._pauses.netns(uid) >= 0:
            try:
                ips = await self._connect(pod, self._pauses.netns(uid))
            except NetworkError as error:
                log.error("cannot reconnect pod", pod=pod_key(pod), error=str(error))
        self._set_ips(pod, ips)
        self._etc.keep_hosts(pod, self._settings.pod_dir(uid))

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

    async def stop(self, pod: Pod) -> None:
        """End the pause with all that is left in it; release the addresses."""
        point("pod.stop-sandbox")
        uid = PodUID(pod.metadata.uid)
        await self._pauses.stop_sandbox(uid)
        # Programs of a pod in the machine's PID namespace may have children that outlived them.
        await self._groups.kill(uid)
        # A pause that was killed on its way up, before it could be known, has left its namespace's name.
        unpin(self._netns_path(pod))
        point("pod.stop-sandbox.stopped")
        await self._network.detach(uid)
        self._set_ips(pod, ())
        mounts.unmount(self._shm(pod), detach=True)


def host_port_mappings(pod: Pod) -> tuple[HostPort, ...]:
    """Return the host ports that a pod asks for."""
    return tuple(
        HostPort(
            host_port=port.host_port,
            container_port=port.container_port,
            protocol=port.protocol or "TCP",
            host_ip=port.host_ip,
        )
        for container in (*pod.spec.containers, *sidecars(pod))
        for port in container.ports or ()
        if port.host_port
    )
