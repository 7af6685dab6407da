"""`minikubelet run`: the daemon in the foreground, or, with --standalone, a node of its own for one directory."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from minikubelet.cli.live_table import Row, changes, fit, pod_rows
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.refusals import refusal_line
from minikubelet.cli.terminal import cut, printable, wrap
from minikubelet.runtime.probes import tls

if TYPE_CHECKING:
    import asyncio

    from minikubelet.daemon.daemon import Daemon
    from minikubelet.node.settings import Settings
    from minikubelet.node.verdicts import Verdict

_REDRAW_S = 0.1
_REFRESH_S = 1.0  # ages go on
_NOTED_S = 60.0
_MOST_NOTED = 3


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
    # What is loaded now stays: there is no garbage to look for, which would take a twelfth of the start.
    gc.disable()
    # structlog would draw with rich where it finds it: 4 MB and a tenth of the start for lines that are plain.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # such a module cannot be imported
    with tls.hidden():
        import asyncio

        from minikubelet.daemon.directories import StartupError
        from minikubelet.daemon.run import run
        from minikubelet.node.settings import SettingsError, load_settings
        from minikubelet.runtime.network.errors import NetworkError

    flags = {name: value for name, value in vars(options).items() if value is not None}
    environment = dict(os.environ)
    shows_table = False
    if options.standalone:
        flags = {**_standalone(options.standalone), **flags}
        shows_table = True
    notes = _Notes() if shows_table and sys.stdout.isatty() and sys.stderr.isatty() else None
    _set_up_log(quiet=shows_table, notes=notes)
    try:
        settings = load_settings(flags, environment)
    except SettingsError as error:
        raise CommandFailed(str(error), 2) from error
    remove = bool(options.remove_pods or options.standalone)
    try:
        if shows_table:
            left = asyncio.run(_run_with_table(settings, notes, remove=remove))
        else:
            left = asyncio.run(run(settings, remove_pods=remove))
    except (StartupError, NetworkError, OSError) as error:
        raise CommandFailed(str(error)) from error
    if left:
        from minikubelet.node.left_behind import ADVICE

        raise CommandFailed("\n".join((*left, ADVICE)))
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


def _call(verb: str, settings: Settings) -> str:
    """Return a command to be typed here that calls a verb of this node."""
    import shutil

    program = "minikubelet" if shutil.which("minikubelet") else sys.argv[0]
    return f"{program} {verb} --run-dir {os.path.relpath(settings.run_dir)}"


async def _run_with_table(settings: Settings, notes: _Notes | None, *, remove: bool) -> tuple[str, ...]:
    """Run the daemon and keep a table of its pods on the terminal."""
    import asyncio

    from minikubelet.daemon.run import run

    task: asyncio.Task[None] | None = None
    draw: _Screen | _Lines = _Lines()

    def on_ready(daemon: Daemon) -> None:
        nonlocal draw, task
        head = (
            f"node {settings.node_name}: manifests in {settings.manifest_dir}; Ctrl-C ends it",
            f"look closer with: {_call('status', settings)}",
        )
        if sys.stdout.isatty():
            draw = _Screen(head)
        else:
            print("\n".join(head), flush=True)
        if notes is not None:
            notes.pass_over()
        task = asyncio.create_task(_show(daemon, draw, notes))

    try:
        left = await run(settings, remove_pods=remove, on_ready=on_ready)
    except BaseException:
        for line in notes.recent(everything=True) if notes else ():
            print(line, file=sys.stderr)
        raise
    finally:
        if task is not None:
            task.cancel()
    if isinstance(draw, _Screen):
        draw.show([], notes.recent() if notes else [], "")
    if not left:
        print("stopped, nothing is left", flush=True)
    return left


async def _show(daemon: Daemon, draw: _Screen | _Lines, notes: _Notes | None) -> None:
    import asyncio

    status, verdicts = daemon.parts.reporting.status, daemon.parts.node.verdicts
    while True:
        rows = pod_rows(status.objects(), time.time())
        below = _refusals(verdicts.refused()) + (notes.recent() if notes else [])
        draw.show(rows, below, _why_none(daemon))
        await asyncio.sleep(_REDRAW_S)  # so that a burst is drawn once
        await status.changed(_REFRESH_S)


def _why_none(daemon: Daemon) -> str:
    """Return what stands in place of the table when there is no pod."""
    if daemon.is_ending:
        return "all pods have ended"
    if daemon.parts.node.reconciler.is_cordoned:
        return f"the node is drained: no pod runs until '{_call('uncordon', daemon.settings)}'"
    return "no pods yet: put a manifest into the directory"


class _Notes(io.StringIO):
    """Keeps the log's last lines for the screen, which they would tear if they were printed."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[tuple[float, str]] = deque(maxlen=100)
        self._from = 0.0

    def write(self, text: str) -> int:
        """Take some lines."""
        self._lines.extend((time.monotonic(), line) for line in text.splitlines())
        return len(text)

    def pass_over(self) -> None:
        """Show nothing of what came until now: what this machine lacks is told by `minikubelet doctor`."""
        self._from = time.monotonic()

    def recent(self, *, everything: bool = False) -> list[str]:
        """Return the newest lines, or all that are kept."""
        if everything:
            return [line for _, line in self._lines]
        since = max(self._from, time.monotonic() - _NOTED_S)
        return [line for at, line in self._lines if at >= since][-_MOST_NOTED:]


class _Screen:
    """Draws the table over the one before, without flicker, as large as the terminal is now."""

    def __init__(self, head: Sequence[str]) -> None:
        self._head = head
        self._size = (0, 0)

    def show(self, rows: Sequence[Row], notes: Sequence[str], instead: str) -> None:
        """Draw the rows, or what is said in place of none, and the notes below."""
        size = os.get_terminal_size(sys.stdout.fileno())
        width, height = size.columns or 80, size.lines or 24
        below = [cut(line, width) for one in notes for line in wrap(printable(one), width).splitlines()]
        room = max(3, height - len(self._head) - len(below) - 2)
        table = fit(rows, width=width, height=room) if rows else [instead]
        lines = [*(cut(one, width) for one in self._head), "", *table, *below]
        begin = "\x1b[H" if (width, height) == self._size else "\x1b[H\x1b[2J"
        self._size = (width, height)
        print(begin + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", end="", flush=True)


class _Lines:
    """Prints a line for each change, for logs and pipes."""

    def __init__(self) -> None:
        self._before: dict[str, Row] = {}
        self._told: set[str] = set()

    def show(self, rows: Sequence[Row], notes: Sequence[str], instead: str) -> None:
        """Print what is another."""
        self._before, lines = changes(self._before, rows)
        lines += [one for one in notes if one not in self._told]
        self._told = set(notes)
        for line in lines:
            print(printable(line), flush=True)


def _refusals(verdicts: Iterable[Verdict]) -> list[str]:
    return [line for one in verdicts for line in refusal_line(one.text())]


def _set_up_log(*, quiet: bool, notes: _Notes | None) -> None:
    import structlog

    def leave_out(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if notes is not None and event["event"] == "manifest refused":
            raise structlog.DropEvent  # it stands below the table for as long as it lasts
        return event

    structlog.configure(
        processors=[
            leave_out,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=notes or sys.stderr),
        cache_logger_on_first_use=True,
    )
