"""Logs over the socket: what kubectl asks for, follows that end with their container, and the exact refusals."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.server.conftest import Api, pod_path

pytestmark = [pytest.mark.root, pytest.mark.anyio, pytest.mark.usefixtures("pods")]

LOG = f"{pod_path('web')}/log"


def manifest(name: str, command: str, policy: str = "Never") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: host, command: [sh, -c, {command!r}]}}
"""


async def test_parameters(api: Api) -> None:
    assert sorted((await api.get(LOG)).splitlines()) == ["line1", "line2", "line3"]
    assert await api.get(LOG, tailLines=0) == ""
    assert len((await api.get(LOG, tailLines=1)).splitlines()) == 1
    assert await api.get(LOG, stream="Stderr") == "line2\n"
    assert await api.get(LOG, stream="Stdout", limitBytes=9) == "line1\nlin"
    stamped = await api.get(LOG, timestamps="true", stream="Stderr")
    assert await api.get(LOG, sinceTime=stamped.split(" ")[0], stream="Stderr") == "line2\n"
    assert await api.get(LOG, sinceTime="2100-01-01T00:00:00Z") == ""
    assert await api.get(f"{pod_path('pair')}/log", container="first") == "prepared\n"
    assert await api.get(f"{pod_path('job')}/log", follow="true") == "done\n"


@pytest.mark.conformance("POD-07")
async def test_over_a_web_socket(api: Api) -> None:
    query = [("container", "main"), ("stream", "Stderr")]
    async with api.socket(LOG, "binary.k8s.io", query=query) as web_socket:
        assert b"".join([message.data async for message in web_socket]) == b"line2\n"
        assert web_socket.close_code == 1000


@pytest.mark.parametrize(
    ("pod", "query", "code", "text"),
    [
        ("nope", {}, 404, 'pods "nope-n1" not found'),
        ("pair", {}, 400, "a container name must be specified for pod pair-n1, choose one of: [a b]"),
        ("web", {"container": "x"}, 400, "container x is not valid for pod web-n1"),
        ("web", {"previous": "true"}, 400, 'previous terminated container "main" in pod "web-n1" not found'),
        ("web", {"tailLines": "-1"}, 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
    ],
)
async def test_refusals(api: Api, pod: str, query: dict[str, str], code: int, text: str) -> None:
    status, body = await api.ask(f"{pod_path(pod)}/log", **query)
    assert (status, body["kind"]) == (code, "Status")
    assert text in body["message"]


async def test_container_that_waits(api: Api) -> None:
    text = manifest("waits", "echo x").replace(
        "containers:", "initContainers:\n  - {name: i, image: host, command: [sleep, '1000']}\n  containers:"
    )
    api.node.write("waits.yaml", text)
    api.node.wait_pod("waits", lambda pod: bool(pod["status"].get("initContainerStatuses")), "a status")
    status, body = await api.ask(f"{pod_path('waits')}/log", container="main")
    assert (status, body["message"]) == (
        400,
        'container "main" in pod "waits-n1" is waiting to start: PodInitializing',
    )
    api.node.remove("waits.yaml")


async def test_follow_ends_with_the_container_and_previous_is_kept(api: Api) -> None:
    api.node.write(
        "twice.yaml", manifest("twice", "echo run $(date +%N); read x </dev/null; sleep 0.5; exit 1", "Always")
    )
    api.node.wait_pod("twice", lambda pod: pod["status"]["phase"] == "Running", "Running")
    async with asyncio.timeout(30):
        followed = await api.get(f"{pod_path('twice')}/log", follow="true")
    assert followed.startswith("run ")
    api.node.wait_pod("twice", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] >= 1, "a restart")
    previous = await api.get(f"{pod_path('twice')}/log", previous="true")
    assert previous.startswith("run ")
    api.node.remove("twice.yaml")


async def test_follow_brings_lines_as_they_come_and_survives_rotation(api: Api) -> None:
    command = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); head -c 300000 /dev/zero | tr '\\0' x; echo; echo $i; done"
    api.node.write("much.yaml", manifest("much", command))
    api.node.wait_pod("much", lambda pod: pod["status"]["phase"] in ("Running", "Succeeded"), "Running")
    numbers: list[int] = []
    async with asyncio.timeout(60), api.session.get(f"http://node{pod_path('much')}/log?follow=1") as response:
        rest = b""
        async for block in response.content.iter_any():
            *lines, rest = (rest + block).split(b"\n")
            numbers += [int(line) for line in lines if line.isdigit()]
    # What was rotated away before the follow began is not of the live file; from there on nothing is missing.
    assert numbers == list(range(numbers[0], 41))
    api.node.remove("much.yaml")


@pytest.mark.conformance("U-LOG-12")
@pytest.mark.conformance("U-LOG-13")
@pytest.mark.conformance("U-LOG-14")
async def test_following_what_has_ended_ends(api: Api) -> None:
    path = f"{pod_path('job')}/log"
    async with asyncio.timeout(40):
        assert await api.get(path, follow="true") == "done\n"
        assert await api.get(path, follow="true", tailLines=1) == "done\n"
        assert await api.get(path, follow="true", sinceTime="2100-01-01T00:00:00Z") == ""
