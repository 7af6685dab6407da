"""U-PRB: where a probe goes and what a run amounts to; U-HKH: hooks, with a runtime that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minikubelet.api.types import Container, HTTPGetAction, Lifecycle, Pod, Probe
from minikubelet.lifecycle.observed import ContainerID
from minikubelet.runtime.hooks import HookRunner
from minikubelet.runtime.port import ExecResult, RuntimeFailure
from minikubelet.runtime.probes.ask import Asker
from minikubelet.runtime.probes.http import request_headers
from minikubelet.runtime.probes.result import ProbeReply, Verdict
from minikubelet.runtime.probes.target import TargetError, probe_url, resolve_port

PORTS = [{"name": "a", "containerPort": 123}, {"name": "b", "containerPort": 456}, {"name": "c", "containerPort": 80}]
ID = ContainerID("c1")


def container(**more: Any) -> Container:
    return msgspec.convert({"name": "main", "image": "host", "ports": PORTS, **more}, Container)


def pod(one: Container) -> Pod:
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"}}
    return msgspec.convert({**value, "spec": {"containers": [msgspec.to_builtins(one)]}}, Pod)


class Runtime:
    """Answers each exec with the same result, and notes what was asked."""

    def __init__(self, result: ExecResult | Exception) -> None:
        self.result = result
        self.asked: list[tuple[str, tuple[str, ...], float | None]] = []

    async def exec(self, pod: Pod, container_id: ContainerID, command: tuple[str, ...], *, timeout_s: Any, limit: int):
        self.asked.append((container_id, command, timeout_s))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("scheme", "host", "port", "path", "expected"),
    [
        pytest.param(*row, marks=pytest.mark.conformance(f"U-PRB-{number}"))
        for number, *row in [
            (1, "HTTP", "localhost", 93, "", "http://localhost:93"),
            (2, "HTTPS", "localhost", 93, "/path", "https://localhost:93/path"),
            (3, "HTTP", "localhost", 93, "?foo", "http://localhost:93?foo"),
            (4, "HTTPS", "localhost", 93, "/path?bar", "https://localhost:93/path?bar"),
            (9, "HTTP", "", "a", "/", "http://10.0.0.1:123/"),
            (10, "HTTP", "", 76, "/", "http://10.0.0.1:76/"),
            (11, "HTTP", "", "118", "/", "http://10.0.0.1:118/"),
            (12, "HTTP", "foo.example.com", 80, "/", "http://foo.example.com:80/"),
        ]
    ],
)
def test_urls(scheme, host, port, path, expected):
    assert probe_url(HTTPGetAction(path=path, port=port, host=host, scheme=scheme), container(), "10.0.0.1") == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("healthz", "http://[fd00::1]:80/healthz"),
        ("/a b/ü", "http://[fd00::1]:80/a%20b/%C3%BC"),
        ("/a%20b?c=%20", "http://[fd00::1]:80/a%20b?c=%20"),
        ("/a#b", "http://[fd00::1]:80/a"),
        ("/100%", "http://[fd00::1]:80/100%25"),
        ("/%zz!?a=%20", "http://[fd00::1]:80/%25zz%21%3Fa=%2520"),
        ("/a?b=%zz", "http://[fd00::1]:80/a?b=%zz"),
    ],
)
def test_urls_are_escaped_and_of_ipv6(path, expected):
    assert probe_url(HTTPGetAction(path=path, port=80), container(), "fd00::1") == expected


@pytest.mark.parametrize(
    ("port", "message"),
    [
        pytest.param(-1, "invalid port number: -1", marks=pytest.mark.conformance("U-PRB-5")),
        pytest.param("", 'strconv.Atoi: parsing "": invalid syntax', marks=pytest.mark.conformance("U-PRB-6")),
        pytest.param("-1", "invalid port number: -1", marks=pytest.mark.conformance("U-PRB-7")),
        pytest.param(
            "not-found", 'strconv.Atoi: parsing "not-found": invalid syntax', marks=pytest.mark.conformance("U-PRB-8")
        ),
        pytest.param(0, "invalid port number: 0"),
        pytest.param(65536, "invalid port number: 65536"),
    ],
)
@pytest.mark.conformance("U-HKH-1")
def test_ports_that_there_are_not(port, message):
    with pytest.raises(TargetError) as raised:
        resolve_port(port, container())
    assert str(raised.value) == message


@pytest.mark.conformance("U-PRB-13")
@pytest.mark.conformance("U-PRB-14")
def test_headers():
    assert request_headers([], user_agent="") == (("User-Agent", ""), ("Accept", "*/*"))
    given = [("X-Muffins", "Cinnamon"), ("X-Muffins", "Apple")]
    assert request_headers(given, user_agent="k")[:2] == tuple(given)


def ask(probe: dict[str, Any], runtime: Runtime, **more: Any) -> ProbeReply:
    """Ask once, as the prober does."""
    one = container(**more)
    spec = msgspec.convert({"timeoutSeconds": 1, "periodSeconds": 1, **probe}, Probe)
    asker = Asker(runtime, version="1", pod_ips=lambda _: ["127.0.0.1"])  # type: ignore[arg-type]

    async def run() -> ProbeReply:
        answer = asker.prepare(pod(one), one, spec, ID)()
        return answer if isinstance(answer, ProbeReply) else await answer()

    return asyncio.run(run())


EXEC = {"exec": {"command": ["$(A)", "b c", ""]}}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(
            ExecResult(exit_code=0, output=b"fine"),
            ProbeReply(Verdict.SUCCESS, "fine"),
            marks=pytest.mark.conformance("U-PRB-18"),
        ),
        pytest.param(
            ExecResult(exit_code=1, output=b"no\xff"),
            ProbeReply(Verdict.FAILURE, "no�"),
            marks=pytest.mark.conformance("U-PRB-17"),
        ),
        (
            ExecResult(exit_code=137, output=b"begun", timed_out=True),
            ProbeReply(Verdict.FAILURE, 'command timed out: "$(A) b c " timed out after 1s'),
        ),
    ],
)
@pytest.mark.conformance("U-PRB-21")
def test_exec(result, expected):
    runtime = Runtime(result)
    assert ask(EXEC, runtime) == expected
    # The very words: no shell; a variable that there is not stays as it is written.
    assert runtime.asked == [("c1", ("$(A)", "b c", ""), 1.0)]


def test_time_over_is_told_as_go_tells_it():
    late = Runtime(ExecResult(exit_code=137, timed_out=True))
    reply = ask({"exec": {"command": ["sh", "-c", 'echo "a"']}, "timeoutSeconds": 90}, late)
    assert reply.output == 'command timed out: "sh -c echo \\"a\\"" timed out after 1m30s'


def test_exec_knows_the_variables_whose_values_are_written_down():
    """The kubelet looks at `value` alone: what another variable or object gives is not looked up."""
    env = [
        {"name": "A", "value": "a"},
        {"name": "B", "value": "$(A)b"},
        {"name": "C", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
    ]
    runtime = Runtime(ExecResult(exit_code=0))
    ask({"exec": {"command": ["$(A)", "$(B)", "-$(C)-", "$(D)", "$$(A)"]}}, runtime, env=env)
    assert runtime.asked == [("c1", ("a", "$(A)b", "--", "$(D)", "$(A)"), 1.0)]


@pytest.mark.conformance("U-PRB-16")
@pytest.mark.conformance("U-PRB-20")
@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (EXEC, "gone"),
        ({}, "missing probe handler for p_n:main"),
        ({"httpGet": {"port": "x"}}, 'strconv.Atoi: parsing "x": invalid syntax'),
        ({"tcpSocket": {"port": "x"}}, 'strconv.Atoi: parsing "x": invalid syntax'),
    ],
)
def test_asking_that_fails_is_an_error(probe, message):
    with pytest.raises(RuntimeFailure) as raised:
        ask(probe, Runtime(RuntimeFailure("gone")))
    assert str(raised.value) == message


def test_tcp():
    runtime = Runtime(RuntimeFailure("not asked"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert ask({"tcpSocket": {"port": port}}, runtime) == ProbeReply(Verdict.SUCCESS)
        assert ask({"tcpSocket": {"port": str(port), "host": "localhost"}}, runtime) == ProbeReply(Verdict.SUCCESS)
    refused = ProbeReply(Verdict.FAILURE, f"dial tcp 127.0.0.1:{port}: connect: connection refused")
    assert ask({"tcpSocket": {"port": port}}, runtime) == refused


@pytest.mark.parametrize("probe", ["tcpSocket", "httpGet"])
def test_a_server_sees_a_probe_end_and_not_break_off(probe: str):
    """A reset would be an error in the log of many a server, at each period."""
    runtime = Runtime(RuntimeFailure("not asked"))
    ends: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            if probe == "httpGet":
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            ends.append(connection.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        handler = {probe: {"port": listening.getsockname()[1], "host": "127.0.0.1"}}
        assert ask(handler, runtime).verdict is Verdict.SUCCESS
        server.join(10)
    assert ends == [b""]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name stand for these addresses, in this order."""

    def found(host: str, port: int, *_: Any) -> list[Any]:
        kinds = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in addresses]
        return [(family, socket.SOCK_STREAM, 6, "", (one, port)) for family, one in kinds]

    monkeypatch.setattr(socket, "getaddrinfo", found)


needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="the kernel has no IPv6")


@needs_ipv6
@pytest.mark.parametrize(
    "addresses", [("127.0.0.9", "127.0.0.1"), ("::1", "127.0.0.1"), ("::1", "127.0.0.9", "127.0.0.1")]
)
def test_every_address_of_a_name_is_tried(monkeypatch, addresses):
    resolve_to(monkeypatch, *addresses)
    runtime = Runtime(RuntimeFailure("not asked"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        reply = ask({"tcpSocket": {"port": port, "host": "db.test"}}, runtime)
    assert reply == ProbeReply(Verdict.SUCCESS)
    refused = ask({"tcpSocket": {"port": port, "host": "db.test"}}, runtime)
    first = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    assert refused == ProbeReply(Verdict.FAILURE, f"dial tcp {first}:{port}: connect: connection refused")


@needs_ipv6
def test_an_address_that_does_not_answer_is_not_waited_for(monkeypatch):
    resolve_to(monkeypatch, "127.0.0.1", "::1")
    runtime = Runtime(RuntimeFailure("not asked"))
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = deaf.getsockname()[1]
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))  # the one that may wait to be accepted
        stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6))
        assert ask({"tcpSocket": {"port": port, "host": "db.test"}}, runtime) == ProbeReply(Verdict.SUCCESS)


def test_a_pod_on_the_hosts_network_is_asked_where_the_node_is_now():
    one = container()
    spec = msgspec.convert({"timeoutSeconds": 1, "periodSeconds": 1, "tcpSocket": {"port": 9}}, Probe)
    addresses: list[str] = []
    asker = Asker(Runtime(RuntimeFailure("")), version="1", pod_ips=lambda _: addresses)  # type: ignore[arg-type]
    placed = msgspec.structs.replace(pod(one).spec, host_network=True)
    asked = asker.prepare(msgspec.structs.replace(pod(one), spec=placed), one, spec, ID)

    async def run() -> list[str]:
        found = []
        for one in ("127.0.0.2", "127.0.0.3"):
            addresses[:] = [one]
            answer = asked()
            found.append((answer if isinstance(answer, ProbeReply) else await answer()).output)
        return found

    assert asyncio.run(run()) == [f"dial tcp 127.0.0.{n}:9: connect: connection refused" for n in (2, 3)]


def hook(handler: dict[str, Any], runtime: Runtime) -> str:
    """Run a postStart hook; return its failure's text, "" for success."""
    one = container(lifecycle={"postStart": handler})
    assert isinstance(one.lifecycle, Lifecycle)
    runner = HookRunner(runtime, version="1", pod_ips=lambda _: [], on_http_fallback=lambda _pod, _host: None)  # type: ignore[arg-type]

    async def run() -> str:
        try:
            await runner.post_start(pod(one), one, ID)
        except RuntimeFailure as failure:
            return str(failure)
        return ""

    return asyncio.run(run())


@pytest.mark.conformance("U-HKH-2")
def test_exec_hook_gets_its_container_and_the_very_words_and_no_limit():
    runtime = Runtime(ExecResult(exit_code=0))
    assert hook({"exec": {"command": ["ls", "-a x"]}}, runtime) == ""
    assert runtime.asked == [("c1", ("ls", "-a x"), None)]


@pytest.mark.conformance("U-HKH-3")
def test_path_of_an_http_hook_gets_its_slash():
    assert probe_url(HTTPGetAction(path="bar", port=8080, host="foo"), container(), "") == "http://foo:8080/bar"


@pytest.mark.conformance("U-HKH-4")
@pytest.mark.parametrize("handler", [{}, {"tcpSocket": {"port": 80}}])
def test_handler_that_cannot_be_run(handler):
    text = hook(handler, Runtime(RuntimeFailure("")))
    assert text == f"Cannot run handler: invalid handler: {'tcpSocket' if handler else 'none'}"


@pytest.mark.conformance("U-HKH-5")
def test_failure_of_an_exec_hook():
    runtime = Runtime(ExecResult(exit_code=3, output=b'\x1b say "no"\nwhy\n', stderr=b"why\n"))
    assert hook({"exec": {"command": ["ls", "-a"]}}, runtime) == (
        'Exec lifecycle hook ([ls -a]) for Container "main" in Pod "p_n(u)" failed - error: command \'ls -a\' exited '
        'with 3: why\n, message: "\\x1b say \\"no\\"\\nwhy\\n"'
    )


@pytest.mark.conformance("U-HKH-6")
def test_failure_of_an_http_hook():
    text = hook({"httpGet": {"path": "bar", "port": 1, "host": "127.0.0.1"}}, Runtime(RuntimeFailure("")))
    assert text == (
        'HTTP lifecycle hook (bar) for Container "main" in Pod "p_n(u)" failed - error: '
        'Get "http://127.0.0.1:1/bar": dial tcp 127.0.0.1:1: connect: connection refused'
    )
    unknown = hook({"httpGet": {"path": "/", "port": "x", "host": "127.0.0.1"}}, Runtime(RuntimeFailure("")))
    assert unknown == (
        'HTTP lifecycle hook (/) for Container "main" in Pod "p_n(u)" failed - error: '
        'strconv.Atoi: parsing "x": invalid syntax'
    )
    homeless = hook({"httpGet": {"path": "/", "port": 1}}, Runtime(RuntimeFailure("")))
    assert homeless.endswith("failed - error: failed to find networking container: pod has no IP")
