"""Parses the command line and runs one verb. Imports only what that verb needs: `--help` is a matter of milliseconds.

Exit codes: 0 done; 1 it failed; 2 wrong usage or configuration; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

ROOTS: Final = {
    "config_dir": "/etc/minikubelet",
    "state_dir": "/var/lib/minikubelet",
    "run_dir": "/run/minikubelet",
    "log_dir": "/var/log",
}


class CommandFailed(Exception):
    """The verb failed; the text is what the user is told."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(prog="minikubelet", description="A kubelet for real processes.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    paths = argparse.ArgumentParser(add_help=False)
    group = paths.add_argument_group("directories")
    for name, default in ROOTS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}", dest=name, metavar="DIR", default=None, help=f"default: {default}"
        )
    run = verbs.add_parser("run", parents=[paths], help="run the daemon")
    run.add_argument(
        "--standalone", metavar="DIR", help="run on the manifests in DIR, show them, remove all at the end"
    )
    run.add_argument("--node-name", help="default: this machine's host name")
    run.add_argument("--pod-cidr", help="addresses of pods (default 10.88.0.0/16); a second, IPv6 range after a comma")
    run.add_argument("--bridge", help="name of the bridge that pods are connected to (default minikubelet0)")
    run.add_argument("--strict-static", action="store_true", default=None, help="refuse what the kubelet refuses")
    run.add_argument("--remove-pods", action="store_true", help="end all pods when the daemon ends")
    get = verbs.add_parser("get", parents=[paths], help="show pods or events")
    get.add_argument("kind", choices=["pods", "pod", "po", "events", "event", "ev"])
    get.add_argument("name", nargs="?")
    get.add_argument("-A", "--all-namespaces", action="store_true")
    get.add_argument("-n", "--namespace", default="default")
    get.add_argument("-l", "--selector", default="")
    get.add_argument("-o", "--output", choices=["wide", "json", "yaml", "name"], default="")
    get.add_argument("-w", "--watch", action="store_true")
    logs = verbs.add_parser("logs", parents=[paths], help="print what a container printed")
    logs.add_argument("pod")
    logs.add_argument("-n", "--namespace", default="default")
    logs.add_argument("-c", "--container")
    logs.add_argument("-p", "--previous", action="store_true")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("--tail", type=int, default=-1, metavar="LINES")
    logs.add_argument("--timestamps", action="store_true")
    validate = verbs.add_parser("validate", parents=[paths], help="check manifests without running them")
    validate.add_argument("files", nargs="+", metavar="FILE|DIR|-")
    validate.add_argument("--node-name", default="")
    validate.add_argument("-o", "--output", choices=["text", "json"], default="text")
    validate.add_argument("--strict-static", action="store_true", help="refuse references to other API objects")
    schema = verbs.add_parser("schema", help="print the JSON schema of accepted manifests")
    schema.set_defaults(**dict.fromkeys(ROOTS))
    version = verbs.add_parser("version", help="print the version")
    version.set_defaults(**dict.fromkeys(ROOTS))
    return parser


def split_roots(arguments: Sequence[str]) -> list[str]:
    """Move directory flags that stand before the verb behind it, where the parser takes them."""
    flags = {f"--{name.replace('_', '-')}" for name in ROOTS}
    before: list[str] = []
    rest = list(arguments)
    while rest and rest[0].split("=", 1)[0] in flags:
        count = 1 if "=" in rest[0] else 2
        before.extend(rest[:count])
        rest = rest[count:]
    return [*rest[:1], *before, *rest[1:]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = build_parser().parse_args(split_roots(sys.argv[1:] if arguments is None else arguments))
    if options.verb != "run":
        for name, default in ROOTS.items():
            if getattr(options, name) is None:
                setattr(options, name, os.environ.get(f"MINIKUBELET_{name.upper()}", default))
    verb = importlib.import_module(f"minikubelet.cli.{options.verb}")
    try:
        return int(verb.execute(options))
    except CommandFailed as failure:
        print(f"minikubelet: {failure}", file=sys.stderr)
        return failure.code
    except BrokenPipeError:
        # The reader has enough; its end must not be told again when the interpreter flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
