"""`minikubelet exec POD -- COMMAND`: runs a command in a container; its exit code is ours."""

from __future__ import annotations

import argparse
import sys

from minikubelet.cli import lookup
from minikubelet.cli.arguments import add_container, add_namespace, namespace_of
from minikubelet.cli.main import CommandFailed

EXAMPLES = """\
examples:
  minikubelet exec web -- ls -l /www
  minikubelet exec -it web -c server -- bash
  echo hello | minikubelet exec -i web -- tee /tmp/hello

exit code: the command's own; 1 when it could not be run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod", metavar="POD")
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    add_namespace(parser)
    add_container(parser)
    parser.add_argument("-i", "--stdin", action="store_true", help="pass our input on to the command")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    parser.add_argument("-q", "--quiet", action="store_true", help="only what the command prints")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.rest or not options.command:
        words = " ".join(options.rest) or "COMMAND"
        raise CommandFailed(f"put the command behind two dashes: minikubelet exec {options.pod} -- {words}", 2)
    from minikubelet.cli.session import Session, wants_terminal

    pod = lookup.find_pod(options, namespace_of(options), options.pod)
    container = lookup.default_container(pod, options.container, quiet=options.quiet)
    terminal = wants_terminal(options)
    session = Session(options, pod, "exec", container, command=options.command, stdin=options.stdin, tty=terminal)
    return session.run(stdin=sys.stdin.fileno() if options.stdin else None)
