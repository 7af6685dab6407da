"""What the daemon, which runs everything as root, is willing to read, and whether a file is whole.

A manifest that somebody other than root can write is as good as a root shell for them, so it is refused, with the
reason. What is checked is the file that was opened, not its name, so that nothing can be exchanged between the check
and the read. Symbolic links are followed (ConfigMap directories are made of them); what they lead to is held to the
same rule, and so is the directory it lies in: who may rename files there decides what the link leads to tomorrow.

Whether somebody still has a file open for writing is asked of the kernel: it grants a read lease only when nobody has.
The lease is given back at once, before a writer could notice it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import signal
import stat
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 10 * 1024 * 1024


class RefusedError(Exception):
    """The file may not be trusted; the text says why and what to do."""


class BeingWrittenError(Exception):
    """Somebody has the file open for writing, or it changed while it was read: look again later."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__("being written")
        self.stamp = stamp


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


def read_trusted(path: str, trusted_uid: int = 0, *, wait_for_writers: bool = True) -> tuple[bytes, Stamp]:
    """Return a file's content and stamp, taken from one open file.

    Args:
        path: The file; links are followed, what counts is who owns what they lead to.
        trusted_uid: Who may write manifests besides root.
        wait_for_writers: Raise BeingWrittenError while it is open for writing, instead of reading what is there.

    Raises:
        RefusedError: It is no regular file, too large, or others than root may write it.
        BeingWrittenError: It is not whole yet.
        OSError: It cannot be read.
    """
    # Opening a device or a pipe has effects, so their kind is looked at first.
    _check_regular(os.stat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        _check_regular(found)
        check_trusted(path, found, trusted_uid)
        _check_target(path, descriptor, trusted_uid)
        if found.st_size > MAX_BYTES:
            raise RefusedError(f"file is {found.st_size} bytes, at most {MAX_BYTES} are read")
        if wait_for_writers and is_open_for_writing(descriptor):
            raise BeingWrittenError(stamp_of(found))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
        stamp = stamp_of(os.fstat(descriptor))
        if wait_for_writers and stamp != stamp_of(found):
            raise BeingWrittenError(stamp)
        return data, stamp
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


def is_open_for_writing(descriptor: int) -> bool:
    """Tell whether anybody has this regular file open for writing; False where the file system cannot say."""
    try:
        # A writer that opens it in the same microseconds breaks the lease, and that is told by a signal; SIGIO, the
        # default one, would end the process, SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _check_target(path: str, descriptor: int, trusted_uid: int) -> None:
    """Check the directory that a link leads into; the manifest directory itself is checked at each listing."""
    if not os.path.islink(path):
        return
    directory = os.path.dirname(os.readlink(f"/proc/self/fd/{descriptor}"))
    found = os.stat(directory)
    # In a sticky directory nobody but its owner renames or removes a file.
    if not found.st_mode & stat.S_ISVTX:
        try:
            check_trusted(directory, found, trusted_uid)
        except RefusedError as error:
            raise RefusedError(f"a link into {directory}, which is {error}") from error


def _check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError("not a regular file")


def _own_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return -1
