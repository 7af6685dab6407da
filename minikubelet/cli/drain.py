"""`minikubelet drain`: ends every pod gracefully and starts none until `uncordon`; works with and without a daemon."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from minikubelet.cli import client
from minikubelet.cli.arguments import duration, whole
from minikubelet.cli.findings import seconds, span
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.progress import Progress
from minikubelet.lifecycle import columns

if TYPE_CHECKING:
    from minikubelet.node.settings import Settings

EXAMPLES = """examples:
  minikubelet drain                      end all pods, each with its own grace period, and wait
  minikubelet drain --grace-period=5     give none of them more than 5 s
  minikubelet uncordon                   start the pods again
"""
_LOOK_S: Final = 0.05
_GONE: Final = client.DaemonDown("the daemon's files are gone")

Json = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--grace-period", type=whole, default=-1, metavar="SECONDS", help="at most this much; -1: each pod's own"
    )
    parser.add_argument("--timeout", type=duration, default=0.0, metavar="DURATION", help="give up waiting; 0s: never")
    node = parser.add_argument_group("as given to 'run', needed only when the daemon is not running")
    node.add_argument("--node-name")
    node.add_argument("--pod-cidr")
    node.add_argument("--bridge")


def execute(options: argparse.Namespace) -> int:
    """End the pods and wait until they are gone."""
    if os.geteuid() != 0:
        raise CommandFailed("ending pods is for root: try sudo")
    from minikubelet.node import cordon

    process = daemon_process(options)
    os.makedirs(options.run_dir, mode=0o755, exist_ok=True)
    cordon.cordon(options.run_dir, options.grace_period if options.grace_period >= 0 else None)
    print("node cordoned", flush=True)
    if process is None:
        return _without_daemon(options)
    os.kill(process, signal.SIGHUP)
    deadline = time.monotonic() + options.timeout if options.timeout > 0 else None
    with Progress() as progress:
        _wait(options, _announce(options), deadline, progress)
    print("node drained")
    return 0


def _announce(options: argparse.Namespace) -> set[str]:
    """Say which pods will be ended; return them."""
    seen = set(_pods(options))
    for name in sorted(seen):
        print(f"evicting pod {name}", flush=True)
    return seen


def _wait(options: argparse.Namespace, seen: set[str], deadline: float | None, progress: Progress) -> None:
    """Tell of each pod that goes, until none is left. Raises CommandFailed."""
    while left := set(_pods(options)):
        _tell_gone(seen - left, progress)
        seen = left
        _show(options, progress)
        if deadline is not None and time.monotonic() > deadline:
            raise CommandFailed(f"not drained in time, still there: {', '.join(sorted(left))}; the node stays cordoned")
        if daemon_process(options) is None:
            raise CommandFailed("the daemon ended meanwhile; run drain again")
        time.sleep(_LOOK_S)  # files tell nobody when they go
    _tell_gone(seen, progress)


def _show(options: argparse.Namespace, progress: Progress) -> None:
    """Say on a terminal, about once in a second, whom it waits for."""
    if progress.is_due and progress.age >= 1.0:
        with contextlib.suppress(client.DaemonDown):
            progress.show(waiting_for(client.read_status_files(options, _GONE), time.time()))


def _tell_gone(names: set[str], progress: Progress) -> None:
    for name in sorted(names):
        progress.clear()
        print(f"pod {name} evicted", flush=True)


def waiting_for(pods: Sequence[Json], now: float) -> str:
    """Return which pods are still there, and how long each may take at most."""
    texts: list[str] = []
    for one in pods:
        meta = one["metadata"]
        left = seconds(meta.get("deletionTimestamp")) - now
        grace = f", killed in {span(left)}" if meta.get("deletionTimestamp") and left > 0 else ""
        texts.append(f"{meta['name']} ({columns.status_column(one)}{grace})")
    return f"waiting for {', '.join(texts)}" if texts else ""


def daemon_process(options: argparse.Namespace) -> int | None:
    """Return the process that listens on the daemon's socket, None when nobody does."""
    try:
        connection = client.connect(client.socket_path(options))
    except client.DaemonDown:
        return None
    with connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("iII", credentials)[0])


def _pods(options: argparse.Namespace) -> list[str]:
    """Return the pods that the daemon publishes, as namespace/name."""
    try:
        names = os.listdir(os.path.join(options.run_dir, "status"))
    except FileNotFoundError:
        return []
    return [name.removesuffix(".json").replace("_", "/", 1) for name in names if name.endswith(".json")]


def _without_daemon(options: argparse.Namespace) -> int:
    """Take the daemon's place for as long as it takes to end the pods."""
    from minikubelet.daemon.directories import StartupError
    from minikubelet.node.settings import SettingsError, load_settings, read_record
    from minikubelet.runtime.network.errors import NetworkError

    flags = {name: value for name, value in vars(options).items() if value is not None}
    try:
        # As the daemon was started: another bridge or node name would not find all of its pods' parts.
        settings = read_record(options.run_dir) or load_settings(flags, dict(os.environ))
        limit = options.timeout if options.timeout > 0 else None
        _log_errors_only()
        asyncio.run(asyncio.wait_for(_end_all_pods(options, settings), limit))
    except SettingsError as error:
        raise CommandFailed(str(error), 2) from error
    except TimeoutError:
        raise CommandFailed("not drained in time; the node stays cordoned") from None
    except (StartupError, NetworkError) as error:
        raise CommandFailed(str(error)) from error
    print("node drained")
    return 0


async def _end_all_pods(options: argparse.Namespace, settings: Settings) -> None:
    """End the pods and tell of each that goes, as if the daemon did it."""
    from minikubelet.daemon.run import end_all_pods

    seen = _announce(options)

    async def tell(progress: Progress) -> None:
        nonlocal seen
        while True:
            left = set(_pods(options))
            _tell_gone(seen - left, progress)
            seen = left
            _show(options, progress)
            await asyncio.sleep(_LOOK_S * 4)  # files tell nobody when they go

    with Progress() as progress:
        telling = asyncio.create_task(tell(progress))
        try:
            await end_all_pods(settings)
        finally:
            telling.cancel()
        _tell_gone(seen - set(_pods(options)), progress)


def _log_errors_only() -> None:
    """Keep what a daemon would log out of what is printed here."""
    import logging

    import structlog

    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.LogfmtRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
