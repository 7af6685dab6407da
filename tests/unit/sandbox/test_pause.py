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

from minikubelet.sandbox import spawn
from minikubelet.sandbox.pause import Connection, Pause, Running, boot_time
from minikubelet.sandbox.protocol import Decoder
from minikubelet.sandbox.spec import container_from_json, sandbox_from_json

CONTAINER = {"id": "c", "name": "c", "restart_count": 0, "spec_hash": "", "argv": [""], "env": []}


@pytest.fixture
def pause(tmp_path: Path) -> Iterator[Pause]:
    names = {"uid": "u", "id": "s", "namespace": "n", "name": "p", "hostname": "h"}
    spec: dict[str, Any] = {**names, "attempt": 0, "host_pid": True, "run_dir": str(tmp_path), "pod_dir": str(tmp_path)}
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    made = Pause(sandbox_from_json(spec), spec, socket.SocketType(fileno=theirs.detach()))
    yield made
    made.epoll.close()
    made.journal.close()
    made.first.close()
    ours.close()
    made.forks.close()
    for one in (made.netns, made.spare):
        os.close(one)
    assert len(os.listdir("/proc/self/fd")) == before


def turn(pause: Pause) -> None:
    """Do what has come up, as the loop does."""
    for descriptor, events in pause.epoll.poll(0):
        pause.handle(descriptor, events)


def test_an_answer_keeps_its_descriptor_while_the_socket_is_full(pause: Pause) -> None:
    ours, theirs = socket.socketpair()
    client = Connection(socket.SocketType(fileno=theirs.detach()))
    client.sock.setblocking(False)
    pause.connections[client.sock.fileno()] = client
    pause.watch(client.sock.fileno(), lambda events: pause.on_message(client, events))
    filled = 0
    while True:
        try:
            filled += client.sock.send(b"\0\0\0\0")  # not the client's matter: read away below
        except BlockingIOError:
            break
    pause.send(client, {"re": 1}, (pause.spare,))
    assert len(client.outbox)
    while filled:
        filled -= len(ours.recv(min(filled, 1 << 16)))
    turn(pause)
    assert not len(client.outbox)
    decoder = Decoder()
    found = decoder.read(ours) or decoder.read(ours) or []  # the descriptor travels with the first byte
    ((message, descriptors),) = found
    assert message == {"re": 1}
    assert [os.fstat(one).st_rdev for one in descriptors] == [os.stat("/dev/null").st_rdev]
    for one in descriptors:
        os.close(one)
    pause.drop(client)
    ours.close()


def test_who_was_attached_to_a_silent_container_leaves_nothing_behind(pause: Pause) -> None:
    running = Running(container_from_json(CONTAINER))
    running.pid = 1
    ends: set[int] = set()
    pause.open_streams(running, ends)
    pause.running["c"] = running
    pause.add_connection(pause.first)
    (client,) = pause.connections.values()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        reading, writing = os.pipe2(os.O_CLOEXEC)
        request = {"id": 1, "do": "attach", "container": "c", "streams": ["stdout"], "stdin": False}
        pause.on_request(client, request, [writing])
        os.close(reading)
    turn(pause)
    assert os.listdir("/proc/self/fd") == before
    assert not running.streams[0].tees
    for one in ends:
        os.close(one)
    pause.close_streams(running)
    pause.drop(client)


def test_a_start_that_hangs_is_given_up_in_time_and_blocks_nothing(
    pause: Pause, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "run_container", lambda *_, **__: time.sleep(60))
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    pause.add_connection(socket.SocketType(fileno=theirs.detach()))
    (client,) = pause.connections.values()
    decoder = Decoder()

    def read(name: str) -> dict[str, Any]:
        """Return the next message that has this key."""
        while True:
            for message, descriptors in decoder.read(ours) or []:
                for one in descriptors:
                    os.close(one)
                if name in message:
                    return message

    request = {"id": 1, "do": "start", "spec": {**CONTAINER, "log_path": str(tmp_path / "c" / "0.log")}}
    pause.on_request(client, request, [])
    assert read("container")["container"]["state"] == "created"
    (running,) = pause.running.values()
    assert 59 < pause.timeout() <= 60
    pause.on_request(client, {"id": 2, "do": "ping"}, [])
    assert read("re")["re"] == 2
    pause.on_request(client, {"id": 3, "do": "exec", "container": "c", "command": ["x"]}, [])
    assert "is not running" in read("error")["error"]
    assert running.start is not None
    running.start.deadline = boot_time()
    pause.check_deadlines()
    answer = read("re")
    assert answer["re"] == 1
    assert answer["container"]["exit"]["reason"] == "StartError"
    assert "not started within 60 s" in answer["container"]["exit"]["message"]
    assert pause.running == {}
    child = os.pidfd_open(running.pid)
    assert select.select([child], [], [], 20)[0], "the process to be killed"
    os.close(child)
    os.waitpid(running.pid, 0)
    pause.drop(client)
    ours.close()


def test_a_client_that_does_not_read_keeps_no_pause_from_its_end(pause: Pause, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minikubelet.sandbox.pause._FAREWELL_S", 0.2)
    ours, theirs = socket.socketpair()
    pause.add_connection(socket.SocketType(fileno=theirs.detach()))
    (client,) = pause.connections.values()
    while not len(client.outbox):
        pause.send(client, {"event": "x" * 4096})
    pause.on_request(client, {"id": 1, "do": "stop"}, [])
    begun = time.monotonic()
    pause.loop()
    assert time.monotonic() - begun >= 0.2
    pause.drop(client)
    ours.close()
