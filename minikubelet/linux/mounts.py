"""Mounts: the few shapes that pods need, and what is mounted where."""

from __future__ import annotations

import errno
import os

from minikubelet.linux import libc
from minikubelet.linux.lean import suppress


def mount_tmpfs(target: str, *, size: int, mode: int, options: str = "") -> None:
    """Mount a tmpfs; `size` in bytes, 0 for the kernel's default (half the memory)."""
    words = [f"mode={mode:o}"]
    if size > 0:
        words.append(f"size={size}")
    if options:
        words.append(options)
    libc.mount("tmpfs", target, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, ",".join(words))


def mount_filesystem(kind: str, target: str, *, options: str = "") -> None:
    """Mount a file system that needs no device."""
    libc.mount(kind, target, kind, libc.MS_NOSUID | libc.MS_NODEV, options)


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = True) -> None:
    """Show `source` at `target`; with `read_only` that mount, not those below it, refuses writing."""
    libc.mount(source, target, None, libc.MS_BIND | (libc.MS_REC if recursive else 0))
    if read_only:
        libc.set_read_only(target, recursive=False)


def clone(path: str, *, recursive: bool = True) -> int:
    """Return a detached copy of the mounts at a path; `libc.move_tree` attaches it. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return libc.clone_tree(descriptor, recursive=recursive)
    finally:
        os.close(descriptor)


def unmount(target: str, *, detach: bool = False) -> None:
    """Unmount; no error when nothing is mounted there."""
    try:
        libc.umount(target, libc.MNT_DETACH if detach else 0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def mount_points() -> list[str]:
    """Return where something is mounted in this process' view, in the order of mounting."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [unescape(line.split(" ", 5)[4]) for line in file]


def mount_points_below(directory: str) -> list[str]:
    """Return the mount points at or below a directory, innermost and latest first."""
    prefix = directory.rstrip("/") + "/"
    found = [point for point in mount_points() if point == directory or point.startswith(prefix)]
    return found[::-1]


def propagation_of(path: str) -> tuple[str, tuple[str, ...]]:
    """Return the mount point that a path (without links) lies on, and its optional fields: `shared:N`, `master:N`."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    best: tuple[str, tuple[str, ...]] = ("/", ())
    for line in lines:
        words = line.split(" - ", 1)[0].split(" ")
        point = unescape(words[4])
        # Of several mounts on one point the last one counts.
        if len(point) >= len(best[0]) and (path == point or path.startswith(point.rstrip("/") + "/")):
            best = (point, tuple(words[6:]))
    return best


def unmount_below(directory: str) -> None:
    """Unmount everything at or below a directory, by force of detaching where it is busy."""
    for point in mount_points_below(directory):
        with suppress(OSError):
            unmount(point, detach=True)


def unescape(text: str) -> str:
    """Return a path as it is that the kernel's lists of mounts have with escapes."""
    if "\\" not in text:
        return text
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
