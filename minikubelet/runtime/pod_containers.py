"""The containers of pods: what each is made of on this node, from its environment and mounts to its log."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Final

from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID
from minikubelet.lifecycle.resources import oom_score_adj
from minikubelet.linux.faults import point
from minikubelet.runtime import launch
from minikubelet.runtime.accounts import Accounts
from minikubelet.runtime.cgroups import CgroupPaths
from minikubelet.runtime.container_mounts import container_mounts
from minikubelet.runtime.host_mounts import HostMounts
from minikubelet.runtime.network.network import Network
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.pod_etc import PodEtc
from minikubelet.runtime.pod_groups import PodGroups
from minikubelet.runtime.pod_logs import PodLogs
from minikubelet.runtime.port import ContainerFailure, RuntimeFailure
from minikubelet.runtime.settings import RuntimeSettings
from minikubelet.runtime.start_note import read_notes, remove_notes, write_note
from minikubelet.runtime.volumes.manager import Volumes
from minikubelet.runtime.wording import words
from minikubelet.sandbox.spec import ContainerSpec

_ID_BYTES: Final = 32
# Bytes of a container's writable layer without an ephemeral-storage limit: the kernel's default, half the memory.
_NO_LIMIT: Final = 0


class PodContainers:
    """Starts containers, and forgets those that have ended."""

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        pauses: Pauses,
        network: Network,
        etc: PodEtc,
        groups: PodGroups,
        volumes: Volumes,
        logs: PodLogs,
        variables: Callable[[Pod, Container], Mapping[str, str]],
    ) -> None:
        """Create it.

        Args:
            settings: Directories and the like.
            pauses: Processes.
            network: Addresses.
            etc: What pods find in /etc.
            groups: Control groups.
            volumes: Volumes.
            logs: Logs.
            variables: The environment a Pod asks for; raises ContainerFailure.
        """
        self._settings = settings
        self._pauses = pauses
        self._network = network
        self._etc = etc
        self._groups = groups
        self._volumes = volumes
        self._logs = logs
        self._variables = variables
        self._accounts = Accounts()
        self._host_mounts = HostMounts(settings.hidden_paths)

    async def start(self, pod: Pod, container: Container, restart_count: int) -> ObservedContainer:
        """Create and start one container. Raises ContainerFailure."""
        point("pod.start-container")
        await self._undo_lost(pod)
        identity = secrets.token_hex(_ID_BYTES)
        variables = self._variables(pod, container)
        try:
            group = self._prepare(pod, container, identity)
        except OSError as error:
            raise ContainerFailure(launch.CREATE_ERROR, f"cannot prepare container: {words(error)}") from error
        spec = self._spec(pod, container, identity, restart_count, variables, group)
        self._logs.link(pod, container.name, identity, spec.log_path)
        write_note(self._settings.pod_dir(pod.metadata.uid), identity)
        uid = PodUID(pod.metadata.uid)
        try:
            point("pod.start-container.prepared")
            return await self._pauses.start_container(uid, spec)
        except ContainerFailure:
            raise
        except (RuntimeFailure, OSError) as failure:
            if not any(one.id == identity for one in self._pauses.view(uid).containers.get(container.name, ())):
                await self._undo(pod, container.name, identity)
            raise ContainerFailure(launch.CREATE_ERROR, words(failure)) from failure

    def _prepare(self, pod: Pod, container: Container, identity: str) -> CgroupPaths:
        """Make the instance's files and control group. Raises OSError."""
        self._etc.write(
            pod, self._settings.pod_dir(pod.metadata.uid), self._network.addresses(PodUID(pod.metadata.uid))
        )
        message = self.termination_message_file(pod, container.name, identity)
        os.makedirs(os.path.dirname(message), mode=0o700, exist_ok=True)
        with open(message, "xb"):
            os.chmod(message, 0o666)
        return self._groups.make_container(pod, container, identity)

    def _spec(
        self,
        pod: Pod,
        container: Container,
        identity: str,
        restart_count: int,
        variables: Mapping[str, str],
        group: CgroupPaths,
    ) -> ContainerSpec:
        """Return what the pod's pause is asked to start. Raises ContainerFailure."""
        settings = self._settings
        hostname, _ = self._etc.hostname(pod)
        return launch.container_spec(
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
                pod_dir=settings.pod_dir(pod.metadata.uid),
                message=self.termination_message_file(pod, container.name, identity),
                variables=variables,
                source_path=self._volumes.source_path,
            ),
            hidden_paths=settings.hidden_paths,
            host_mounts=self._host_mounts.points(),
            cgroup_dirs=group.directories,
            memory_cgroup=group.controller("memory") or "",
            oom_score_adj=oom_score_adj(pod, container, settings.node_memory),
            rootfs_size=_writable_bytes(container),
            log_path=self._logs.path(pod, container.name, restart_count),
            log_max_size=settings.log_max_size,
            log_max_files=settings.log_max_files,
            seccomp_profiles_dir=settings.seccomp_profiles_dir,
        )

    async def _undo_lost(self, pod: Pod) -> None:
        """Take away what an earlier daemon had made for an instance, and did not live to ask the pause for."""
        pod_dir = self._settings.pod_dir(pod.metadata.uid)
        for identity in read_notes(pod_dir):
            containers = self._pauses.view(PodUID(pod.metadata.uid)).containers
            if any(one.id == identity for instances in containers.values() for one in instances):
                continue  # it came to be, and is to be told
            with contextlib.suppress(OSError):
                for name in os.listdir(os.path.join(pod_dir, "containers")):
                    if os.path.exists(self.termination_message_file(pod, name, identity)):
                        await self._undo(pod, name, identity)
            remove_notes(pod_dir, (identity,))

    async def _undo(self, pod: Pod, name: str, identity: str) -> None:
        """Take away what was made for an instance that never came to be."""
        with contextlib.suppress(OSError):
            os.unlink(self.termination_message_file(pod, name, identity))
        self._logs.unlink(pod, name, identity)
        await self._groups.remove_container(pod, identity)

    def termination_message_file(self, pod: Pod, container: str, container_id: str) -> str:
        """Return the file on the host that an instance's termination message path is."""
        return os.path.join(self._settings.pod_dir(pod.metadata.uid), "containers", container, container_id)

    async def remove(self, pod: Pod, container_id: ContainerID) -> None:
        """Forget a dead instance with its files."""
        point("pod.remove-container")
        uid = PodUID(pod.metadata.uid)
        for name, instances in self._pauses.view(uid).containers.items():
            if any(one.id == container_id for one in instances):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.termination_message_file(pod, name, container_id))
                self._logs.unlink(pod, name, container_id)
                self._logs.remove_old(pod, name)
        await self._pauses.remove_container(uid, container_id)
        await self._groups.remove_container(pod, container_id)

    def close(self) -> None:
        """Let go of what is kept open."""
        self._host_mounts.close()


def _writable_bytes(container: Container) -> int:
    text = (container.resources.limits or {}).get("ephemeral-storage")
    return parse_quantity(text).value() if text else _NO_LIMIT
