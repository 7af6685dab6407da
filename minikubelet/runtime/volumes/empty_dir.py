"""emptyDir volumes: a directory, a tmpfs or huge pages, made once and then the containers' own.

Source: kubernetes pkg/volume/emptydir/empty_dir.go (v1.36).
"""

from __future__ import annotations

import errno
import os

from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import EmptyDirVolumeSource, Pod
from minikubelet.lifecycle.pods import all_containers
from minikubelet.lifecycle.resources import pod_limits
from minikubelet.linux import mounts

_HUGE_PAGES = "HugePages"
_RESOURCE_PREFIX = "hugepages-"


class MediumError(Exception):
    """The medium that the volume asks for cannot be had; the text is what the event carries."""


def set_up_empty_dir(path: str, ready: str, pod: Pod, source: EmptyDirVolumeSource, node_memory: int) -> bool:
    """Make the volume unless it is there; True when it was made, so that its ownership is to be set.

    Args:
        path: Where the volume lies; its parent exists.
        ready: A file that says that the volume was made whole. What containers do with its mode and owner stays.
        pod: The volume's pod.
        source: What the volume asks for.
        node_memory: Bytes that all pods together may use.

    Raises:
        MediumError: The medium is unknown or not there.
        OSError: Directory or mount could not be made.
    """
    if os.path.exists(ready) and os.path.isdir(path) and (not source.medium or os.path.ismount(path)):
        return False
    if os.path.islink(path):
        raise MediumError(f"{path} was replaced by a symbolic link")
    if source.medium not in ("", "Memory") and source.medium.partition("-")[0] != _HUGE_PAGES:
        raise MediumError(f'unknown storage medium "{source.medium}"')
    os.makedirs(path, mode=0o755, exist_ok=True)
    if source.medium and not os.path.ismount(path):
        if source.medium == "Memory":
            mount_memory(path, size=memory_size(pod, source, node_memory), mode=0o777)
        else:
            mounts.mount_filesystem("hugetlbfs", path, options=f"pagesize={huge_page_size(pod, source.medium)}")
    os.chmod(path, 0o777)
    return True


def mark_ready(ready: str) -> None:
    """Note that a volume is whole."""
    os.makedirs(os.path.dirname(ready), mode=0o755, exist_ok=True)
    os.close(os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def mount_memory(path: str, *, size: int, mode: int) -> None:
    """Mount a tmpfs that is never swapped out, where the kernel can promise that (6.4)."""
    try:
        mounts.mount_tmpfs(path, size=size, mode=mode, options="noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mounts.mount_tmpfs(path, size=size, mode=mode)


def memory_size(pod: Pod, source: EmptyDirVolumeSource, node_memory: int) -> int:
    """Return the bytes of a memory volume: the least of its sizeLimit, its pod's memory limit and the node's memory."""
    wanted = parse_quantity(source.size_limit).value() if source.size_limit else 0
    return min(size for size in (wanted, pod_limits(pod).memory or 0, node_memory) if size > 0)


def huge_page_size(pod: Pod, medium: str) -> int:
    """Return the page size in bytes of a huge page volume: one that its pod requests.

    Raises:
        MediumError: The pod requests none, or several where the medium does not say which.
    """
    every = [one.resources.requests or {} for one in all_containers(pod)]
    level = (pod.spec.resources.requests if pod.spec.resources is not None else None) or {}
    requested = {
        parse_quantity(name.removeprefix(_RESOURCE_PREFIX)).value()
        for entries in (level, *every)
        for name in entries
        if name.startswith(_RESOURCE_PREFIX)
    }
    _, _, size = medium.partition("-")
    if size:
        requested &= {parse_quantity(size).value()}
    if len(requested) > 1:
        raise MediumError(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    if not requested:
        what = "hugePages storage requested, but there is no resource request for huge pages"
        raise MediumError(f"medium {medium}: {what}")
    return requested.pop()
