"""The daemon's side of the pauses, against peers that are played by the test: an older one, a newer one, a hung one."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikubelet.lifecycle.observed import ContainerID, PodUID, RunState
from minikubelet.linux.kernel import boot_id, start_ticks
from minikubelet.runtime import fork_server, lost_pauses, pause_connections, processes
from minikubelet.runtime.channel import Channel, ForeignPause, PauseHangs
from minikubelet.runtime.pause_state import PauseState, to_this_boot, view_of
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.port import RuntimeFailure, SandboxFailure
from minikubelet.sandbox.protocol import VERSION, Decoder, encode
from minikubelet.sandbox.spec import SandboxSpec, container_from_json

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parents[2] / "data" / "protocol" / "version1.jsonl"
Json = dict[str, Any]


class Peer:
    """A pause played by the test: answers from a script, and keeps what it was asked."""

    def __init__(self, run_dir: Path, uid: str, hello: Json) -> None:
        self.asked: list[Json] = []
        self.answers: dict[str, list[Json]] = {}
        self.silent = False
        self._hello = hello
        self._tasks: list[asyncio.Task[None]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        directory = os.open(run_dir / "pauses", os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{directory}/{uid}.sock")  # the path itself may be too long for a socket
        os.close(directory)
        self._listener.listen(0)
        self._listener.setblocking(False)
        self.connection: socket.socket | None = None

    def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._serve()))

    def serve_all(self) -> None:
        """Serve the last of those who wait, and whoever comes."""
        self._tasks.append(asyncio.create_task(self._serve_all()))

    async def _serve_all(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # who has gone
                await self._serve()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self._listener)
        self.connection = connection
        netns = os.open("/proc/self/ns/net", os.O_RDONLY)
        connection.sendmsg([encode(self._hello)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [netns]))])
        os.close(netns)
        buffer = b""
        while data := await loop.sock_recv(connection, 65536):
            buffer += data
            while len(buffer) >= 4 and len(buffer) >= 4 + (length := struct.unpack("<I", buffer[:4])[0]):
                message = json.loads(buffer[4 : 4 + length])
                buffer = buffer[4 + length :]
                self.asked.append(message)
                if self.silent:
                    continue
                for answer in self.answers.get(message["do"], [{}]):
                    whole = answer if "event" in answer else {**answer, "re": message["id"]}
                    connection.sendall(encode(whole))

    def say(self, message: Json) -> None:
        assert self.connection is not None
        self.connection.sendall(encode(message))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._listener.close()
        if self.connection is not None:
            self.connection.close()


def recorded() -> tuple[str, list[Json]]:
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return lines[0]["journal"], lines[1:]


class World:
    """Directories of a node with one pod, whose pause is this very process."""

    def __init__(self, base: Path) -> None:
        self.state, self.run = base / "state", base / "run"
        (self.run / "pauses").mkdir(parents=True)
        self.changes: list[PodUID] = []
        self.troubles: list[str] = []
        journal, self.conversation = recorded()
        # A record is only believed of a living process: let it be ours.
        own = {"pid": os.getpid(), "start_ticks": start_ticks("self"), "boot_id": boot_id()}
        self.hello = json.loads(self.conversation[0]["body"])
        self.hello["sandbox"].update(own)
        self.uid = PodUID(self.hello["sandbox"]["spec"]["uid"])
        (self.state / "pods" / self.uid).mkdir(parents=True)
        self.journal = self.state / "pods" / self.uid / "journal.jsonl"
        lines = [json.loads(line) for line in journal.splitlines()]
        lines[0]["state"].update(own)
        self.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.pauses = Pauses(
            state_dir=str(self.state),
            run_dir=str(self.run),
            on_change=self.changes.append,
            on_trouble=lambda uid, text: self.troubles.append(text),
        )

    def forget_process(self) -> None:
        """Have the journal name no process any more: that of the pause is this one, which lives and is to go on."""
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        lines[0]["state"]["pid"] = 0
        self.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.pauses.close()


async def until(check: Any) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.005)


async def test_pause_of_protocol_1_is_taken_over_and_steered(world: World) -> None:
    """Replays what a pause of the first version said, and checks that what we ask is what it understood."""
    peer = Peer(world.run, world.uid, world.hello)
    asked = [json.loads(one["body"]) for one in world.conversation if one["from"] == "daemon"]
    said = [json.loads(one["body"]) for one in world.conversation if one["from"] == "pause"]
    start = next(one for one in asked if one["do"] == "start")
    started = next(one for one in said if one.get("re") == start["id"])
    executed = next(one for one in asked if one["do"] == "exec")
    peer.answers["start"] = [
        {"event": "container", "container": started["container"]},
        {"container": started["container"]},
    ]
    peer.answers["exec"] = [next(one for one in said if one.get("re") == executed["id"])]
    peer.start()

    assert await world.pauses.adopt() == [world.uid]
    view = world.pauses.view(world.uid)
    assert view.responsive
    assert view.sandboxes[0].ready
    assert {name: found[0].state for name, found in view.containers.items()} == {
        "web": RunState.RUNNING,
        "crashy": RunState.RUNNING,
    }
    assert world.troubles == []

    # An exit as the old pause told it.
    ended = next(one for one in said if one.get("event") == "container" and one["container"]["state"] == "exited")
    peer.say(ended)
    await until(lambda: world.pauses.view(world.uid).containers["crashy"][0].exit is not None)
    found = world.pauses.view(world.uid).containers["crashy"][0].exit
    assert found is not None and (found.exit_code, found.reason) == (3, "Error")

    new = await world.pauses.start_container(world.uid, container_from_json(start["spec"]))
    assert (new.restart_count, new.state) == (1, RunState.RUNNING)
    web = ContainerID(executed["container"])
    result = await world.pauses.exec(world.uid, web, ("true",), timeout_s=1.0, limit=10240)
    assert result.exit_code == 0
    await world.pauses.signal(world.uid, web, 15)
    await world.pauses.kill(world.uid, web)
    # Every request is one that the old pause knew, with all the fields that it read.
    known = {one["do"]: set(one) for one in asked} | {"kill": {"do", "id", "container"}}
    for message in peer.asked:
        assert known[message["do"]] <= set(message), message
        if message["do"] == "start":
            assert set(start["spec"]) <= set(message["spec"])
    peer.close()


async def test_a_newer_pause_is_refused_plainly_and_left_alone(world: World) -> None:
    peer = Peer(world.run, world.uid, {**world.hello, "version": VERSION + 1, "sandbox": {"strange": 1}})
    peer.start()
    await world.pauses.adopt()
    view = world.pauses.view(world.uid)
    assert view.sandboxes[0].ready  # known from the journal: nobody makes a second sandbox beside it
    assert not view.responsive
    assert f"speaks protocol {VERSION + 1}" in world.troubles[-1]
    with pytest.raises(ForeignPause, match="until minikubelet is upgraded"):
        await world.pauses.signal(world.uid, ContainerID("x"), 15)
    with pytest.raises(ForeignPause):
        await world.pauses.stop_sandbox(world.uid)
    spec = SandboxSpec(
        uid=world.uid, id="1", attempt=1, namespace="d", name="n", hostname="h", run_dir="/x", pod_dir="/x"
    )
    with pytest.raises(SandboxFailure, match="protocol"):
        await world.pauses.create_sandbox(spec)
    assert peer.asked == []
    peer.close()


async def test_a_pause_that_does_not_answer_is_said_and_heard_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause_connections, "RESPONSE_LIMIT_S", 0.05)
    peer = Peer(world.run, world.uid, world.hello)
    peer.start()
    await world.pauses.adopt()
    peer.silent = True
    with pytest.raises(PauseHangs):
        await world.pauses.open_socket(world.uid, socket.AF_INET, socket.SOCK_STREAM)
    assert not world.pauses.view(world.uid).responsive
    assert world.troubles == ["the pause process does not answer"]
    peer.say({"event": "container", "container": world.hello["containers"][0]})
    await until(lambda: world.pauses.view(world.uid).responsive)
    assert world.troubles[-1] == ""
    peer.close()


async def test_a_living_pause_answers_for_itself_when_its_journal_is_damaged(world: World) -> None:
    world.journal.write_bytes(b"\x00\xff garbage\n{}\n[1]\n" + b"[" * 100_000 + b"\n")
    peer = Peer(world.run, world.uid, world.hello)
    peer.start()
    assert await world.pauses.adopt() == [world.uid]
    assert world.pauses.view(world.uid).containers["web"][0].state is RunState.RUNNING
    assert [one["do"] for one in peer.asked] == ["rewrite"]
    peer.close()


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 100,
        struct.pack("<I", 2**31) + b"x",
        struct.pack("<I", 4) + b"nope",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 100_000) + b"[" * 100_000,
    ],
)
async def test_noise_ends_the_connection_and_the_pause_counts_as_lost(world: World, noise: bytes) -> None:
    peer = Peer(world.run, world.uid, world.hello)
    peer.start()
    await world.pauses.adopt()
    assert peer.connection is not None
    peer.connection.sendall(noise)
    await until(lambda: not world.pauses.view(world.uid).sandboxes[0].ready)
    with pytest.raises(RuntimeFailure):
        await world.pauses.exec(world.uid, ContainerID("x"), ("true",), timeout_s=1, limit=1)
    peer.close()


async def test_after_a_reboot_nothing_counts_as_alive_and_how_it_ended_is_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pids and start times, but another boot: they name nobody (rows of lifecycle K4)."""
    for module in (processes, lost_pauses):
        monkeypatch.setattr(module, "boot_id", lambda: "another-boot")
    killed: list[int] = []
    monkeypatch.setattr(processes, "kill_tree", killed.append)
    await world.pauses.adopt()
    view = world.pauses.view(world.uid)
    assert not view.sandboxes[0].ready
    for found in view.containers.values():
        ended = found[0].exit
        assert ended is not None
        assert (ended.exit_code, ended.reason, ended.signal) == (255, "Unknown", 0)
        assert found[0].created_mono <= ended.finished_mono
    assert killed == []


async def test_a_lost_pause_of_this_boot_took_its_containers_by_sigkill(world: World) -> None:
    text = world.journal.read_text().splitlines()
    record = json.loads(text[0])
    record["state"]["start_ticks"] += 1  # our pid, but another process had it
    world.journal.write_text("\n".join([json.dumps(record), *text[1:]]) + "\n")
    await world.pauses.adopt()
    ended = world.pauses.view(world.uid).containers["web"][0].exit
    assert ended is not None and (ended.exit_code, ended.reason) == (137, "Error")
    # It stands in the journal now: the next daemon gives the same exit, at the same time.
    again = Pauses(state_dir=str(world.state), run_dir=str(world.run), on_change=lambda uid: None)
    await again.adopt()
    assert again.view(world.uid).containers["web"][0].exit == ended


def test_times_of_an_earlier_boot_lie_before_now() -> None:
    record: Json = {
        "created_mono": 90_000.0,
        "created_at": 1000.0,
        "exit": {"finished_mono": 95_000.0, "finished_at": 1500.0},
    }
    to_this_boot(record, 20.0, 2000.0)
    assert record["created_mono"] == 20.0 - 1000.0
    assert record["exit"]["finished_mono"] == 20.0 - 500.0
    to_this_boot(record, 20.0, 100.0)  # the wall clock went back meanwhile
    assert record["exit"]["finished_mono"] == 20.0


async def test_the_descriptor_of_an_answer_that_comes_too_late_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(world.run, world.uid, world.hello)
    peer.start()
    await world.pauses.adopt()
    peer.silent = True
    monkeypatch.setattr(pause_connections, "RESPONSE_LIMIT_S", 0.05)
    with pytest.raises(PauseHangs):
        await world.pauses.open_socket(world.uid, socket.AF_INET, socket.SOCK_STREAM)
    before = len(os.listdir("/proc/self/fd"))
    assert peer.connection is not None
    socket.send_fds(peer.connection, [encode({"re": peer.asked[-1]["id"]})], [0])
    await until(lambda: world.pauses.view(world.uid).responsive)
    assert len(os.listdir("/proc/self/fd")) == before
    peer.close()


async def test_the_fork_server_imports_nothing_from_where_the_daemon_was_started(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever may write there would else run as root."""
    for name in ("json", "minikubelet"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    await world.pauses.start()


async def test_sandboxes_that_failed_are_not_kept_for_ever(world: World) -> None:
    peer = Peer(world.run, world.uid, world.hello)
    peer.start()
    await world.pauses.adopt()
    first = world.hello["sandbox"]
    for attempt in range(1, 5):
        sandbox = {**first, "id": f"s{attempt}", "attempt": attempt, "pid": 0}
        peer.say({**world.hello, "sandbox": sandbox, "containers": []})
        await until(lambda attempt=attempt: world.pauses.view(world.uid).sandboxes[0].attempt == attempt)
    # The first has containers that are still known, the last is the current one.
    assert [one.id for one in world.pauses.view(world.uid).sandboxes] == ["s4", first["id"]]
    peer.close()


async def test_pauses_that_hang_hold_up_no_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50, five are stopped and five say nothing: the others are taken over, and nobody waits for an answer."""
    monkeypatch.setattr(pause_connections, "RESPONSE_LIMIT_S", 3600.0)
    monkeypatch.setattr(pause_connections, "_QUIET_LIMIT_S", 1.0)
    lines = [json.loads(line) for line in world.journal.read_text().splitlines()]
    stopped = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os.kill(stopped.pid, signal.SIGSTOP)
    peers = [Peer(world.run, world.uid, world.hello)]  # its process is this one: it must answer
    peers[0].start()
    try:
        await until(lambda: Path(f"/proc/{stopped.pid}/stat").read_text().rpartition(") ")[2][0] == "T")
        for number in range(50):
            uid = f"{number:032}"
            (world.state / "pods" / uid).mkdir()
            hello = {**world.hello, "sandbox": {**world.hello["sandbox"]}}
            if number < 5:
                hello["sandbox"].update(pid=stopped.pid, start_ticks=start_ticks(str(stopped.pid)))
            lines[0]["state"].update(hello["sandbox"])
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (world.state / "pods" / uid / "journal.jsonl").write_text(text)
            peers.append(Peer(world.run, uid, hello))
            if number >= 10:
                peers[-1].start()
        async with asyncio.timeout(60):
            await world.pauses.adopt()
        answered = [world.pauses.view(PodUID(f"{number:032}")).responsive for number in range(50)]
        assert answered == [False] * 10 + [True] * 40
        for peer in peers[1:11]:  # they go on
            peer.start()
        await until(lambda: all(world.pauses.view(PodUID(f"{number:032}")).responsive for number in range(50)))
    finally:
        stopped.kill()
        stopped.wait(10)
        for peer in peers:
            peer.close()


async def test_a_fork_server_that_hangs_is_replaced_and_not_waited_for_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pauses.start()
    first = world.pauses._fork_server.pid
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(fork_server, "_START_LIMIT_S", 0.2)
    spec = SandboxSpec(
        uid=world.uid, id="1", attempt=1, namespace="d", name="n", hostname="h", run_dir="/x", pod_dir="/x"
    )
    with pytest.raises(SandboxFailure, match="the fork server did not answer"):
        await world.pauses.create_sandbox(spec)
    assert not Path(f"/proc/{first}").exists()
    monkeypatch.setattr(fork_server, "_START_LIMIT_S", 30.0)
    await world.pauses._fork_server.connection()
    second = world.pauses._fork_server.pid
    assert second != first
    os.kill(second, signal.SIGSTOP)
    world.pauses.close()
    assert not Path(f"/proc/{second}").exists()


async def test_a_fork_server_that_cannot_start_is_a_problem_until_it_can(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: list[str] = []
    node = Pauses(
        state_dir=str(world.state), run_dir=str(world.run), on_change=lambda uid: None, on_problem=problems.append
    )

    def refuse(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_spawn", refuse)
        await node.start()
        (text,) = problems
        assert text.startswith("cannot start the fork server: Resource temporarily unavailable (a limit of processes")
        with pytest.raises(SandboxFailure, match="cannot start the fork server"):
            await node._fork_server.connection()
    await node._fork_server.connection()
    assert problems[-1] == ""
    node.close()


async def test_descriptors_for_a_peer_that_does_not_read_wait_and_block_nobody() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, on_event=lambda message, descriptors: None)
    requests = [channel.begin({"do": "x" * 60_000}) for _ in range(10)]  # more than the socket takes
    reading, writing = os.pipe()
    requests.append(channel.begin({"do": "last"}, (writing,)))
    os.close(writing)  # the caller's matter: it has been duplicated
    theirs.setblocking(False)
    decoder, found = Decoder(), []

    def read() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.extend(decoder.read(theirs) or [])
        return len(found) == len(requests)

    await until(read)
    assert [len(descriptors) for _, descriptors in found] == [0] * 10 + [1]
    (passed,) = found[-1][1]
    os.write(passed, b"heard")
    assert os.read(reading, 16) == b"heard"
    for one in (passed, reading):
        os.close(one)
    with pytest.raises(PauseHangs):
        for _ in range(100):
            requests.append(channel.begin({"do": "x" * 60_000}))
    channel.close()
    theirs.close()
    for _, answer in requests:
        assert answer.exception()


async def test_a_pause_whose_queue_of_clients_is_full_hangs_and_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(processes, "kill_tree", killed.append)
    monkeypatch.setattr(pause_connections, "_LOOK_PERIOD_S", 0.02)
    peer = Peer(world.run, world.uid, world.hello)
    crowd = []
    with contextlib.suppress(BlockingIOError):
        while True:
            one = socket.socket(socket.AF_UNIX)
            crowd.append(one)
            one.setblocking(False)
            directory = os.open(world.run / "pauses", os.O_PATH)
            try:
                one.connect(f"/proc/self/fd/{directory}/{world.uid}.sock")
            finally:
                os.close(directory)
    await world.pauses.adopt()
    asking = asyncio.create_task(world.pauses._keep_asking())
    view = world.pauses.view(world.uid)
    assert (view.responsive, view.sandboxes[0].ready, killed) == (False, True, [])
    assert view.containers["web"][0].state is RunState.RUNNING
    assert world.troubles == ["the pause process does not answer"]
    with pytest.raises(PauseHangs):
        await world.pauses.exec(world.uid, ContainerID("x"), ("true",), timeout_s=1, limit=1)
    for one in crowd:
        one.close()
    world.changes.clear()
    peer.serve_all()
    await until(lambda: world.changes and world.pauses.view(world.uid).responsive)
    assert world.pauses.view(world.uid).sandboxes[0].ready
    assert world.troubles[-1] == ""
    assert killed == []
    asking.cancel()
    peer.close()


async def test_what_a_pause_noted_and_did_not_live_to_tell_is_known_all_the_same(world: World) -> None:
    """An instance that it had begun counts, and so does an exit: as for a daemon that comes later."""
    peer = Peer(world.run, world.uid, world.hello)
    peer.start()
    await world.pauses.adopt()
    web, crashy = (world.pauses.view(world.uid).containers[name][0] for name in ("web", "crashy"))
    begun = {"id": "f" * 64, "name": "crashy", "restart_count": crashy.restart_count + 1, "state": "created", "pid": 0}
    begun |= {"created_at": 1e9, "created_mono": 1e3, "sandbox_id": world.hello["sandbox"]["id"]}
    ended = {"exit_code": 7, "signal": 0, "reason": "Error", "message": "", "finished_at": 1e9, "finished_mono": 1e3}
    with open(world.journal, "a") as file:
        file.write(json.dumps({"do": "container", "id": begun["id"], "state": begun}) + "\n")
        file.write(json.dumps({"do": "container", "id": web.id, "state": {"state": "exited", "exit": ended}}) + "\n")
    peer.close()
    await until(lambda: not world.pauses.view(world.uid).sandboxes[0].ready)
    containers = world.pauses.view(world.uid).containers
    newest = containers["crashy"][0]
    assert newest.exit is not None
    assert (newest.id, newest.restart_count, newest.exit.exit_code) == (begun["id"], crashy.restart_count + 1, 137)
    told = containers["web"][0].exit
    assert told is not None
    assert told.exit_code == 7
    # The next daemon sees the same.
    world.forget_process()
    again = Pauses(state_dir=str(world.state), run_dir=str(world.run), on_change=lambda uid: None)
    await again.adopt()
    assert again.view(world.uid).containers == containers


async def test_an_instance_that_is_removed_while_its_pause_dies_stays_removed(world: World) -> None:
    """Or else it would come back as the newest one, and the next restart would use a count, and its log, again."""
    peer = Peer(world.run, world.uid, world.hello)
    peer.start()
    await world.pauses.adopt()
    old = world.pauses.view(world.uid).containers["crashy"][0]
    new = {"id": "f" * 64, "name": "crashy", "restart_count": old.restart_count + 1, "state": "running", "pid": 0}
    new |= {"created_at": 1e9, "created_mono": 1e3, "sandbox_id": world.hello["sandbox"]["id"]}
    peer.say({"event": "container", "container": new})
    with open(world.journal, "a") as file:
        file.write(json.dumps({"do": "container", "id": new["id"], "state": new}) + "\n")
    await until(lambda: len(world.pauses.view(world.uid).containers["crashy"]) == 2)
    peer.close()
    await world.pauses.remove_container(world.uid, old.id)  # asked before anybody has noticed
    await until(lambda: not world.pauses.view(world.uid).sandboxes[0].ready)
    assert [one.id for one in world.pauses.view(world.uid).containers["crashy"]] == [new["id"]]
    world.forget_process()
    again = Pauses(state_dir=str(world.state), run_dir=str(world.run), on_change=lambda uid: None)
    await again.adopt()
    assert [one.id for one in again.view(world.uid).containers["crashy"]] == [new["id"]]
    again.close()


def test_the_newest_instance_is_the_one_with_the_highest_count() -> None:
    """Whatever the order in which records came: an old one may be found again in the journal."""
    records = {str(count): {"id": str(count), "name": "c", "restart_count": count} for count in (1, 2, 0)}
    for one in records.values():
        one |= {"state": "exited", "created_at": 1.0, "created_mono": 1.0}
    view = view_of(PauseState(sandboxes={}, containers=records))
    assert [one.restart_count for one in view.containers["c"]] == [2, 1, 0]
