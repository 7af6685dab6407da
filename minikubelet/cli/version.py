"""`minikubelet version`: of this program and of the daemon, which may be an older one that still runs."""

from __future__ import annotations

import argparse
import importlib.metadata
import json

from minikubelet.cli import client
from minikubelet.cli.output import to_yaml


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--client", action="store_true", help="only of this program")
    parser.add_argument("-o", "--output", choices=["", "json", "yaml"], default="", help="json or yaml")


def execute(options: argparse.Namespace) -> int:
    """Print the versions."""
    own = importlib.metadata.version("minikubelet")
    daemon = None if options.client else daemon_version(options)
    if options.output:
        value = {"clientVersion": {"gitVersion": f"v{own}"}}
        if daemon is not None:
            value["serverVersion"] = daemon
        print(
            json.dumps(value, indent=2) if options.output == "json" else to_yaml(value),
            end="\n" * (options.output == "json"),
        )
        return 0
    print(f"minikubelet {own}")
    if daemon is not None:
        print(f"daemon {daemon.get('minikubelet') or daemon.get('gitVersion', '')}")
    return 0


def daemon_version(options: argparse.Namespace) -> dict[str, str] | None:
    """Return what the daemon says of its version, None when it is down or too old to say."""
    try:
        return client.fetch(options, "/version")
    except client.DaemonDown as down:
        client.tell_once(str(down).split(";", 1)[0])
    except client.ServerError:
        pass
    return None
