"""Whether the node is cordoned: no pod runs, whatever the manifests say, until it is uncordoned or the machine reboots.

A file in the run directory says so, so that a daemon that is restarted in between keeps to it; a reboot ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Final

from minikubelet.linux.files import write_atomic

FILE: Final = "cordoned"


def path(run_dir: str) -> str:
    """Return the file's path."""
    return os.path.join(run_dir, FILE)


def is_cordoned(run_dir: str) -> bool:
    """Tell whether the node is cordoned."""
    return os.path.exists(path(run_dir))


def grace_s(run_dir: str) -> float | None:
    """Return the grace period that pods get at most, None for their own."""
    try:
        with open(path(run_dir), encoding="utf-8") as file:
            value = json.load(file)["gracePeriodSeconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def cordon(run_dir: str, grace: float | None) -> None:
    """Cordon the node. Raises OSError."""
    write_atomic(path(run_dir), json.dumps({"gracePeriodSeconds": grace}).encode(), mode=0o600)


def uncordon(run_dir: str) -> bool:
    """Let pods run again; False when the node was not cordoned. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(run_dir))
        return True
    return False
