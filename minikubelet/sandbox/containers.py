"""The containers of a pod: from the request to start one to the record of its exit."""

from __future__ import annotations

import _socket as socket
import os
import time

from minikubelet.linux.faults import point
from minikubelet.linux.kernel import NEVER, boot_time, memory_peak, oom_kills, start_ticks
from minikubelet.linux.lean import Callable, NoReturn, signal, suppress
from minikubelet.sandbox import spawn
from minikubelet.sandbox.clients import Clients
from minikubelet.sandbox.family import kill_tree
from minikubelet.sandbox.forks import Forks
from minikubelet.sandbox.instances import START_LIMIT_S, Running, Start, exit_of
from minikubelet.sandbox.journal import Journal, Record
from minikubelet.sandbox.logs import LogFile
from minikubelet.sandbox.loop import Loop
from minikubelet.sandbox.output import Output, Stream
from minikubelet.sandbox.protocol import Message
from minikubelet.sandbox.spec import ContainerSpec
from minikubelet.sandbox.terminal import receive_terminal


class Containers:
    """Owner of the records of all instances, and of what is kept of those that run or are being started."""

    __slots__ = (
        "_clients",
        "_forks",
        "_journal",
        "_loop",
        "_note",
        "_output",
        "records",
        "running",
    )

    def __init__(
        self,
        loop: Loop,
        clients: Clients,
        journal: Journal,
        forks: Forks,
        *,
        note: Callable[[str, str], None],
    ) -> None:
        """Args: note: Told what is wrong with a log, by its path; "" when it is well again."""
        self._loop = loop
        self._clients = clients
        self._journal = journal
        self._forks = forks
        self._note = note
        self._output = Output(loop, note=note, let_go=self._let_go)
        self.records: dict[str, Record] = {}
        self.running: dict[str, Running] = {}

    def find(self, identity: str) -> Running:
        """Return a container whose program runs. Raises LookupError."""
        running = self.running.get(identity)
        if running is None or running.start is not None:
            raise LookupError(f"container {identity} is not running")
        return running

    def due(self) -> float:
        """Return the next deadline of a start."""
        due = NEVER
        for one in self.running.values():
            if one.start is not None:
                due = min(due, one.start.deadline)
        return due

    def start(self, spec: ContainerSpec, start: Start) -> None:
        """Fork; what the new process reports says whether its program runs. Raises OSError with nothing left."""
        record: Record = {
            "id": spec.id,
            "name": spec.name,
            "restart_count": spec.restart_count,
            "spec_hash": spec.spec_hash,
            "sandbox_id": self._forks.spec.id,
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
        self.records[spec.id] = record
        self._journal.append({"do": "container", "id": spec.id, "state": record})
        try:
            point("container.fork")
            self._fork(spec, running, start)
        except OSError:
            self._discard(running)
            del self.records[spec.id]
            self._journal.append({"do": "remove", "id": spec.id})
            raise
        running.start = start
        self.running[spec.id] = running
        self._loop.watch(start.status, self._on_report, running, start)
        # Told before anything else is answered, so that nobody starts a second one.
        self._clients.broadcast({"event": "container", "container": record})

    def _fork(self, spec: ContainerSpec, running: Running, start: Start) -> None:
        """Fork the container's process. Raises OSError with nothing left over but the streams that were opened."""
        ours: list[int] = []
        kept: list[int] = []
        try:
            start.status, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            kept.append(start.status)
            ours.append(writing)
            streams = self._open_streams(running, ours)
            far = -1
            if spec.tty:
                near_socket, far_socket = socket.socketpair()
                start.console, far = near_socket.detach(), far_socket.detach()
                kept.append(start.console)
                ours.append(far)
            running.pid, groups = self._forks.fork(None if self._forks.shares_pids else -1, spec.cgroup_dirs)
            if running.pid == 0:
                self._become(spec, groups, writing, streams, far)
        except OSError:
            for descriptor in kept:
                os.close(descriptor)
            raise
        finally:
            for descriptor in ours:
                os.close(descriptor)

    def _open_streams(self, running: Running, ours: list[int]) -> tuple[int, int, int]:
        """Make the standard streams: pipes to the log, and for input /dev/null or a pipe; a terminal comes later.

        What the container gets is put into `ours` as it is made, for the caller to close.
        """
        spec = running.spec
        if spec.stdin and not spec.tty:
            stdin, running.stdin = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(running.stdin, False)
        else:
            stdin = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        ours.append(stdin)
        if spec.tty:
            return stdin, stdin, stdin
        ends: list[int] = []
        for name in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            ours.append(writing)
            running.streams.append(Stream(reading, name, running.log))
            os.set_blocking(reading, False)
            ends.append(writing)
        return stdin, ends[0], ends[1]

    def _become(
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
                mount_base=self._forks.mount_base,
                shm_dir=self._forks.spec.shm_dir,
                pause_pid=self._forks.pause_pid,
                user_namespace=self._forks.user_namespace,
                id_map=self._forks.spec.user_namespace,
                console=console,
            )
        finally:
            os._exit(128)

    def _on_report(self, running: Running, start: Start, events: int) -> None:
        """Take what a new process reports; the end of it says that its program runs, or that it is about to end."""
        try:
            data = os.read(start.status, 65536)
        except BlockingIOError:
            return
        if data:
            start.reports += data
            return
        self._loop.unwatch(start.status)
        if start.said("failed") is None:
            self._complete_start(running, start)

    def _complete_start(self, running: Running, start: Start) -> None:
        """Note that a container's program runs."""
        record = self.records[running.spec.id]
        told = start.said("pid")
        record["pid"] = running.pid if told is None else told["pid"]
        record["start_ticks"] = start_ticks(f"{record['pid']}")
        record.update(state="running", started_at=time.time(), started_mono=boot_time())
        if start.console >= 0:
            self._take_terminal(running, start.console)
        self._end_start(running, start)
        for stream in running.streams:
            self._output.watch(stream, self._end_stream, running)
        self._tell_start(record, start)

    def _settle_start(self, running: Running, start: Start) -> None:
        """Find out what came of a start whose process has ended."""
        with suppress(BlockingIOError):
            while data := os.read(start.status, 65536):
                start.reports += data
        failure = start.said("failed")
        if failure is None:
            self._complete_start(running, start)
        else:
            self._fail_start(running, start, failure)

    def _fail_start(self, running: Running, start: Start, failure: Message) -> None:
        """Note that a container's program was never executed: an exit of its own kind."""
        record = self.records[running.spec.id]
        del self.running[running.spec.id]
        self._end_start(running, start)
        with suppress(OSError):
            self._close_streams(running)
        self._finish(record, exit_of(failure))
        self._tell_start(record, start)

    def _end_start(self, running: Running, start: Start) -> None:
        """Forget what was needed until here."""
        running.start = None
        self._loop.unwatch(start.status)
        os.close(start.status)
        if start.console >= 0:
            os.close(start.console)

    def _tell_start(self, record: Record, start: Start) -> None:
        """Tell everybody what came of a start, then who asked for it."""
        self._journal.append({"do": "container", "id": record["id"], "state": record})
        self._clients.broadcast({"event": "container", "container": record})
        self._clients.send(start.connection, {"re": start.number, "container": record})

    def _take_terminal(self, running: Running, console: int) -> None:
        """Take the controlling side of the terminal that a new container made: its output and input."""
        terminal = receive_terminal(console)
        if terminal >= 0:
            running.streams.append(Stream(terminal, "stdout", running.log, is_terminal=True))
            with suppress(OSError):
                running.stdin = os.dup(terminal)  # also where nothing is read from it: its size is set through it

    def _discard(self, running: Running) -> None:
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

    def _close_streams(self, running: Running) -> None:
        """Take what is in the pipes now, then close them and the log; whoever still writes is not the container."""
        for stream in list(running.streams):
            self._output.drain(stream)
            self._end_stream(running, stream)
        self.close_input(running)
        if running.log is not None:
            running.log.close()
            self._note(running.log.path, "")

    def _end(self, identity: str, running: Running, status: int) -> None:
        """Record an exit and tell it; everything the container printed is in its log by then."""
        ended: Record = {"finished_at": time.time(), "finished_mono": boot_time()}
        del self.running[identity]
        self._forks.kill_rest(running.spec.cgroup_dirs)
        with suppress(OSError):
            self._close_streams(running)
        code = os.waitstatus_to_exitcode(status)
        ended["exit_code"] = code if code >= 0 else 128 - code
        ended["signal"] = 0 if code >= 0 else -code
        # Whichever process was killed, and however the main one ended then: containerd's event says no more either.
        oom = oom_kills(running.spec.memory_cgroup) > running.oom_before
        ended["reason"] = "OOMKilled" if oom else "Completed" if code == 0 else "Error"
        ended["message"] = ""
        if oom:
            ended["memory_peak"] = memory_peak(running.spec.memory_cgroup)
        record = self.records[identity]
        self._finish(record, ended)
        self._journal.append({"do": "container", "id": identity, "state": {"state": "exited", "exit": ended}})
        self._clients.broadcast({"event": "container", "container": record})
        self._journal.sync()

    def _finish(self, record: Record, ended: Record) -> None:
        """Note an exit in a container's record."""
        record.update(state="exited", exit=ended)

    def _end_stream(self, running: Running, stream: Stream) -> None:
        """Forget a stream that is over."""
        self._output.end(stream)
        running.streams.remove(stream)

    def _let_go(self) -> None:
        """Close, in a child that only works on logs, what would keep a container's streams from ending."""
        for running in self.running.values():
            self.close_input(running)
            for tee in (tee for stream in running.streams for tee in stream.tees):
                tee.close()

    def copy_output(self, running: Running, name: str, descriptor: int) -> None:
        """Copy what a container prints to a stream to a pipe as well, which is owned from now on."""
        for stream in running.streams:
            if stream.lines.name == name:
                self._output.copy_to(stream, os.dup(descriptor))

    def kill(self, running: Running) -> None:
        """Kill a container with all its processes."""
        kill_tree(running.pid)
        self._forks.kill_rest(running.spec.cgroup_dirs)

    def forget(self, identity: str) -> None:
        """Forget an instance that has exited."""
        record = self.records.get(identity)
        if record is not None and record["state"] == "exited":
            del self.records[identity]
            self._journal.append({"do": "remove", "id": identity})

    def give_up_late(self) -> None:
        """End starts whose time is over; the answer does not wait for the processes' death."""
        now = boot_time()
        for running in list(self.running.values()):
            start = running.start
            if start is not None and start.deadline <= now:
                self.kill(running)
                late = {"failed": "start", "message": f"not started within {START_LIMIT_S:.0f} s"}
                self._fail_start(running, start, start.said("failed") or late)

    def try_logs_again(self) -> None:
        """Write what logs had no room for."""
        for running in list(self.running.values()):
            if running.log is not None and running.log.trouble:
                running.log.write(b"")
                self._note(running.log.path, running.log.trouble)

    def has_reaped(self, pid: int, status: int) -> bool:
        """Tell whether a child that has ended was a container's, or worked for one; note what that means."""
        if self._output.has_reaped(pid):
            return True
        for identity, running in self.running.items():
            if running.pid == pid:
                if running.start is not None:
                    self._settle_start(running, running.start)
                if identity in self.running:
                    self._end(identity, running, status)
                return True
        return False
