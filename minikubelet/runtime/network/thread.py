"""The one thread in which the network asks the kernel and writes its files, in order (`wiring` says why)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import structlog

from minikubelet.runtime.network.wiring import Wiring

log = structlog.get_logger(__name__)

T = TypeVar("T")


class NetworkThread:
    """Runs functions one after the other in a thread that keeps the sockets to the kernel.

    Args:
        bridge: Name of the bridge.
    """

    def __init__(self, bridge: str) -> None:
        self._bridge = bridge
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._wiring: Wiring | None = None

    def _submit(self, function: Callable[[Wiring], T]) -> Future[T]:
        if self._wiring is not None and self._wiring.lost:
            # The thread is stuck in a pod's namespace: it and what it holds are left behind.
            log.error("network thread lost, going on with another")
            self._executor.shutdown(wait=False)
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")
            self._wiring = None
        return self._executor.submit(self._run, function)

    async def run(self, function: Callable[[Wiring], T]) -> T:
        """Call the function with the kernel's side of the network; what it raises is raised here."""
        return await asyncio.wrap_future(self._submit(function))

    def make_namespace(self) -> Future[int]:
        """Make a network namespace, behind what was asked before; what is asked after this may use it already."""
        return self._submit(lambda wiring: wiring.make_namespace())

    async def run_behind(self, netns: Future[int], function: Callable[[Wiring, int], T]) -> T:
        """Call the function with a namespace that is still being made; it is not closed before this has returned."""
        return await asyncio.wrap_future(self._submit(lambda wiring: function(wiring, netns.result())))

    async def run_inside(self, netns: int, function: Callable[[Wiring, int], T]) -> T:
        """Call the function with a descriptor of our own of the namespace.

        Who gave `netns` may be cancelled and close it while the function still waits for its turn; the number could
        then be another pod's.
        """
        own = os.dup(netns)
        future = self._submit(lambda wiring: function(wiring, own))
        future.add_done_callback(lambda _: os.close(own))
        return await asyncio.wrap_future(future)

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function that writes files, behind what was asked before."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def close(self) -> None:
        """End the thread."""
        with contextlib.suppress(OSError):
            await self.call(self._close)
        self._executor.shutdown(wait=False)

    def _run(self, function: Callable[[Wiring], T]) -> T:
        if self._wiring is None:
            self._wiring = Wiring(self._bridge)
        return function(self._wiring)

    def _close(self) -> None:
        if self._wiring is not None:
            self._wiring.close()
            self._wiring = None
