"""Which instances are being started: noted before their pause is asked, taken away when what came of it is told.

A daemon that finds a note knows that the one before it died in between, and tells it in its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Final

import structlog

from minikubelet.lifecycle.observed import ContainerID

log = structlog.get_logger(__name__)

_PREFIX: Final = "starting."


def write_note(pod_dir: str, container_id: str) -> None:
    """Note a start; a failure costs two events at most."""
    path = os.path.join(pod_dir, _PREFIX + container_id)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        log.warning("start not noted", path=path, error=str(error))


def read_notes(pod_dir: str) -> tuple[ContainerID, ...]:
    """Return the instances whose start was noted and not told."""
    try:
        names = os.listdir(pod_dir)
    except OSError:
        return ()
    return tuple(ContainerID(name.removeprefix(_PREFIX)) for name in names if name.startswith(_PREFIX))


def remove_notes(pod_dir: str, container_ids: Iterable[str]) -> None:
    """Note that what came of these starts is about to be told: once, whenever this process dies."""
    for one in container_ids:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(pod_dir, _PREFIX + one))
