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
import time

from minikubelet.linux.faults import point
from minikubelet.linux.kernel import NEVER, boot_id, boot_time, start_ticks
from minikubelet.linux.lean import Callable, Final, NoReturn, signal, suppress
from minikubelet.sandbox import spawn
from minikubelet.sandbox.clients import Clients, Connection
from minikubelet.sandbox.containers import Containers
from minikubelet.sandbox.executions import Executions
from minikubelet.sandbox.family import kill_tree
from minikubelet.sandbox.forks import Forks
from minikubelet.sandbox.instances import Start
from minikubelet.sandbox.journal import Journal, Record
from minikubelet.sandbox.loop import Loop
from minikubelet.sandbox.namespaces import make_namespaces, unpin
from minikubelet.sandbox.protocol import VERSION, Message, encode
from minikubelet.sandbox.spec import SandboxSpec, container_from_json, sandbox_from_json

# How long a predecessor may take to be gone.
_LOCK_LIMIT_S: Final = 10.0
# After a handler's failure the loop rests, so that one that fails again and again cannot take a whole processor.
_FAILURE_PAUSE_S: Final = 0.05
_RETRY_S: Final = 1.0
_FAREWELL_S: Final = 2.0


class Pause:
    """One pause process: what happens on the loop, and what clients may ask for."""

    __slots__ = (
        "clients",
        "containers",
        "executions",
        "first",
        "forks",
        "journal",
        "loop",
        "mend_at",
        "netns",
        "sandbox",
        "spec",
        "spec_json",
        "stop_by",
        "troubles",
    )

    def __init__(
        self,
        spec: SandboxSpec,
        spec_json: Message,
        first: socket.SocketType,
        *,
        user_namespace: int,
        mount_base: int,
    ) -> None:
        """Create it, without a client yet.

        Args:
            spec: What it is.
            spec_json: The same as it came.
            first: The connection to the daemon that asked for it.
            user_namespace: A descriptor of the pod's, -1 without one.
            mount_base: A descriptor of the mount namespace in which containers build their roots.
        """
        self.spec = spec
        self.spec_json = spec_json
        self.first = first
        self.sandbox: Record = {}
        self.loop = Loop()
        self.clients = Clients(self.loop, hello=self.hello, serve=self.on_request, on_drop=self.on_drop)
        self.journal = Journal(f"{spec.pod_dir}/journal.jsonl")
        self.forks = Forks(spec, user_namespace=user_namespace, mount_base=mount_base)
        self.containers = Containers(self.loop, self.clients, self.journal, self.forks, note=self.note)
        self.executions = Executions(self.loop, self.clients, self.forks)
        self.netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.stop_by: float | None = None  # told to stop: who has not read the answers by then misses them
        self.mend_at = 0.0
        self.troubles: dict[str, str] = {}

    def start(self) -> None:
        """Take up work: signals, socket, sandbox record; tell the daemon that made us."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # the handlers are there since the fork server
        self.loop.watch(reading, self.on_signal, reading)
        self.clients.listen(self.spec.run_dir, self.spec.uid)
        self.sandbox = {
            "id": self.spec.id,
            "attempt": self.spec.attempt,
            "created_at": time.time(),
            "pid": self.forks.pause_pid,
            "start_ticks": start_ticks(f"{self.forks.pause_pid}"),
            "boot_id": boot_id(),
            "host_network": self.spec.host_network,
            "spec": self.spec_json,
        }
        point("pause.journal")
        self.journal.append({"do": "sandbox", "id": self.spec.id, "state": self.sandbox})
        self.clients.add(self.first)
        if self.first.fileno() < 0:
            # The daemon died before it could know of us, and the next one may have read the journal already.
            self.journal.append({"do": "remove_sandbox", "id": self.spec.id})
            self.withdraw()
            os._exit(1)

    def hello(self) -> tuple[Message, int]:
        """Return what a new client is told, and the network namespace."""
        hello: Message = {
            "event": "hello",
            "version": VERSION,
            "sandbox": self.sandbox,
            "containers": list(self.containers.records.values()),
            "trouble": self.all_troubles(),
        }
        return hello, self.netns

    def on_drop(self, connection: Connection) -> None:
        """End what a client that has gone was talking to."""
        self.executions.forsake(connection)

    def run(self) -> None:
        """Work until told to stop."""
        while self.stop_by is None or (boot_time() < self.stop_by and self.clients.have_news):
            for descriptor, events in self.loop.events(self.timeout()):
                self.guard(self.loop.handle, descriptor, events)
            if self.timeout() == 0:
                self.guard(self.containers.give_up_late)
                self.guard(self.executions.cut_off)
            if (
                self.troubles or self.journal.is_behind() or self.journal.wants_compaction()
            ) and boot_time() >= self.mend_at:
                self.mend_at = boot_time() + _RETRY_S
                self.guard(self.mend)

    def guard(self, step: Callable[..., None], *arguments: int) -> None:
        """Do something; a failure is said and costs no container."""
        try:
            step(*arguments)
        except Exception as error:
            time.sleep(_FAILURE_PAUSE_S)
            with suppress(OSError):
                self.clients.broadcast({"event": "failure", "message": cause_of(error)})

    def note(self, what: str, text: str) -> None:
        """Tell the daemon when something begins to be wrong, and ("") when it no longer is."""
        if self.troubles.get(what, "") == text:
            return
        self.troubles[what] = text
        if not text:
            del self.troubles[what]
        self.clients.broadcast({"event": "trouble", "message": self.all_troubles()})

    def all_troubles(self) -> str:
        """Return everything that is wrong in one line."""
        return "; ".join(self.troubles.values())

    def mend(self) -> None:
        """Try again what failed for want of room."""
        if self.journal.is_behind() or self.journal.wants_compaction():
            self.mend_journal()
        self.containers.try_logs_again()

    def timeout(self) -> float:
        """Return how long to sleep, in seconds; -1 for as long as nothing happens."""
        due = min(self.containers.due(), self.executions.due())
        if self.journal.is_behind() or self.troubles:
            due = min(due, boot_time() + _RETRY_S)
        if self.stop_by is not None:
            due = min(due, self.stop_by)
        return -1 if due == NEVER else max(0.0, due - boot_time())

    def mend_journal(self) -> None:
        """Write what had no room, or the whole journal anew when it has grown."""
        if not self.journal.flush() or self.journal.wants_compaction():
            self.journal.rewrite(self.sandbox, self.containers.records)
        self.note("journal", "no room for the journal: exits are kept in memory" if self.journal.is_behind() else "")

    def on_request(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Carry out one request and answer it."""
        number = message.get("id", 0)
        try:
            handler = getattr(self, f"do_{message['do']}")
            result = handler(connection, message, descriptors)
        except (OSError, KeyError, ValueError, TypeError, AttributeError, LookupError) as error:
            self.clients.send(connection, {"re": number, "error": cause_of(error)})
        else:
            if result is not None:
                self.clients.send(connection, {"re": number, **result})
        finally:
            for descriptor in descriptors:
                with suppress(OSError):
                    os.close(descriptor)

    def do_ping(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Answer at once: the daemon tells a hung pause by silence."""
        return {}

    def do_rewrite(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Write the journal anew: the daemon found it damaged."""
        self.journal.rewrite(self.sandbox, self.containers.records)
        return {}

    def do_start(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Start one container; answered with its record when its program runs or could not be executed."""
        self.containers.start(container_from_json(message["spec"]), Start(connection, message.get("id", 0)))

    def do_signal(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Send a signal to a container's main process, which cannot be somebody else: we are its parent."""
        running = self.containers.running.get(message["container"])
        if running is not None:
            with suppress(ProcessLookupError):
                os.kill(running.pid, message["signal"])
        return {}

    def do_kill(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Kill a container with all its processes."""
        running = self.containers.running.get(message["container"])
        if running is not None:
            self.containers.kill(running)
        return {}

    def do_remove(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Forget an instance that has exited."""
        self.containers.forget(message["container"])
        return {}

    def do_exec(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Run a command inside a running container; answered when it has ended."""
        running = self.containers.find(message["container"])
        self.executions.start(connection, message, running.spec, running.pid, descriptors)

    def do_cancel(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """Kill a command that this client started; its own answer comes when it has ended."""
        self.executions.kill_of(connection, message["exec"])
        return {}

    def do_attach(self, connection: Connection, message: Message, descriptors: list[int]) -> Message | None:
        """Copy a container's output to the given descriptors from now on; send what its input is written to.

        With `stdinOnce` the input is handed over for good: it ends when whoever got it closes it or dies.
        """
        running = self.containers.find(message["container"])
        for name, descriptor in zip(message["streams"], descriptors, strict=False):
            self.containers.copy_output(running, name, descriptor)
        if not message["stdin"] or running.stdin < 0:
            return {}
        self.clients.send(connection, {"re": message.get("id", 0)}, (running.stdin,))
        if running.spec.stdin_once and not running.spec.tty:
            self.containers.close_input(running)
        return None

    def do_socket(self, connection: Connection, message: Message, descriptors: list[int]) -> None:
        """Send a new socket of the pod's network namespace."""
        point("pause.socket")
        made = socket.SocketType(message["family"], message["type"])
        self.clients.send(connection, {"re": message["id"]}, (made.fileno(),))
        made.close()

    def do_stop(self, connection: Connection, message: Message, descriptors: list[int]) -> Message:
        """End everything and exit; the answer is sent first."""
        for running in self.containers.running.values():
            kill_tree(running.pid)
        deadline = boot_time() + 5.0
        while self.containers.running and boot_time() < deadline:
            self.reap()
            if self.containers.running:
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
            os.unlink(f"{self.spec.run_dir}/{self.spec.uid}.sock")

    def on_signal(self, descriptor: int, events: int) -> None:
        """Reap whatever has ended; the pipe only says that something has."""
        with suppress(BlockingIOError):
            os.read(descriptor, 4096)
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
            if not self.executions.has_reaped(pid, status):
                self.containers.has_reaped(pid, status)


def run(spec_json: Message, first: socket.SocketType, groups: list[str], *, mount_base: int) -> NoReturn:
    """Become the pause process of one pod; never returns. Failures of the set-up go to `first` as an error message.

    Args:
        spec_json: What to be.
        first: The connection to the daemon that asked for it.
        groups: The control groups to join.
        mount_base: A descriptor of the mount namespace in which containers build their roots.
    """
    try:
        pause = begin(spec_json, first, groups, mount_base=mount_base)
    except OSError as error:
        with suppress(OSError):
            first.sendall(encode({"event": "failed", "message": cause_of(error)}))
        os._exit(1)
    try:
        pause.run()
    finally:
        os._exit(0)


def begin(spec_json: Message, first: socket.SocketType, groups: list[str], *, mount_base: int) -> Pause:
    """Make a pause with all that it needs, and have it take up work. Raises OSError."""
    spec = sandbox_from_json(spec_json)
    take_lock(spec.pod_dir)
    point("pause.namespaces")
    spawn.join_cgroups(groups)
    user_namespace = make_namespaces(spec, first)
    pause = Pause(spec, spec_json, first, user_namespace=user_namespace, mount_base=mount_base)
    pause.start()
    return pause


def cause_of(error: BaseException) -> str:
    """Return what an error says to a user: it becomes part of an event."""
    if type(error) is LookupError:
        return str(error)
    if not isinstance(error, OSError) or not error.strerror:
        return f"request not understood: {error}"
    if error.errno == errno.ESRCH:
        return "cannot exec in a stopped container"
    if error.errno == errno.EAGAIN:
        return f"cannot fork: {error.strerror} (the pids limit of the pod or of the machine is reached)"
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def take_lock(pod_dir: str) -> None:
    """Hold the pod's lock until this process ends; children hold it too, but only until they execute a program.

    Raises:
        OSError: Another pause of the pod is still there after a while.
    """
    descriptor = os.open(f"{pod_dir}/pause.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
