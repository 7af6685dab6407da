"""Files written so that a reader sees the old text or the new one, never a part."""

from __future__ import annotations

import os

from minikubelet.linux.faults import point
from minikubelet.linux.lean import suppress


def write_atomic(path: str, data: bytes, *, mode: int = 0o644, durable: bool = False) -> None:
    """Replace `path` by `data`: write beside it, rename over it.

    Args:
        path: The file; its directory must exist.
        data: The whole new content.
        mode: Permission bits of the new file.
        durable: Also wait until content and name are on disk, for state that must survive a power cut.

    Raises:
        OSError: The old file is then still there, whole, and nothing is left beside it.
    """
    beside = f"{path}.tmp"
    try:
        point("file.write")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        point("file.rename")
        os.rename(beside, path)
    except OSError:
        with suppress(OSError):
            os.unlink(beside)
        raise
    if durable:
        sync_directory(os.path.dirname(path))


def read_small(path: str, limit: int = 65536) -> bytes:
    """Return what one read of a kernel file gives; it costs fewer pages than a file object. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def write_small(path: str, data: bytes) -> None:
    """Write a kernel file that is there, in one write. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Wait until the names in a directory are on disk."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
