"""Attaching to a container's main process: its input, its terminal, its end."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.integration.server.conftest import Api, pod_path

pytestmark = [pytest.mark.root, pytest.mark.anyio]

READER = "while read x; do echo got $x; done; echo input ended"


def manifest(name: str, fields: str, command: str = READER) -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: host, {fields}, command: [sh, -c, {command!r}]}}
"""


async def start(api: Api, name: str, fields: str, command: str = READER) -> None:
    api.node.write(f"{name}.yaml", manifest(name, fields, command))
    api.node.wait_pod(name, lambda pod: pod["status"]["phase"] == "Running", "Running")


async def test_stdin_stays_open_between_clients(api: Api) -> None:
    await start(api, "open", "stdin: true")
    query = [("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
    for word in (b"one", b"two"):
        async with asyncio.timeout(40), api.socket(f"{pod_path('open')}/attach", query=query) as web_socket:
            await web_socket.send_bytes(b"\0" + word + b"\n")
            while (await web_socket.receive_bytes()) != b"\1got " + word + b"\n":
                pass
    assert await api.get(f"{pod_path('open')}/log") == "got one\ngot two\n"


async def test_stdin_once_ends_with_its_client_and_success_is_told(api: Api) -> None:
    await start(api, "once", "stdin: true, stdinOnce: true")
    query = [("stdin", "true"), ("stdout", "true")]
    found = b""
    async with asyncio.timeout(40), api.socket(f"{pod_path('once')}/attach", query=query) as web_socket:
        await web_socket.send_bytes(b"\0word\n")
        await web_socket.send_bytes(b"\xff\0")
        async for message in web_socket:
            if message.data[0] == 3:
                assert json.loads(message.data[1:])["status"] == "Success"
            else:
                found += message.data[1:]
        assert web_socket.close_code == 1000
    assert found == b"got word\ninput ended\n"
    api.node.wait_pod("once", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded")


async def test_stdin_once_ends_when_its_client_vanishes(api: Api) -> None:
    await start(api, "gone", "stdin: true, stdinOnce: true")
    async with api.socket(f"{pod_path('gone')}/attach", query=[("stdin", "1"), ("stdout", "1")]) as web_socket:
        await web_socket.send_bytes(b"\0word\n")
        while b"got word" not in await web_socket.receive_bytes():
            pass
    api.node.wait_pod("gone", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded")
    assert await api.get(f"{pod_path('gone')}/log") == "got word\ninput ended\n"


async def test_terminal(api: Api) -> None:
    await start(api, "term", "stdin: true, tty: true", "tty; while read x; do stty size; done")
    query = [("stdin", "true"), ("stdout", "true"), ("tty", "true")]
    found = b""
    async with asyncio.timeout(40), api.socket(f"{pod_path('term')}/attach", query=query) as web_socket:
        await web_socket.send_bytes(b'\x04{"Width":90,"Height":33}')
        await web_socket.send_bytes(b"\0\n")
        while b"33 90\r\n" not in found:
            found += (await web_socket.receive_bytes())[1:]
        await web_socket.send_bytes(b"\0\x04")  # Ctrl-D
        last = [message.data async for message in web_socket][-1]
    assert json.loads(last[1:])["status"] == "Success"
    log = await api.get(f"{pod_path('term')}/log")
    assert log.startswith("/dev/pts/")
    assert "33 90\n" in log


async def test_slow_client_delays_neither_container_nor_log(api: Api) -> None:
    command = "read x; head -c 20000000 /dev/zero | tr '\\0' '\\n'; echo the end"
    await start(api, "loud", "stdin: true", command)
    query = [("stdin", "true"), ("stdout", "true")]
    async with asyncio.timeout(40), api.socket(f"{pod_path('loud')}/attach", query=query) as web_socket:
        await web_socket.send_bytes(b"\0go\n")
        # Nothing is read here, and the container comes to its end all the same.
        await asyncio.to_thread(
            api.node.wait_pod, "loud", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded", 30
        )
    async with asyncio.timeout(40):
        # What is still in the pipe when the program ends is written a moment after its end is known.
        while await api.get(f"{pod_path('loud')}/log", tailLines=1) != "the end\n":
            await asyncio.sleep(0.02)


async def test_container_without_stdin_is_only_watched(api: Api) -> None:
    await start(api, "deaf", "stdin: false", "while :; do echo tick; sleep 0.05; done")
    query = [("stdin", "true"), ("stdout", "true")]
    async with asyncio.timeout(40), api.socket(f"{pod_path('deaf')}/attach", query=query) as web_socket:
        await web_socket.send_bytes(b"\0hello\n")
        found = b""
        while found.count(b"tick\n") < 3:
            found += (await web_socket.receive_bytes())[1:]
    assert b"hello" not in found
