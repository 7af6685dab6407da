"""The container runtime of this node: carries out what pod workers decide, on pauses, network, volumes and cgroups.

Each method finishes what an earlier, interrupted call of it began; what must be undone is undone in the reverse
order of how it was made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID
from minikubelet.linux import mounts
from minikubelet.linux.faults import point
from minikubelet.runtime.id_ranges import IdRanges
from minikubelet.runtime.network.hosts_files import HostsFiles
from minikubelet.runtime.network.network import Network
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.pod_containers import PodContainers
from minikubelet.runtime.pod_etc import PodEtc
from minikubelet.runtime.pod_groups import PodGroups
from minikubelet.runtime.pod_logs import PodLogs
from minikubelet.runtime.pod_sandboxes import PodSandboxes
from minikubelet.runtime.port import ExecResult, GroupFailure, RuntimeFailure, RuntimeView
from minikubelet.runtime.settings import RuntimeSettings
from minikubelet.runtime.start_note import read_notes, remove_notes
from minikubelet.runtime.volumes.apart import run_apart
from minikubelet.runtime.volumes.manager import Volumes
from minikubelet.runtime.wording import words


class PodRuntime:
    """Carries out one pod's actions; the owner of `<state>/pods/<uid>` but for the journal."""

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        pauses: Pauses,
        network: Network,
        hosts_files: HostsFiles,
        groups: PodGroups,
        id_ranges: IdRanges,
        volumes: Volumes,
        variables: Callable[[Pod, Container], Mapping[str, str]],
        warn: Callable[[Pod, str, str], None],
        count_user_namespaced: Callable[[str], None],
    ) -> None:
        """Create it from its parts.

        Args:
            settings: Directories and the like.
            pauses: Processes.
            network: Addresses and host ports.
            hosts_files: The names of this node's pods.
            groups: Control groups.
            id_ranges: Ids of user namespaces.
            volumes: Volumes.
            variables: The environment a Pod asks for; raises ContainerFailure.
            warn: Records a Warning event about a pod: reason and message.
            count_user_namespaced: Told `started` and `errors` of pods with a user namespace of their own.
        """
        self._settings = settings
        self._pauses = pauses
        self._network = network
        self._groups = groups
        self._volumes = volumes
        self._count = count_user_namespaced
        self.logs = PodLogs(settings.log_dir)
        etc = PodEtc(
            hosts_files,
            node_name=settings.node_name,
            cluster_domain=settings.cluster_domain,
            cluster_dns=settings.cluster_dns,
            resolv_conf=settings.resolv_conf,
        )
        self._sandboxes = PodSandboxes(
            settings,
            pauses=pauses,
            network=network,
            hosts_files=hosts_files,
            etc=etc,
            groups=groups,
            id_ranges=id_ranges,
            warn=warn,
        )
        self._containers = PodContainers(
            settings,
            pauses=pauses,
            network=network,
            etc=etc,
            groups=groups,
            volumes=volumes,
            logs=self.logs,
            variables=variables,
        )

    def close(self) -> None:
        """Let go of what is kept open."""
        self._containers.close()

    # Seeing

    def view(self, uid: PodUID) -> RuntimeView:
        """Return what is there now."""
        return self._pauses.view(uid)

    def next_restart_count(self, pod: Pod, container: str) -> int:
        """Return the restart count for a container of which no instance is known: by its logs, 0 without one."""
        return self.logs.next_restart_count(pod, container)

    def untold_starts(self, pod: Pod) -> tuple[ContainerID, ...]:
        """Return the instances that were started, also by an earlier daemon, without telling what came of it."""
        return read_notes(self._pod_dir(pod))

    def note_told(self, pod: Pod, container_ids: Iterable[ContainerID]) -> None:
        """Note that what came of these starts is about to be told, so that no later daemon tells it again."""
        remove_notes(self._pod_dir(pod), container_ids)

    def termination_message_file(self, pod: Pod, container: str, container_id: ContainerID) -> str:
        """Return the file on the host that an instance's termination message path is."""
        return self._containers.termination_message_file(pod, container, container_id)

    def _pod_dir(self, pod: Pod) -> str:
        return self._settings.pod_dir(pod.metadata.uid)

    # Taking up what an earlier daemon left

    def remove_dead_links(self) -> None:
        """Remove links to logs that lead nowhere, but for those of starts that are under way."""
        self.logs.remove_dead_links(lambda uid: bool(read_notes(self._settings.pod_dir(uid))))

    async def adopt(self, pod: Pod) -> None:
        """Take up a pod that an earlier daemon started: its addresses and logs, and its connection if that was lost."""
        for name, instances in self.view(PodUID(pod.metadata.uid)).containers.items():
            for one in instances:
                self.logs.link_again(pod, name, one.id, one.restart_count)
        self._groups.adopt(pod)
        await self._sandboxes.adopt(pod)

    def follow_host_addresses(self, pods: Iterable[Pod]) -> None:
        """Give the pods on the host's network the addresses that the node has now."""
        self._sandboxes.follow_host_addresses(pods)

    # Making

    async def prepare(self, pod: Pod) -> None:
        """Make directories, control group and volumes. Raises VolumeFailure, GroupFailure or OSError."""
        point("pod.prepare")
        os.makedirs(os.path.join(self._pod_dir(pod), "containers"), mode=0o700, exist_ok=True)
        # A thread makes the volumes while the groups are made here.
        volumes = run_apart(self._volumes.set_up, pod) if pod.spec.volumes else None
        failure: GroupFailure | None = None
        try:
            self._groups.make_pod(pod)
        except OSError as error:
            failure = GroupFailure(words(error))
        if volumes is not None:
            await volumes
        if failure is not None:
            raise failure

    async def create_sandbox(self, pod: Pod, attempt: int) -> None:
        """Make the pause and connect its network. Raises SandboxFailure."""
        with self._counting(pod, "started"):
            await self._sandboxes.create(pod, attempt)

    async def start_container(self, pod: Pod, container: Container, restart_count: int) -> ObservedContainer:
        """Create and start one container. Raises ContainerFailure."""
        with self._counting(pod):
            return await self._containers.start(pod, container, restart_count)

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

    # Removing

    async def remove_container(self, pod: Pod, container_id: ContainerID) -> None:
        """Forget a dead instance with its files."""
        await self._containers.remove(pod, container_id)

    async def stop_sandbox(self, pod: Pod) -> None:
        """End the pause with all that is left in it; release the addresses."""
        await self._sandboxes.stop(pod)

    async def clean_up(self, pod: Pod) -> None:
        """Remove volumes and control groups."""
        point("pod.clean-up")
        await run_apart(self._volumes.tear_down, pod.metadata.uid)
        await self._groups.remove(pod.metadata.uid)

    async def forget(self, pod: Pod) -> None:
        """Remove records and logs."""
        point("pod.forget")
        self._pauses.forget(PodUID(pod.metadata.uid))
        await run_apart(self._remove_files, (self.logs.directory(pod),), self._pod_dir(pod))

    async def remove_leftover(self, uid: PodUID) -> None:
        """Remove all that is left of a pod of which nothing but its UID is known. Raises OSError, RuntimeFailure or
        NetworkError: call again later."""
        await self._pauses.stop_sandbox(uid)
        await self._network.detach(uid)
        await run_apart(self._volumes.tear_down, uid)
        await run_apart(self._remove_files, self.logs.directories(uid), self._settings.pod_dir(uid))
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
