"""A pause process' own parts, without namespaces: what it holds for others, and what it lets go again."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikubelet.linux.kernel import boot_time
from minikubelet.sandbox import spawn
from minikubelet.sandbox.pause import Pause
from minikubelet.sandbox.protocol import Decoder
from minikubelet.sandbox.spec import ContainerSpec, sandbox_from_json

CONTAINER = {"id": "c", "name": "c", "restart_count": 0, "spec_hash": "", "argv": [""], "env": []}


@pytest.fixture
def pause(tmp_path: Path) -> Iterator[Pause]:
    names = {"uid": "u", "id": "s", "namespace": "n", "name": "p", "hostname": "h"}
    spec: dict[str, Any] = {**names, "attempt": 0, "host_pid": True, "run_dir": str(tmp_path), "pod_dir": str(tmp_path)}
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    made = Pause(
        sandbox_from_json(spec), spec, socket.SocketType(fileno=theirs.detach()), user_namespace=-1, mount_base=-1
    )
    yield made
    made.clients.close()
    made.loop.close()
    made.journal.close()
    made.forks.close()
    made.first.close()
    ours.close()
    os.close(made.netns)
    assert len(os.listdir("/proc/self/fd")) == before


def turn(pause: Pause) -> None:
    """Do what has come up, as the loop does."""
    for descriptor, events in pause.loop.events(0):
        pause.loop.handle(descriptor, events)


class Client:
    """The other end of a connection, with what was said there."""

    def __init__(self, pause: Pause) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(20)
        self.pause = pause
        self.connection = pause.clients.add(socket.SocketType(fileno=theirs.detach()))
        self._decoder = Decoder()
        self.read("event")  # hello

    def ask(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        self.pause.on_request(self.connection, message, descriptors or [])

    def read(self, name: str) -> dict[str, Any]:
        """Return the next message that has this key."""
        while True:
            for message, descriptors in self._decoder.read(self.sock) or []:
                for one in descriptors:
                    os.close(one)
                if name in message:
                    return message

    def close(self) -> None:
        self.pause.clients.drop(self.connection)
        self.sock.close()


@pytest.fixture
def client(pause: Pause) -> Iterator[Client]:
    made = Client(pause)
    yield made
    made.close()


def wait_for_end(pid: int) -> None:
    """Wait until a child has ended; it is still to be reaped."""
    child = os.pidfd_open(pid)
    ended, _, _ = select.select([child], [], [], 20)
    os.close(child)
    assert ended, "the process to end"


def test_an_answer_keeps_its_descriptor_while_the_socket_is_full(pause: Pause, client: Client) -> None:
    sock = client.connection.sock
    filled = 0
    while True:
        try:
            filled += sock.send(b"\0\0\0\0")  # not the client's matter: read away below
        except BlockingIOError:
            break
    null = os.open("/dev/null", os.O_RDONLY)
    pause.clients.send(client.connection, {"re": 1}, (null,))
    os.close(null)
    assert pause.clients.have_news
    while filled:
        filled -= len(client.sock.recv(min(filled, 1 << 16)))
    turn(pause)
    assert not pause.clients.have_news
    decoder = Decoder()
    found = decoder.read(client.sock) or decoder.read(client.sock) or []  # the descriptor travels with the first byte
    ((message, descriptors),) = found
    assert message == {"re": 1}
    assert [os.fstat(one).st_rdev for one in descriptors] == [os.stat("/dev/null").st_rdev]
    for one in descriptors:
        os.close(one)


def test_who_was_attached_to_a_silent_container_leaves_nothing_behind(
    pause: Pause, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(spec: ContainerSpec, reporter: spawn.Reporter, **_: Any) -> None:
        os.close(reporter._descriptor)  # as exec does
        time.sleep(60)

    monkeypatch.setattr(spawn, "run_container", run)
    client.ask({"id": 1, "do": "start", "spec": {**CONTAINER, "log_path": str(tmp_path / "c" / "0.log")}})
    (running,) = pause.containers.running.values()
    while running.start is not None:
        for descriptor, events in pause.loop.events(20):
            pause.loop.handle(descriptor, events)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        reading, writing = os.pipe2(os.O_CLOEXEC)
        client.ask({"id": 1, "do": "attach", "container": "c", "streams": ["stdout"], "stdin": False}, [writing])
        os.close(reading)
    turn(pause)
    assert os.listdir("/proc/self/fd") == before
    assert not running.streams[0].tees
    client.ask({"id": 2, "do": "kill", "container": "c"})
    wait_for_end(running.pid)
    pause.reap()
    assert pause.containers.running == {}


def test_a_start_that_hangs_is_given_up_in_time_and_blocks_nothing(
    pause: Pause, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "run_container", lambda *_, **__: time.sleep(60))
    client.ask({"id": 1, "do": "start", "spec": {**CONTAINER, "log_path": str(tmp_path / "c" / "0.log")}})
    assert client.read("container")["container"]["state"] == "created"
    (running,) = pause.containers.running.values()
    assert 30 < pause.timeout() <= 60
    client.ask({"id": 2, "do": "ping"})
    assert client.read("re")["re"] == 2
    client.ask({"id": 3, "do": "exec", "container": "c", "command": ["x"]})
    assert "is not running" in client.read("error")["error"]
    assert running.start is not None
    running.start.deadline = boot_time()
    pause.containers.give_up_late()
    answer = client.read("re")
    assert answer["re"] == 1
    assert answer["container"]["exit"]["reason"] == "StartError"
    assert "not started within 60 s" in answer["container"]["exit"]["message"]
    assert pause.containers.running == {}
    wait_for_end(running.pid)
    os.waitpid(running.pid, 0)


def test_a_client_that_does_not_read_keeps_no_pause_from_its_end(
    pause: Pause, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikubelet.sandbox.pause._FAREWELL_S", 0.2)
    while not pause.clients.have_news:
        pause.clients.send(client.connection, {"event": "x" * 4096})
    client.ask({"id": 1, "do": "stop"})
    begun = time.monotonic()
    pause.run()
    assert time.monotonic() - begun >= 0.2
