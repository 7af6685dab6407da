"""U-HTTP: what an HTTP probe sends, follows and makes of the answer, against a server of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import pytest

from minikubelet.runtime.probes.http import BodyError, HttpProbe, request_headers
from minikubelet.runtime.probes.http_answer import BODY_LIMIT
from minikubelet.runtime.probes.result import ProbeReply, Verdict

AGENT = "kube-probe/1.0"
SUCCESS, FAILURE, WARNING = Verdict.SUCCESS, Verdict.FAILURE, Verdict.WARNING


class Server:
    """Answers by path: /status/CODE/BODY, /to/CODE/[BODY|]LOCATION, /loop, /big/BYTES, /never, /half, /stuck.

    Keeps what was asked.
    """

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.strip().split("\r\n")
            self.requests.append(lines)
            kind, _, rest = lines[0].split(" ")[1].removeprefix("/").partition("/")
            if kind == "never":
                await reader.read()
                return
            if kind in ("half", "stuck"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
                await writer.drain()
                if kind == "stuck":
                    await reader.read()
                writer.close()
                return
            code, _, text = rest.partition("/")
            body, more = unquote(text).encode(), ""
            if kind == "to":
                said, _, location = unquote(text).rpartition("|")
                body, more = said.encode(), f"Location: {location}\r\n"
            if kind == "loop":
                code, more = "302", "Location: /loop\r\n"
            if kind == "big":
                code, body = "200", b"x" * int(code)
            writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body)
            await writer.drain()
        writer.close()


def serve(test: Callable[[Server], Awaitable[None]], servers: int = 1) -> None:
    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            made = [Server() for _ in range(servers)]
            for one in made:
                listening = await asyncio.start_server(one.handle, "127.0.0.1", 0)
                await stack.enter_async_context(listening)
                one.port = listening.sockets[0].getsockname()[1]
            await test(*made)

    asyncio.run(run())


async def ask(port: int, path: str, *headers: tuple[str, str], timeout: float = 10.0, **more: bool) -> ProbeReply:
    sent = request_headers(headers, user_agent=AGENT)
    answer = HttpProbe(f"http://127.0.0.1:{port}{path}", sent, timeout_s=timeout, **more)()
    return answer if isinstance(answer, ProbeReply) else await answer()


def names(request: list[str]) -> list[str]:
    return sorted(line.split(":")[0] for line in request[1:])


def header(request: list[str], name: str) -> list[str]:
    return [line.split(": ", 1)[1] for line in request[1:] if line.lower().startswith(name.lower() + ": ")]


@pytest.mark.conformance("U-HTTP-1")
@pytest.mark.conformance("U-HTTP-12")
@pytest.mark.parametrize(
    ("code", "verdict", "output"),
    [
        (200, SUCCESS, "body"),
        (204, SUCCESS, "body"),
        (399, WARNING, "Probe terminated redirects, Response body: body"),
        (400, FAILURE, "HTTP probe failed with statuscode: 400"),
        (500, FAILURE, "HTTP probe failed with statuscode: 500"),
    ],
)
def test_status_decides(code, verdict, output):
    async def test(server: Server) -> None:
        expected = ProbeReply(verdict, "" if code == 204 else output)
        assert await ask(server.port, f"/status/{code}/body") == expected

    serve(test)


@pytest.mark.conformance("U-HTTP-2")
@pytest.mark.conformance("U-HTTP-7")
@pytest.mark.conformance("U-HTTP-10")
def test_default_headers():
    async def test(server: Server) -> None:
        await ask(server.port, "/status/200")
        (request,) = server.requests
        assert names(request) == ["Accept", "Connection", "Host", "User-Agent"]
        assert header(request, "Accept") == ["*/*"]
        assert header(request, "User-Agent")[0].startswith("kube-probe/")
        assert header(request, "Connection") == ["close"]
        assert header(request, "Host") == [f"127.0.0.1:{server.port}"]

    serve(test)


def test_names_are_sent_as_go_spells_them_and_lengths_are_its_own():
    async def test(server: Server) -> None:
        given = [("x-API-key", "k"), ("content-length", "5"), ("Transfer-Encoding", "chunked"), ("user-agent", "me")]
        assert (await ask(server.port, "/status/200", *given)).verdict is SUCCESS
        (request,) = server.requests
        assert names(request) == ["Accept", "Connection", "Host", "User-Agent", "X-Api-Key"]
        assert header(request, "User-Agent") == ["me"]

    serve(test)


HEADERS = [
    pytest.param("3", ("Accept-Encoding", "gzip"), ["gzip"], id="encoding"),
    pytest.param("3", ("Accept-Encoding", "foo"), ["foo"], id="encoding-foo"),
    pytest.param("3", ("Accept-Encoding", ""), [""], id="encoding-empty"),
    pytest.param("4", ("X-Muffins-Or-Cupcakes", "muffins"), ["muffins"], id="custom"),
    pytest.param("5", ("User-Agent", "foo/1.0"), ["foo/1.0"], id="agent"),
    pytest.param("6", ("User-Agent", ""), [], id="agent-empty"),
    pytest.param("8", ("Accept", "text/html"), ["text/html"], id="accept"),
    pytest.param("9", ("Accept", ""), [], id="accept-empty"),
    pytest.param("11", ("Host", "muffins.cupcakes.org"), ["muffins.cupcakes.org"], id="host"),
]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(*one.values[1:], id=one.id, marks=pytest.mark.conformance(f"U-HTTP-{one.values[0]}"))
        for one in HEADERS
    ],
)
def test_given_headers(given, expected):
    async def test(server: Server) -> None:
        await ask(server.port, "/status/200", given)
        found = [line.partition(":")[2].strip() for line in server.requests[0][1:] if line.split(":")[0] == given[0]]
        assert found == expected

    serve(test)


def test_repeated_header_is_sent_as_often_as_given():
    async def test(server: Server) -> None:
        await ask(server.port, "/status/200", ("X-A", "1"), ("X-A", "2"))
        assert header(server.requests[0], "X-A") == ["1", "2"]

    serve(test)


@pytest.mark.conformance("U-HTTP-13")
def test_late_answer_is_failure():
    async def test(server: Server) -> None:
        reply = await ask(server.port, "/never", timeout=0.1)
        assert reply.verdict is FAILURE
        assert "context deadline exceeded" in reply.output

    serve(test)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/stuck", "context deadline exceeded (Client.Timeout or context cancellation while reading body)"),
        ("/half", "unexpected EOF"),
    ],
)
def test_body_that_does_not_come_is_an_error_of_the_asking(path, text):
    """As in the kubelet: such a run is tried again, told, and counts for nothing."""

    async def test(server: Server) -> None:
        with pytest.raises(BodyError) as raised:
            await ask(server.port, path, timeout=0.5)
        assert str(raised.value) == text

    serve(test)


@pytest.mark.parametrize(
    ("code", "target", "verdict"),
    [
        pytest.param(code, f"/status/{target}", verdict, marks=pytest.mark.conformance(f"U-HTTP-{number}"))
        for number, code, target, verdict in [
            (14, 301, 200, SUCCESS),
            (15, 301, 500, FAILURE),
            (16, 302, 200, SUCCESS),
            (16, 302, 500, FAILURE),
            (17, 307, 200, SUCCESS),
            (17, 307, 500, FAILURE),
            (18, 308, 200, SUCCESS),
            (18, 308, 500, FAILURE),
            (19, 302, 302, WARNING),
        ]
    ],
)
def test_redirect_on_the_same_host(code, target, verdict):
    async def test(server: Server) -> None:
        assert (await ask(server.port, f"/to/{code}/{target}")).verdict is verdict

    serve(test)


@pytest.mark.conformance("U-HTTP-19")
@pytest.mark.conformance("U-HTTP-20")
@pytest.mark.parametrize("body", ["", "moved"])
def test_chain_that_ends_in_a_redirect_code_is_a_warning_with_the_body(body):
    async def test(server: Server) -> None:
        reply = await ask(server.port, f"/to/302/%2Fstatus%2F302%2F{body}")
        assert reply == ProbeReply(WARNING, f"Probe terminated redirects, Response body: {body}")

    serve(test)


@pytest.mark.conformance("U-HTTP-21")
@pytest.mark.conformance("U-HTTP-22")
@pytest.mark.parametrize(("code", "verdict"), [(200, SUCCESS), (500, FAILURE)])
@pytest.mark.parametrize("other_port", [False, True])
def test_redirect_by_whole_url_on_the_same_host_is_followed(code, verdict, other_port):
    async def test(server: Server, other: Server) -> None:
        port = other.port if other_port else server.port
        reply = await ask(server.port, f"/to/302/http:%2F%2F127.0.0.1:{port}%2Fstatus%2F{code}")
        assert reply.verdict is verdict
        assert len(other.requests) == other_port

    serve(test, servers=2)


@pytest.mark.conformance("U-HTTP-23")
def test_redirect_to_another_host():
    async def test(server: Server) -> None:
        path = f"/to/302/gone|http:%2F%2Flocalhost:{server.port}%2Fstatus%2F500"
        reply = await ask(server.port, path)
        assert reply == ProbeReply(WARNING, "Probe terminated redirects, Response body: gone")
        assert len(server.requests) == 1
        assert (await ask(server.port, path, follow_elsewhere=True)).verdict is FAILURE
        good = path.replace("%2F500", "%2F200")  # not in the port
        assert (await ask(server.port, good, follow_elsewhere=True)).verdict is SUCCESS

    serve(test)


@pytest.mark.conformance("U-HTTP-24")
def test_redirect_loop_is_failure():
    async def test(server: Server) -> None:
        reply = await ask(server.port, "/loop")
        assert reply.verdict is FAILURE
        assert "stopped after 10 redirects" in reply.output
        assert len(server.requests) == 10

    serve(test)


@pytest.mark.conformance("U-HTTP-25")
def test_host_header_survives_a_redirect():
    async def test(server: Server) -> None:
        await ask(server.port, "/to/302/%2Fstatus%2F200", ("Host", "muffins.cupcakes.org"))
        assert [header(one, "Host") for one in server.requests] == [["muffins.cupcakes.org"]] * 2

    serve(test)


@pytest.mark.conformance("U-HTTP-26")
@pytest.mark.parametrize("length", [10, BODY_LIMIT, BODY_LIMIT + 1, 3 * BODY_LIMIT])
def test_body_is_kept_to_its_limit(length):
    async def test(server: Server) -> None:
        reply = await ask(server.port, f"/big/{length}")
        assert (reply.verdict, len(reply.output)) == (SUCCESS, min(length, BODY_LIMIT))

    serve(test)


@pytest.mark.conformance("U-HTTP-27")
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"])
def test_proxies_are_ignored(monkeypatch, name):
    async def test(server: Server, proxy: Server) -> None:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await ask(server.port, "/status/200")).verdict is SUCCESS
        assert proxy.requests == []

    serve(test, servers=2)


def test_query_is_sent_and_nobody_there_is_failure():
    async def test(server: Server) -> None:
        await ask(server.port, "/status/200?a=b&c")
        assert server.requests[0][0] == "GET /status/200?a=b&c HTTP/1.1"

    serve(test)
    reply = asyncio.run(ask(1, "/"))
    assert reply == ProbeReply(FAILURE, 'Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused')
