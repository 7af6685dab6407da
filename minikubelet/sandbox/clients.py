"""The clients of a pause: the daemon, and whoever of root's connects to its socket."""

from __future__ import annotations

import _socket as socket
import errno
import os
import select
import struct

from minikubelet.linux.lean import Callable, Final, suppress
from minikubelet.sandbox.loop import Loop
from minikubelet.sandbox.protocol import Decoder, Message, Outbox, ProtocolError

_MAX_BACKLOG: Final = 64 * 1024 * 1024


class Connection:
    """One client; writes are queued, and a client that does not read is cut off."""

    __slots__ = (
        "decoder",
        "outbox",
        "sock",
    )

    def __init__(self, sock: socket.SocketType) -> None:
        self.sock = sock
        self.decoder = Decoder()
        self.outbox = Outbox()


class Clients:
    """Owner of the socket and of all connections."""

    __slots__ = (
        "_connections",
        "_hello",
        "_loop",
        "_on_drop",
        "_serve",
        "_spare",
    )

    def __init__(
        self,
        loop: Loop,
        *,
        hello: Callable[[], tuple[Message, int]],
        serve: Callable[[Connection, Message, list[int]], None],
        on_drop: Callable[[Connection], None],
    ) -> None:
        """Create it without a client.

        Args:
            loop: Who tells of what clients send.
            hello: Returns what a new client is told first, and the descriptor that goes with it.
            serve: Carries out a request and answers it; the descriptors are its own.
            on_drop: Told of a client that is gone.
        """
        self._loop = loop
        self._hello = hello
        self._serve = serve
        self._on_drop = on_drop
        self._connections: dict[int, Connection] = {}
        # Given up for a moment when there are no descriptors left, to turn a client away instead of spinning.
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def have_news(self) -> bool:
        """Tell whether something has not been sent yet."""
        return any(len(one.outbox) for one in self._connections.values())

    def listen(self, run_dir: str, uid: str) -> None:
        """Open the socket that later daemons find us by; its path may be longer than a socket's may."""
        listener = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{directory}/{uid}.sock"
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            os.unlink(path)  # of a lost pause
            listener.bind(path)
        os.umask(mask)
        listener.listen(16)
        os.close(directory)
        self._loop.watch(listener.fileno(), self._on_connect, listener)

    def _on_connect(self, listener: socket.SocketType, events: int) -> None:
        """Accept a client; only root may."""
        with suppress(BlockingIOError, ConnectionAbortedError):
            try:
                number, _ = listener._accept()  # type: ignore[attr-defined]  # what the larger class' `accept` calls
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self._turn_away(listener)
                return
            connection = socket.SocketType(fileno=number)
            _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.geteuid():
                connection.close()
                return
            self.add(connection)

    def _turn_away(self, listener: socket.SocketType) -> None:
        """Close a waiting connection that there is no descriptor for; the client tries again later."""
        os.close(self._spare)
        with suppress(OSError):
            os.close(listener._accept()[0])  # type: ignore[attr-defined]  # as in `on_connect`
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def add(self, sock: socket.SocketType) -> Connection:
        """Serve a client, beginning with the whole state; the socket of one that is gone is closed afterwards."""
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections[sock.fileno()] = connection
        self._loop.watch(sock.fileno(), self._on_message, connection)
        tell = self._hello  # read first: a call through a slot is a search that is never shortened
        hello, namespace = tell()
        self.send(connection, hello, (namespace,))
        return connection

    def drop(self, connection: Connection) -> None:
        """Forget a client."""
        self._on_drop(connection)
        number = connection.sock.fileno()
        if number >= 0 and self._connections.pop(number, None) is not None:
            self._loop.unwatch(number)
            connection.sock.close()
            connection.decoder.close()
            connection.outbox.close()

    def send(self, connection: Connection, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Queue a message and send what the socket takes now."""
        if connection.sock.fileno() < 0:
            return
        if len(connection.outbox) > _MAX_BACKLOG:
            self.drop(connection)
            return
        connection.outbox.put(message, descriptors)
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        """Send as much of what waits as the socket takes."""
        events = select.EPOLLIN
        try:
            connection.outbox.send(connection.sock)
        except BlockingIOError:
            events |= select.EPOLLOUT
        except OSError:
            self.drop(connection)
            return
        self._loop.change(connection.sock.fileno(), events)

    def broadcast(self, message: Message) -> None:
        """Tell all clients."""
        for connection in list(self._connections.values()):
            self.send(connection, message)

    def _on_message(self, connection: Connection, events: int) -> None:
        """Read requests; garbage ends this connection only."""
        if events & select.EPOLLOUT:
            self._flush(connection)
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            messages = connection.decoder.read(connection.sock)
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            messages = None
        if messages is None:
            self.drop(connection)
            return
        serve = self._serve  # as above
        for message, descriptors in messages:
            serve(connection, message, descriptors)

    def close(self) -> None:
        """Drop all clients."""
        for connection in list(self._connections.values()):
            self.drop(connection)
        os.close(self._spare)
