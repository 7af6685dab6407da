"""`minikubelet attach POD`: connects to a container's main process as it runs."""

from __future__ import annotations

import argparse
import sys

from minikubelet.cli import client, lookup
from minikubelet.cli.arguments import add_container, add_namespace, namespace_of

EXAMPLES = """\
examples:
  minikubelet attach web                  see what it prints from now on; Ctrl-C leaves it running
  minikubelet attach -it shell            a container with stdin and tty; Ctrl-P Ctrl-Q leaves it running
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod", metavar="POD")
    add_namespace(parser)
    add_container(parser)
    parser.add_argument("-i", "--stdin", action="store_true", help="pass our input on to the container")
    parser.add_argument("-t", "--tty", action="store_true", help="the container's input is a terminal")
    parser.add_argument("-q", "--quiet", action="store_true", help="only what the container prints")


def execute(options: argparse.Namespace) -> int:
    """Connect."""
    from minikubelet.cli.session import Session, wants_terminal

    pod = lookup.find_pod(options, namespace_of(options), options.pod)
    container = lookup.default_container(pod, options.container, quiet=options.quiet)
    spec = lookup.container_spec(pod, container)
    stdin = options.stdin and bool(spec.get("stdin"))
    terminal = stdin and wants_terminal(options)
    if terminal and not spec.get("tty"):
        client.tell_once(f"Unable to use a TTY - container {container} did not allocate one")
        terminal = False
    if options.stdin and not stdin:
        client.tell_once(f"container {container} has no stdin (its manifest does not say stdin: true): output only")
    session = Session(options, pod, "attach", container, stdin=stdin, tty=terminal)
    if terminal and not options.quiet:
        client.tell_once("Ctrl-P Ctrl-Q leaves the container running; if you see no prompt, press Enter")
    code = session.run(stdin=sys.stdin.fileno() if stdin else None)
    if session.was_left and not options.quiet:
        print(f"\nminikubelet: left; {container} runs on", file=sys.stderr)
    return code
