"""The pause process: holds one pod's namespaces, starts and reaps its containers, writes their logs.

One thread, one loop over epoll; nothing here blocks but the short system calls of a fork, least of all for a new
process, which may hang on its way to its program (a dead network file system). The daemon may come and go:
whoever connects to the socket (root only) first gets the whole state, then every change. The state is also in the
journal, so a pause that dies leaves a true record behind.

The containers hang on this process, so nothing that goes wrong may end it: a handler that fails is said to the daemon
and the loop goes on. One lock a pod, held for life, keeps a second pause from working beside the first.
"""

from __future__ import annotations

import _socket as socket
import errno
import fcntl
import os
import select
import struct
import termios
import time

from minikubelet.linux import libc
from minikubelet.linux.faults import point
from minikubelet.linux.files import read_small, write_small
from minikubelet.linux.lean import Any, Callable, Final, NoReturn, replace, signal, suppress
from minikubelet.sandbox import spawn, userns
from minikubelet.sandbox.attach import Tee
from minikubelet.sandbox.family import kill_family, kill_group, kill_tree
from minikubelet.sandbox.forks import Forks
from minikubelet.sandbox.journal import Journal, Record
from minikubelet.sandbox.logs import READ_SIZE, LineStream, LogFile, compress_rotated
from minikubelet.sandbox.protocol import VERSION, Decoder, Message, Outbox, ProtocolError, encode, from_line
from minikubelet.sandbox.spec import ContainerSpec, SandboxSpec, container_from_json, sandbox_from_json
from minikubelet.sandbox.terminal import receive_terminal

_PIPE_SIZE: Final = 64 * 1024  # the kernel's default
_WIDE_PIPE_SIZE: Final = 1024 * 1024
_MAX_BACKLOG: Final = 64 * 1024 * 1024
# Whoever still holds an ended container's terminal open is not the container: it is not waited for.
_TERMINAL_WAIT_S: Final = 0.02
_MAX_TERMINAL_READS: Final = 64
# How long a start may take until the program runs, and how long a predecessor may take to be gone.
_START_LIMIT_S: Final = 60.0
_LOCK_LIMIT_S: Final = 10.0
# After a handler's failure the loop rests, so that one that fails again and again cannot take a whole processor.
_FAILURE_PAUSE_S: Final = 0.05
_RETRY_S: Final = 1.0
_FAREWELL_S: Final = 2.0


def boot_time() -> float:
    """Return seconds of the clock that all processes of this boot share and that counts suspended time too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stream:
    """One output pipe of a container and the log it goes to."""

    def __init__(self, descriptor: int, name: str, log: LogFile | None) -> None:
        self.descriptor = descriptor
        self.lines = LineStream(name)
        self.log = log
        self.wide = False
        self.tees: list[Tee] = []


class Start:
    """What the pause keeps of a container until its program runs."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.status = -1  # where the process reports until it executes its program
        self.console = -1  # where it sends its terminal
        self.reports = bytearray()
        self.deadline = boot_time() + _START_LIMIT_S

    def lines(self) -> list[Message]:
        """Return what was reported."""
        return [from_line(line) for line in bytes(self.reports).splitlines()]

    def failure(self) -> Message | None:
        """Return why the program could not be executed, None if it was, or if the process was killed before."""
        return next((one for one in self.lines() if "failed" in one), None)


class Running:
    """What the pause keeps of a container beside its record."""

    def __init__(self, spec: ContainerSpec) -> None:
        self.spec = spec
        self.streams: list[Stream] = []
        self.log: LogFile | None = None
        self.start: Start | None = None  # until its program runs
        self.pid = 0
        self.oom_before = 0
        # What a container with `stdin: true` reads is written here; with a terminal, this is it.
        self.stdin = -1


class Execution:
    """One command that was started inside a running container."""

    def __init__(self, connection: Connection, number: int, limit: int, *, status: int, output: int) -> None:
        self.connection = connection
        self.number = number
        self.limit = limit
        self.status = status  # where the process reports why it could not become the command
        self.output = output  # what it prints; -1 with streams of the client's own
        self.data = bytearray()
        self.deadline: float | None = None
        self.timed_out = False
        self.container = ""
        self.streams = False  # somebody sits at its other end


class Connection:
    """One client; writes are queued, and a client that does not read is cut off."""

    def __init__(self, sock: socket.SocketType) -> None:
        self.sock = sock
        self.decoder = Decoder()
        self.outbox = Outbox()


def has_news(connection: Connection) -> bool:
    """Tell whether a client has not been sent everything yet."""
    return len(connection.outbox) > 0


class Pause:
    """The whole state of one pause process."""

    def __init__(self, spec: SandboxSpec, spec_json: Message, first: socket.SocketType) -> None:
        self.spec = spec
        self.spec_json = spec_json
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.connections: dict[int, Connection] = {}
        self.sandbox: Record = {}
        self.containers: dict[str, Record] = {}
        self.running: dict[str, Running] = {}
        self.executions: dict[int, Execution] = {}
        self.compressing: dict[int, str] = {}
        self.compress_again: set[str] = set()
        self.journal = Journal(os.path.join(spec.pod_dir, "journal.jsonl"))
        self.scratch = os.path.join(spec.run_dir, "rootfs")
        self.forks = Forks()
        self.netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.user_namespace = -1
        self.first = first
        self.stop_by: float | None = None  # told to stop: who has not read the answers by then misses them
        self.mend_at = 0.0
        self.troubles: dict[str, str] = {}
        # Given up for a moment when there are no descriptors left, to turn a client away instead of spinning.
        self.spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    # Set-up

    def start(self) -> None:
        """Take up work: signals, socket, sandbox record; tell the daemon that made us."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # the handlers are there since the fork server
        spawn.look_up()
        self.watch(reading, self.on_signal)
        listener = self.listen()
        self.watch(listener.fileno(), lambda _: self.on_connect(listener))
        self.sandbox = {
            "id": self.spec.id,
            "attempt": self.spec.attempt,
            "created_at": time.time(),
            "pid": int(os.readlink("/proc/self")),
            "start_ticks": start_ticks("self"),
            "boot_id": boot_id(),
            "host_network": self.spec.host_network,
            "spec": self.spec_json,
        }
        point("pause.journal")
        self.journal.append({"do": "sandbox", "id": self.spec.id, "state": self.sandbox})
        if is_hung_up(self.first):
            # The daemon died before it could know of us, and the next one may have read the journal already.
            self.journal.append({"do": "remove_sandbox", "id": self.spec.id})
            self.withdraw()
            os._exit(1)
        self.add_connection(self.first)

    def listen(self) -> socket.SocketType:
        """Open the socket that later daemons find us by; its path may be longer than a socket's may."""
        listener = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        directory = os.open(self.spec.run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{directory}/{self.spec.uid}.sock"
        with suppress(FileNotFoundError):
            os.unlink(path)
        mask = os.umask(0o177)
        point("pause.socket")
        listener.bind(path)
        os.umask(mask)
        listener.listen(16)
        os.close(directory)
        return listener

    def watch(self, descriptor: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """Call `handler` when something happens on a descriptor."""
        self.handlers[descriptor] = handler
        self.epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor; the caller closes it."""
        if self.handlers.pop(descriptor, None) is not None:
            with suppress(OSError):
                self.epoll.unregister(descriptor)

    def loop(self) -> None:
        """Work until told to stop."""
        while self.stop_by is None or (boot_time() < self.stop_by and any(map(has_news, self.connections.values()))):
            for descriptor, events in self.epoll.poll(self.timeout()):
                self.guard(self.handle, descriptor, events)
            self.guard(self.check_deadlines)
            if (
                self.troubles or self.journal.is_behind or self.journal.wants_compaction
            ) and boot_time() >= self.mend_at:
                self.mend_at = boot_time() + _RETRY_S
                self.guard(self.mend)

    def handle(self, descriptor: int, events: int) -> None:
        """Call a descriptor's handler, if it still has one."""
        handler = self.handlers.get(descriptor)
        if handler is not None:
            handler(events)

    def guard(self, step: Callable[..., None], *arguments: int) -> None:
        """Do something; a failure is said and costs no container."""
        try:
            step(*arguments)
        except Exception as error:
            time.sleep(_FAILURE_PAUSE_S)
            with suppress(OSError):
                self.broadcast({"event": "failure", "message": cause_of(error)})

    def note(self, what: str, text: str) -> None:
        """Tell the daemon when something begins to be wrong, and ("") when it no longer is."""
        if self.troubles.get(what, "") == text:
            return
        self.troubles[what] = text
        if not text:
            del self.troubles[what]
        self.broadcast({"event": "trouble", "message": self.all_troubles()})

    def all_troubles(self) -> str:
        """Return everything that is wrong in one line."""
        return "; ".join(self.troubles.values())

    def mend(self) -> None:
        """Try again what failed for want of room."""
        if self.journal.is_behind or self.journal.wants_compaction:
            self.mend_journal()
        for running in list(self.running.values()):
            if running.log is not None and running.log.trouble:
                running.log.write(b"")
                self.note(running.log.path, running.log.trouble)

    def timeout(self) -> float:
        """Return how long to sleep, in seconds; -1 for as long as nothing happens."""
        due = [max(0.0, one.deadline - boot_time()) for one in self.executions.values() if one.deadline is not None]
        due += [max(0.0, one.start.deadline - boot_time()) for one in self.running.values() if one.start is not None]
        if self.journal.is_behind or self.troubles:
            due.append(_RETRY_S)
        if self.stop_by is not None:
            due.append(max(0.0, self.stop_by - boot_time()))
        return min(due, default=-1)

    def mend_journal(self) -> None:
        """Write what had no room, or the whole journal anew when it has grown."""
        if not self.journal.flush() or self.journal.wants_compaction:
            self.journal.rewrite(self.sandbox, self.containers)
        self.note("journal", "no room for the journal: exits are kept in memory" if self.journal.is_behind else "")

    # Connections

    def on_connect(self, listener: socket.SocketType) -> None:
        """Accept a client; only root may."""
        with suppress(BlockingIOError, ConnectionAbortedError):
            try:
                number, _ = listener._accept()  # type: ignore[attr-defined]  # what the larger class' `accept` calls
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self.turn_away(listener)
                return
            connection = socket.SocketType(fileno=number)
            _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.geteuid():
                connection.close()
                return
            self.add_connection(connection)

    def turn_away(self, listener: socket.SocketType) -> None:
        """Close a waiting connection that there is no descriptor for; the client tries again later."""
        os.close(self.spare)
        with suppress(OSError):
            os.close(listener._accept()[0])  # type: ignore[attr-defined]  # as in `on_connect`
        self.spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def add_connection(self, sock: socket.SocketType) -> None:
        """Serve a client, beginning with the whole state."""
        sock.setblocking(False)
        connection = Connection(sock)
        self.connections[sock.fileno()] = connection
        self.watch(sock.fileno(), lambda events: self.on_message(connection, events))
        hello: Message = {
            "event": "hello",
            "version": VERSION,
            "sandbox": self.sandbox,
            "containers": list(self.containers.values()),
            "trouble": self.all_troubles(),
        }
        self.send(connection, hello, (self.netns,))

    def drop(self, connection: Connection) -> None:
        """Forget a client; its executions go on and their results go nowhere, but for those that it talked to."""
        for pid, execution in self.executions.items():
            if execution.connection is connection and execution.streams:
                kill_tree(pid)
        number = connection.sock.fileno()
        if number >= 0 and self.connections.pop(number, None) is not None:
            self.unwatch(number)
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
        self.flush(connection)

    def flush(self, connection: Connection) -> None:
        """Send as much of what waits as the socket takes."""
        events = select.EPOLLIN
        try:
            connection.outbox.send(connection.sock)
        except BlockingIOError:
            events |= select.EPOLLOUT
        except OSError:
            self.drop(connection)
            return
        self.epoll.modify(connection.sock.fileno(), events)

    def broadcast(self, message: Message) -> None:
        """Tell all clients."""
        for connection in list(self.connections.values()):
            self.send(connection, message)

    def on_message(self, connection: Connection, events: int) -> None:
        """Read requests; garbage ends this connection only."""
        if events & select.EPOLLOUT:
            self.flush(connection)
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
        for message, descriptors in messages:
            self.on_request(connection, message, descriptors)

    def on_request(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Carry out one request and answer it."""
        number = message.get("id", 0)
        try:
            handler = getattr(self, f"do_{message['do']}")
            result = handler(connection, message, descriptors)
        except (OSError, KeyError, ValueError, TypeError, AttributeError, LookupError) as error:
            self.send(connection, {"re": number, "error": cause_of(error)})
        else:
            if result is not None:
                self.send(connection, {"re": number, **result})
        finally:
            for descriptor in descriptors:
                with suppress(OSError):
                    os.close(descriptor)

    # Requests

    def do_ping(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Answer at once: the daemon tells a hung pause by silence."""
        return {}

    def do_rewrite(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Write the journal anew: the daemon found it damaged."""
        self.journal.rewrite(self.sandbox, self.containers)
        return {}

    def do_start(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Start one container; answered with its record when its program runs or could not be executed."""
        self.start_container(container_from_json(message["spec"]), Start(connection, message.get("id", 0)))

    def do_signal(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Send a signal to a container's main process, which cannot be somebody else: we are its parent."""
        running = self.running.get(message["container"])
        if running is not None:
            with suppress(ProcessLookupError):
                os.kill(running.pid, message["signal"])
        return {}

    def do_kill(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Kill a container with all its processes."""
        running = self.running.get(message["container"])
        if running is not None:
            kill_tree(running.pid)
            self.kill_rest(running)
        return {}

    def do_remove(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Forget an instance that has exited."""
        identity = message["container"]
        record = self.containers.get(identity)
        if record is not None and record["state"] == "exited":
            del self.containers[identity]
            self.journal.append({"do": "remove", "id": identity})
        return {}

    def do_exec(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Run a command inside a running container; answered when it has ended."""
        running = self.find_running(message["container"])
        self.start_execution(connection, message, running, descriptors)

    def find_running(self, identity: str) -> Running:
        """Return a container whose program runs. Raises LookupError."""
        running = self.running.get(identity)
        if running is None or running.start is not None:
            raise LookupError(f"container {identity} is not running")
        return running

    def do_cancel(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Kill a command that this client started; its own answer comes when it has ended."""
        for pid, execution in self.executions.items():
            if execution.connection is connection and execution.number == message["exec"]:
                kill_tree(pid)
        return {}

    def do_attach(self, connection: Connection, message: Message, descriptors: list[int]) -> Message | None:
        """Copy a container's output to the given descriptors from now on; send what its input is written to.

        With `stdinOnce` the input is handed over for good: it ends when whoever got it closes it or dies.
        """
        running = self.find_running(message["container"])
        for name, descriptor in zip(message["streams"], descriptors, strict=False):
            for stream in running.streams:
                if stream.lines.name == name:
                    self.copy_to(stream, os.dup(descriptor))
        if not message["stdin"] or running.stdin < 0:
            return {}
        self.send(connection, {"re": message.get("id", 0)}, (running.stdin,))
        if running.spec.stdin_once and not running.spec.tty:
            os.close(running.stdin)
            running.stdin = -1
        return None

    def copy_to(self, stream: Stream, descriptor: int) -> None:
        """Copy what a container prints to a pipe until its reader goes, be it that nothing is printed ever again."""
        tee = Tee(descriptor)
        stream.tees.append(tee)
        self.watch(descriptor, lambda _: self.end_copy(stream, tee), 0)  # errors are told unasked

    def end_copy(self, stream: Stream, tee: Tee) -> None:
        """Forget a reader."""
        self.unwatch(tee.descriptor)
        tee.close()
        stream.tees.remove(tee)

    def do_socket(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Send a new socket of the pod's network namespace."""
        made = socket.SocketType(message["family"], message["type"])
        self.send(connection, {"re": message["id"]}, (made.fileno(),))
        made.close()

    def do_stop(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """End everything and exit; the answer is sent first."""
        for running in self.running.values():
            kill_tree(running.pid)
        deadline = boot_time() + 5.0
        while self.running and boot_time() < deadline:
            self.reap()
            if self.running:
                select.select([], [], [], 0.002)  # the kernel is tearing the namespaces down
        self.withdraw()
        self.journal.sync()
        self.stop_by = boot_time() + _FAREWELL_S
        return {}

    def withdraw(self) -> None:
        """Take away the names under which we can be found."""
        if self.spec.netns_path:
            unpin(self.spec.netns_path)
        with suppress(OSError):
            os.unlink(os.path.join(self.spec.run_dir, f"{self.spec.uid}.sock"))

    # Containers

    def start_container(self, spec: ContainerSpec, start: Start) -> None:
        """Fork; what the new process reports says whether its program runs. Raises OSError with nothing left."""
        record: Record = {
            "id": spec.id,
            "name": spec.name,
            "restart_count": spec.restart_count,
            "spec_hash": spec.spec_hash,
            "sandbox_id": self.spec.id,
            "user": {"uid": spec.uid, "gid": spec.gid, "groups": spec.groups},
            "created_at": time.time(),
            "created_mono": boot_time(),
            "state": "created",
            "pid": 0,
        }
        running = Running(spec)
        running.oom_before = oom_kills(spec.memory_cgroup)
        running.log = LogFile(spec.log_path, max_size=spec.log_max_size, max_files=spec.log_max_files)
        # Noted before it is made: if we die in between, the next daemon counts it and does not use its log again.
        self.containers[spec.id] = record
        self.journal.append({"do": "container", "id": spec.id, "state": record})
        try:
            point("container.fork")
            self.fork_container(spec, running, start)
        except OSError:
            self.discard(running)
            del self.containers[spec.id]
            self.journal.append({"do": "remove", "id": spec.id})
            raise
        running.start = start
        self.running[spec.id] = running
        self.watch(start.status, lambda _: self.on_report(running, start))
        # Told before anything else is answered, so that nobody starts a second one.
        self.broadcast({"event": "container", "container": record})

    def fork_container(self, spec: ContainerSpec, running: Running, start: Start) -> None:
        """Fork the container's process. Raises OSError with nothing left over but the streams that were opened."""
        ours: set[int] = set()
        kept: set[int] = set()
        try:
            start.status, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            kept.add(start.status)
            ours.add(writing)
            streams = self.open_streams(running, ours)
            far = -1
            if spec.tty:
                near_socket, far_socket = socket.socketpair()
                start.console, far = near_socket.detach(), far_socket.detach()
                kept.add(start.console)
                ours.add(far)
            shares = self.spec.share_pid or self.spec.host_pid
            running.pid, groups = self.forks.fork(None if shares else -1, spec.cgroup_dirs)
            if running.pid == 0:
                self.become_container(spec, groups, writing, streams, far)
        except OSError:
            for descriptor in kept:
                os.close(descriptor)
            raise
        finally:
            for descriptor in ours:
                os.close(descriptor)

    def on_report(self, running: Running, start: Start) -> None:
        """Take what a new process reports; the end of it says that its program runs, or that it is about to end."""
        try:
            data = os.read(start.status, 65536)
        except BlockingIOError:
            return
        if data:
            start.reports += data
            return
        self.unwatch(start.status)
        if start.failure() is None:
            self.complete_start(running, start)

    def complete_start(self, running: Running, start: Start) -> None:
        """Note that a container's program runs."""
        record = self.containers[running.spec.id]
        record["pid"] = next((one["pid"] for one in start.lines() if "pid" in one), running.pid)
        record["start_ticks"] = start_ticks(str(record["pid"]))
        record.update(state="running", started_at=time.time(), started_mono=boot_time())
        if start.console >= 0:
            self.take_terminal(running, start.console)
        self.end_start(running, start)
        for stream in running.streams:
            self.watch_output(stream, running)
        self.tell_start(record, start)

    def fail_start(self, running: Running, start: Start, failure: Message) -> None:
        """Note that a container's program was never executed: an exit of its own kind."""
        record = self.containers[running.spec.id]
        del self.running[running.spec.id]
        self.end_start(running, start)
        with suppress(OSError):
            self.close_streams(running)
        self.finish(record, exit_of(failure))
        self.tell_start(record, start)

    def end_start(self, running: Running, start: Start) -> None:
        """Forget what was needed until here."""
        running.start = None
        self.unwatch(start.status)
        os.close(start.status)
        if start.console >= 0:
            os.close(start.console)

    def tell_start(self, record: Record, start: Start) -> None:
        """Tell everybody what came of a start, then who asked for it."""
        self.journal.append({"do": "container", "id": record["id"], "state": record})
        self.broadcast({"event": "container", "container": record})
        self.send(start.connection, {"re": start.number, "container": record})

    def settle_start(self, running: Running, start: Start) -> None:
        """Find out what came of a start whose process has ended."""
        with suppress(BlockingIOError):
            while data := os.read(start.status, 65536):
                start.reports += data
        failure = start.failure()
        if failure is None:
            self.complete_start(running, start)
        else:
            self.fail_start(running, start, failure)

    def open_streams(self, running: Running, ours: set[int]) -> tuple[int, int, int]:
        """Make the standard streams: pipes to the log, and for input /dev/null or a pipe; a terminal comes later.

        What the container gets is put into `ours` as it is made, for the caller to close.
        """
        spec = running.spec
        if spec.stdin and not spec.tty:
            stdin, running.stdin = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(running.stdin, False)
        else:
            stdin = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        ours.add(stdin)
        if spec.tty:
            return stdin, stdin, stdin
        ends: list[int] = []
        for name in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            ours.add(writing)
            running.streams.append(Stream(reading, name, running.log))
            os.set_blocking(reading, False)
            ends.append(writing)
        return stdin, ends[0], ends[1]

    def take_terminal(self, running: Running, console: int) -> None:
        """Take the controlling side of the terminal that a new container made: its output and input."""
        terminal = receive_terminal(console)
        if terminal >= 0:
            running.streams.append(Stream(terminal, "stdout", running.log))
            with suppress(OSError):
                running.stdin = os.dup(terminal)  # also where nothing is read from it: its size is set through it

    def discard(self, running: Running) -> None:
        """Close what was opened for a container that could not be made."""
        for stream in running.streams:
            os.close(stream.descriptor)
        running.streams.clear()
        self.close_input(running)
        if running.log is not None:
            running.log.close()

    def close_input(self, running: Running) -> None:
        """End what a container reads."""
        if running.stdin >= 0:
            os.close(running.stdin)
            running.stdin = -1

    def become_container(
        self, spec: ContainerSpec, groups: list[str], status: int, streams: tuple[int, int, int], console: int
    ) -> NoReturn:
        """Run in the child: connect the streams, then go through the steps to exec."""
        try:
            signal.set_wakeup_fd(-1)
            reporter = spawn.Reporter(status)
            reporter.send({"pid": int(os.readlink("/proc/self"))})
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
            spawn.run_container(
                spec,
                reporter,
                groups=groups,
                scratch=self.scratch,
                shm_dir=self.spec.shm_dir,
                pause_pid=self.sandbox["pid"],
                user_namespace=self.user_namespace,
                id_map=self.spec.user_namespace,
                console=console,
            )
        finally:
            os._exit(128)

    def watch_output(self, stream: Stream, running: Running) -> None:
        """Read a container's output whenever there is some."""
        self.watch(stream.descriptor, lambda _: self.on_output(stream, running))

    def on_output(self, stream: Stream, running: Running) -> None:
        """Move what a container printed to its log: one read a turn, so that no container starves another."""
        try:
            data = os.read(stream.descriptor, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end_stream(stream, running)
            return
        if not stream.wide and len(data) >= _PIPE_SIZE:
            # A program that fills its pipe gets a wider one; most never do, and kernel memory for them stays small.
            stream.wide = True
            with suppress(OSError):
                fcntl.fcntl(stream.descriptor, fcntl.F_SETPIPE_SZ, _WIDE_PIPE_SIZE)
        self.take(stream, data)

    def take(self, stream: Stream, data: bytes) -> None:
        """Log what was read, and copy it to those who are attached."""
        self.log(stream, stream.lines.feed(data))
        for tee in stream.tees:
            tee.write(data)

    def log(self, stream: Stream, lines: bytes) -> None:
        """Write lines; compress what was rotated away."""
        if not lines or stream.log is None:
            return
        if stream.log.write(lines):
            self.compress(stream.log.path)
        if stream.log.trouble or self.troubles:
            self.note(stream.log.path, stream.log.trouble)

    def compress(self, path: str) -> None:
        """Compress a log's rotated files in a process of its own, one process a log."""
        if path in self.compressing.values():
            self.compress_again.add(path)
            return
        own = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            return  # no more processes: the next rotation asks again, and the files are bounded in number
        if pid:
            self.compressing[pid] = path
            return
        try:
            # It holds copies of what we hold, so it may not outlive us, nor keep a container's streams from ending.
            libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != own:
                os._exit(0)
            for running in self.running.values():
                self.close_input(running)
                for tee in (tee for stream in running.streams for tee in stream.tees):
                    tee.close()
            os.nice(19)
            compress_rotated(path)
        finally:
            os._exit(0)

    def end_compression(self, path: str) -> None:
        """Compress what was rotated while the last compression ran."""
        if path in self.compress_again:
            self.compress_again.discard(path)
            self.compress(path)

    def end_stream(self, stream: Stream, running: Running) -> None:
        """Write the unfinished line and close the pipe."""
        self.unwatch(stream.descriptor)
        self.log(stream, stream.lines.finish())
        for tee in list(stream.tees):
            self.end_copy(stream, tee)
        os.close(stream.descriptor)
        running.streams.remove(stream)

    def close_streams(self, running: Running) -> None:
        """Take what is in the pipes now, then close them and the log; whoever still writes is not the container."""
        for stream in list(running.streams):
            if running.spec.tty:
                self.drain_terminal(stream)
            else:
                self.drain_pipe(stream)
            self.end_stream(stream, running)
        self.close_input(running)
        if running.log is not None:
            running.log.close()
            self.note(running.log.path, "")

    def drain_pipe(self, stream: Stream) -> None:
        """Take what is in a pipe now."""
        (left,) = struct.unpack("i", fcntl.ioctl(stream.descriptor, termios.FIONREAD, bytes(4)))
        while left > 0:
            data = os.read(stream.descriptor, READ_SIZE)
            if not data:
                break
            left -= len(data)
            self.take(stream, data)

    def drain_terminal(self, stream: Stream) -> None:
        """Take what a terminal still has; the kernel brings it in its own time, and says EIO when that was all."""
        for _ in range(_MAX_TERMINAL_READS):
            readable, _, _ = select.select([stream.descriptor], [], [], _TERMINAL_WAIT_S)
            try:
                data = os.read(stream.descriptor, READ_SIZE) if readable else b""
            except OSError:
                data = b""
            if not data:
                return
            self.take(stream, data)

    # Ends

    def on_signal(self, events: int) -> None:
        """Reap whatever has ended; the pipe only says that something has."""
        for descriptor, handler in self.handlers.items():
            if handler == self.on_signal:
                with suppress(BlockingIOError):
                    os.read(descriptor, 4096)
                break
        self.reap()

    def reap(self) -> None:
        """Collect every child that has ended, orphans of containers included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            execution = self.executions.pop(pid, None)
            if execution is not None:
                self.end_execution(execution, status)
                continue
            rotated = self.compressing.pop(pid, None)
            if rotated is not None:
                self.end_compression(rotated)
                continue
            for identity, running in self.running.items():
                if running.pid == pid:
                    if running.start is not None:
                        self.settle_start(running, running.start)
                    if identity in self.running:
                        self.end_container(identity, running, status)
                    break

    def end_container(self, identity: str, running: Running, status: int) -> None:
        """Record an exit and tell it; everything the container printed is in its log by then."""
        ended: Record = {"finished_at": time.time(), "finished_mono": boot_time()}
        del self.running[identity]
        self.kill_rest(running)
        with suppress(OSError):
            self.close_streams(running)
        code = os.waitstatus_to_exitcode(status)
        ended["exit_code"] = code if code >= 0 else 128 - code
        ended["signal"] = 0 if code >= 0 else -code
        # Whichever process was killed, and however the main one ended then: containerd's event says no more either.
        oom = oom_kills(running.spec.memory_cgroup) > running.oom_before
        ended["reason"] = "OOMKilled" if oom else "Completed" if code == 0 else "Error"
        ended["message"] = ""
        if oom:
            ended["memory_peak"] = memory_peak(running.spec.memory_cgroup)
        record = self.containers[identity]
        self.finish(record, ended)
        self.journal.append({"do": "container", "id": identity, "state": {"state": "exited", "exit": ended}})
        self.broadcast({"event": "container", "container": record})
        self.journal.sync()

    def kill_rest(self, running: Running) -> None:
        """Kill what a container's main process leaves where the kernel does not: in a PID namespace of others too."""
        if self.spec.share_pid or self.spec.host_pid:
            kill_group(running.spec.cgroup_dirs)

    def finish(self, record: Record, ended: Record) -> None:
        """Note an exit in a container's record."""
        record.update(state="exited", exit=ended)

    # Executions

    def start_execution(
        self, connection: Connection, message: Message, running: Running, descriptors: list[int]
    ) -> None:
        """Fork into a container's namespaces and run a command.

        Given descriptors become its standard streams; with `console` the only one is where its terminal is sent.
        Nothing here waits for the new process: it may hang on its way to the command (a dead network file system), and
        the pod with it. What it reports is read when it has ended.
        """
        spec = running.spec
        if message.get("env"):
            spec = replace_spec(spec, {"env": [*spec.env, *message["env"]]})
        point("exec.fork")
        console = descriptors[0] if message.get("console") else -1
        given = [] if console >= 0 else descriptors
        timeout = message.get("timeout")
        deadline = boot_time() + timeout if timeout is not None else None
        adopts = timeout is not None
        pid, status, output = self.fork_execution(spec, message["command"], running.pid, given, console, adopts)
        execution = Execution(connection, message["id"], int(message.get("limit", 10240)), status=status, output=output)
        execution.streams = bool(descriptors)
        execution.deadline = deadline
        self.executions[pid] = execution
        if output >= 0:
            self.watch(output, lambda _: self.on_execution_output(execution))

    def fork_execution(
        self,
        spec: ContainerSpec,
        command: list[str],
        target: int,
        descriptors: list[int],
        console: int,
        adopts: bool,
    ) -> tuple[int, int, int]:
        """Fork the command's process; return its pid, where it reports, and its output (-1: given descriptors)."""
        ours: list[int] = []
        kept: list[int] = []
        try:
            reading, status = os.pipe2(os.O_CLOEXEC)
            kept.append(reading)
            ours.append(status)
            output = -1
            if descriptors:
                streams = [os.dup(one) for one in (descriptors * 3)[:3]]
                ours.extend(streams)
            elif console >= 0:
                null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
                ours.append(null)
                streams = [null, null, null]
            else:
                output, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                kept.append(output)
                ours.append(writing)
                os.set_blocking(writing, True)
                null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                ours.append(null)
                streams = [null, writing, writing]
            pidfd = os.pidfd_open(target)
            ours.append(pidfd)
            joins = None if self.spec.share_pid or self.spec.host_pid else pidfd
            pid, groups = self.forks.fork(joins, spec.cgroup_dirs)
            if pid == 0:
                self.become_execution(spec, groups, command, status, streams, pidfd, console, adopts)
        except OSError:
            for descriptor in kept:
                os.close(descriptor)
            raise
        finally:
            for descriptor in ours:
                os.close(descriptor)
        return pid, reading, output

    def become_execution(
        self,
        spec: ContainerSpec,
        groups: list[str],
        command: list[str],
        status: int,
        streams: list[int],
        pidfd: int,
        console: int,
        adopts: bool,
    ) -> NoReturn:
        """Run in the child: connect the streams, then enter the container and execute the command."""
        try:
            signal.set_wakeup_fd(-1)
            reporter = spawn.Reporter(status)
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
            spawn.run_exec(
                spec,
                command,
                reporter,
                groups=groups,
                pidfd=pidfd,
                pause_pid=self.sandbox["pid"],
                user_namespace=self.user_namespace,
                id_map=self.spec.user_namespace,
                console=console,
                adopts=adopts,
            )
        finally:
            os._exit(128)

    def on_execution_output(self, execution: Execution) -> None:
        """Keep output up to the limit, drop the rest."""
        try:
            data = os.read(execution.output, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            execution.data += data[: max(0, execution.limit - len(execution.data))]
            return
        self.close_output(execution)

    def close_output(self, execution: Execution) -> None:
        if execution.output >= 0:
            self.unwatch(execution.output)
            os.close(execution.output)
            execution.output = -1

    def close_execution(self, execution: Execution) -> None:
        self.close_output(execution)
        os.close(execution.status)

    def end_execution(self, execution: Execution, status: int) -> None:
        """Answer the request: the command has ended, whoever still holds its output open."""
        while execution.output >= 0 and len(execution.data) < execution.limit:
            try:
                data = os.read(execution.output, 65536)
            except OSError:
                break
            if not data:
                break
            execution.data += data[: execution.limit - len(execution.data)]
        report = os.read(execution.status, 65536)  # at its end, but for what the process wrote
        self.close_execution(execution)
        if report:
            cause = from_line(report.splitlines()[-1])["message"]
            error = f"OCI runtime exec failed: exec failed: unable to start container process: {cause}: unknown"
            self.send(execution.connection, {"re": execution.number, "error": error})
            return
        code = os.waitstatus_to_exitcode(status)
        self.answer(execution, code if code >= 0 else 128 - code)

    def answer(self, execution: Execution, code: int) -> None:
        """Send how an execution ended; its output goes as text that keeps every byte."""
        self.send(
            execution.connection,
            {
                "re": execution.number,
                "exit_code": code,
                "output": execution.data.decode("latin-1"),
                "timed_out": execution.timed_out,
            },
        )

    def check_deadlines(self) -> None:
        """Cut off executions and starts whose time is over; the answer does not wait for their death."""
        now = boot_time()
        for running in list(self.running.values()):
            start = running.start
            if start is not None and start.deadline <= now:
                kill_tree(running.pid)
                self.kill_rest(running)
                late = {"failed": "start", "message": f"not started within {_START_LIMIT_S:.0f} s"}
                self.fail_start(running, start, start.failure() or late)
        for pid, execution in list(self.executions.items()):
            if execution.deadline is not None and execution.deadline <= now:
                execution.timed_out = True
                del self.executions[pid]
                kill_family(pid)
                self.close_execution(execution)
                self.answer(execution, 137)


def run(spec_json: Message, first: socket.SocketType, groups: list[str]) -> NoReturn:
    """Become the pause process of one pod; never returns. Failures of the set-up go to `first` as an error message.

    Args:
        spec_json: What to be.
        first: The connection to the daemon that asked for it.
        groups: The control groups to join.
    """
    try:
        spec = sandbox_from_json(spec_json)
        take_lock(spec.pod_dir)
        point("pause.namespaces")
        spawn.join_cgroups(groups)
        user_namespace = make_namespaces(spec)
        pause = Pause(spec, spec_json, first)
        pause.user_namespace = user_namespace
        pause.start()
    except OSError as error:
        with suppress(OSError):
            first.sendall(encode({"event": "failed", "message": cause_of(error)}))
        os._exit(1)
    try:
        pause.loop()
    finally:
        os._exit(0)


def cause_of(error: BaseException) -> str:
    """Return what an error says to a user: it becomes part of an event."""
    if not isinstance(error, OSError) or not error.strerror:
        return f"request not understood: {error}"
    if error.errno == errno.EAGAIN:
        return f"cannot fork: {error.strerror} (the pids limit of the pod or of the machine is reached)"
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def take_lock(pod_dir: str) -> None:
    """Hold the pod's lock until this process ends; children hold it too, but only until they execute a program.

    Raises:
        OSError: Another pause of the pod is still there after a while.
    """
    descriptor = os.open(os.path.join(pod_dir, "pause.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = boot_time() + _LOCK_LIMIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if boot_time() > deadline:
                raise OSError(errno.EBUSY, "another pause process of this pod still runs") from None
            time.sleep(0.01)
        else:
            return


def is_hung_up(connection: socket.SocketType) -> bool:
    """Tell whether the other side of a connection is gone."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return any(events & (select.POLLRDHUP | select.POLLHUP) for _, events in poll.poll(0))


def make_namespaces(spec: SandboxSpec) -> int:
    """Make and prepare the pod's namespaces; the PID namespace, if shared, was made before the fork.

    Returns:
        A descriptor of the pod's user namespace, -1 without one. The pause itself never enters it.
    """
    spawn.set_oom_score(spec.oom_score_adj)
    flags = 0
    if not spec.host_network:
        flags |= libc.CLONE_NEWNET | libc.CLONE_NEWUTS
    if not spec.host_ipc:
        flags |= libc.CLONE_NEWIPC
    user_namespace = -1
    if spec.user_namespace is not None:
        user_namespace = userns.make(spec.user_namespace, flags)
    elif flags:
        libc.unshare(flags)
    if not spec.host_network:
        socket.sethostname(spec.hostname)
        bring_up_loopback()
        if spec.netns_path:
            pin(spec.netns_path)
    for name, value in spec.sysctls.items():
        write_small("/proc/sys/" + (name if "/" in name else name.replace(".", "/")), value.encode())
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    return user_namespace


def bring_up_loopback() -> None:
    """Set `lo` up; see netdevice(7)."""
    control = socket.SocketType(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    fcntl.ioctl(control.fileno(), 0x8914, struct.pack("16sH22x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, UP and RUNNING
    control.close()


def pin(path: str) -> None:
    """Give the network namespace a name that `ip netns` shows."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    unpin(path)  # what a lost pause of this pod left there
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    libc.mount("/proc/self/ns/net", path, None, libc.MS_BIND)


def unpin(path: str) -> None:
    """Take the name away."""
    with suppress(OSError):
        while True:  # until the kernel says that nothing is mounted there
            libc.umount(path, libc.MNT_DETACH)
    with suppress(OSError):
        os.unlink(path)


def exit_of(failure: Message) -> Record:
    """Return the exit record of a program that never ran, as the usual container runtime words it."""
    now = time.time()
    cause = failure["message"] if failure["failed"] == "exec" else f"{failure['failed']}: {failure['message']}"
    return {
        "exit_code": 128,
        "signal": 0,
        "reason": "StartError",
        "message": f"OCI runtime create failed: unable to start container process: {cause}: unknown",
        "finished_at": now,
        "finished_mono": boot_time(),
    }


def replace_spec(spec: ContainerSpec, changes: dict[str, Any]) -> ContainerSpec:
    """Return the spec with some fields changed."""
    return replace(spec, **changes)


def oom_kills(cgroup: str) -> int:
    """Return how often the kernel has killed for want of memory in a group (version 1 or 2); 0 without one."""
    if not cgroup:
        return 0
    for name in ("memory.events", "memory.oom_control"):
        with suppress(OSError):
            for line in read_small(f"{cgroup}/{name}").splitlines():
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    return 0


def memory_peak(cgroup: str) -> int:
    """Return the most bytes that a group (version 2 or 1) has used at once; 0 where the kernel does not say."""
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        with suppress(OSError, ValueError):
            return int(read_small(f"{cgroup}/{name}"))
    return 0


def start_ticks(pid: str) -> int:
    """Return when a process started, in clock ticks since boot: with the pid it names one process for ever."""
    try:
        return int(read_small(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return 0
        raise


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return read_small("/proc/sys/kernel/random/boot_id").decode().strip()
