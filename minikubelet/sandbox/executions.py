"""Commands that are run inside running containers: probes, hooks, and those that somebody sits at."""

from __future__ import annotations

import os

from minikubelet.linux.faults import point
from minikubelet.linux.kernel import NEVER, boot_time
from minikubelet.linux.lean import NoReturn, replace, signal
from minikubelet.sandbox import spawn
from minikubelet.sandbox.clients import Clients, Connection
from minikubelet.sandbox.family import kill_family, kill_tree
from minikubelet.sandbox.forks import Forks
from minikubelet.sandbox.loop import Loop
from minikubelet.sandbox.protocol import Message, from_line
from minikubelet.sandbox.spec import ContainerSpec


class Output:
    """What a command prints to one of its streams."""

    __slots__ = ("data", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor  # -1 once it is at its end
        self.data = bytearray()


class Execution:
    """One command that was started inside a running container."""

    __slots__ = (
        "connection",
        "deadline",
        "limit",
        "number",
        "outputs",
        "status",
        "streams",
        "timed_out",
    )

    def __init__(self, connection: Connection, number: int, limit: int, *, status: int, outputs: list[int]) -> None:
        self.connection = connection
        self.number = number
        self.limit = limit
        self.status = status  # where the process reports why it could not become the command
        self.outputs = [Output(one) for one in outputs]  # standard output and error; none with streams of the client's
        self.deadline = NEVER
        self.timed_out = False
        self.streams = False  # somebody sits at its other end


class Executions:
    """Owner of the commands that run."""

    __slots__ = (
        "_all",
        "_clients",
        "_forks",
        "_loop",
    )

    def __init__(self, loop: Loop, clients: Clients, forks: Forks) -> None:
        self._loop = loop
        self._clients = clients
        self._forks = forks
        self._all: dict[int, Execution] = {}

    def __len__(self) -> int:
        return len(self._all)

    def kill_of(self, connection: Connection, number: int) -> None:
        """Kill a command that a client has started; it is answered when it has ended."""
        for pid, execution in self._all.items():
            if execution.connection is connection and execution.number == number:
                kill_tree(pid)

    def forsake(self, connection: Connection) -> None:
        """End what a client that has gone was talking to; other commands go on, and their results go nowhere."""
        for pid, execution in self._all.items():
            if execution.connection is connection and execution.streams:
                kill_tree(pid)

    def due(self) -> float:
        """Return the next deadline."""
        due = NEVER
        for one in self._all.values():
            due = min(due, one.deadline)
        return due

    def start(
        self, connection: Connection, message: Message, spec: ContainerSpec, target: int, descriptors: list[int]
    ) -> None:
        """Fork into the namespaces of a container, whose main process is `target`, and run a command.

        Given descriptors become its standard streams; with `console` the only one is where its terminal is sent.
        Nothing here waits for the new process: it may hang on its way to the command (a dead network file system), and
        the pod with it. What it reports is read when it has ended.
        """
        if message.get("env"):
            spec = replace(spec, env=[*spec.env, *message["env"]])
        point("exec.fork")
        console = descriptors[0] if message.get("console") else -1
        given = [] if console >= 0 else descriptors
        timeout = message.get("timeout")
        deadline = boot_time() + timeout if timeout is not None else NEVER
        adopts = timeout is not None
        pid, status, outputs = self._fork(spec, message["command"], target, given, console, adopts)
        limit = int(message.get("limit", 10240))
        execution = Execution(connection, message["id"], limit, status=status, outputs=outputs)
        execution.streams = bool(descriptors)
        execution.deadline = deadline
        self._all[pid] = execution
        for output in execution.outputs:
            self._loop.watch(output.descriptor, self._on_output, execution, output)

    def _fork(
        self,
        spec: ContainerSpec,
        command: list[str],
        target: int,
        descriptors: list[int],
        console: int,
        adopts: bool,
    ) -> tuple[int, int, list[int]]:
        """Fork the command's process; return its pid, where it reports, and its outputs, if they are to be kept."""
        ours: list[int] = []
        kept: list[int] = []
        try:
            reading, status = os.pipe2(os.O_CLOEXEC)
            kept.append(reading)
            ours.append(status)
            outputs: list[int] = []
            if descriptors:
                streams = [os.dup(one) for one in (descriptors * 3)[:3]]
                ours.extend(streams)
            elif console >= 0:
                null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
                ours.append(null)
                streams = [null, null, null]
            else:
                null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                ours.append(null)
                streams = [null]
                while len(streams) < 3:
                    output, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                    kept.append(output)
                    ours.append(writing)
                    os.set_blocking(writing, True)
                    outputs.append(output)
                    streams.append(writing)
            pidfd = os.pidfd_open(target)
            ours.append(pidfd)
            pid, groups = self._forks.fork(None if self._forks.shares_pids else pidfd, spec.cgroup_dirs)
            if pid == 0:
                self._become(spec, groups, command, status, streams, pidfd, console, adopts)
        except OSError:
            for descriptor in kept:
                os.close(descriptor)
            raise
        finally:
            for descriptor in ours:
                os.close(descriptor)
        return pid, reading, outputs

    def _become(
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
                pause_pid=self._forks.pause_pid,
                user_namespace=self._forks.user_namespace,
                id_map=self._forks.spec.user_namespace,
                console=console,
                adopts=adopts,
            )
        finally:
            os._exit(128)

    def _on_output(self, execution: Execution, output: Output, events: int) -> None:
        """Keep output up to the limit, drop the rest."""
        try:
            data = os.read(output.descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            output.data += data[: max(0, execution.limit - len(output.data))]
            return
        self._close_output(output)

    def _close_output(self, output: Output) -> None:
        if output.descriptor >= 0:
            self._loop.unwatch(output.descriptor)
            os.close(output.descriptor)
            output.descriptor = -1

    def _close(self, execution: Execution) -> None:
        for output in execution.outputs:
            self._close_output(output)
        os.close(execution.status)

    def has_reaped(self, pid: int, status: int) -> bool:
        """Tell whether a child that has ended was one of ours; its request is answered then."""
        execution = self._all.pop(pid, None)
        if execution is not None:
            self._end(execution, status)
        return execution is not None

    def _end(self, execution: Execution, status: int) -> None:
        """Answer the request: the command has ended, whoever still holds its output open."""
        for output in execution.outputs:
            while output.descriptor >= 0 and len(output.data) < execution.limit:
                try:
                    data = os.read(output.descriptor, 65536)
                except OSError:
                    break
                if not data:
                    break
                output.data += data[: execution.limit - len(output.data)]
        report = os.read(execution.status, 65536)  # at its end, but for what the process wrote
        self._close(execution)
        if report:
            cause = from_line(report.splitlines()[-1])["message"]
            error = f"OCI runtime exec failed: exec failed: unable to start container process: {cause}: unknown"
            self._clients.send(execution.connection, {"re": execution.number, "error": error})
            return
        code = os.waitstatus_to_exitcode(status)
        self._answer(execution, code if code >= 0 else 128 - code)

    def _answer(self, execution: Execution, code: int) -> None:
        """Send how an execution ended; its output goes as text that keeps every byte, standard output before errors."""
        texts = [one.data.decode("latin-1") for one in execution.outputs]
        self._clients.send(
            execution.connection,
            {
                "re": execution.number,
                "exit_code": code,
                "output": "".join(texts)[: execution.limit],
                "stderr": texts[-1] if texts else "",
                "timed_out": execution.timed_out,
            },
        )

    def cut_off(self) -> None:
        """Cut off commands whose time is over; the answer does not wait for their death."""
        now = boot_time()
        for pid, execution in list(self._all.items()):
            if execution.deadline <= now:
                execution.timed_out = True
                del self._all[pid]
                kill_family(pid)
                self._close(execution)
                self._answer(execution, 137)
