"""Commands in containers over WebSocket channels, in every form that clients ask for."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import aiohttp
import pytest

from tests.integration.server.conftest import Api, pod_path

pytestmark = [pytest.mark.root, pytest.mark.anyio, pytest.mark.usefixtures("pods")]

EXEC = f"{pod_path('web')}/exec"


async def test_streams_and_exit_code(api: Api) -> None:
    output, errors, status = await api.run("web", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (output, errors) == (b"out\n", b"err\n")
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    _, _, status = await api.run("web", "true")
    assert status == {"metadata": {}, "status": "Success"}


async def test_runs_as_the_container_does(api: Api) -> None:
    script = "pwd; echo $COLOUR; hostname; tr '\\0' ' ' </proc/1/cmdline"
    output, _, _ = await api.run("web", "sh", "-c", script)
    lines = output.decode().splitlines()
    assert lines[:3] == ["/srv", "blue", "web-n1"]
    assert lines[3].startswith("sh -c echo line1")
    other, _, _ = await api.run("pair", "id", "-u", container="b")
    assert other == b"65534\n"


@pytest.mark.conformance("POD-06")
async def test_oldest_protocol_has_stdout_on_channel_1_and_text_for_errors(api: Api) -> None:
    query = [("command", "echo"), ("command", "remote execution test"), ("stdout", "1"), ("stderr", "1")]
    async with api.socket(EXEC, "channel.k8s.io", query=query) as web_socket:
        assert web_socket.protocol == "channel.k8s.io"
        found = [message.data async for message in web_socket]
    assert b"".join(one[1:] for one in found if one[0] == 1) == b"remote execution test\n"
    assert not any(one[0] == 3 and len(one) > 1 for one in found)


async def test_base64_form(api: Api) -> None:
    query = [("command", "cat"), ("stdin", "true"), ("stdout", "true")]
    async with api.socket(EXEC, "v4.base64.channel.k8s.io", query=query) as web_socket:
        await web_socket.send_str("0" + base64.b64encode(b"hello").decode())
        found = b""
        while found != b"hello":
            message = await web_socket.receive_str()
            assert message[0] == "1"
            found += base64.b64decode(message[1:])


async def test_end_of_stdin_and_a_megabyte_both_ways(api: Api) -> None:
    query = [("command", "cat"), ("stdin", "true"), ("stdout", "true")]
    data = bytes(range(256)) * 4096
    found = b""
    async with api.socket(EXEC, "v5.channel.k8s.io", query=query) as web_socket:

        async def feed() -> None:
            for at in range(0, len(data), 32768):
                await web_socket.send_bytes(b"\0" + data[at : at + 32768])
            await web_socket.send_bytes(b"\xff\0")

        feeder = asyncio.create_task(feed())
        async for message in web_socket:
            if message.data[0] == 1:
                found += message.data[1:]
            else:
                assert json.loads(message.data[1:])["status"] == "Success"
        await feeder
        assert web_socket.close_code == 1000
    assert found == data


async def test_terminal_with_size_and_resize(api: Api) -> None:
    script = "tty; stty size; trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.1; done"
    query = [("command", "sh"), ("command", "-c"), ("command", f"read go; {script}")]
    query += [("stdin", "true"), ("stdout", "true"), ("tty", "true")]
    text, status = b"", {}
    async with api.socket(EXEC, query=query) as web_socket:
        await web_socket.send_bytes(b'\x04{"Width":100,"Height":40}')
        await web_socket.send_bytes(b"\x04 nonsense")
        await web_socket.send_bytes(b"\0go\n")
        async for message in web_socket:
            if message.data[0] == 3:
                status = json.loads(message.data[1:])
            text += message.data[1:] if message.data[0] == 1 else b""
            if text.endswith(b"ready\r\n"):
                await web_socket.send_bytes(b'\x04{"Width":132,"Height":43}')
    lines = text.decode().splitlines()
    assert lines[0] == "go"  # echoed by the terminal
    assert lines[1].startswith("/dev/pts/")
    assert lines[2:] == ["40 100", "ready", "43 132"]
    assert status["details"]["causes"][0]["message"] == "7"


async def test_keys_are_the_terminals(api: Api) -> None:
    """Ctrl-C and Ctrl-D come as bytes, and the terminal makes of them what it makes of keys."""
    query = [("command", "cat"), ("stdin", "true"), ("stdout", "true"), ("tty", "true")]
    for key, code in ((b"\x04", 0), (b"\x03", 130)):
        async with api.socket(EXEC, query=query) as web_socket:
            await web_socket.receive()  # the greeting; the terminal is there with the first echo
            await web_socket.send_bytes(b"\0x\n")
            await web_socket.receive_bytes()
            await web_socket.send_bytes(b"\0" + key)
            last = [message.data async for message in web_socket][-1]
        status = json.loads(last[1:])
        found = 0 if status["status"] == "Success" else int(status["details"]["causes"][0]["message"])
        assert found == code


async def test_client_that_vanishes_ends_its_command(api: Api) -> None:
    sleep = f"sleep 4{api.node.bridge[3:]}"  # another test run on this machine has another one
    query = [("command", "sh"), ("command", "-c"), ("command", f"echo $PPID started; {sleep}")]
    async with api.socket(EXEC, query=[*query, ("stdout", "true")]) as web_socket:
        while b"started" not in (await web_socket.receive_bytes()):
            pass
        async with asyncio.timeout(40):
            while not (found := _processes(sleep)):  # the shell has said so before it starts it
                await asyncio.sleep(0.02)
        assert f"pod{(api.node.pod('web') or {})['metadata']['uid']}" in Path(f"/proc/{found[0]}/cgroup").read_text()
    for _ in range(500):
        if not _processes(sleep):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the command goes on without its client")


async def test_slow_client_holds_up_only_its_command(api: Api) -> None:
    """The output waits in the pipe: the daemon's memory does not grow, and other requests are served."""
    query = [("command", "sh"), ("command", "-c"), ("command", "head -c 200000000 /dev/zero"), ("stdout", "true")]
    assert api.node.process is not None
    before = _resident(api.node.process.pid)
    async with api.socket(EXEC, query=query) as web_socket:
        await web_socket.receive()
        for _ in range(20):
            await api.get("/healthz")
        assert _resident(api.node.process.pid) - before < 20_000_000


async def test_command_that_is_not_there(api: Api) -> None:
    _, _, status = await api.run("web", "no-such-program")
    assert status["reason"] == "InternalError"
    assert 'exec: "no-such-program": executable file not found in $PATH' in status["message"]
    query = [("command", "no-such-program"), ("stdin", "true"), ("stdout", "true"), ("tty", "true")]
    async with api.socket(EXEC, query=query) as web_socket:
        last = [message.data async for message in web_socket][-1]
    assert "executable file not found" in json.loads(last[1:])["message"]


@pytest.mark.parametrize(
    ("pod", "query", "code", "text"),
    [
        ("nope", {"command": "true", "stdout": "1"}, 404, 'pods "nope-n1" not found'),
        ("web", {"command": "true"}, 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("web", {"stdout": "1"}, 400, "you must provide at least one command"),
        ("web", {"command": "true", "stdout": "1", "container": "x"}, 400, "container x is not valid for pod web-n1"),
        (
            "pair",
            {"command": "true", "stdout": "1"},
            400,
            "a container name must be specified for pod pair-n1, choose one of: [a b] or one of the init containers: "
            "[first]",
        ),
        ("job", {"command": "true", "stdout": "1"}, 500, 'unable to upgrade connection: container not found ("main")'),
        ("web", {"command": "true", "stdout": "1"}, 400, "unable to upgrade: missing upgrade headers in request"),
    ],
)
async def test_refusals(api: Api, pod: str, query: dict[str, str], code: int, text: str) -> None:
    status, body = await api.ask(f"{pod_path(pod)}/exec", method="POST", **query)
    assert (status, body["kind"], body["code"]) == (code, "Status", code)
    assert text in body["message"]


async def test_spdy_and_strange_protocols_are_refused_plainly(api: Api) -> None:
    headers = {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}
    url = f"http://node{EXEC}?command=true&stdout=1"
    async with api.session.post(url, headers=headers) as response:
        body = json.loads(await response.text())
    assert (body["code"], "kubectl 1.31" in body["message"]) == (400, True)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with api.socket(EXEC, "v9.example.com", query=[("command", "true"), ("stdout", "1")]):
            pass
    assert caught.value.status == 403


def _processes(command: str) -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip() == command
            ):
                found.append(entry.name)
        except OSError:
            continue
    return found


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
