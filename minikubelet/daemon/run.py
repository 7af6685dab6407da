"""The daemon's process: runs the parts until a signal tells it to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable

from minikubelet.daemon.api import build_api, load_server
from minikubelet.daemon.daemon import Daemon
from minikubelet.node.settings import Settings


async def run(
    settings: Settings, *, remove_pods: bool, on_ready: Callable[[Daemon], None] | None = None
) -> tuple[str, ...]:
    """Run the daemon until SIGTERM or SIGINT; a second one ends it without waiting for pods.

    Args:
        settings: The node's configuration.
        remove_pods: End all pods on the way down and leave nothing behind.
        on_ready: Called when the node is up.

    Returns:
        A line for each pod that was to be removed and could not be ended.
    """
    stopped, hurried = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    _follow_children_by_pidfd()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurried if stopped.is_set() else stopped).set())
    daemon = Daemon(settings)
    reloading: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(daemon.reload(), name="reload")
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    await daemon.start(meanwhile=load_server)
    server = build_api(settings, daemon.parts)
    await server.listen()
    try:
        daemon.ready()
        gc.freeze()  # later collections pass over all that has been loaded
        gc.enable()
        if on_ready is not None:
            on_ready(daemon)
        await stopped.wait()
    finally:
        await server.close()
        left = await daemon.stop(remove_pods=remove_pods, hurried=hurried)
    return left


async def end_all_pods(settings: Settings) -> None:
    """Take up what an earlier daemon left on a cordoned node, end it, and leave the node as a stopped daemon does."""
    daemon = Daemon(settings)
    try:
        await daemon.start()
        await daemon.parts.pods.manager.wait_until_gone()
    finally:
        await daemon.stop(remove_pods=False)


def _follow_children_by_pidfd() -> None:
    """Let asyncio wait for child processes without a thread for each, as it does by itself since Python 3.12."""
    if sys.version_info < (3, 12):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)
