"""`minikubelet uncordon`: lets the pods of a drained node run again."""

from __future__ import annotations

import argparse
import os
import signal

from minikubelet.cli.drain import daemon_process
from minikubelet.cli.main import CommandFailed


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def execute(options: argparse.Namespace) -> int:
    """Take the mark away and tell the daemon."""
    if os.geteuid() != 0:
        raise CommandFailed("starting pods is for root: try sudo")
    from minikubelet.node import cordon

    was = cordon.uncordon(options.run_dir)
    process = daemon_process(options)
    if process is not None:
        os.kill(process, signal.SIGHUP)
    print("node uncordoned" if was else "node already uncordoned")
    return 0
