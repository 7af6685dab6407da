"""`minikubelet version`."""

from __future__ import annotations

import argparse
import importlib.metadata


def execute(options: argparse.Namespace) -> int:
    """Print the version."""
    print(f"minikubelet {importlib.metadata.version('minikubelet')}")
    return 0
