"""Which instance is being started: noted before its pause is asked, taken away when what came of it is told.

A daemon that finds a note knows that the one before it died in between, and tells it in its place.
"""

from __future__ import annotations

import contextlib
import os

import structlog

from minikubelet.lifecycle.observed import ContainerID

log = structlog.get_logger(__name__)


def write_note(pod_dir: str, container_id: str) -> None:
    """Note a start; a failure costs two events at most."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(_path(pod_dir), flags, 0o600)
        try:
            os.write(descriptor, container_id.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("start not noted", path=_path(pod_dir), error=str(error))


def read_note(pod_dir: str) -> ContainerID | None:
    """Return the instance whose start was noted and not told, None without one."""
    try:
        with open(_path(pod_dir), encoding="ascii") as file:
            return ContainerID(file.read()) or None
    except (OSError, ValueError):
        return None


def remove_note(pod_dir: str) -> None:
    """Note that what came of the start is about to be told: once, whenever this process dies."""
    with contextlib.suppress(OSError):
        os.unlink(_path(pod_dir))


def _path(pod_dir: str) -> str:
    return os.path.join(pod_dir, "starting")
