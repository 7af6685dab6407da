"""`minikubelet names KIND`: lists names for the shell's completion; says nothing when there is nothing to say."""

from __future__ import annotations

import argparse
import contextlib
import sys

from minikubelet.cli import client, lookup
from minikubelet.cli.main import CommandFailed


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", choices=["pods", "containers", "namespaces", "kinds"])
    parser.add_argument("pod", nargs="?", default="")
    parser.add_argument("-n", "--namespace", default="")


def execute(options: argparse.Namespace) -> int:
    """Print the names."""
    if options.kind == "kinds":
        print("pods\nevents\nnodes\nnamespaces\nconfigmaps\nsecrets")
        return 0
    with contextlib.suppress(CommandFailed, OSError), contextlib.redirect_stderr(None):
        pods = client.pods(options, options.namespace)
        if options.kind == "namespaces":
            names = {one["metadata"]["namespace"] for one in pods}
        elif options.kind == "pods":
            names = {lookup.manifest_name(one) for one in pods}
        else:
            chosen = [one for one in pods if options.pod in ("", one["metadata"]["name"], lookup.manifest_name(one))]
            names = {name for one in chosen for name in lookup.container_names(one)}
        sys.stdout.write("".join(f"{one}\n" for one in sorted(names)))
    return 0
