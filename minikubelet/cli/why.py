"""`minikubelet why POD`: gathers what is recorded and prints the diagnosis."""

from __future__ import annotations

import argparse
import sys
import time

from minikubelet.cli import facts, lookup, terminal
from minikubelet.cli.arguments import add_namespace, namespace_of, split_kind
from minikubelet.cli.diagnosis import explain, explain_refused
from minikubelet.cli.main import CommandFailed

EXAMPLES = """\
examples:
  minikubelet why web            why is it not ready, why does it restart, what does it wait for
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod", metavar="POD")
    add_namespace(parser, all_too=True)


def execute(options: argparse.Namespace) -> int:
    """Print one paragraph."""
    try:
        pod = lookup.find_pod(options, namespace_of(options), options.pod)
    except CommandFailed:
        name = split_kind(options.pod)
        refused = facts.refused_without_pod(options.run_dir, name)
        if not refused:
            raise
        _print(explain_refused(name, refused))
        return 0
    _print(explain(facts.gather(options, pod), time.time()))
    return 0


def _print(text: str) -> None:
    columns = terminal.width() if sys.stdout.isatty() else 100000
    print(terminal.wrap(terminal.printable(text), columns))
