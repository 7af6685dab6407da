"""What containers print: read from their pipes and terminals, written to their logs, copied to who is attached."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios

from minikubelet.linux import libc
from minikubelet.linux.lean import Any, Callable, Final, signal, suppress
from minikubelet.sandbox.attach import Tee
from minikubelet.sandbox.logs import READ_SIZE, LineStream, LogFile, compress_rotated
from minikubelet.sandbox.loop import Loop

_PIPE_SIZE: Final = 64 * 1024  # the kernel's default
_WIDE_PIPE_SIZE: Final = 1024 * 1024
# Whoever still holds an ended container's terminal open is not the container: it is not waited for.
_TERMINAL_WAIT_S: Final = 0.02
_MAX_TERMINAL_READS: Final = 64


class Stream:
    """One output pipe of a container and the log it goes to."""

    __slots__ = (
        "descriptor",
        "is_terminal",
        "lines",
        "log",
        "tees",
        "wide",
    )

    def __init__(self, descriptor: int, name: str, log: LogFile | None, *, is_terminal: bool = False) -> None:
        self.descriptor = descriptor
        self.lines = LineStream(name)
        self.log = log
        self.is_terminal = is_terminal
        self.wide = False
        self.tees: list[Tee] = []


class Output:
    """Moves what containers print, and has their rotated logs compressed."""

    __slots__ = (
        "_compress_again",
        "_compressing",
        "_let_go",
        "_loop",
        "_note",
    )

    def __init__(self, loop: Loop, *, note: Callable[[str, str], None], let_go: Callable[[], None]) -> None:
        """Create it.

        Args:
            loop: Who tells of what is printed.
            note: Told what is wrong with a log, by its path; "" when it is well again.
            let_go: Called in a child, which has copies of everything: closes what ends only when nobody holds it.
        """
        self._loop = loop
        self._note = note
        self._let_go = let_go
        self._compressing: dict[int, str] = {}
        self._compress_again: list[str] = []

    def watch(self, stream: Stream, on_end: Callable[[Any, Stream], None], owner: Any) -> None:
        """Read a stream when there is something; `on_end` gets its owner and it when it is over, and ends it."""
        self._loop.watch(stream.descriptor, self._on_output, stream, on_end, owner)

    def _on_output(self, stream: Stream, on_end: Callable[[Any, Stream], None], owner: Any, events: int) -> None:
        """Move what a container printed to its log: one read a turn, so that no container starves another."""
        try:
            data = os.read(stream.descriptor, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            on_end(owner, stream)
            return
        if not stream.wide and len(data) >= _PIPE_SIZE:
            # A program that fills its pipe gets a wider one; most never do, and kernel memory for them stays small.
            stream.wide = True
            with suppress(OSError):
                fcntl.fcntl(stream.descriptor, fcntl.F_SETPIPE_SZ, _WIDE_PIPE_SIZE)
        self._take(stream, data)

    def end(self, stream: Stream) -> None:
        """Write the unfinished line and close the pipe."""
        self._loop.unwatch(stream.descriptor)
        self._log(stream, stream.lines.finish())
        for tee in list(stream.tees):
            self._end_copy(stream, tee)
        os.close(stream.descriptor)

    def copy_to(self, stream: Stream, descriptor: int) -> None:
        """Copy what a container prints to a pipe until its reader goes, be it that nothing is printed ever again."""
        tee = Tee(descriptor)
        stream.tees.append(tee)
        self._loop.watch(descriptor, self._end_copy, stream, tee, events=0)  # errors are told unasked

    def _end_copy(self, stream: Stream, tee: Tee, events: int = 0) -> None:
        """Forget a reader."""
        self._loop.unwatch(tee.descriptor)
        tee.close()
        stream.tees.remove(tee)

    def _take(self, stream: Stream, data: bytes) -> None:
        """Log what was read, and copy it to those who are attached."""
        self._log(stream, stream.lines.feed(data))
        for tee in stream.tees:
            tee.write(data)

    def _log(self, stream: Stream, lines: bytes) -> None:
        """Write lines; compress what was rotated away."""
        if not lines or stream.log is None:
            return
        if stream.log.write(lines):
            self._compress(stream.log.path)
        self._note(stream.log.path, stream.log.trouble)

    def _compress(self, path: str) -> None:
        """Compress a log's rotated files in a process of its own, one process a log."""
        if path in self._compressing.values():
            if path not in self._compress_again:
                self._compress_again.append(path)
            return
        own = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            return  # no more processes: the next rotation asks again, and the files are bounded in number
        if pid:
            self._compressing[pid] = path
            return
        try:
            # It holds copies of what we hold, so it may not outlive us, nor keep a container's streams from ending.
            libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != own:
                os._exit(0)
            self._let_go()
            os.nice(19)
            compress_rotated(path)
        finally:
            os._exit(0)

    def has_reaped(self, pid: int) -> bool:
        """Tell whether a child that has ended was one of ours; compress what was rotated while it ran."""
        path = self._compressing.pop(pid, None)
        if path is None:
            return False
        if path in self._compress_again:
            self._compress_again.remove(path)
            self._compress(path)
        return True

    def _drain_pipe(self, stream: Stream) -> None:
        """Take what is in a pipe now."""
        (left,) = struct.unpack("i", fcntl.ioctl(stream.descriptor, termios.FIONREAD, bytes(4)))
        while left > 0:
            data = os.read(stream.descriptor, READ_SIZE)
            if not data:
                break
            left -= len(data)
            self._take(stream, data)

    def _drain_terminal(self, stream: Stream) -> None:
        """Take what a terminal still has; the kernel brings it in its own time, and says EIO when that was all."""
        for _ in range(_MAX_TERMINAL_READS):
            readable, _, _ = select.select([stream.descriptor], [], [], _TERMINAL_WAIT_S)
            try:
                data = os.read(stream.descriptor, READ_SIZE) if readable else b""
            except OSError:
                data = b""
            if not data:
                return
            self._take(stream, data)

    def drain(self, stream: Stream) -> None:
        """Take what a stream has now: whoever still writes is not the container."""
        if stream.is_terminal:
            self._drain_terminal(stream)
        else:
            self._drain_pipe(stream)
