"""The daemon's side of the fork server: starts it when it is needed, has it fork pauses, and reaps it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final

import structlog

from minikubelet.linux.faults import point
from minikubelet.runtime.channel import Channel, PauseGone, PauseHangs
from minikubelet.runtime.port import RuntimeFailure, SandboxFailure
from minikubelet.runtime.wording import words
from minikubelet.sandbox.protocol import Message
from minikubelet.sandbox.spec import SandboxSpec, to_json

log = structlog.get_logger(__name__)

_START_LIMIT_S: Final = 30.0
# How long the fork server may take to end when its connection is closed; it may hang.
_END_LIMIT_S: Final = 1.0
# Room that the fork server and its pauses write their titles into.
_TITLE_ROOM: Final = "-" * 200
# The fork server does without `site`, the environment and the directory that the daemon was started in.
_START: Final = "import sys; sys.path.append(sys.argv[3]); from minikubelet.sandbox.launch import main; main()"
# One arena, and all functions bound at its start: what a pause binds or begins is a page that it has for itself.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "1", "LD_BIND_NOW": "1"}
_PACKAGES: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class ForkServer:
    """Owner of the fork server's process and of the connection to it."""

    def __init__(self, *, rehearsal_dir: str, on_problem: Callable[[str], None]) -> None:
        """Create it without a process.

        Args:
            rehearsal_dir: Where it rehearses a pod's life.
            on_problem: Told why it cannot be started; "" when that is over.
        """
        self._rehearsal_dir = rehearsal_dir
        self._on_problem = on_problem
        self._channel: Channel | None = None
        self._starting = asyncio.Lock()
        self.pid = 0

    @property
    def has_started(self) -> bool:
        """Tell whether its last start succeeded."""
        return self._channel is not None

    async def connection(self) -> Channel:
        """Return the connection to the fork server, which is started if need be. Raises SandboxFailure."""
        async with self._starting:
            if self._channel is None or self._channel.closed.is_set():
                try:
                    self._channel = await self._start()
                except (OSError, SandboxFailure) as error:
                    self._channel = None
                    text = f"cannot start the fork server: {words(error)}"
                    self._on_problem(text)
                    raise SandboxFailure(text) from error
                self._on_problem("")
            return self._channel

    async def fork(self, spec: SandboxSpec, sock: socket.socket) -> None:
        """Have a pause forked that answers over `sock`.

        Raises:
            SandboxFailure: It could not be forked.
        """
        try:
            server = await self.connection()
            point("pauses.fork")
            await server.request({"do": "fork", "spec": to_json(spec)}, (sock.fileno(),), limit_s=_START_LIMIT_S)
        except PauseGone:
            pass  # the fork server died: whether it had forked before that, the connection will tell
        except PauseHangs:
            log.error("fork server does not answer, ended", pid=self.pid)
            server.close()
            self._end(patience_s=0)
            raise SandboxFailure("the fork server did not answer") from None
        except (RuntimeFailure, OSError) as failure:
            raise SandboxFailure(f"cannot fork the pause process: {words(failure)}") from failure

    def close(self) -> None:
        """End it; pauses stay."""
        if self._channel is not None:
            self._channel.close()
        self._end(patience_s=_END_LIMIT_S)

    async def _start(self) -> Channel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ready = asyncio.get_running_loop().create_future()

        def on_event(message: Message, descriptors: list[int]) -> None:
            if not ready.done():
                ready.set_result(message.get("message", ""))

        number = theirs.fileno()
        os.set_inheritable(number, True)
        argv = [sys.executable, "-I", "-S", "-c", _START, str(number)]
        argv += [self._rehearsal_dir, _PACKAGES, _TITLE_ROOM]
        self._reap()
        try:
            self.pid = os.posix_spawn(sys.executable, argv, {**os.environ, **_ENVIRONMENT})
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        channel = Channel(ours, on_event=on_event)
        closed = asyncio.ensure_future(channel.closed.wait())
        await asyncio.wait({ready, closed}, return_when=asyncio.FIRST_COMPLETED, timeout=_START_LIMIT_S)
        closed.cancel()
        why = (
            ready.result() if ready.done() else "it ended at once" if channel.closed.is_set() else "it does not answer"
        )
        if why:
            channel.close()
            self._end(patience_s=0)
            raise SandboxFailure(why)
        return channel

    def _end(self, *, patience_s: float) -> None:
        """Reap the fork server, whose connection is closed; kill it when it has not ended after so many seconds."""
        if not self.pid:
            return
        with contextlib.suppress(OSError):  # it was reaped already
            descriptor = os.pidfd_open(self.pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                if not ended.poll(patience_s * 1000):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    ended.poll(_END_LIMIT_S * 1000)
            finally:
                os.close(descriptor)
        self._reap()

    def _reap(self) -> None:
        if self.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
