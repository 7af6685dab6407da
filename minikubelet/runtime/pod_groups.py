"""The control groups of pods, with the limits in them that each pod and container asks for."""

from __future__ import annotations

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.resources import pod_shares, qos_class
from minikubelet.runtime.cgroups import CgroupPaths, Cgroups
from minikubelet.runtime.limits import apply_limits, unenforced


class PodGroups:
    """Makes a pod's groups as its resources and QoS class want them."""

    def __init__(self, cgroups: Cgroups, *, pids_limit: int, kill_group: bool) -> None:
        """Create it.

        Args:
            cgroups: The groups of all pods.
            pids_limit: The kubelet's podPidsLimit, -1 for none.
            kill_group: Whether a container short of memory is killed as a whole (version 2; not singleProcessOOMKill).
        """
        self._cgroups = cgroups
        self._pids_limit = pids_limit
        self._kill_group = kill_group

    def make_pod(self, pod: Pod) -> None:
        """Make the pod's own group. Raises OSError."""
        qos = qos_class(pod)
        self._apply(pod, None, self._cgroups.make_pod(pod.metadata.uid, qos))
        self._cgroups.share(pod.metadata.uid, qos, pod_shares(pod))

    def adopt(self, pod: Pod) -> None:
        """Count a pod that an earlier daemon started among those that share the processors."""
        self._cgroups.share(pod.metadata.uid, qos_class(pod), pod_shares(pod))

    def make_pause(self, pod: Pod) -> CgroupPaths:
        """Return the group of the pod's pause, made. Raises OSError."""
        return self._cgroups.make_pause(pod.metadata.uid, qos_class(pod))

    def make_container(self, pod: Pod, container: Container, container_id: str) -> CgroupPaths:
        """Return the group of a container, made. Raises OSError."""
        group = self._cgroups.make_child(pod.metadata.uid, qos_class(pod), container_id)
        self._apply(pod, container, group)
        return group

    def _apply(self, pod: Pod, container: Container | None, group: CgroupPaths) -> None:
        apply_limits(pod, container, group, pids_limit=self._pids_limit, kill_group=self._kill_group)

    def unenforced(self, pod: Pod) -> str:
        """Say which of a pod's limits nothing holds, and why; "" when all are held."""
        group = self._cgroups.pod(pod.metadata.uid, qos_class(pod))
        missing = unenforced(pod, group, pids_limit=self._pids_limit)
        if not missing:
            return ""
        return f"cannot enforce limits of {', '.join(missing)}: {self._cgroups.problem or 'no such controller'}"

    async def remove_container(self, pod: Pod, container_id: str) -> None:
        """Remove the group of a container that has ended."""
        await self._cgroups.remove_child(pod.metadata.uid, qos_class(pod), container_id)

    async def kill(self, uid: str) -> None:
        """Kill whatever is still in a pod's groups and wait for its end."""
        await self._cgroups.kill_pod(uid)

    async def remove(self, uid: str) -> None:
        """Remove a pod's groups."""
        await self._cgroups.remove_pod(uid)
