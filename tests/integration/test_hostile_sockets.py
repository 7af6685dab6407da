"""Sockets are spoken to by garbage, by half messages, slowly and by crowds: nothing that runs notices."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.sandbox.protocol import Decoder, send
from minikubelet.server.app import REQUEST_LIMIT_S
from tests.conftest import Node
from tests.integration.test_crash import STEADY, is_ready, main_of, manifest

pytestmark = pytest.mark.root

CROWD = 300  # more than are let in
HALVES = [
    b"G",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"POST /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
    b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: x\r\n",
]
NOISES = [
    b"\x00" * 100_000,
    b"\xff\xfe\r\n\r\n",
    b"GET " + b"/" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    b"POST /api/v1/pods HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/v1/pods HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client's first words
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 64,
]


@pytest.fixture
def steady(cluster: Node) -> Iterator[str]:
    """A pod that must not notice anything."""
    cluster.write("steady.yaml", manifest("steady", STEADY))
    yield main_of(cluster.wait_pod("steady", is_ready, "the pod to run"))["containerID"]
    cluster.remove("steady.yaml")
    cluster.wait(lambda: cluster.pod("steady") is None, "the pod to be gone")


def ask(node: Node) -> bytes:
    """Return the first line of an answer."""
    with node.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client.recv(65536).split(b"\r\n")[0]
    return b""


def descriptors(node: Node) -> int:
    assert node.process is not None
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))


def check_that_all_is_well(node: Node, container_id: str) -> None:
    """The API answers, a new pod starts, the old one goes on."""
    assert "steady" in node.cli("get", "pods").stdout
    node.write("fresh.yaml", manifest("fresh", STEADY))
    node.wait_pod("fresh", is_ready, "a new pod")
    node.remove("fresh.yaml")
    node.wait(lambda: node.pod("fresh") is None, "the new pod to be gone")
    assert main_of(node.wait_pod("steady", is_ready, "readiness"))["containerID"] == container_id


def test_garbage_on_the_api_socket_is_answered_or_hung_up_on(cluster: Node, steady: str) -> None:
    for noise in NOISES:
        with cluster.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(noise)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda client=client: client.recv(65536), b""))
            assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:80]
    check_that_all_is_well(cluster, steady)


def test_a_crowd_that_never_ends_its_requests_delays_no_pod_and_is_sent_away(cluster: Node, steady: str) -> None:
    before = descriptors(cluster)
    crowd = [cluster.connect() for _ in range(CROWD)]
    try:
        for number, one in enumerate(crowd):
            with contextlib.suppress(ConnectionError):
                one.sendall(HALVES[number % len(HALVES)])
        assert ask(cluster).startswith(b"HTTP/1.1 429")
        cluster.write("meanwhile.yaml", manifest("meanwhile", STEADY))
        cluster.wait_pod("meanwhile", is_ready, "a pod while the door is crowded", REQUEST_LIMIT_S - 5)
        cluster.remove("meanwhile.yaml")
        for one in crowd[::7]:  # a byte now and then is no request
            with contextlib.suppress(ConnectionError):
                one.sendall(b"x")
        cluster.wait(lambda: descriptors(cluster) <= before + 8, "the crowd to be sent away", 3 * REQUEST_LIMIT_S)
        assert ask(cluster).startswith(b"HTTP/1.1 200")
    finally:
        for one in crowd:
            one.close()
    check_that_all_is_well(cluster, steady)


def test_a_fork_server_outlives_messages_without_sense_and_ends_at_garbage(tmp_path: Path) -> None:
    """Its socket is one end of a pair that only the daemon has; the daemon makes another when it has ended."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "minikubelet.sandbox.forkserver", str(theirs.fileno()), str(tmp_path / "warm")]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        ours.settimeout(20)
        decoder = Decoder()

        def read() -> dict[str, object]:
            while True:
                messages = decoder.read(ours)
                assert messages is not None
                if messages:
                    ((message, _),) = messages
                    return dict(message)

        assert read() == {"event": "ready"}
        for number, message in enumerate(({}, {"spec": None}, {"spec": 3})):
            send(ours, {"id": number, **message})
            answer = read()
            assert answer["re"] == number
            assert "could not fork" in str(answer["error"])
        send(ours, {"id": 9, "spec": {"name": 3}})  # forked, but it is no pause and ends
        assert read() == {"re": 9}
        ours.sendall(b"\xff" * 64)
        assert process.wait(20) == 0
    finally:
        ours.close()
        if process.poll() is None:
            process.kill()
            process.wait()
