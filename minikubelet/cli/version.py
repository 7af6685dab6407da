"""`minikubelet version`."""

from __future__ import annotations

import argparse
import importlib.metadata


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def execute(options: argparse.Namespace) -> int:
    """Print the version."""
    print(f"minikubelet {importlib.metadata.version('minikubelet')}")
    return 0
