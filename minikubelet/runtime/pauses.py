"""The daemon's side of the pause processes: makes them through the fork server, finds them again, talks to them.

What a pause says is kept here as the last known state of its pod; a pause that is gone is known from its journal.
Nothing in here decides: it carries requests and tells `on_change` which pod has news.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
    User,
)
from minikubelet.linux.faults import point
from minikubelet.linux.kernel import boot_id, boot_time, start_ticks
from minikubelet.runtime.journal_records import ContainerRecord, SandboxRecord, fitting
from minikubelet.runtime.port import ContainerFailure, ExecResult, RuntimeFailure, RuntimeView, SandboxFailure
from minikubelet.runtime.wording import words
from minikubelet.sandbox.family import kill_tree
from minikubelet.sandbox.journal import Journal, read_journal
from minikubelet.sandbox.namespaces import unpin
from minikubelet.sandbox.protocol import VERSION, Decoder, Message, Outbox, ProtocolError
from minikubelet.sandbox.spec import ContainerSpec, SandboxSpec, to_json

log = structlog.get_logger(__name__)

# A living pause that has not answered for this long has a state that nobody can know.
RESPONSE_LIMIT_S: Final = 10.0
_START_LIMIT_S: Final = 30.0
# The pause itself gives up a start that takes a minute.
_CONTAINER_LIMIT_S: Final = 75.0
_PING_PERIOD_S: Final = 60.0
_LOOK_PERIOD_S: Final = 5.0
_DEATH_LIMIT_S: Final = 10.0
# At start, pauses are waited for as long as one after the other answers, but no longer than this for the next one.
_QUIET_LIMIT_S: Final = 3.0
# How long the fork server may take to end when its connection is closed; it may hang.
_END_LIMIT_S: Final = 1.0
# More than this is not sent to one that does not read.
_MAX_BACKLOG: Final = 1024 * 1024
# Room that the fork server and its pauses write their titles into.
_TITLE_ROOM: Final = "-" * 200
# The fork server does without `site`, the environment and the directory that the daemon was started in.
_START: Final = "import sys; sys.path.append(sys.argv[3]); from minikubelet.sandbox.launch import main; main()"
# One arena, and all functions bound at its start: what a pause binds or begins is a page that it has for itself.
_FORKSERVER_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "1", "LD_BIND_NOW": "1"}
_PACKAGES: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


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
    unreached: bool = False  # the pause lives, but its queue of clients is full: there is no connection
    foreign: str = ""  # why this daemon cannot talk to the pause
    trouble: str = ""  # what was told last
    version: int = 1
    view: RuntimeView | None = None


class Pauses:
    """Owner of the connections to all pauses and of what they said last."""

    def __init__(
        self,
        *,
        state_dir: str,
        run_dir: str,
        on_change: Callable[[PodUID], None],
        on_trouble: Callable[[PodUID, str], None] = lambda uid, text: None,
        on_problem: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Create it without a process.

        Args:
            state_dir: `<state>`; journals lie in `pods/<uid>`.
            run_dir: `<run>`; sockets lie in `pauses`.
            on_change: Told which pod has news.
            on_trouble: Told what is wrong with a pod's pause, in words for its user; "" when it is well again.
            on_problem: Told why no pause can be made at present; "" when that is over.
        """
        self._on_trouble = on_trouble
        self._on_problem = on_problem
        self._pods_dir = os.path.join(state_dir, "pods")
        self._run_dir = os.path.join(run_dir, "pauses")
        self._on_change = on_change
        self._pods: dict[PodUID, _Pod] = {}
        self._forkserver: Channel | None = None
        self._forkserver_pid = 0
        self._starting = asyncio.Lock()
        self._asker: asyncio.Task[None] | None = None
        self._asked: dict[PodUID, asyncio.Task[None]] = {}
        self._reconnecting: set[asyncio.Task[None]] = set()

    @property
    def run_dir(self) -> str:
        """Return the directory of the pauses' sockets."""
        return self._run_dir

    async def start(self) -> None:
        """Make the directories and start the fork server; without it pods that run are managed all the same."""
        os.makedirs(self._pods_dir, mode=0o700, exist_ok=True)
        os.makedirs(self._run_dir, mode=0o700, exist_ok=True)
        os.chmod(self._run_dir, 0o700)
        with contextlib.suppress(SandboxFailure):  # told as a problem
            await self._ensure_forkserver()
        self._asker = asyncio.create_task(self._keep_asking(), name="ask pauses")

    async def _keep_asking(self) -> None:
        """Ask pauses whether they are there: all of them now and then, at once one that somebody has stopped.

        A hung pause tells nothing, so it must be asked; a look at its state costs a tenth of a question.
        """
        loop = asyncio.get_running_loop()
        all_asked = loop.time()
        while True:
            await asyncio.sleep(_LOOK_PERIOD_S)
            everyone = loop.time() - all_asked >= _PING_PERIOD_S
            if everyone:
                all_asked = loop.time()
            if everyone and self._forkserver is None:
                with contextlib.suppress(SandboxFailure):  # it has never started: until it does, that is a problem
                    await self._ensure_forkserver()
            for uid, pod in self._pods.items():
                if pod.unreached and uid not in self._asked:
                    self._asked[uid] = asyncio.create_task(self._reach(uid), name=f"reach pause {uid}")
                if (
                    uid in self._asked
                    or pod.channel is None
                    or pod.foreign
                    or pod.ready is None
                    or not pod.ready.done()
                ):
                    continue
                if everyone or _is_stopped(pod):
                    self._asked[uid] = asyncio.create_task(self._ask(uid), name=f"ping pause {uid}")

    async def _ask(self, uid: PodUID) -> None:
        try:
            await self._request(uid, {"do": "ping"})
        except RuntimeFailure:
            pass  # noted by the request
        finally:
            self._asked.pop(uid, None)

    async def _reach(self, uid: PodUID) -> None:
        """Try again to connect to a pause whose queue of clients was full."""
        try:
            await self._reconnect(uid)
            if uid in self._pods and not self._pods[uid].unreached:
                self._on_change(uid)
        finally:
            self._asked.pop(uid, None)

    async def _ensure_forkserver(self) -> Channel:
        """Return the connection to the fork server, which is started if need be. Raises SandboxFailure."""
        async with self._starting:
            if self._forkserver is None or self._forkserver.closed.is_set():
                try:
                    self._forkserver = await self._start_forkserver()
                except (OSError, SandboxFailure) as error:
                    self._forkserver = None
                    text = f"cannot start the fork server: {words(error)}"
                    self._on_problem(text)
                    raise SandboxFailure(text) from error
                self._on_problem("")
            return self._forkserver

    async def _start_forkserver(self) -> Channel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ready = asyncio.get_running_loop().create_future()

        def on_event(message: Message, descriptors: list[int]) -> None:
            if not ready.done():
                ready.set_result(message.get("message", ""))

        number = theirs.fileno()
        os.set_inheritable(number, True)
        argv = [sys.executable, "-I", "-S", "-c", _START, str(number)]
        argv += [os.path.join(self._run_dir, "rehearsal"), _PACKAGES, _TITLE_ROOM]
        self._reap_forkserver()
        try:
            environment = {**os.environ, **_FORKSERVER_ENVIRONMENT}
            self._forkserver_pid = os.posix_spawn(sys.executable, argv, environment)
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
            self._end_forkserver(patience_s=0)
            raise SandboxFailure(why)
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
            if not os.path.isdir(os.path.join(self._pods_dir, name)):
                continue
            uid = PodUID(name)
            self._pods[uid] = self._read(uid)
            found.append(uid)
        await self._reconnect_all(found)
        return found

    async def _reconnect_all(self, uids: Sequence[PodUID]) -> None:
        """Reconnect, but let no pause that hangs keep the node from being ready: it is heard when it speaks."""
        tasks = {asyncio.create_task(self._reconnect(uid), name=f"reconnect {uid}"): uid for uid in uids}
        self._reconnecting = set(tasks)
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=_QUIET_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._reconnecting.discard(task)
                task.result()
            if not done:
                break
        for task in pending:
            self._set_responsive(tasks[task], False)
            task.add_done_callback(self._reconnecting.discard)

    def _read(self, uid: PodUID) -> _Pod:
        try:
            sandboxes, containers = read_journal(self._journal_path(uid))
        except FileNotFoundError:
            return _Pod()
        except OSError as error:
            log.error("cannot read journal", uid=uid, error=str(error))
            return _Pod()
        path = self._journal_path(uid)
        return _Pod(
            sandboxes=fitting(sandboxes, SandboxRecord, path),
            containers=fitting(containers, ContainerRecord, path),
        )

    def _journal_path(self, uid: PodUID) -> str:
        return os.path.join(self._pods_dir, uid, "journal.jsonl")

    async def _reconnect(self, uid: PodUID) -> None:
        pod = self._pods[uid]
        newest = list(pod.sandboxes.values())[-1] if pod.sandboxes else None
        if newest is None or not is_alive(newest):
            # A living pause answers for itself, whatever has happened to its journal.
            if await self._connect(uid):
                log.warning("journal did not know the pause, written anew", uid=uid)
                with contextlib.suppress(RuntimeFailure):
                    await self._channel(uid).request({"do": "rewrite"}, limit_s=RESPONSE_LIMIT_S)
            elif not pod.unreached:
                self._lost(uid)
        elif not await self._connect(uid):
            if pod.channel is None and not pod.unreached:
                log.error("pause cannot be reached, ended", uid=uid, pid=newest["pid"])
                kill_alive(newest)
                self._lost(uid)
        if pod.channel is not None and pod.sandboxes:
            # What an earlier pause held went with it, even if nobody was there to note that.
            current = list(pod.sandboxes.values())[-1]["id"]
            earlier = [one for one in pod.containers.values() if one.get("sandbox_id") != current]
            self._end_lost(uid, [one for one in earlier if one["state"] != "exited"])

    async def _connect(self, uid: PodUID) -> bool:
        """Connect to a pod's pause.

        Returns:
            False when there is none, when it did not answer (the connection stays), or when it has not even taken up
            those who came before (it is `unreached`, which is no reason to end it).
        """
        pod = self._pods[uid]
        pod.unreached = False
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        directory = os.open(self._run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.connect(f"/proc/self/fd/{directory}/{uid}.sock")
        except BlockingIOError:
            sock.close()
            pod.unreached = True
            self._set_responsive(uid, False)
            return False
        except OSError:
            sock.close()
            return False
        finally:
            os.close(directory)
        ready = self._attach(uid, sock)
        if _is_stopped(pod):
            self._set_responsive(uid, False)
            return False
        try:
            async with asyncio.timeout(RESPONSE_LIMIT_S):
                await ready
        except TimeoutError:
            self._set_responsive(uid, False)
            return False
        except SandboxFailure:
            pod.channel = None
            return False
        return True

    def _attach(self, uid: PodUID, sock: socket.socket) -> asyncio.Future[None]:
        """Take up a connection to a pod's pause, in place of any before; the future is done when it has said hello."""
        pod = self._pods[uid]
        before, pod.channel = pod.channel, None
        if before is not None:
            before.close()
        pod.responsive, pod.foreign = True, ""
        pod.ready = asyncio.get_running_loop().create_future()
        pod.channel = Channel(sock, on_event=lambda message, fds: self._on_event(uid, message, fds))
        closed = asyncio.ensure_future(self._watch(uid, pod.channel))
        closed.add_done_callback(lambda task: task.cancelled() or task.exception())
        return pod.ready

    async def _watch(self, uid: PodUID, channel: Channel) -> None:
        await channel.closed.wait()
        pod = self._pods.get(uid)
        if pod is None or pod.channel is not channel:
            return
        if pod.ready is not None and not pod.ready.done():
            pod.ready.set_exception(SandboxFailure("the pause process ended while it was set up"))
            pod.ready.exception()  # seen, even if nobody waits for it any more
        self._lost(uid)
        self._on_change(uid)

    def _lost(self, uid: PodUID) -> None:
        """Note that a pause is gone: whatever it held is dead or is killed now."""
        pod = self._pods.get(uid)
        if pod is None:
            return  # forgotten meanwhile
        pod.channel = None
        pod.view = None
        pod.responsive, pod.unreached, pod.foreign = True, False, ""
        self._tell(uid, "")
        if pod.netns >= 0:
            os.close(pod.netns)
            pod.netns = -1
        self._take_from_journal(uid)
        self._end_lost(uid, [one for one in pod.containers.values() if one["state"] != "exited"])

    def _take_from_journal(self, uid: PodUID) -> None:
        """Take up what a pause noted and did not live to tell: an instance that it had begun, or an exit.

        Otherwise a restart count, and with it a log, would be used twice; the next daemon would also know better.
        """
        known = self._pods[uid].containers
        for key, noted in self._read(uid).containers.items():
            if key not in known or (noted["state"] == "exited" and known[key]["state"] != "exited"):
                known[key] = noted

    def _end_lost(self, uid: PodUID, records: list[Message]) -> None:
        """End containers whose pause is gone, and note that in the journal, which nobody else writes any more."""
        pod = self._pods[uid]
        now = boot_time()
        for sandbox in pod.sandboxes.values():
            if sandbox.get("boot_id", boot_id()) != boot_id():
                for one in pod.containers.values():
                    if one.get("sandbox_id") == sandbox["id"]:
                        to_this_boot(one, now, time.time())
        if not records:
            return
        boots = {one["id"]: one.get("boot_id", boot_id()) for one in pod.sandboxes.values()}
        for record in records:
            same_boot = boots.get(record.get("sandbox_id", ""), boot_id()) == boot_id()
            if same_boot and is_alive(record):
                kill_alive(record)
            record["state"] = "exited"
            # The pause's death is the containers' by SIGKILL; how they ended before a reboot nobody can tell.
            record["exit"] = {
                "exit_code": 137 if same_boot else 255,
                "signal": 9 if same_boot else 0,
                "reason": "Error" if same_boot else "Unknown",
                "message": "",
                "finished_at": time.time(),
                "finished_mono": now,
            }
        try:
            journal = Journal(self._journal_path(uid))
        except OSError as error:
            log.warning("exits not noted in journal", uid=uid, error=str(error))
            return
        for record in records:
            change = {"state": record["state"], "exit": record["exit"]}
            journal.append({"do": "container", "id": record["id"], "state": change})
        journal.close()

    def _on_event(self, uid: PodUID, message: Message, descriptors: list[int]) -> None:
        pod = self._pods.get(uid)
        if pod is None or pod.foreign or message.get("event") != "hello":
            for one in descriptors:  # of an answer that nobody waits for any more
                os.close(one)
        if pod is None or pod.foreign:
            return
        pod.view = None
        self._set_responsive(uid, True)
        match message.get("event"):
            case "hello":
                self._on_hello(uid, pod, message, descriptors)
            case "container":
                record = message["container"]
                pod.containers[record["id"]] = record
                if record["state"] != "created":  # on its way: nothing follows from that
                    self._on_change(uid)
            case "trouble":
                self._tell(uid, str(message.get("message", "")))
            case "failure":
                log.warning("pause could not do something", uid=uid, error=str(message.get("message", "")))
            case "failed":
                if pod.ready is not None and not pod.ready.done():
                    pod.ready.set_exception(SandboxFailure(message["message"]))
            case _:
                log.debug("unknown event of a pause", uid=uid, kind=message.get("event"))

    def _on_hello(self, uid: PodUID, pod: _Pod, message: Message, descriptors: list[int]) -> None:
        if pod.netns >= 0:
            os.close(pod.netns)
        pod.netns = descriptors[0] if descriptors else -1
        version = message.get("version")
        if not isinstance(version, int) or version > VERSION:
            pod.foreign = (
                f"its pause process speaks protocol {version}, this minikubelet knows {VERSION} and older: the pod "
                f"runs on, but cannot be managed until minikubelet is upgraded"
            )
            log.error("pause not understood", uid=uid, version=version, known=VERSION)
            pod.responsive = False
            self._tell(uid, pod.foreign)
        else:
            pod.version = version
            sandbox = message["sandbox"]
            pod.sandboxes[sandbox["id"]] = sandbox
            # What the pause does not know any more has been removed; instances of earlier pauses it never knew.
            told = {record["id"]: record for record in message["containers"]}
            earlier = {key: one for key, one in pod.containers.items() if one.get("sandbox_id") != sandbox["id"]}
            pod.containers = earlier | told
            # A sandbox that fails again and again leaves one record each time.
            needed = {sandbox["id"], *(one.get("sandbox_id") for one in pod.containers.values())}
            pod.sandboxes = {key: one for key, one in pod.sandboxes.items() if key in needed or is_alive(one)}
            self._tell(uid, str(message.get("trouble", "")))
        if pod.ready is not None and not pod.ready.done():
            pod.ready.set_result(None)

    def _tell(self, uid: PodUID, text: str) -> None:
        pod = self._pods.get(uid)
        if pod is not None and pod.trouble != text:
            pod.trouble = text
            self._on_trouble(uid, text)

    def _set_responsive(self, uid: PodUID, responsive: bool) -> None:
        pod = self._pods.get(uid)
        if pod is None or pod.responsive == responsive or pod.foreign:
            return
        pod.responsive = responsive
        pod.view = None
        self._tell(uid, "" if responsive else "the pause process does not answer")
        self._on_change(uid)

    async def _request(
        self, uid: PodUID, message: Message, descriptors: tuple[int, ...] = (), *, limit_s: float | None = None
    ) -> tuple[Message, list[int]]:
        """Ask a pod's pause for something that is done soon, and note whether it answers."""
        try:
            answer = await self._channel(uid).request(message, descriptors, limit_s=limit_s or RESPONSE_LIMIT_S)
        except PauseHangs:
            self._set_responsive(uid, False)
            raise
        self._set_responsive(uid, True)
        return answer

    # Actions

    async def create_sandbox(self, spec: SandboxSpec) -> int:
        """Make the pause of a pod; return a descriptor of its network namespace (it stays ours).

        Raises:
            SandboxFailure: It could not be made.
        """
        uid = PodUID(spec.uid)
        pod = self._pods.setdefault(uid, _Pod())
        if pod.foreign:
            raise SandboxFailure(pod.foreign)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise SandboxFailure(f"cannot connect the pause process: {error.strerror}") from error
        try:
            await self._fork_pause(uid, spec, ours, theirs)
        except BaseException:
            self._withdraw(uid, ours)
            raise
        finally:
            theirs.close()
        return pod.netns

    async def _fork_pause(self, uid: PodUID, spec: SandboxSpec, ours: socket.socket, theirs: socket.socket) -> None:
        ready = self._attach(uid, ours)
        try:
            server = await self._ensure_forkserver()
            point("pauses.fork")
            await server.request({"do": "fork", "spec": to_json(spec)}, (theirs.fileno(),), limit_s=_START_LIMIT_S)
        except PauseGone:
            pass  # the fork server died: whether it had forked before that, the connection will tell
        except PauseHangs:
            log.error("fork server does not answer, ended", pid=self._forkserver_pid)
            server.close()
            self._end_forkserver(patience_s=0)
            raise SandboxFailure("the fork server did not answer") from None
        except (RuntimeFailure, OSError) as failure:
            raise SandboxFailure(f"cannot fork the pause process: {words(failure)}") from failure
        theirs.close()
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await ready
        except TimeoutError:
            raise SandboxFailure("the pause process did not answer in time") from None

    def _withdraw(self, uid: PodUID, sock: socket.socket) -> None:
        """Give up a connection: a pause that finds it closed before it was taken up ends itself."""
        pod = self._pods.get(uid)
        if pod is not None and pod.channel is not None:
            channel, pod.channel = pod.channel, None
            pod.view = None
            channel.close()
        sock.close()

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
        request = {"do": "start", "spec": to_json(spec)}
        reply, _ = await self._request(uid, request, descriptors, limit_s=_CONTAINER_LIMIT_S)
        # The pause told everybody before it answered; by now an exit may have been told too, so nothing is stored here.
        found = observed_container(reply["container"])
        if found.exit is not None and found.exit.reason == "StartError":
            raise ContainerFailure("RunContainerError", found.exit.message)
        return found

    async def signal(self, uid: PodUID, container_id: ContainerID, number: int) -> None:
        """Send a signal to a container's main process, ourselves if its pause does not answer."""
        try:
            await self._request(uid, {"do": "signal", "container": container_id, "signal": int(number)})
        except PauseGone:
            pass
        except PauseHangs:
            record = self._pods[uid].containers.get(container_id)
            if record is not None:
                signal_alive(record, number)

    async def kill(self, uid: PodUID, container_id: ContainerID) -> None:
        """Kill all processes of a container; a pause that does not even do that is killed with all it holds."""
        try:
            await self._request(uid, {"do": "kill", "container": container_id})
        except PauseGone:
            pass
        except PauseHangs:
            for sandbox in self._pods[uid].sandboxes.values():
                kill_alive(sandbox)

    async def exec(
        self,
        uid: PodUID,
        container_id: ContainerID,
        command: tuple[str, ...],
        *,
        timeout_s: float | None,
        limit: int,
    ) -> ExecResult:
        """Run a command in a running container and wait for it. Raises RuntimeFailure."""
        message: Message = {
            "do": "exec",
            "container": container_id,
            "command": list(command),
            "timeout": timeout_s,
            "limit": limit,
            "tty": False,  # read by protocol 1
        }
        # The pause ends it in time; only one that hangs is waited for no longer.
        limit_s = None if timeout_s is None else timeout_s + RESPONSE_LIMIT_S
        reply, _ = await self._channel(uid).request(message, limit_s=limit_s)
        return ExecResult(
            exit_code=reply["exit_code"],
            output=str(reply["output"]).encode("latin-1"),
            timed_out=bool(reply["timed_out"]),
        )

    def begin_exec(
        self,
        uid: PodUID,
        container_id: ContainerID,
        command: tuple[str, ...],
        *,
        descriptors: tuple[int, ...],
        console: bool,
    ) -> Execution:
        """Start a command that somebody talks to.

        Args:
            uid: The pod.
            container_id: The running instance.
            command: What to run.
            descriptors: Its standard streams, or, for a terminal, the socket that the terminal is sent over.
            console: Give it a terminal.

        Raises:
            RuntimeFailure: The pause is gone, or too old.
        """
        channel = self._streaming_channel(uid)
        message: Message = {
            "do": "exec",
            "container": container_id,
            "command": list(command),
            "timeout": None,
            "limit": 0,
            "console": console,
            "env": ["TERM=xterm"] if console else [],
        }
        return Execution(channel, *channel.begin(message, descriptors))

    async def attach(self, uid: PodUID, container_id: ContainerID, streams: Mapping[str, int], *, stdin: bool) -> int:
        """Have a container's output copied to descriptors from now on.

        Args:
            uid: The pod.
            container_id: The running instance.
            streams: `stdout`, `stderr` and the descriptor that each is copied to.
            stdin: Ask for the container's input.

        Returns:
            What the container's input is written to (its terminal, if it has one); -1 when it reads none.

        Raises:
            RuntimeFailure: It does not run, or the pause is too old.
        """
        message: Message = {"do": "attach", "container": container_id, "streams": list(streams), "stdin": stdin}
        channel = self._streaming_channel(uid)
        _, received = await channel.request(message, tuple(streams.values()), limit_s=RESPONSE_LIMIT_S)
        return received[0] if received else -1

    def _streaming_channel(self, uid: PodUID) -> Channel:
        channel = self._channel(uid)
        if self._pods[uid].version < 2:
            raise RuntimeFailure("the pod was started by an earlier minikubelet: make it anew to use exec or attach")
        return channel

    async def open_socket(self, uid: PodUID, family: int, kind: int) -> socket.socket:
        """Return a new socket of the pod's network namespace."""
        _, descriptors = await self._request(uid, {"do": "socket", "family": family, "type": kind})
        return socket.socket(fileno=descriptors[0])

    async def remove_container(self, uid: PodUID, container_id: ContainerID) -> None:
        """Forget an instance that has exited."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        record = pod.containers.get(container_id)
        current = list(pod.sandboxes.values())[-1]["id"] if pod.sandboxes else ""
        if pod.channel is not None:
            with contextlib.suppress(PauseGone):
                await self._request(uid, {"do": "remove", "container": container_id})
        if record is not None and (pod.channel is None or record.get("sandbox_id") != current):
            # The pause knows nothing of what an earlier one held. Lines appended by both do not mix: each is one write.
            with contextlib.suppress(OSError):
                journal = Journal(self._journal_path(uid))
                journal.append({"do": "remove", "id": container_id})
                journal.close()
        pod.containers.pop(container_id, None)
        pod.view = None

    async def stop_sandbox(self, uid: PodUID) -> None:
        """End the pause with everything in it; no error when it is gone already."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        channel = pod.channel
        if channel is not None and pod.foreign:
            raise ForeignPause(pod.foreign)
        if channel is not None:
            try:
                async with asyncio.timeout(RESPONSE_LIMIT_S):
                    await channel.request({"do": "stop"})
                    await channel.closed.wait()
            except (TimeoutError, RuntimeFailure):
                pass
        for sandbox in pod.sandboxes.values():
            kill_alive(sandbox)
            await wait_until_dead(sandbox)
            path = sandbox["spec"]["netns_path"]
            if path:
                unpin(path)
        # Containers of a pause that was killed die a moment after it; what follows may rely on their death.
        for record in list(pod.containers.values()):
            kill_alive(record)
            await wait_until_dead(record)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._run_dir, f"{uid}.sock"))
        if channel is not None:
            channel.close()
        self._lost(uid)

    def kill_all(self) -> None:
        """Kill all pauses and containers at once, without a word to them and without waiting."""
        for pod in self._pods.values():
            for record in (*pod.sandboxes.values(), *pod.containers.values()):
                kill_alive(record)

    def alive(self, uid: PodUID) -> dict[str, int]:
        """Return the processes of a pod that exist, by what they are: its pauses and its containers' main processes.

        Asked of the kernel, so that one is told that was killed and does not die.
        """
        pod = self._pods.get(uid, _Pod())
        records = [("pause", one) for one in pod.sandboxes.values()]
        records += [(f"container {one['name']}", one) for one in pod.containers.values()]
        return {what: int(one["pid"]) for what, one in records if is_alive(one)}

    def forget(self, uid: PodUID) -> None:
        """Forget a pod whose sandbox has been stopped."""
        self._pods.pop(uid, None)

    def close(self) -> None:
        """Leave: pauses stay."""
        for task in (self._asker, *self._asked.values(), *self._reconnecting):
            if task is not None:
                task.cancel()
        for pod in self._pods.values():
            channel, pod.channel = pod.channel, None
            if channel is not None:
                channel.close()
        if self._forkserver is not None:
            self._forkserver.close()
        self._end_forkserver(patience_s=_END_LIMIT_S)

    def _end_forkserver(self, *, patience_s: float) -> None:
        """Reap the fork server, whose connection is closed; kill it when it has not ended after so many seconds."""
        if not self._forkserver_pid:
            return
        with contextlib.suppress(OSError):  # it was reaped already
            descriptor = os.pidfd_open(self._forkserver_pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                if not ended.poll(patience_s * 1000):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    ended.poll(_END_LIMIT_S * 1000)
            finally:
                os.close(descriptor)
        self._reap_forkserver()

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
        if pod is not None and pod.unreached:
            raise PauseHangs("the pause process does not answer")
        if pod is None or pod.channel is None:
            raise PauseGone("the pause process is gone")
        if pod.foreign:
            raise ForeignPause(pod.foreign)
        return pod.channel


def _is_stopped(pod: _Pod) -> bool:
    """Tell whether the pod's pause is stopped, by a signal or a debugger."""
    newest = next(reversed(pod.sandboxes.values()), None)
    if newest is None:
        return False
    try:
        descriptor = os.open(f"/proc/{newest['pid']}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(descriptor, 256).rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _view(pod: _Pod) -> RuntimeView:
    newest = list(pod.sandboxes.values())[::-1]
    sandboxes = tuple(
        ObservedSandbox(
            id=record["id"],
            attempt=record["attempt"],
            created_at=record["created_at"],
            ready=index == 0 and (pod.channel is not None or pod.unreached),
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
    ended, user = record.get("exit"), record.get("user")
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
        user=User(uid=user["uid"], gid=user["gid"], groups=tuple(user["groups"])) if user else None,
    )


def is_alive(record: Message) -> bool:
    """Tell whether the very process of a record still exists: same boot, same start time."""
    if record.get("boot_id", boot_id()) != boot_id() or not record.get("pid"):
        return False
    try:
        ticks = start_ticks(str(record["pid"]))
    except OSError:
        return False
    return ticks != 0 and ticks == record.get("start_ticks")


def signal_alive(record: Message, number: int) -> None:
    """Send a signal to the very process of a record; nobody who got its number since then is hit."""
    try:
        descriptor = os.pidfd_open(record["pid"])
    except (OSError, TypeError, ValueError):
        return
    try:
        if is_alive(record):
            signal.pidfd_send_signal(descriptor, number)
    except OSError as error:
        log.warning("cannot signal process", pid=record["pid"], error=str(error))
    finally:
        os.close(descriptor)


def kill_alive(record: Message) -> None:
    """Kill the very process of a record with its descendants."""
    if is_alive(record):
        kill_tree(record["pid"])


async def wait_until_dead(record: Message) -> None:
    """Wait until the very process of a record, which has been killed, is dead, but not for ever: it may hang in a disk.

    The first process of a PID namespace is dead when all others in it are.
    """
    try:
        descriptor = os.pidfd_open(record["pid"])
    except (OSError, TypeError, ValueError, KeyError):
        return
    loop = asyncio.get_running_loop()
    dead = asyncio.Event()
    loop.add_reader(descriptor, dead.set)
    try:
        if is_alive(record):
            async with asyncio.timeout(_DEATH_LIMIT_S):
                await dead.wait()
    except TimeoutError:
        log.warning("killed process does not die", pid=record["pid"])
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def to_this_boot(record: Message, boot_now: float, wall_now: float) -> None:
    """Give the monotonic times of a record from an earlier boot a meaning in this one: before now, by their ages.

    They may become negative. A wall clock that was set meanwhile makes ages wrong, never a time in the future.
    """

    def convert(holder: Message, mono: str, wall: str) -> None:
        if holder.get(mono) is not None:
            holder[mono] = boot_now - max(0.0, wall_now - float(holder.get(wall) or wall_now))

    convert(record, "created_mono", "created_at")
    convert(record, "started_mono", "started_at")
    if record.get("exit"):
        convert(record["exit"], "finished_mono", "finished_at")
