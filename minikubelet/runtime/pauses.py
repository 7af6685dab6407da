"""The daemon's side of the pause processes: makes them through the fork server, finds them again, talks to them.

What a pause says is kept here as the last known state of its pod; a pause that is gone is known from its journal.
Nothing in here decides: it carries requests and tells `on_change` which pod has news.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from minikubelet.lifecycle.observed import (
    ContainerID,
    Exit,
    ObservedContainer,
    ObservedSandbox,
    PodUID,
    RunState,
)
from minikubelet.runtime.port import ContainerFailure, ExecResult, RuntimeFailure, RuntimeView, SandboxFailure
from minikubelet.sandbox.journal import Journal, read_journal
from minikubelet.sandbox.pause import boot_id, kill_tree, start_ticks, unpin
from minikubelet.sandbox.protocol import Decoder, Message, ProtocolError, encode
from minikubelet.sandbox.spec import ContainerSpec, SandboxSpec, to_json

log = structlog.get_logger(__name__)

# A living pause that has not answered for this long has a state that nobody can know.
RESPONSE_LIMIT_S: Final = 10.0
_START_LIMIT_S: Final = 30.0
# Room that the fork server and its pauses write their titles into.
_TITLE_ROOM: Final = "-" * 200


class PauseGone(RuntimeFailure):
    """The pause process has ended; its containers with it."""


class Channel:
    """One connection on the event loop: requests with answers, and messages that come unasked."""

    def __init__(self, sock: socket.socket, *, on_event: Callable[[Message, list[int]], None]) -> None:
        self._sock = sock
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._answers: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._number = 0
        self._backlog = bytearray()
        self.closed = asyncio.Event()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message; descriptors go with its first byte, and only with an empty backlog.

        Raises:
            PauseGone: The connection is closed.
        """
        if self.closed.is_set():
            raise PauseGone("the pause process is gone")
        data = encode(message)
        try:
            if descriptors:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                self._sock.setblocking(True)
                try:
                    if self._backlog:
                        self._sock.sendall(self._backlog)
                        self._backlog.clear()
                    sent = self._sock.sendmsg([data], rights)
                    self._sock.sendall(data[sent:])
                finally:
                    self._sock.setblocking(False)
                return
            self._backlog += data
            self._write()
        except OSError as error:
            self.close()
            raise PauseGone("the pause process is gone") from error

    def _write(self) -> None:
        try:
            while self._backlog:
                del self._backlog[: self._sock.send(self._backlog)]
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        try:
            self._write()
        except OSError:
            self.close()

    async def request(self, message: Message, descriptors: tuple[int, ...] = ()) -> tuple[Message, list[int]]:
        """Send a request and return its answer with the descriptors that came along.

        Raises:
            PauseGone: The connection ended first.
            RuntimeFailure: The answer is an error.
        """
        self._number += 1
        number = self._number
        answer: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._answers[number] = answer
        try:
            self.send({**message, "id": number}, descriptors)
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
            answer = self._answers.get(message.get("re", 0))
            if answer is None:
                self._on_event(message, descriptors)
            elif not answer.done():
                answer.set_result((message, descriptors))

    def close(self) -> None:
        """End the connection; who waits for an answer learns it."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(PauseGone("the pause process is gone"))
                answer.exception()  # seen, even if the one who asked has failed at sending already


@dataclass(slots=True)
class _Pod:
    """What is known of one pod's sandboxes and containers."""

    sandboxes: dict[str, Message] = field(default_factory=dict)
    containers: dict[str, Message] = field(default_factory=dict)
    ips: tuple[str, ...] = ()
    channel: Channel | None = None
    netns: int = -1
    ready: asyncio.Future[None] | None = None
    responsive: bool = True
    view: RuntimeView | None = None


class Pauses:
    """Owner of the connections to all pauses and of what they said last."""

    def __init__(self, *, state_dir: str, run_dir: str, on_change: Callable[[PodUID], None]) -> None:
        """Create it without a process.

        Args:
            state_dir: `<state>`; journals lie in `pods/<uid>`.
            run_dir: `<run>`; sockets lie in `pauses`.
            on_change: Told which pod has news.
        """
        self._pods_dir = os.path.join(state_dir, "pods")
        self._run_dir = os.path.join(run_dir, "pauses")
        self._on_change = on_change
        self._pods: dict[PodUID, _Pod] = {}
        self._forkserver: Channel | None = None
        self._forkserver_pid = 0
        self._starting = asyncio.Lock()

    @property
    def run_dir(self) -> str:
        """Return the directory of the pauses' sockets."""
        return self._run_dir

    async def start(self) -> None:
        """Make the directories and start the fork server."""
        os.makedirs(self._pods_dir, mode=0o700, exist_ok=True)
        os.makedirs(os.path.join(self._run_dir, "rootfs"), mode=0o700, exist_ok=True)
        os.chmod(self._run_dir, 0o700)
        await self._ensure_forkserver()

    async def _ensure_forkserver(self) -> Channel:
        async with self._starting:
            if self._forkserver is not None and not self._forkserver.closed.is_set():
                return self._forkserver
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ready = asyncio.get_running_loop().create_future()

            def on_event(message: Message, descriptors: list[int]) -> None:
                if not ready.done():
                    ready.set_result(None)

            number = theirs.fileno()
            os.set_inheritable(number, True)
            argv = [sys.executable, "-E", "-m", "minikubelet.sandbox.forkserver", str(number)]
            argv += [os.path.join(self._run_dir, "rehearsal"), _TITLE_ROOM]
            self._reap_forkserver()
            self._forkserver_pid = os.posix_spawn(sys.executable, argv, {**os.environ, "MALLOC_ARENA_MAX": "1"})
            theirs.close()
            channel = Channel(ours, on_event=on_event)
            async with asyncio.timeout(_START_LIMIT_S):
                await asyncio.wait(
                    {ready, asyncio.ensure_future(channel.closed.wait())}, return_when=asyncio.FIRST_COMPLETED
                )
            if channel.closed.is_set():
                raise SandboxFailure("the fork server ended at once")
            self._forkserver = channel
            return channel

    def _reap_forkserver(self) -> None:
        if self._forkserver_pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._forkserver_pid, os.WNOHANG)

    # Adoption

    async def adopt(self) -> list[PodUID]:
        """Find what an earlier daemon left: connect to living pauses, read the journals of all."""
        found: list[PodUID] = []
        for name in sorted(os.listdir(self._pods_dir)):
            uid = PodUID(name)
            pod = self._read(uid)
            if pod is None:
                continue
            self._pods[uid] = pod
            found.append(uid)
        await asyncio.gather(*(self._reconnect(uid) for uid in found))
        return found

    def _read(self, uid: PodUID) -> _Pod | None:
        try:
            sandboxes, containers = read_journal(os.path.join(self._pods_dir, uid, "journal.jsonl"))
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("cannot read journal", uid=uid, error=str(error))
            return None
        return _Pod(sandboxes=sandboxes, containers=containers)

    async def _reconnect(self, uid: PodUID) -> None:
        pod = self._pods[uid]
        if not pod.sandboxes:
            return
        newest = list(pod.sandboxes.values())[-1]
        # What an earlier pause held went with it, even if nobody was there to note that.
        earlier = (one for one in pod.containers.values() if one.get("sandbox_id") != newest["id"])
        self._end_lost(uid, [one for one in earlier if one["state"] != "exited"])
        if not is_alive(newest):
            self._lost(uid)
            return
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        directory = os.open(self._run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{uid}.sock")
        except OSError as error:
            sock.close()
            log.error("cannot connect to pause", uid=uid, error=str(error))
            kill_tree(newest["pid"])
            self._lost(uid)
            return
        finally:
            os.close(directory)
        try:
            async with asyncio.timeout(RESPONSE_LIMIT_S):
                await self._attach(uid, sock)
        except TimeoutError:
            pod.responsive = False
            pod.view = None

    async def _attach(self, uid: PodUID, sock: socket.socket) -> None:
        pod = self._pods[uid]
        pod.ready = asyncio.get_running_loop().create_future()
        pod.channel = Channel(sock, on_event=lambda message, fds: self._on_event(uid, message, fds))
        closed = asyncio.ensure_future(self._watch(uid, pod.channel))
        closed.add_done_callback(lambda task: task.cancelled() or task.exception())
        await pod.ready

    async def _watch(self, uid: PodUID, channel: Channel) -> None:
        await channel.closed.wait()
        pod = self._pods.get(uid)
        if pod is None or pod.channel is not channel:
            return
        if pod.ready is not None and not pod.ready.done():
            pod.ready.set_exception(SandboxFailure("the pause process ended while it was set up"))
        self._lost(uid)
        self._on_change(uid)

    def _lost(self, uid: PodUID) -> None:
        """Note that a pause is gone: whatever it held is dead or is killed now."""
        pod = self._pods[uid]
        pod.channel = None
        pod.view = None
        if pod.netns >= 0:
            os.close(pod.netns)
            pod.netns = -1
        self._end_lost(uid, [one for one in pod.containers.values() if one["state"] != "exited"])

    def _end_lost(self, uid: PodUID, records: list[Message]) -> None:
        """End containers whose pause is gone, and note that in the journal, which nobody else writes any more."""
        if not records:
            return
        for record in records:
            if is_alive(record):
                kill_tree(record["pid"])
            record["state"] = "exited"
            record["exit"] = {
                "exit_code": 137,
                "signal": 9,
                "reason": "Error",
                "message": "",
                "finished_at": _now(),
                "finished_mono": _boot_now(),
            }
        try:
            journal = Journal(os.path.join(self._pods_dir, uid, "journal.jsonl"))
        except OSError as error:
            log.warning("exits not noted in journal", uid=uid, error=str(error))
            return
        for record in records:
            change = {"state": record["state"], "exit": record["exit"]}
            journal.append({"do": "container", "id": record["id"], "state": change})
        journal.close()

    def _on_event(self, uid: PodUID, message: Message, descriptors: list[int]) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            return
        pod.view = None
        match message.get("event"):
            case "hello":
                pod.netns = descriptors[0] if descriptors else -1
                sandbox = message["sandbox"]
                pod.sandboxes[sandbox["id"]] = sandbox
                pod.containers.update({record["id"]: record for record in message["containers"]})
                if pod.ready is not None and not pod.ready.done():
                    pod.ready.set_result(None)
            case "container":
                record = message["container"]
                pod.containers[record["id"]] = record
                self._on_change(uid)
            case "failed":
                if pod.ready is not None and not pod.ready.done():
                    pod.ready.set_exception(SandboxFailure(message["message"]))
            case _:
                log.debug("unknown event of a pause", uid=uid, kind=message.get("event"))

    # Actions

    async def create_sandbox(self, spec: SandboxSpec) -> int:
        """Make the pause of a pod; return a descriptor of its network namespace (it stays ours).

        Raises:
            SandboxFailure: It could not be made.
        """
        uid = PodUID(spec.uid)
        pod = self._pods.setdefault(uid, _Pod())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server = await self._ensure_forkserver()
            attached = asyncio.ensure_future(self._attach(uid, ours))
            await server.request({"do": "fork", "spec": to_json(spec)}, (theirs.fileno(),))
        except RuntimeFailure as failure:
            raise SandboxFailure(str(failure)) from failure
        finally:
            theirs.close()
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await attached
        except TimeoutError:
            raise SandboxFailure("the pause process did not answer in time") from None
        return pod.netns

    def set_ips(self, uid: PodUID, ips: tuple[str, ...]) -> None:
        """Note the addresses that the network gave a pod."""
        pod = self._pods.setdefault(uid, _Pod())
        pod.ips = ips
        pod.view = None

    def netns(self, uid: PodUID) -> int:
        """Return a descriptor of a pod's network namespace, -1 without one."""
        pod = self._pods.get(uid)
        return pod.netns if pod is not None else -1

    def pause_pid(self, uid: PodUID) -> int:
        """Return the process of a pod's living pause, 0 without one."""
        pod = self._pods.get(uid)
        if pod is None or pod.channel is None or not pod.sandboxes:
            return 0
        return int(list(pod.sandboxes.values())[-1]["pid"])

    async def start_container(
        self, uid: PodUID, spec: ContainerSpec, descriptors: tuple[int, ...] = ()
    ) -> ObservedContainer:
        """Start one container.

        Raises:
            ContainerFailure: Its program could not be executed; an exited instance is left behind.
            RuntimeFailure: The pause is gone.
        """
        reply, _ = await self._channel(uid).request({"do": "start", "spec": to_json(spec)}, descriptors)
        # The pause told everybody before it answered; by now an exit may have been told too, so nothing is stored here.
        found = observed_container(reply["container"])
        if found.exit is not None and found.exit.reason == "StartError":
            raise ContainerFailure("RunContainerError", found.exit.message)
        return found

    async def signal(self, uid: PodUID, container_id: ContainerID, number: int) -> None:
        """Send a signal to a container's main process."""
        with contextlib.suppress(PauseGone):
            await self._channel(uid).request({"do": "signal", "container": container_id, "signal": int(number)})

    async def kill(self, uid: PodUID, container_id: ContainerID) -> None:
        """Kill all processes of a container."""
        with contextlib.suppress(PauseGone):
            await self._channel(uid).request({"do": "kill", "container": container_id})

    async def exec(
        self,
        uid: PodUID,
        container_id: ContainerID,
        command: tuple[str, ...],
        *,
        timeout_s: float | None,
        limit: int,
        descriptors: tuple[int, ...] = (),
        tty: bool = False,
    ) -> ExecResult:
        """Run a command in a running container and wait for it. Raises RuntimeFailure."""
        message: Message = {
            "do": "exec",
            "container": container_id,
            "command": list(command),
            "timeout": timeout_s,
            "limit": limit,
            "tty": tty,
        }
        reply, _ = await self._channel(uid).request(message, descriptors)
        return ExecResult(
            exit_code=reply["exit_code"],
            output=str(reply["output"]).encode("latin-1"),
            timed_out=bool(reply["timed_out"]),
        )

    async def open_socket(self, uid: PodUID, family: int, kind: int) -> socket.socket:
        """Return a new socket of the pod's network namespace."""
        _, descriptors = await self._channel(uid).request({"do": "socket", "family": family, "type": kind})
        return socket.socket(fileno=descriptors[0])

    async def remove_container(self, uid: PodUID, container_id: ContainerID) -> None:
        """Forget an instance that has exited."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        if pod.channel is not None:
            with contextlib.suppress(PauseGone):
                await pod.channel.request({"do": "remove", "container": container_id})
        elif container_id in pod.containers:
            with contextlib.suppress(OSError):
                _append(os.path.join(self._pods_dir, uid, "journal.jsonl"), container_id)
        pod.containers.pop(container_id, None)
        pod.view = None

    async def stop_sandbox(self, uid: PodUID) -> None:
        """End the pause with everything in it; no error when it is gone already."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        channel = pod.channel
        if channel is not None:
            try:
                async with asyncio.timeout(RESPONSE_LIMIT_S):
                    await channel.request({"do": "stop"})
                    await channel.closed.wait()
            except (TimeoutError, RuntimeFailure):
                pass
        for sandbox in pod.sandboxes.values():
            if is_alive(sandbox):
                kill_tree(sandbox["pid"])
            path = sandbox["spec"]["netns_path"]
            if path:
                unpin(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._run_dir, f"{uid}.sock"))
        if channel is not None:
            channel.close()
        self._lost(uid)

    def forget(self, uid: PodUID) -> None:
        """Forget a pod whose sandbox has been stopped."""
        self._pods.pop(uid, None)

    def close(self) -> None:
        """Leave: pauses stay."""
        for pod in self._pods.values():
            channel, pod.channel = pod.channel, None
            if channel is not None:
                channel.close()
        if self._forkserver is not None:
            self._forkserver.close()
        if self._forkserver_pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._forkserver_pid, 0)

    # What is there

    def view(self, uid: PodUID) -> RuntimeView:
        """Return the last known state of a pod."""
        pod = self._pods.get(uid)
        if pod is None:
            return RuntimeView()
        if pod.view is None:
            pod.view = _view(pod)
        return pod.view

    def _channel(self, uid: PodUID) -> Channel:
        pod = self._pods.get(uid)
        if pod is None or pod.channel is None:
            raise PauseGone("the pause process is gone")
        return pod.channel


def _view(pod: _Pod) -> RuntimeView:
    newest = list(pod.sandboxes.values())[::-1]
    sandboxes = tuple(
        ObservedSandbox(
            id=record["id"],
            attempt=record["attempt"],
            created_at=record["created_at"],
            ready=index == 0 and pod.channel is not None,
            host_network=record["host_network"],
            ips=pod.ips if index == 0 else (),
        )
        for index, record in enumerate(newest)
    )
    containers: dict[str, list[ObservedContainer]] = {}
    for record in list(pod.containers.values())[::-1]:
        containers.setdefault(record["name"], []).append(observed_container(record))
    return RuntimeView(
        sandboxes=sandboxes,
        containers={name: tuple(found) for name, found in containers.items()},
        responsive=pod.responsive,
    )


def observed_container(record: Message) -> ObservedContainer:
    """Return a container's record as the value that decisions are made from."""
    ended = record.get("exit")
    return ObservedContainer(
        id=ContainerID(record["id"]),
        name=record["name"],
        restart_count=record["restart_count"],
        state=RunState(record["state"]),
        created_at=record["created_at"],
        created_mono=record["created_mono"],
        started_at=record.get("started_at"),
        started_mono=record.get("started_mono"),
        exit=Exit(**ended) if ended else None,
        spec_hash=record.get("spec_hash", ""),
        pid=record.get("pid", 0),
        sandbox_id=record.get("sandbox_id", ""),
    )


def is_alive(record: Message) -> bool:
    """Tell whether the very process of a record still runs: same boot, same start time, not a zombie."""
    if record.get("boot_id", boot_id()) != boot_id() or not record.get("pid"):
        return False
    try:
        ticks = start_ticks(str(record["pid"]))
    except OSError:
        return False
    return ticks != 0 and ticks == record.get("start_ticks")


def _append(path: str, container_id: str) -> None:
    from minikubelet.sandbox.journal import Journal

    Journal(path).append({"do": "remove", "id": container_id})


def _now() -> float:
    import time

    return time.time()


def _boot_now() -> float:
    from minikubelet.sandbox.pause import boot_time

    return boot_time()
