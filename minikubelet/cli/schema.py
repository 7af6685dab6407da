"""`minikubelet schema`: for editors that check manifests while they are written."""

from __future__ import annotations

import argparse
import json

from minikubelet.api.schema import manifest_schema


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def execute(options: argparse.Namespace) -> int:
    """Print the JSON schema of accepted manifests."""
    print(json.dumps(manifest_schema(), indent=2))
    return 0
