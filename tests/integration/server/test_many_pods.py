"""A node with hundreds of pods, of which it has room for one: lists in pages, and readers that do not read."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.integration.server.conftest import TABLE, Api

pytestmark = [pytest.mark.root, pytest.mark.anyio]

CONFIG = "maxPods: 1\n"
COUNT = 400
READERS = 100
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p%03d, labels: {group: g%d}, annotations: {text: TEXT}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: host, command: [sleep, '1000']}
"""
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def crowd(cluster):
    """The node with all its pods known."""
    cluster.write(
        "all.yaml", "---".join(POD % (number, number % 4) for number in range(COUNT)).replace("TEXT", "x" * 4096)
    )
    status = cluster.run_dir / "status"
    cluster.wait(lambda: len(list(status.glob("*.json"))) == COUNT, "all pods to be published", 60.0)
    table = cluster.run_dir / "status.txt"
    cluster.wait(lambda: table.read_text().count(" Running ") == 1, "the one that has room to run", 60.0)
    return cluster


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has in use."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def test_pages_together_are_the_list(api: Api, crowd) -> None:
    whole = await api.get(PODS)
    assert len(whole["items"]) == COUNT
    found, token, versions = [], "", set()
    for _ in range(COUNT):
        page = await api.get(PODS, limit=37, **({"continue": token} if token else {}))
        found += [one["metadata"]["name"] for one in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert found == [one["metadata"]["name"] for one in whole["items"]]
    assert len(versions) == 1
    assert len((await api.get(PODS, labelSelector="group=g3"))["items"]) == COUNT // 4
    _, table = await api.ask(PODS, accept=TABLE, limit=500)
    assert len(table["rows"]) == COUNT
    assert len((await api.get("/pods"))["items"]) == COUNT


async def test_command_line_stays_readable(crowd) -> None:
    lines = crowd.cli("get", "pods", "--no-headers").stdout.splitlines()
    assert len(lines) == COUNT
    page = crowd.cli("status").stdout
    assert len(page.splitlines()) < 40
    assert f"and {COUNT - 1 - 20} more pods that are not well" in page


@pytest.mark.parametrize("path", [PODS, "/pods", f"{PODS}?watch=true"])
async def test_readers_that_do_not_read_cost_little(api: Api, crowd, path: str) -> None:
    size = len(await (await api.session.get(f"http://node{PODS}")).read())
    before = resident(crowd.process.pid)
    readers = []
    try:
        for _ in range(READERS):
            reader = socket.socket(socket.AF_UNIX)
            readers.append(reader)
            reader.settimeout(20)
            reader.connect(str(crowd.run_dir / "minikubelet.sock"))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert reader.recv(12) == b"HTTP/1.1 200"  # it has begun to answer, and gets no further
        assert (await api.ask("/livez"))[0] == 200
        assert resident(crowd.process.pid) - before < READERS * size / 4
    finally:
        for reader in readers:
            reader.close()
