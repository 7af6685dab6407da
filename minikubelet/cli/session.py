"""One command in a container, or its main process, with its streams connected to ours: what exec, attach and cp share.

The channels of a session: 0 its stdin, 1 its stdout, 2 its stderr, 3 how it ended, 4 the size of our terminal.
Source: apimachinery pkg/util/remotecommand (v1.36), protocol v5.channel.k8s.io.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from minikubelet.cli import client, lookup
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.websocket import WebSocket

Json = dict[str, Any]
Sink = Callable[[bytes], None]

_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _STATUS, _RESIZE = range(5)
_END_OF_STDIN: Final = bytes((255, _STDIN))
_CHUNK: Final = 1 << 16
# More than this is not read ahead of what the daemon takes.
_MOST_UNSENT: Final = 1 << 20
# Ctrl-P Ctrl-Q, as Docker's: leaves an attached container without ending it.
_DETACH: Final = b"\x10\x11"


class DetachKeys:
    """Looks for the two keys in what is typed, whether they come together or one after the other."""

    def __init__(self) -> None:
        self.pressed = False
        self._held = b""

    def pass_on(self, data: bytes) -> bytes:
        """Return what goes to the container: the first key waits for the one behind it."""
        data = self._held + data
        before, keys, _ = data.partition(_DETACH)
        self.pressed = bool(keys)
        self._held = b"" if keys or not before.endswith(_DETACH[:1]) else _DETACH[:1]
        return before.removesuffix(self._held)


class Session:
    """A connected command. `run` moves its streams until it has ended."""

    def __init__(
        self,
        options: argparse.Namespace,
        pod: Json,
        verb: str,
        container: str,
        *,
        command: Sequence[str] = (),
        stdin: bool = False,
        tty: bool = False,
    ) -> None:
        """Connect. Raises CommandFailed."""
        meta = pod["metadata"]
        query = [("command", one) for one in command]
        query += [("container", container), ("stdout", "true")]
        query += [("stdin", "true")] if stdin else []
        query += [("tty", "true")] if tty else [("stderr", "true")]
        path = client.scope("pods", meta["namespace"], meta["name"], verb)
        try:
            self._socket = WebSocket(options, path, query, _PROTOCOLS)
        except client.ServerError as error:
            if "container not found" not in str(error):
                raise
            why = f"it does not run now, 'minikubelet why {lookup.manifest_name(pod)}' says why"
            raise CommandFailed(f"{error}: {why}") from error
        self._tty = tty
        self._keys = DetachKeys() if verb == "attach" and tty else None
        self._status: Json | None = None
        self._wakes: int | None = None

    def run(self, *, stdin: int | None = None, stdout: Sink | None = None, stderr: Sink | None = None) -> int:
        """Return the command's exit code.

        Args:
            stdin: A descriptor to read its input from.
            stdout: Takes its output; by default ours.
            stderr: Takes its errors; by default ours.

        Raises:
            CommandFailed: It could not be run, or the connection broke.
        """
        sinks = {_STDOUT: stdout or _writer(1), _STDERR: stderr or _writer(2)}
        try:
            if stdin is not None and self._tty and os.isatty(stdin):
                with _raw_terminal(stdin), self._resizes(stdin):
                    self._move(stdin, sinks)
            else:
                self._move(stdin, sinks)
        finally:
            self._socket.close()
        return self._exit_code()

    @property
    def was_left(self) -> bool:
        """Tell whether the detach keys ended it, and not the container."""
        return self._keys is not None and self._keys.pressed

    def _move(self, stdin: int | None, sinks: dict[int, Sink]) -> None:
        channel = self._socket
        while True:
            # Before waiting: the first messages may have come with the handshake.
            for message in channel.receive():
                self._take(message, sinks)
            if channel.closed or self._status is not None:
                return
            readers: list[Any] = [channel, *([self._wakes] if self._wakes is not None else [])]
            if stdin is not None and len(channel.unsent) < _MOST_UNSENT:
                readers.append(stdin)
            ready, _, _ = select.select(readers, [channel] if channel.unsent else [], [])
            channel.flush()
            if self._wakes is not None and self._wakes in ready:
                os.read(self._wakes, 64)
                self._send_size(stdin or 0)
            if stdin is not None and stdin in ready and not self._send_input(stdin):
                stdin = None

    def _send_input(self, stdin: int) -> bool:
        """Pass on what there is to read; False when there will be no more."""
        data = os.read(stdin, _CHUNK)
        if not data:
            self._socket.send(_END_OF_STDIN)
            return False
        if self._keys is not None:
            data = self._keys.pass_on(data)
            if self._keys.pressed:
                self._status = {"status": "Success"}
        if data:
            self._socket.send(bytes((_STDIN,)) + data)
        return self._status is None

    def _take(self, message: bytes, sinks: dict[int, Sink]) -> None:
        if not message:
            return
        channel, data = message[0], message[1:]
        if channel in sinks:
            if data:
                sinks[channel](data)
        elif channel == _STATUS and data:
            self._status = json.loads(data)

    @contextlib.contextmanager
    def _resizes(self, stdin: int) -> Iterator[None]:
        """Pass on the size of our terminal, now and when it changes."""
        self._wakes, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        before = signal.signal(signal.SIGWINCH, lambda *_: os.write(woken, b"w"))
        self._send_size(stdin)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)
            os.close(self._wakes)
            os.close(woken)
            self._wakes = None

    def _send_size(self, terminal: int) -> None:
        size = os.get_terminal_size(terminal)
        text = json.dumps({"Width": size.columns, "Height": size.lines})
        self._socket.send(bytes((_RESIZE,)) + text.encode())

    def _exit_code(self) -> int:
        status = self._status
        if status is None:
            raise CommandFailed("the connection to the daemon broke before the command ended")
        if status.get("status") == "Success":
            return 0
        for cause in (status.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        raise CommandFailed(str(status.get("message") or "the command could not be run"))


def _writer(descriptor: int) -> Sink:
    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    return write


@contextlib.contextmanager
def _raw_terminal(descriptor: int) -> Iterator[None]:
    """Hand every key to the command, and give the terminal back as it was."""
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed meanwhile is not lost
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal itself may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def wants_terminal(options: argparse.Namespace) -> bool:
    """Tell whether a terminal is asked for and there is one to give; say so if there is none."""
    if options.tty and not (options.stdin and sys.stdin.isatty()):
        client.tell_once("Unable to use a TTY - input is not a terminal or the right kind of file")
        return False
    return bool(options.tty)
