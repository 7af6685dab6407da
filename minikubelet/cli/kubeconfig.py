"""`minikubelet kubeconfig`: what kubectl needs to know of this node, and of the relay that leads it to the socket."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

from minikubelet.cli.client import socket_path
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.output import to_yaml

EXAMPLES = """examples:
  minikubelet kubeconfig > node.yaml                           its first lines say which relay to start
  KUBECONFIG=node.yaml kubectl get pods -A                     as long as the relay runs
  minikubelet kubeconfig --server http://127.0.0.1:9001        for a relay on another port
"""
_NAME = "minikubelet"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--server",
        default="http://127.0.0.1:8001",
        metavar="URL",
        help="where the relay listens (default: http://127.0.0.1:8001)",
    )


def execute(options: argparse.Namespace) -> int:
    """Print the file."""
    address = urlsplit(options.server)
    try:
        host, port = address.hostname, address.port
    except ValueError:
        host, port = None, None
    if address.scheme != "http" or host is None or port is None:
        raise CommandFailed(f'--server: "{options.server}" is no address such as http://127.0.0.1:8001', 2)
    print(
        "# kubectl speaks no Unix sockets. As long as it is used, a relay has to run, as root:\n"
        f"#   socat TCP-LISTEN:{port},bind={host},fork UNIX-CONNECT:{socket_path(options)}\n"
        "# Every user of the machine who can reach that port is root there; end it when done."
    )
    print(to_yaml(config(options.server)), end="")
    return 0


def config(server: str) -> dict[str, object]:
    """Return a kubectl configuration of one cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _NAME, "cluster": {"server": server}}],
        "users": [{"name": _NAME, "user": {}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME, "namespace": "default"}}],
        "current-context": _NAME,
    }
