"""hostPath volumes: the check and creation that their `type` asks for, with the kubelet's messages.

Source: kubernetes pkg/volume/hostpath/host_path.go (v1.36).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final


class HostPathError(Exception):
    """The path is not what the volume's type says; the text is what the event carries."""


_CHECKS: Final[dict[str, tuple[Callable[[int], bool], str]]] = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "FileOrCreate": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket file"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


def check_host_path(path: str, kind: str) -> None:
    """Check, and where the type says so create, the path of a hostPath volume.

    Args:
        path: Absolute path on the host.
        kind: The volume's `type`; "" checks nothing, but a missing path becomes a directory, as containerd does it.

    Raises:
        HostPathError: The path is something else, or could not be made.
    """
    try:
        if kind in ("", "DirectoryOrCreate"):
            if not os.path.exists(path):
                _make_directories(path)
        elif kind == "FileOrCreate":
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                os.fchmod(descriptor, 0o644)
                os.close(descriptor)
    except OSError as error:
        doing = "open" if kind == "FileOrCreate" else "mkdir"
        raise HostPathError(f"{doing} {error.filename}: {os.strerror(error.errno or 0).lower()}") from error
    if kind == "":
        return
    is_kind, complaint = _CHECKS[kind]
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise HostPathError(f"hostPath type check failed: {path} {complaint}") from error
    if not is_kind(mode):
        raise HostPathError(f"hostPath type check failed: {path} {complaint}")


def _make_directories(path: str) -> None:
    missing: list[str] = []
    while not os.path.isdir(path):
        if os.path.lexists(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # made meanwhile, for another pod
            os.mkdir(directory, 0o755)
            os.chmod(directory, 0o755)
