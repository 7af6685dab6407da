import asyncio
import contextlib
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from minikubelet.runtime.probes.http import HttpError, http_get
from minikubelet.runtime.probes.http_answer import HttpReply

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LONG = b"x" * 300_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    base = tmp_path_factory.mktemp("certificate")
    key, made = base / "key", base / "cert"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=nobody"]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@contextlib.asynccontextmanager
async def served(serve: Serve, certificate: tuple[Path, Path] | None) -> AsyncIterator[int]:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    body = LONG if b"/long" in head else head.split(b"\r\n")[0]
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
    await writer.drain()
    writer.close()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def get(serve: Serve, certificate: tuple[Path, Path] | None, path: str, *, timeout_s: float = 20) -> HttpReply:
    async def ask() -> HttpReply:
        async with served(serve, certificate) as port:
            return await http_get(f"https://localhost:{port}{path}", (), timeout_s=timeout_s)

    return asyncio.run(ask())


def test_what_is_asked_and_answered_is_encrypted(certificate):
    reply = get(answer, certificate, "/here?a=b")
    assert (reply.status, reply.body) == (200, b"GET /here?a=b HTTP/1.1")


def test_a_long_answer_comes(certificate):
    reply = get(answer, certificate, "/long")
    assert len(reply.body) >= 10_000
    assert set(reply.body) == set(LONG)


def test_who_does_not_speak_it_is_said_so():
    with pytest.raises(HttpError, match=r"server gave HTTP response to HTTPS client$"):
        get(refuse, None, "/")


def test_who_hangs_up_before_it_began_is_said_so():
    with pytest.raises(HttpError, match=r'^Get "https://localhost:\d+/": EOF$'):
        get(hang_up, None, "/")


def test_who_says_nothing_is_waited_for_until_the_time_is_over():
    with pytest.raises(HttpError, match=r"context deadline exceeded"):
        get(say_nothing, None, "/", timeout_s=0.1)


HIDDEN = """
from minikubelet.runtime.probes import tls
with tls.hidden():
    import asyncio, hashlib, sys
    import aiohttp.web
assert "libssl" not in open("/proc/self/maps").read()
assert asyncio.sslproto.ssl is None
assert len(hashlib.sha256(b"").hexdigest()) == 64
from minikubelet.runtime.probes.http import http_get
print(asyncio.run(http_get(sys.argv[1], (), timeout_s=20)).status)
import prometheus_client, ssl, urllib.request
assert urllib.request.HTTPSHandler
assert ssl.create_default_context()
"""


def test_the_library_comes_with_the_first_probe(certificate):
    async def ask() -> bytes:
        async with served(answer, certificate) as port:
            arguments = [sys.executable, "-c", HIDDEN, f"https://127.0.0.1:{port}/"]
            asked = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
            said, _ = await asked.communicate()
            assert asked.returncode == 0
            return said

    assert asyncio.run(ask()) == b"200\n"
