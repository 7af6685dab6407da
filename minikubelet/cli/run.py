"""`minikubelet run`: the daemon in the foreground, or, with --standalone, a node of its own for one directory."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from minikubelet.cli.live_table import Row, changes, fit, pod_rows
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.refusals import refusal_line
from minikubelet.cli.terminal import printable, wrap

if TYPE_CHECKING:
    from minikubelet.daemon import Daemon
    from minikubelet.node.settings import Settings
    from minikubelet.node.verdicts import Verdict

_REDRAW_S = 0.1
_REFRESH_S = 1.0  # ages go on


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--standalone", metavar="DIR", help="run on the manifests in DIR, show them, remove all at the end"
    )
    parser.add_argument("--node-name", help="default: this machine's host name")
    parser.add_argument(
        "--pod-cidr", help="addresses of pods (default 10.88.0.0/16); a second, IPv6 range after a comma"
    )
    parser.add_argument("--bridge", help="name of the bridge that pods are connected to (default minikubelet0)")
    parser.add_argument("--strict-static", action="store_true", default=None, help="refuse what the kubelet refuses")
    parser.add_argument("--remove-pods", action="store_true", help="end all pods when the daemon ends")


def execute(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    if os.geteuid() != 0:
        raise CommandFailed("the daemon makes namespaces and mounts, which only root may: try sudo", 2)
    from minikubelet.daemon import StartupError, run
    from minikubelet.node.settings import SettingsError, load_settings
    from minikubelet.runtime.network.errors import NetworkError

    flags = {name: value for name, value in vars(options).items() if value is not None}
    environment = dict(os.environ)
    shows_table = False
    if options.standalone:
        flags = {**_standalone(options.standalone), **flags}
        shows_table = True
    _set_up_log(quiet=shows_table)
    try:
        settings = load_settings(flags, environment)
    except SettingsError as error:
        raise CommandFailed(str(error), 2) from error
    remove = bool(options.remove_pods or options.standalone)
    try:
        asyncio.run(_run_with_table(settings, remove=remove) if shows_table else run(settings, remove_pods=remove))
    except (StartupError, NetworkError, OSError) as error:
        raise CommandFailed(str(error)) from error
    if options.standalone:
        _tidy(settings.run_dir)
    return 0


def _standalone(directory: str) -> dict[str, str]:
    """Return the settings of a node of its own: directories under ./.run, a bridge and a range of its own."""
    base = os.path.abspath(".run")
    os.makedirs(base, mode=0o700, exist_ok=True)
    return {
        "config_dir": os.path.join(base, "config"),
        "state_dir": os.path.join(base, "state"),
        "run_dir": os.path.join(base, "run"),
        "log_dir": os.path.join(base, "log"),
        "static_pod_path": os.path.abspath(directory),
        "bridge": "mk-standalone",
        "pod_cidr": "10.89.0.0/24",
        # With sudo in one's own checkout: who asked for it owns the manifests.
        "trusted_uid": str(os.stat(directory).st_uid),
    }


def _tidy(run_dir: str) -> None:
    import shutil

    with contextlib.suppress(OSError):
        shutil.rmtree(os.path.dirname(run_dir))


async def _run_with_table(settings: Settings, *, remove: bool) -> None:
    """Run the daemon and keep a table of its pods on the terminal."""
    from minikubelet.daemon import run

    task: asyncio.Task[None] | None = None

    def on_ready(daemon: Daemon) -> None:
        nonlocal task
        head = (
            f"node {settings.node_name}: manifests in {settings.manifest_dir}; Ctrl-C ends it",
            f"look closer with: minikubelet status --run-dir {settings.run_dir}",
        )
        if not sys.stdout.isatty():
            print("\n".join(head), flush=True)
        task = asyncio.create_task(_show(daemon, head))

    try:
        await run(settings, remove_pods=remove, on_ready=on_ready)
    finally:
        if task is not None:
            task.cancel()
    print("stopped, nothing is left", flush=True)


async def _show(daemon: Daemon, head: Sequence[str]) -> None:
    from minikubelet.node.status_manager import to_json

    draw: _Screen | _Lines = _Screen(head) if sys.stdout.isatty() else _Lines()
    while True:
        rows = pod_rows([to_json(pod) for pod in daemon.status.pods()], time.time())
        draw.show(rows, _refusals(daemon.verdicts.refused()))
        await asyncio.sleep(_REDRAW_S)  # so that a burst is drawn once
        await daemon.status.changed(_REFRESH_S)


class _Screen:
    """Draws the table over the one before, without flicker, as large as the terminal is now."""

    def __init__(self, head: Sequence[str]) -> None:
        self._head = head
        self._size = (0, 0)

    def show(self, rows: Sequence[Row], refusals: Sequence[str]) -> None:
        """Draw."""
        size = os.get_terminal_size(sys.stdout.fileno())
        width, height = size.columns or 80, size.lines or 24
        below = [line[:width] for one in refusals for line in wrap(printable(one), width).splitlines()]
        room = max(3, height - len(self._head) - len(below) - 2)
        table = fit(rows, width=width, height=room) if rows else ["no pods yet: put a manifest into the directory"]
        lines = [*(one[:width] for one in self._head), "", *table, *below]
        begin = "\x1b[H" if (width, height) == self._size else "\x1b[H\x1b[2J"
        self._size = (width, height)
        print(begin + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", end="", flush=True)


class _Lines:
    """Prints a line for each change, for logs and pipes."""

    def __init__(self) -> None:
        self._before: dict[str, Row] = {}
        self._refused: set[str] = set()

    def show(self, rows: Sequence[Row], refusals: Sequence[str]) -> None:
        """Print what is another."""
        self._before, lines = changes(self._before, rows)
        lines += [one for one in refusals if one not in self._refused]
        self._refused = set(refusals)
        for line in lines:
            print(printable(line), flush=True)


def _refusals(verdicts: Iterable[Verdict]) -> list[str]:
    return [line for one in verdicts for line in refusal_line(one.text())]


def _set_up_log(*, quiet: bool) -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
