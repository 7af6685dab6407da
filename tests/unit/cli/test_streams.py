"""The WebSocket client and what runs over it, against a server of the test's own on a Unix socket."""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import struct
import tarfile
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.cli.cp import _Unpacker
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.port_forward import Forward, parse_forward
from minikubelet.cli.session import DetachKeys, Session
from minikubelet.cli.websocket import WebSocket

POD = {
    "metadata": {"name": "web-n1", "namespace": "default"},
    "spec": {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 80}]}]},
}


class Server:
    """Answers one upgrade and then does what the test says."""

    def __init__(self, directory, act, answer=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.path.join(directory, "minikubelet.sock"))
        self._listener.listen()
        self._act = act
        self._answer = answer
        self.request = b""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        connection, _ = self._listener.accept()
        with connection:
            while b"\r\n\r\n" not in self.request:
                self.request += connection.recv(65536)
            connection.sendall(self._answer)
            self._act(connection)


def frame(data: bytes, kind: int = 2, *, final: bool = True) -> bytes:
    head = bytes((kind | (128 if final else 0),))
    if len(data) < 126:
        return head + bytes((len(data),)) + data
    if len(data) < 65536:
        return head + struct.pack("!BH", 126, len(data)) + data
    return head + struct.pack("!BQ", 127, len(data)) + data


def read_frame(connection) -> tuple[int, bytes]:
    """Read a frame of the client's and unmask it."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = connection.recv(count - len(data))
            assert more
            data += more
        return data

    first, second = exactly(2)
    assert second & 128, "a client must mask"
    length = second & 127
    if length == 126:
        (length,) = struct.unpack("!H", exactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", exactly(8))
    mask = exactly(4)
    return first & 15, bytes(one ^ mask[i % 4] for i, one in enumerate(exactly(length)))


def status(code: int) -> bytes:
    value = (
        {"status": "Success"}
        if code == 0
        else {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )
    return frame(b"\x03" + json.dumps(value).encode())


@pytest.fixture
def options(tmp_path, monkeypatch):
    return argparse.Namespace(run_dir=str(tmp_path))


def run(options, act, **arguments):
    server = Server(options.run_dir, act)
    out, err = [], []
    session = Session(options, POD, "exec", "main", command=["ls", "-l"], stdin="stdin" in arguments)
    code = session.run(stdout=out.append, stderr=err.append, **arguments)
    server.thread.join(5)
    return code, b"".join(out), b"".join(err), server


@pytest.mark.parametrize("code", [0, 1, 3, 137])
def test_streams_and_exit_code(options, code):
    def act(connection):
        connection.sendall(frame(b"\x01out") + frame(b"\x02err") + frame(b"\x01put") + status(code))
        assert read_frame(connection)[0] == 8

    result, out, err, server = run(options, act)
    assert (result, out, err) == (code, b"output", b"err")
    head = server.request.decode()
    assert "GET /api/v1/namespaces/default/pods/web-n1/exec?command=ls&command=-l&container=main" in head
    assert "Sec-WebSocket-Protocol: v5.channel.k8s.io" in head


def test_frames_in_pieces_fragments_and_pings(options):
    def act(connection):
        data = (
            frame(b"\x01" + b"a" * 70000)
            + frame(b"\x01b", final=False)
            + frame(b"ping", 9)
            + frame(b"c", 0)
            + status(0)
        )
        for start in range(0, len(data), 10_000):
            connection.sendall(data[start : start + 10_000])
        assert read_frame(connection) == (10, b"ping")

    result, out, _, _ = run(options, act)
    assert (result, out) == (0, b"a" * 70000 + b"bc")


def test_input_is_passed_on_and_ended(options):
    received = []

    def act(connection):
        while True:
            _, data = read_frame(connection)
            received.append(data)
            if data == b"\xff\x00":
                break
        connection.sendall(status(0))

    reader, writer = os.pipe()
    os.write(writer, b"hello")
    os.close(writer)
    code, _, _, _ = run(options, act, stdin=reader)
    os.close(reader)
    assert code == 0
    assert b"".join(one[1:] for one in received[:-1]) == b"hello"


def test_two_full_pipes_do_not_hold_each_other_up(options):
    """The server sends much before it reads anything, while we have much to send."""
    much = 8 << 20

    def act(connection):
        connection.sendall(b"".join(frame(b"\x01" + b"x" * 65535) for _ in range(much // 65535)))
        count = 0
        while True:
            _, data = read_frame_fast(connection)
            if data[:2] == b"\xff\x00":
                break
            count += len(data) - 1
        connection.sendall(frame(b"\x02" + str(count).encode()) + status(0))

    reader, writer = os.pipe()

    def feed():
        with open(writer, "wb") as pipe:
            pipe.write(b"y" * much)

    threading.Thread(target=feed, daemon=True).start()
    code, out, err, _ = run(options, act, stdin=reader)
    os.close(reader)
    assert code == 0
    assert len(out) == much // 65535 * 65535
    assert int(err) == much


def read_frame_fast(connection) -> tuple[int, bytes]:
    """Read a frame whose mask is zero."""
    data = b""

    def exactly(count):
        nonlocal data
        data = b""
        while len(data) < count:
            data += connection.recv(count - len(data))
        return data

    first, second = exactly(2)
    length = second & 127
    if length == 126:
        (length,) = struct.unpack("!H", exactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", exactly(8))
    assert exactly(4) == b"\0\0\0\0"
    return first & 15, exactly(length)


def test_broken_connection_is_an_error(options):
    with pytest.raises(CommandFailed, match="broke before the command ended"):
        run(options, lambda connection: connection.sendall(frame(b"\x01out")))


def test_command_that_cannot_be_run_is_an_error(options):
    def act(connection):
        value = {"status": "Failure", "reason": "InternalError", "message": 'exec: "nope": not found'}
        connection.sendall(frame(b"\x03" + json.dumps(value).encode()))

    with pytest.raises(CommandFailed, match="nope"):
        run(options, act)


def test_refused_upgrade_tells_the_servers_words(options):
    body = json.dumps({"kind": "Status", "message": "container main is not running", "reason": "BadRequest"}).encode()
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    Server(options.run_dir, lambda connection: None, head + body)
    with pytest.raises(CommandFailed, match=r"BadRequest.*container main is not running"):
        WebSocket(options, "/x", [], ["v5.channel.k8s.io"])


def test_no_daemon_is_told_with_the_next_step(tmp_path):
    with pytest.raises(CommandFailed, match=r"nothing listens on .*systemctl start minikubelet"):
        WebSocket(argparse.Namespace(run_dir=str(tmp_path)), "/x", [], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", Forward(80, 80)),
        ("8080:80", Forward(8080, 80)),
        (":80", Forward(0, 80)),
        ("0:80", Forward(0, 80)),
        ("8080:http", Forward(8080, 80)),
        ("http", Forward(80, 80)),
    ],
)
def test_forwards(text, expected):
    assert parse_forward(text, POD) == expected


@pytest.mark.parametrize("text", ["", "x:80", "70000:80", "0", "80:70000", "htp", "80:"])
def test_bad_forwards(text):
    with pytest.raises(CommandFailed):
        parse_forward(text, POD)


def archive(*members: tuple[str, bytes, bytes | str]) -> int:
    """Return a descriptor to read an archive of (name, type, content or link) from."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o4644
            if kind == tarfile.REGTYPE:
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
            else:
                member.linkname = content if isinstance(content, str) else ""
                packed.addfile(member)
    reader, writer = os.pipe()
    threading.Thread(target=lambda: open(writer, "wb").write(buffer.getvalue()), daemon=True).start()
    return reader


def test_unpacking_stays_below_the_target(tmp_path, capsys):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    target = tmp_path / "out"
    unpacker = _Unpacker(str(target), "src", preserve=True)
    unpacker.run(
        archive(
            ("src", tarfile.DIRTYPE, b""),
            ("src/good", tarfile.REGTYPE, b"good"),
            ("src/../../secret", tarfile.REGTYPE, b"bad"),
            ("/etc/shadow-of-a-test", tarfile.REGTYPE, b"bad"),
            ("src/link", tarfile.SYMTYPE, str(tmp_path)),
            ("src/link/secret", tarfile.REGTYPE, b"bad"),
            ("src/device", tarfile.CHRTYPE, b""),
        )
    )
    assert unpacker.failure is None
    assert secret.read_text() == "mine"
    assert not os.path.exists("/etc/shadow-of-a-test")
    assert (target / "good").read_text() == "good"
    assert (target / "good").stat().st_mode & 0o7777 == 0o644
    assert not (target / "link").is_symlink()
    told = capsys.readouterr().err
    assert "left out src/link: it is no file and no directory" in told
    assert "left out src/device" in told


def test_unpacking_follows_no_link_that_lies_in_the_target(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (target / "file").symlink_to(outside)
    unpacker = _Unpacker(str(target), "src", preserve=True)
    unpacker.run(archive(("src/file", tarfile.REGTYPE, b"bad")))
    assert outside.read_text() == "mine"
    assert isinstance(unpacker.failure, OSError)


@given(typed=st.binary(max_size=12) | st.text("\x10\x11a", max_size=12).map(str.encode), data=st.data())
def test_detach_keys_are_seen_however_they_come_and_everything_else_passes(typed, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(typed)))))
    keys, passed = DetachKeys(), b""
    for begin, end in zip([0, *cuts], [*cuts, len(typed)], strict=True):
        passed += keys.pass_on(typed[begin:end])
        if keys.pressed:
            break
    before, found, _ = typed.partition(b"\x10\x11")
    assert keys.pressed == bool(found)
    assert passed == (before if found else typed.removesuffix(b"\x10"))
