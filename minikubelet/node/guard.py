"""What the daemon, which runs everything as root, is willing to read.

A manifest that somebody other than root can write is as good as a root shell for them, so it is refused, with the
reason.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 10 * 1024 * 1024


class RefusedError(Exception):
    """The file may not be trusted; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another without reading it."""

    inode: int
    device: int
    size: int
    modified_ns: int
    changed_ns: int


def stamp_of(found: os.stat_result) -> Stamp:
    """Return the stamp of a stat result."""
    return Stamp(found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_trusted(path: str, trusted_uid: int = 0) -> tuple[bytes, Stamp]:
    """Return a file's content and stamp, taken from one open file.

    Args:
        path: The file; links are followed, what counts is who owns what they lead to.
        trusted_uid: Who may write manifests besides root.

    Raises:
        RefusedError: It is no regular file, too large, or others than root may write it.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        check_trusted(path, found, trusted_uid)
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError("not a regular file")
        if found.st_size > MAX_BYTES:
            raise RefusedError(f"file is {found.st_size} bytes, at most {MAX_BYTES} are read")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1), stamp_of(found)
    finally:
        os.close(descriptor)


def check_trusted(path: str, found: os.stat_result, trusted_uid: int = 0) -> None:
    """Raise RefusedError unless only root, who runs the daemon or the trusted user can write this file or directory."""
    owner = found.st_uid
    if owner not in (0, os.geteuid(), trusted_uid):
        raise RefusedError(f"owned by uid {owner}, not root, who could make root run anything: chown root {path}")
    writable = stat.S_IMODE(found.st_mode) & 0o022
    if trusted_uid and found.st_gid == _own_group(trusted_uid):
        writable &= ~0o020  # a group of the trusted user's own, as Debian and Ubuntu give everybody
    if writable:
        who = "anybody" if writable & 0o002 else f"group {found.st_gid}"
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise RefusedError(f"writable by {who} (mode {mode}), who could make root run anything: chmod go-w {path}")


def _own_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return -1
