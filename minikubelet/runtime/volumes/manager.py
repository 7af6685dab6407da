"""Sets up, refreshes and removes the volumes of pods.

Owner of `<state>/pods/<uid>/volumes` and of the mounts in it. Nothing here follows a link out of a volume when it
removes one, and nothing is deleted through a mount that is still there: unmounting comes first, and a mount that stays
is an error that is tried again.

Every method may block on a disk, so callers use threads; the methods of one pod wait for each other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from minikubelet.api.types import EmptyDirVolumeSource, Pod, Volume
from minikubelet.linux import mounts
from minikubelet.linux.faults import point
from minikubelet.runtime.port import VolumeFailure
from minikubelet.runtime.volumes.atomic_writer import write_payload
from minikubelet.runtime.volumes.empty_dir import MediumError, mark_ready, mount_memory, set_up_empty_dir
from minikubelet.runtime.volumes.host_path import HostPathError, check_host_path
from minikubelet.runtime.volumes.ownership import give_to_group
from minikubelet.runtime.volumes.payload import (
    DownwardValue,
    Objects,
    PayloadError,
    is_projection,
    needs_memory,
    unsupported_reason,
    volume_payload,
)
from minikubelet.runtime.wording import words

_KINDS: Final = {
    "empty_dir": "empty-dir",
    "config_map": "configmap",
    "secret": "secret",
    "downward_api": "downward-api",
    "projected": "projected",
}


@dataclass(slots=True)
class _Turn:
    """One at a time works on the volumes of a pod, and nobody once they have been removed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False


class Volumes:
    """Owner of the volumes' directories and mounts of all pods."""

    def __init__(
        self,
        *,
        pods_dir: str,
        objects: Objects,
        downward: DownwardValue,
        wall_clock: Callable[[], float],
        node_memory: int,
    ) -> None:
        """Create it without touching a file.

        Args:
            pods_dir: `<state>/pods`; each pod's volumes lie below `<uid>/volumes`.
            objects: ConfigMaps and Secrets.
            downward: Text of a downward API item.
            wall_clock: Unix time, for names of data directories.
            node_memory: Bytes that all pods together may use.
        """
        self._pods_dir = pods_dir
        self._objects = objects
        self._downward = downward
        self._wall_clock = wall_clock
        self._node_memory = node_memory
        self._turns: defaultdict[str, _Turn] = defaultdict(_Turn)

    def source_path(self, pod: Pod, volume: Volume) -> str:
        """Return the directory or file on the host that a mount of this volume shows."""
        if volume.host_path is not None:
            return volume.host_path.path
        kind = next(name for source, name in _KINDS.items() if getattr(volume, source) is not None)
        return os.path.join(self._pods_dir, pod.metadata.uid, "volumes", f"kubernetes.io~{kind}", volume.name)

    def set_up(self, pod: Pod) -> None:
        """Make every volume of the pod; what is there already stays as it is.

        Raises:
            VolumeFailure: With one message for each volume that could not be set up.
        """
        failures: list[str] = []
        every = pod.spec.volumes or ()
        turn = self._turns[pod.metadata.uid]
        # The host's paths first and without the lock: one that hangs holds up neither a refresh nor the removal.
        self._set_up_all(pod, [one for one in every if one.host_path is not None], failures)
        with turn.lock:
            if turn.is_over:
                return  # the pod was removed while a path of the host hung
            self._set_up_all(pod, [one for one in every if one.host_path is None], failures)
        if failures:
            raise VolumeFailure(tuple(failures))

    def _set_up_all(self, pod: Pod, volumes: Sequence[Volume], failures: list[str]) -> None:
        for volume in volumes:
            try:
                point("volume.set-up")
                self._set_up(pod, volume)
            except (HostPathError, PayloadError, MediumError, UnsupportedVolumeError, OSError) as error:
                failures.append(_complaint(volume, error))

    def _set_up(self, pod: Pod, volume: Volume) -> None:
        if volume.host_path is not None:
            check_host_path(volume.host_path.path, volume.host_path.type or "")
        elif volume.empty_dir is not None:
            self._set_up_empty_dir(pod, volume, volume.empty_dir)
        elif is_projection(volume):
            self._set_up_projection(pod, volume)
        else:
            raise UnsupportedVolumeError(unsupported_reason(volume))

    def _set_up_empty_dir(self, pod: Pod, volume: Volume, source: EmptyDirVolumeSource) -> None:
        path = self.source_path(pod, volume)
        plugin = os.path.join(self._pods_dir, pod.metadata.uid, "plugins", "kubernetes.io~empty-dir")
        ready = os.path.join(plugin, volume.name, "ready")
        if not set_up_empty_dir(path, ready, pod, source, self._node_memory):
            return
        gid = _fs_group(pod)
        if gid is not None:
            give_to_group(path, gid)
        mark_ready(ready)

    def _set_up_projection(self, pod: Pod, volume: Volume) -> None:
        files = volume_payload(pod, volume, self._objects, self._downward)
        path = self.source_path(pod, volume)
        os.makedirs(path, mode=0o755, exist_ok=True)
        if needs_memory(volume) and not os.path.ismount(path):
            mount_memory(path, size=0, mode=0o755)
        gid = _fs_group(pod)
        if gid is not None and os.stat(path).st_gid != gid:
            give_to_group(path, gid, read_only=True)
        write_payload(path, files, now=self._wall_clock(), gid=gid)

    def refresh(self, pod: Pod) -> bool:
        """Write anew what projections show when an object changed; True when a file changed.

        Raises:
            VolumeFailure: An object that is not optional has gone; the old files stay.
        """
        changed = False
        failures: list[str] = []
        with self._turns[pod.metadata.uid].lock:
            for volume in pod.spec.volumes or ():
                path = self.source_path(pod, volume) if is_projection(volume) else ""
                if not path or not os.path.isdir(path) or (needs_memory(volume) and not os.path.ismount(path)):
                    continue  # not set up yet, or not any more
                try:
                    files = volume_payload(pod, volume, self._objects, self._downward)
                    changed = write_payload(path, files, now=self._wall_clock(), gid=_fs_group(pod)) or changed
                except (PayloadError, OSError) as error:
                    failures.append(_complaint(volume, error))
        if failures:
            raise VolumeFailure(tuple(failures))
        return changed

    def tear_down(self, uid: str) -> None:
        """Unmount and remove all volumes of a pod.

        Raises:
            OSError: Something is still mounted or cannot be removed; call again later.
        """
        turn = self._turns[uid]
        with turn.lock:
            top = os.path.join(self._pods_dir, uid, "volumes")
            if os.path.lexists(top):  # a pod without volumes costs no look at the machine's mounts
                self._remove(uid, top)
            turn.is_over = True
        self._turns.pop(uid, None)

    def _remove(self, uid: str, top: str) -> None:
        point("volume.tear-down")
        for place in mounts.mount_points_below(top):
            mounts.unmount(place)
        left = mounts.mount_points_below(top)
        if left:
            raise OSError(f"cannot remove volumes of pod {uid}: {left[0]} is still mounted")
        for directory in (top, os.path.join(self._pods_dir, uid, "plugins")):
            _remove_tree(directory)


def _remove_tree(directory: str) -> None:
    """Remove a tree without following any link, the directory itself included."""
    if os.path.islink(directory):
        os.unlink(directory)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _complaint(volume: Volume, error: Exception) -> str:
    return f'MountVolume.SetUp failed for volume "{volume.name}" : {words(error)}'


class UnsupportedVolumeError(Exception):
    """A volume type that this node does not have."""


def _fs_group(pod: Pod) -> int | None:
    context = pod.spec.security_context
    return context.fs_group if context is not None else None
