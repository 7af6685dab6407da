"""Writes resource limits into control groups of either version."""

from __future__ import annotations

import contextlib
import os

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import resources
from minikubelet.lifecycle.pods import all_containers
from minikubelet.lifecycle.resources import PERIOD_US, GroupLimits
from minikubelet.linux.files import write_small
from minikubelet.runtime.cgroups import CgroupPaths


def apply_limits(
    pod: Pod, container: Container | None, paths: CgroupPaths, *, pids_limit: int = -1, kill_group: bool = True
) -> None:
    """Write a container's limits into its group, or (no container) the pod's into the pod's. Raises OSError.

    Args:
        pod: The pod.
        container: One of its containers.
        paths: The group.
        pids_limit: The kubelet's podPidsLimit, -1 for none.
        kill_group: Whether a container short of memory is killed as a whole (version 2; not singleProcessOOMKill).
    """
    limits = resources.pod_limits(pod) if container is None else resources.container_limits(pod, container)
    if paths.version == 2:
        _apply_v2(limits, paths, is_pod=container is None, kill_group=kill_group)
    elif paths.version == 1:
        _apply_v1(limits, paths)
    if container is not None:
        _apply_huge_pages(limits, paths)
    if container is None and pids_limit > 0:
        _write(paths.controller("pids"), "pids.max", str(pids_limit))


def unenforced(pod: Pod, paths: CgroupPaths, *, pids_limit: int = -1) -> list[str]:
    """Return which limits of a pod nothing holds, because its group lacks the controller."""
    limits = [resources.pod_limits(pod), *(resources.container_limits(pod, one) for one in all_containers(pod))]
    asked = {
        "cpu": any(one.quota_us is not None for one in limits),
        "memory": any(one.memory is not None for one in limits),
        "pids": pids_limit > 0,
        "hugetlb": any(one.huge_pages for one in limits),
    }
    return [name for name, wanted in asked.items() if wanted and paths.controller(name) is None]


def _apply_v1(limits: GroupLimits, paths: CgroupPaths) -> None:
    cpu, memory = paths.controller("cpu"), paths.controller("memory")
    _write(cpu, "cpu.shares", str(limits.shares))
    if limits.quota_us is not None:
        _write(cpu, "cpu.cfs_period_us", str(PERIOD_US))
        _write(cpu, "cpu.cfs_quota_us", str(limits.quota_us))
    if limits.memory is not None:
        _write(memory, "memory.limit_in_bytes", str(limits.memory))
        with contextlib.suppress(OSError):  # swap accounting may be off
            _write(memory, "memory.memsw.limit_in_bytes", str(limits.memory))


def _apply_v2(limits: GroupLimits, paths: CgroupPaths, *, is_pod: bool, kill_group: bool) -> None:
    cpu, memory = paths.controller("cpu"), paths.controller("memory")
    weight = resources.pod_weight(limits.shares) if is_pod else resources.container_weight(limits.shares)
    _write(cpu, "cpu.weight", str(weight))
    if limits.quota_us is not None:
        _write(cpu, "cpu.max", f"{limits.quota_us} {PERIOD_US}")
    if limits.memory is not None:
        _write(memory, "memory.max", str(limits.memory))
    if not is_pod:
        with contextlib.suppress(OSError):  # swap accounting may be off
            _write(memory, "memory.swap.max", "0")
        if kill_group:
            with contextlib.suppress(FileNotFoundError):  # before Linux 4.19
                _write(memory, "memory.oom.group", "1")


def _apply_huge_pages(limits: GroupLimits, paths: CgroupPaths) -> None:
    """Give a container the huge pages that it asked for and none of other sizes."""
    directory = paths.controller("hugetlb")
    if directory is None:
        return
    ending = ".max" if paths.version == 2 else ".limit_in_bytes"
    # A request of 2Mi is the kernel's 2MB: both count in powers of two.
    wanted = {f"hugetlb.{size.replace('i', '')}B{ending}": value for size, value in limits.huge_pages.items()}
    for name in os.listdir(directory):
        if name.startswith("hugetlb.") and name.endswith(ending) and ".rsvd." not in name:
            _write(directory, name, str(wanted.get(name, 0)))


def _write(directory: str | None, name: str, value: str) -> None:
    if directory is None:
        return
    write_small(os.path.join(directory, name), value.encode())
