"""A pause process' own parts, without namespaces: what it holds for others, and what it lets go again."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikubelet.sandbox.pause import Connection, Pause, Running
from minikubelet.sandbox.protocol import Decoder
from minikubelet.sandbox.spec import container_from_json, sandbox_from_json

CONTAINER = {"id": "c", "name": "c", "restart_count": 0, "spec_hash": "", "argv": [""], "env": []}


@pytest.fixture
def pause(tmp_path: Path) -> Iterator[Pause]:
    names = {"uid": "u", "id": "s", "namespace": "n", "name": "p", "hostname": "h"}
    spec: dict[str, Any] = {**names, "attempt": 0, "run_dir": str(tmp_path), "pod_dir": str(tmp_path)}
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    made = Pause(sandbox_from_json(spec), spec, socket.SocketType(fileno=theirs.detach()))
    yield made
    made.epoll.close()
    made.journal.close()
    made.first.close()
    ours.close()
    for one in (made.pidns, made.netns, made.spare):
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
    assert client.backlog
    while filled:
        filled -= len(ours.recv(min(filled, 1 << 16)))
    turn(pause)
    assert not client.backlog
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
