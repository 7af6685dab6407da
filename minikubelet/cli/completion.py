"""`minikubelet completion SHELL`: code for bash, zsh and fish; names of pods and containers are asked for live."""

from __future__ import annotations

import argparse
from typing import Any, Final

import shtab

from minikubelet.cli.main import build_parser

EXAMPLES = """\
examples:
  source <(minikubelet completion bash)                                             for this shell
  minikubelet completion bash > /etc/bash_completion.d/minikubelet                  for all
  minikubelet completion zsh > "${fpath[1]}/_minikubelet"
  minikubelet completion fish > ~/.config/fish/completions/minikubelet.fish
"""

# What an argument of this name is completed with.
_LIVE: Final = {
    "pods": "pods",
    "pod": "pods",
    "names": "pods",
    "container": "containers",
    "namespace": "namespaces",
    "kind": "kinds",
}
_FILES: Final = ("files", "file")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="bash, zsh or fish")


def execute(options: argparse.Namespace) -> int:
    """Print the code."""
    print(code(options.shell))
    return 0


def code(shell: str) -> str:
    """Return the completion code for a shell."""
    parser = build_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                for one in verb._actions:
                    _mark(one)
    text: str = shtab.complete(parser, shell=shell)
    return text


def _mark(action: Any) -> None:
    kind = _LIVE.get(action.dest, "")
    if kind and action.choices is None:
        action.complete = shtab.cmd(f"minikubelet names {kind} 2>/dev/null")
    elif action.dest in _FILES:
        action.complete = shtab.FILE
    elif action.metavar == "DIR":
        action.complete = shtab.DIRECTORY
