"""The connections to all pauses: finds them again after a start, hears what they say, asks whether they answer.

What a pause says is kept here as the last known state of its pod; a pause that is gone is known from its journal.
Nothing in here decides: it tells `on_change` which pod has news.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.channel import Channel, ForeignPause, PauseGone, PauseHangs
from minikubelet.runtime.fork_server import ForkServer
from minikubelet.runtime.lost_pauses import end_containers, take_from_journal
from minikubelet.runtime.pause_state import PauseState, read_state, view_of
from minikubelet.runtime.port import RuntimeFailure, RuntimeView, SandboxFailure
from minikubelet.runtime.processes import is_alive, kill_alive
from minikubelet.sandbox.protocol import VERSION, Message

log = structlog.get_logger(__name__)

# A living pause that has not answered for this long has a state that nobody can know.
RESPONSE_LIMIT_S: Final = 10.0
_PING_PERIOD_S: Final = 60.0
_LOOK_PERIOD_S: Final = 5.0
# At start, pauses are waited for as long as one after the other answers, but no longer than this for the next one.
_QUIET_LIMIT_S: Final = 3.0


class PauseConnections:
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
        self._pods_dir = os.path.join(state_dir, "pods")
        self._run_dir = os.path.join(run_dir, "pauses")
        self._on_change = on_change
        self._pods: dict[PodUID, PauseState] = {}
        self._fork_server = ForkServer(rehearsal_dir=os.path.join(self._run_dir, "rehearsal"), on_problem=on_problem)
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
            await self._fork_server.connection()
        self._asker = asyncio.create_task(self._keep_asking(), name="ask pauses")

    def close(self) -> None:
        """Leave: pauses stay."""
        for task in (self._asker, *self._asked.values(), *self._reconnecting):
            if task is not None:
                task.cancel()
        for pod in self._pods.values():
            channel, pod.channel = pod.channel, None
            if channel is not None:
                channel.close()
        self._fork_server.close()

    # What is there

    def view(self, uid: PodUID) -> RuntimeView:
        """Return the last known state of a pod."""
        pod = self._pods.get(uid)
        if pod is None:
            return RuntimeView()
        if pod.view is None:
            pod.view = view_of(pod)
        return pod.view

    def netns(self, uid: PodUID) -> int:
        """Return a descriptor of a pod's network namespace, -1 without one."""
        pod = self._pods.get(uid)
        return pod.netns if pod is not None else -1

    def pause_pid(self, uid: PodUID) -> int:
        """Return the process of a pod's living pause, 0 without one."""
        pod = self._pods.get(uid)
        if pod is None or pod.channel is None or pod.newest_sandbox is None:
            return 0
        return int(pod.newest_sandbox["pid"])

    def alive(self, uid: PodUID) -> dict[str, int]:
        """Return the processes of a pod that exist, by what they are: its pauses and its containers' main processes.

        Asked of the kernel, so that one is told that was killed and does not die.
        """
        pod = self._pods.get(uid, PauseState())
        records = [("pause", one) for one in pod.sandboxes.values()]
        records += [(f"container {one['name']}", one) for one in pod.containers.values()]
        return {what: int(one["pid"]) for what, one in records if is_alive(one)}

    def set_ips(self, uid: PodUID, ips: tuple[str, ...]) -> None:
        """Note the addresses that the network gave a pod."""
        pod = self._pods.setdefault(uid, PauseState())
        pod.ips = ips
        pod.view = None

    def kill_all(self) -> None:
        """Kill all pauses and containers at once, without a word to them and without waiting."""
        for pod in self._pods.values():
            for record in (*pod.sandboxes.values(), *pod.containers.values()):
                kill_alive(record)

    def forget(self, uid: PodUID) -> None:
        """Forget a pod whose sandbox has been stopped."""
        self._pods.pop(uid, None)

    # Asking

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
            if everyone and not self._fork_server.has_started:
                with contextlib.suppress(SandboxFailure):  # it has never started: until it does, that is a problem
                    await self._fork_server.connection()
            for uid, pod in self._pods.items():
                if pod.unreached and uid not in self._asked:
                    self._asked[uid] = asyncio.create_task(self._reach(uid), name=f"reach pause {uid}")
                if uid not in self._asked and pod.is_connected() and (everyone or pod.is_stopped()):
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

    def _channel(self, uid: PodUID) -> Channel:
        pod = self._pods.get(uid)
        if pod is not None and pod.unreached:
            raise PauseHangs("the pause process does not answer")
        if pod is None or pod.channel is None:
            raise PauseGone("the pause process is gone")
        if pod.foreign:
            raise ForeignPause(pod.foreign)
        return pod.channel

    # Adoption

    async def adopt(self) -> list[PodUID]:
        """Find what an earlier daemon left: connect to living pauses, read the journals of all."""
        found: list[PodUID] = []
        for name in sorted(os.listdir(self._pods_dir)):
            if not os.path.isdir(os.path.join(self._pods_dir, name)):
                continue
            uid = PodUID(name)
            self._pods[uid] = read_state(self._journal_path(uid))
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

    def _journal_path(self, uid: PodUID) -> str:
        return os.path.join(self._pods_dir, uid, "journal.jsonl")

    async def _reconnect(self, uid: PodUID) -> None:
        pod = self._pods[uid]
        newest = pod.newest_sandbox
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
        if pod.channel is not None and (current := pod.newest_sandbox) is not None:
            # What an earlier pause held went with it, even if nobody was there to note that.
            earlier = [one for one in pod.containers.values() if one.get("sandbox_id") != current["id"]]
            end_containers(pod, earlier, self._journal_path(uid))

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
        if pod.is_stopped():
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

    # A pause that is gone

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
        journal = self._journal_path(uid)
        take_from_journal(pod, journal)
        end_containers(pod, pod.containers.values(), journal)

    # What pauses say

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

    def _on_hello(self, uid: PodUID, pod: PauseState, message: Message, descriptors: list[int]) -> None:
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
            pod.take_up(message["sandbox"], message["containers"])
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
