"""The node's own directories: made when they are missing, and held by one daemon at a time."""

from __future__ import annotations

import fcntl
import os

from minikubelet.node.settings import Settings


class StartupError(Exception):
    """The daemon cannot run here; the text is one clear line."""


def make_directories(settings: Settings) -> None:
    """Make what is missing; the state is for root only. Raises OSError."""
    for directory, mode in (
        (settings.state_dir, 0o700),
        (settings.run_dir, 0o755),
        (os.path.join(settings.log_dir, "pods"), 0o755),
        (settings.manifest_dir, 0o755),
    ):
        if not os.path.isfile(directory):  # the manifests may be one file
            os.makedirs(directory, mode=mode, exist_ok=True)
    os.chmod(settings.state_dir, 0o700)


def lock_directories(settings: Settings) -> int:
    """Return a descriptor that holds the directories until it is closed, also by the daemon's death.

    Raises:
        StartupError: Another daemon holds them.
        OSError: There is no room for the file.
    """
    lock = os.open(os.path.join(settings.run_dir, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StartupError(f"cannot start: another daemon already uses {settings.run_dir}") from error
    return lock
