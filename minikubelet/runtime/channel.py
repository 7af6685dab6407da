"""A connection to a pause or the fork server: requests with answers, and messages that come unasked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

import structlog

from minikubelet.runtime.port import RuntimeFailure
from minikubelet.sandbox.protocol import Decoder, Message, Outbox, ProtocolError

log = structlog.get_logger(__name__)

# More than this is not sent to one that does not read.
_MAX_BACKLOG: Final = 1024 * 1024

Answer = asyncio.Future[tuple[Message, list[int]]]


class PauseGone(RuntimeFailure):
    """The pause process has ended; its containers with it."""


class PauseHangs(RuntimeFailure):
    """The pause process lives but does not answer."""


class ForeignPause(RuntimeFailure):
    """The pause process speaks a protocol that this daemon does not know."""


class Channel:
    """One connection on the event loop: requests with answers, and messages that come unasked."""

    def __init__(self, sock: socket.socket, *, on_event: Callable[[Message, list[int]], None]) -> None:
        self._sock = sock
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._answers: dict[int, Answer] = {}
        self._number = 0
        self._outbox = Outbox()
        self.closed = asyncio.Event()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message, later if the socket is full; never blocks. Descriptors stay the caller's.

        Raises:
            PauseGone: The connection is closed.
            PauseHangs: What was sent before has not been read for long.
            RuntimeFailure: There are no descriptors left.
        """
        if self.closed.is_set():
            raise PauseGone("the pause process is gone")
        if len(self._outbox) > _MAX_BACKLOG:
            raise PauseHangs("the pause process does not answer")
        try:
            self._outbox.put(message, descriptors)
        except OSError as error:
            raise RuntimeFailure(f"cannot pass on descriptors: {error.strerror}") from error
        try:
            self._write()
        except OSError as error:
            self.close()
            raise PauseGone("the pause process is gone") from error

    def _write(self) -> None:
        try:
            self._outbox.send(self._sock)
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        try:
            self._write()
        except OSError:
            self.close()

    async def request(
        self, message: Message, descriptors: tuple[int, ...] = (), *, limit_s: float | None = None
    ) -> tuple[Message, list[int]]:
        """Send a request and return its answer with the descriptors that came along.

        Raises:
            PauseGone: The connection ended first.
            PauseHangs: There was no answer within `limit_s` seconds.
            RuntimeFailure: The answer is an error.
        """
        number, answer = self.begin(message, descriptors)
        try:
            async with asyncio.timeout(limit_s):
                return await self.result(number, answer)
        except TimeoutError:
            raise PauseHangs("the pause process does not answer") from None

    def begin(self, message: Message, descriptors: tuple[int, ...] = ()) -> tuple[int, Answer]:
        """Send a request; return its number and where its answer will be. Raises RuntimeFailure."""
        self._number += 1
        number = self._number
        answer: Answer = self._loop.create_future()
        self._answers[number] = answer
        try:
            self.send({**message, "id": number}, descriptors)
        except BaseException:
            self._answers.pop(number, None)
            raise
        return number, answer

    async def result(self, number: int, answer: Answer) -> tuple[Message, list[int]]:
        """Wait for the answer of a request. Raises PauseGone or RuntimeFailure."""
        try:
            reply, received = await answer
        finally:
            self._answers.pop(number, None)
        if "error" in reply:
            raise RuntimeFailure(str(reply["error"]))
        return reply, received

    def _read(self) -> None:
        try:
            messages = self._decoder.read(self._sock)
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            log.warning("connection lost", error=str(error))
            messages = None
        if messages is None:
            self.close()
            return
        for message, descriptors in messages:
            answer = self._answers.pop(message.get("re", 0), None)
            if answer is None or answer.done():  # it comes unasked, or who asked has given up
                self._on_event(message, descriptors)
            else:
                answer.set_result((message, descriptors))

    def close(self) -> None:
        """End the connection; who waits for an answer learns it."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._decoder.close()
        self._outbox.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(PauseGone("the pause process is gone"))
                answer.exception()  # seen, even if the one who asked has failed at sending already


class Execution:
    """A command in a container that somebody talks to."""

    def __init__(self, channel: Channel, number: int, answer: Answer) -> None:
        self._channel = channel
        self._number = number
        self._answer = answer

    async def wait(self) -> int:
        """Return the exit code when it has ended. Raises RuntimeFailure when it could not be started."""
        await asyncio.wait({self._answer})  # who gives up waiting may still kill it
        reply, _ = await self._channel.result(self._number, self._answer)
        return int(reply["exit_code"])

    def kill(self) -> None:
        """Kill it with all that it started, if it still runs."""
        if not self._answer.done():
            with contextlib.suppress(RuntimeFailure):
                _, answer = self._channel.begin({"do": "cancel", "exec": self._number})
                answer.add_done_callback(lambda done: done.cancelled() or done.exception())
