"""fsGroup: the group of a pod owns its volumes and may read and write them.

Source: kubernetes pkg/volume/volume_linux.go `SetVolumeOwnership` (v1.36).
"""

from __future__ import annotations

import os
import stat


def give_to_group(directory: str, gid: int, *, read_only: bool = False) -> None:
    """Give a tree to a group: rw (or r) for files, also x and setgid for directories; links are not followed."""
    bits = 0o440 if read_only else 0o660
    for root, directories, files, descriptor in os.fwalk(directory, follow_symlinks=False):
        del root
        _give(descriptor, ".", gid, bits | 0o2110)
        for name in (*files, *(d for d in directories if _is_link(descriptor, d))):
            _give(descriptor, name, gid, bits)


def _is_link(directory: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _give(directory: int, name: str, gid: int, bits: int) -> None:
    os.chown(name, -1, gid, dir_fd=directory, follow_symlinks=False)
    mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    if not stat.S_ISLNK(mode):
        os.chmod(name, stat.S_IMODE(mode) | bits, dir_fd=directory)
