"""The PyPI `kubernetes` client against this API, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.stream import portforward, stream

from tests.conftest import Node
from tests.integration.server.conftest import Api, pod_path

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("pods")]

_POD = {"name": "web-n1", "namespace": "default"}


@pytest.fixture
def core(port: int) -> Any:
    configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{port}")
    return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration))


def test_lists_reads_and_events(core: Any) -> None:
    pods = core.list_pod_for_all_namespaces(label_selector="app=web").items
    assert [(one.metadata.name, one.status.phase) for one in pods] == [("web-n1", "Running")]
    assert core.read_namespaced_pod(**_POD).spec.containers[0].name == "main"
    assert [one.metadata.name for one in core.list_node().items] == ["n1"]
    assert core.read_node("n1").status.node_info.operating_system == "linux"
    events = core.list_namespaced_event("default", field_selector="involvedObject.name=web-n1").items
    assert {one.reason for one in events} >= {"Created", "Started"}
    assert "default" in [one.metadata.name for one in core.list_namespace().items]
    assert core.read_namespaced_config_map("settings", "default").data["size"] == "large"


def test_logs_and_watch(core: Any) -> None:
    assert sorted(core.read_namespaced_pod_log(**_POD).splitlines()) == ["line1", "line2", "line3"]
    watch = kubernetes.watch.Watch()
    seen = [
        event["object"].metadata.name
        for event in watch.stream(core.list_namespaced_pod, "default", label_selector="app=web", timeout_seconds=1)
    ]
    assert seen == ["web-n1"]
    lines = list(kubernetes.watch.Watch().stream(core.read_namespaced_pod_log, "job-n1", "default"))
    assert lines == ["done"]


def test_exec(core: Any) -> None:
    command = ["sh", "-c", "read x; echo got $x; echo oops >&2; exit 5"]
    call = core.connect_get_namespaced_pod_exec
    client = stream(
        call, **_POD, command=command, stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False
    )
    client.write_stdin("word\n")
    client.run_forever(timeout=20)
    assert (client.read_stdout(), client.read_stderr(), client.returncode) == ("got word\n", "oops\n", 5)


def test_port_forward(core: Any) -> None:
    serve = "h.HTTPServer(('127.0.0.1', 8000), h.SimpleHTTPRequestHandler)"
    script = f"import http.server as h; s = {serve}; print('ready', flush=True); s.serve_forever()"
    command = ["sh", "-c", f'cd /usr/share/doc && exec python3 -c "{script}" 2>/dev/null']
    call = core.connect_get_namespaced_pod_exec
    server = stream(call, **_POD, command=command, stdout=True, _preload_content=False)
    assert server.readline_stdout(timeout=30) == "ready"
    forward = portforward(core.connect_get_namespaced_pod_portforward, **_POD, ports="8000")
    connection = forward.socket(8000)
    connection.settimeout(20)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while data := connection.recv(65536):
        answer += data
    assert answer.startswith(b"HTTP/1.0 200"), forward.error(8000)
    server.close()


def test_delete_is_refused_with_the_file_to_remove(core: Any, cluster: Node) -> None:
    with pytest.raises(kubernetes.client.ApiException) as caught:
        core.delete_namespaced_pod(**_POD)
    assert caught.value.status == 403
    assert str(cluster.manifests / "pods.yaml") in caught.value.body


# Clients that mean no good


def raw(node: Node) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(str(node.run_dir / "minikubelet.sock"))  # waits while the queue of the listener is full
    one.settimeout(30)
    return one


def test_only_root_may_connect(cluster: Node) -> None:
    assert (cluster.run_dir / "minikubelet.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\x80 garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(500)) + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    ],
)
def test_garbage_is_answered_or_cut_off(cluster: Node, data: bytes) -> None:
    with raw(cluster) as one:
        try:
            one.sendall(data)
            answer = one.recv(65536)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.split()[1].startswith(b"4")


def test_too_many_connections_are_turned_away_and_the_next_is_served(cluster: Node) -> None:
    held = []
    try:
        while True:
            held.append(raw(cluster))
            held[-1].setblocking(False)
            try:
                refusal = held[-1].recv(100)
            except BlockingIOError:
                refusal = b""
            if refusal or len(held) > 300:
                break
        answers = []
        for one in held[-30:]:
            one.settimeout(10)
            try:
                answers.append(one.recv(100))
            except TimeoutError:
                break
        assert b"429" in b"".join(answers) + refusal
    finally:
        for one in held:
            one.close()
    cluster.wait(lambda: _status(cluster, "/healthz") == 200, "an answer")


@pytest.mark.anyio
async def test_a_watch_that_does_not_read_costs_little_and_others_are_served(api: Api) -> None:
    assert api.node.process is not None
    before = _resident(api.node.process.pid)
    stuck = []
    for _ in range(20):
        one = raw(api.node)
        one.sendall(b"GET /api/v1/pods?watch=1&includeObject=Object HTTP/1.1\r\nHost: x\r\n\r\n")
        stuck.append(one)
    for number in range(20):
        api.node.write("busy.yaml", _busy(number))
        await asyncio.to_thread(
            api.node.wait_pod, "busy", lambda pod, n=number: pod["metadata"]["labels"]["round"] == str(n), "it"
        )
    async with asyncio.timeout(40):
        await api.get(pod_path("web"))
    assert _resident(api.node.process.pid) - before < 30_000_000
    for one in stuck:
        one.close()
    api.node.remove("busy.yaml")


@pytest.mark.anyio
async def test_huge_and_broken_messages_end_only_their_stream(api: Api) -> None:
    query = [("command", "cat"), ("stdin", "true"), ("stdout", "true")]
    async with asyncio.timeout(30), api.socket(f"{pod_path('web')}/exec", query=query) as web_socket:
        with contextlib.suppress(ConnectionError):  # it is cut off while we still send
            await web_socket.send_bytes(b"\0" * 3_000_000)
        async for _ in web_socket:
            pass
        assert web_socket.close_code in (1009, 1006)  # the end of what was sent is in its way
    output, _, _ = await api.run("web", "echo", "served")
    assert output == b"served\n"


def _busy(number: int) -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: busy, labels: {{round: "{number}"}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: host, command: [sleep, "1000"]}}]
"""


def _status(node: Node, path: str) -> int:
    with raw(node) as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = one.recv(1000)
    return int(answer.split()[1]) if answer else 0


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
