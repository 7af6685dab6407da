"""What the last daemon of a run directory was started with: `<run>/settings.json`, also when it has gone.

Imports little, so that commands which start fast may ask.
"""

from __future__ import annotations

import json
import os
from typing import Any

Json = dict[str, Any]


def path(run_dir: str) -> str:
    """Return the file's path."""
    return os.path.join(run_dir, "settings.json")


def read(run_dir: str) -> Json:
    """Return the recorded settings by the names of their flags, empty without a record that can be read."""
    try:
        with open(path(run_dir), "rb") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def manifest_dir(run_dir: str, config_dir: str) -> str:
    """Return where manifests are read from: by the last daemon, or by one that is started without more."""
    told = read(run_dir)
    config_dir = str(told.get("config_dir") or config_dir)
    return str(told.get("static_pod_path") or os.path.join(config_dir, "manifests"))
