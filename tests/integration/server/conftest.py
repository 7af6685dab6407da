"""A client of one node's socket, and pods to look at that all tests of a module share."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from tests.conftest import Node

Json = dict[str, Any]

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class Api:
    """Talks to the daemon of a test."""

    def __init__(self, node: Node, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.session = session

    async def ask(self, path: str, *, method: str = "GET", accept: str = "application/json", **query: Any) -> Any:
        """Return the status and the JSON (or text) of an answer."""
        headers = {"Accept": accept}
        async with self.session.request(method, f"http://node{path}", params=query, headers=headers) as response:
            text = await response.text()
            is_json = response.content_type.startswith("application/json")
            return response.status, json.loads(text) if is_json else text

    async def get(self, path: str, **query: Any) -> Any:
        """Return an answer that must be a success."""
        status, body = await self.ask(path, **query)
        assert status == 200, body
        return body

    @contextlib.asynccontextmanager
    async def watch(self, path: str, *, accept: str = "application/json", **query: Any) -> AsyncIterator[Any]:
        """Give a coroutine function that returns the next event of a watch, None at its end."""
        async with self.session.get(
            f"http://node{path}", params={"watch": "true", **query}, headers={"Accept": accept}
        ) as response:
            assert response.status == 200, await response.text()

            async def following() -> Json | None:
                line = await response.content.readline()
                return json.loads(line) if line else None

            yield following

    @contextlib.asynccontextmanager
    async def socket(
        self, path: str, *protocols: str, query: list[tuple[str, str]]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket."""
        async with self.session.ws_connect(
            f"http://node{path}", params=query, protocols=protocols or ("v5.channel.k8s.io",)
        ) as web_socket:
            yield web_socket

    async def run(self, pod: str, *command: str, **options: Any) -> tuple[bytes, bytes, Json]:
        """Run a command in a pod; return what it printed and the final status."""
        query = [("command", one) for one in command] + [("stdout", "true"), ("stderr", "true"), *options.items()]
        output = {1: b"", 2: b"", 3: b""}
        async with self.socket(f"{pod_path(pod)}/exec", query=query) as web_socket:
            async for message in web_socket:
                output[message.data[0]] += message.data[1:]
        return output[1], output[2], json.loads(output[3])


def pod_path(name: str) -> str:
    """Return the path of a pod by its manifest's name."""
    return f"/api/v1/namespaces/default/pods/{name}-n1"


@pytest.fixture
async def api(cluster: Node) -> AsyncIterator[Api]:
    connector = aiohttp.UnixConnector(str(cluster.run_dir / "minikubelet.sock"), limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Api(cluster, session)


PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: host
    workingDir: /srv
    env: [{name: COLOUR, value: blue}]
    command: [sh, -c, 'echo line1; echo line2 >&2; echo line3; sleep 1000']
---
apiVersion: v1
kind: Pod
metadata: {name: pair, labels: {app: pair}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: first, image: host, command: [echo, prepared]}
  containers:
  - {name: a, image: host, command: [sh, -c, 'echo from a; sleep 1000']}
  - {name: b, image: host, command: [sh, -c, 'echo from b; sleep 1000'], securityContext: {runAsUser: 65534}}
---
apiVersion: v1
kind: Pod
metadata: {name: job, labels: {app: job}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: host, command: [sh, -c, 'echo done; exit 4']}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, size: large}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {password: hunter2}
"""


@pytest.fixture(scope="module")
def pods(cluster: Node) -> Iterator[Node]:
    """The node with `web`, `pair` and `job` on it, which have said what they have to say."""
    cluster.write("pods.yaml", PODS)
    for name, phase, said in (
        ("web", "Running", {"main": 3}),
        ("pair", "Running", {"first": 1, "a": 1, "b": 1}),
        ("job", "Failed", {"main": 1}),
    ):
        found = cluster.wait_pod(name, lambda pod, phase=phase: pod["status"]["phase"] == phase, f"{name} {phase}")
        for container, lines in said.items():
            cluster.wait(
                lambda found=found, container=container, lines=lines: (
                    cluster.output(found, container).count("\n") == lines
                ),
                f"the output of {name}",
            )
    yield cluster


@pytest.fixture(scope="module")
def port(cluster: Node) -> Iterator[int]:
    """A loopback port that leads to the socket: the client knows no Unix sockets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(cluster.run_dir / "minikubelet.sock"))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
