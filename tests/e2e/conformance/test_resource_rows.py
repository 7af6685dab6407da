"""NODE rows on processes and memory, and what fills a node up: all pods run side by side below one podPidsLimit."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]
PIDS = 60
FOR_PODS = 700 << 20
RESERVED = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") - FOR_PODS
CONFIG = f"podPidsLimit: {PIDS}\nsystemReserved: {{memory: '{RESERVED}'}}\n"
DD = "dd if=/dev/zero of=/dev/null bs=20M"


def container(name: str, script: str, **more: Any) -> Json:
    return {"name": name, "image": "host", "command": ["sh", "-c", script], **more}


def pod(name: str, *containers: Json, **spec: Any) -> str:
    whole = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole})


def limited(**limits: str) -> Json:
    return {"resources": {"limits": {name.replace("_", "-"): value for name, value in limits.items()}}}


BOMB = """
import os, time
while True:
    try: os.fork()
    except OSError: time.sleep(0.05)
"""

PODS = {
    "two": pod(
        "two",
        container("one", "sleep inf", **limited(cpu="100m", memory="64Mi")),
        container("main", "sleep inf", resources={"requests": {"cpu": "250m"}}),
    ),
    "oom": pod("oom", container("main", f"sleep 0.5 && {DD}", **limited(memory="15Mi"))),
    "oom-init": pod(
        "oom-init", container("main", "true"), initContainers=[container("first", DD, **limited(memory="15Mi"))]
    ),
    "oom-child": pod("oom-child", container("main", f"({DD}; true); echo survived; exit 3", **limited(memory="15Mi"))),
    "oom-pod": pod(
        "oom-pod", container("main", DD), container("other", "sleep inf"), resources={"limits": {"memory": "15Mi"}}
    ),
    "oom-node": pod("oom-node", container("main", "dd if=/dev/zero of=/dev/null bs=2G count=1")),
    "bomb": pod(
        "bomb",
        container("other", "sleep inf"),  # first: beside the bomb nothing could be started any more
        {"name": "main", "image": "host", "command": ["python3", "-c", BOMB]},  # a shell ends when it cannot fork
        restartPolicy="Always",
    ),
    "layer": pod(
        "layer",
        container(
            "main",
            "dd if=/dev/zero of=/big bs=1M count=20; stat -c %s /big; rm /big; echo x >/small && cat /small",
            **limited(ephemeral_storage="4Mi"),
        ),
    ),
    "usage": pod("usage", container("main", "head -c 3000000 /dev/zero >/file; while :; do :; done")),
}


def ended(cluster: Any, name: str, phase: str) -> Json:
    found: Json = cluster.wait_pod(name, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"), "its end", 60)
    assert found["status"]["phase"] == phase, found["status"]
    return found


def running(cluster: Any, name: str) -> Json:
    found: Json = cluster.wait_pod(name, lambda p: p["status"]["phase"] == "Running", "running", 60)
    return found


def how(found: Json, container_name: str, kind: str = "containerStatuses") -> tuple[int, str]:
    status = next(one for one in found["status"][kind] if one["name"] == container_name)
    return status["state"]["terminated"]["exitCode"], status["state"]["terminated"]["reason"]


def group(cluster: Any, found: Json, file: str, container_id: str = "") -> Path:
    """Return a file of a pod's (or its container's) control group."""
    ending = f"/pod{found['metadata']['uid']}/{container_id}".rstrip("/")
    for directory, _, files in os.walk("/sys/fs/cgroup"):  # passes over what goes away meanwhile
        if directory.endswith(ending) and f"/kubepods-{cluster.bridge}/" in directory and file in files:
            return Path(directory, file)
    raise AssertionError(f"no {file} in a control group {ending}")


@pytest.mark.conformance("NODE-08")
@pytest.mark.conformance("NODE-11")
def test_pids_limit_is_on_the_pods_group(cluster: Any) -> None:
    found = running(cluster, "two")
    assert group(cluster, found, "pids.max").read_text() == f"{PIDS}\n"
    own = found["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    assert group(cluster, found, "pids.max", own).read_text() == "max\n"  # two containers, one limit


def test_limits_are_written(cluster: Any) -> None:
    found = running(cluster, "two")
    ids = {one["name"]: one["containerID"].rpartition("/")[2] for one in found["status"]["containerStatuses"]}
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        assert group(cluster, found, "cpu.max", ids["one"]).read_text() == "10000 100000\n"
        assert group(cluster, found, "memory.max", ids["one"]).read_text() == f"{64 << 20}\n"
        assert group(cluster, found, "memory.oom.group", ids["one"]).read_text() == "1\n"
        return
    assert group(cluster, found, "cpu.cfs_quota_us", ids["one"]).read_text() == "10000\n"
    assert group(cluster, found, "memory.limit_in_bytes", ids["one"]).read_text() == f"{64 << 20}\n"
    assert group(cluster, found, "cpu.shares", ids["main"]).read_text() == "256\n"
    assert group(cluster, found, "cpu.shares").read_text() == "358\n"
    assert group(cluster, found, "cpu.cfs_quota_us").read_text() == "-1\n"  # not every container has the limit


@pytest.mark.conformance("NODE-15")
def test_out_of_memory(cluster: Any) -> None:
    assert how(ended(cluster, "oom", "Failed"), "main") == (137, "OOMKilled")


@pytest.mark.conformance("NODE-16")
def test_out_of_memory_in_an_init_container(cluster: Any) -> None:
    found = ended(cluster, "oom-init", "Failed")
    assert how(found, "first", "initContainerStatuses") == (137, "OOMKilled")


def test_out_of_memory_of_a_child_is_told(cluster: Any) -> None:
    found = ended(cluster, "oom-child", "Failed")
    whole_group = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    assert how(found, "main") == ((137, "OOMKilled") if whole_group else (3, "OOMKilled"))


def test_out_of_memory_by_the_pods_limit(cluster: Any) -> None:
    found = cluster.wait_pod(
        "oom-pod",
        lambda p: any("terminated" in one["state"] for one in p["status"].get("containerStatuses", ())),
        "the kill",
        60,
    )
    assert how(found, "main") == (137, "OOMKilled")


@pytest.mark.conformance("NODE-18")
def test_out_of_memory_by_what_the_node_has_for_pods(cluster: Any) -> None:
    assert how(ended(cluster, "oom-node", "Failed"), "main") == (137, "OOMKilled")


def test_fork_bomb_stays_within_its_limit_and_ends_quickly(cluster: Any) -> None:
    found = running(cluster, "bomb")
    current = group(cluster, found, "pids.current")
    cluster.wait(lambda: int(current.read_text()) >= PIDS - 1, "the bomb", 60)
    assert int(current.read_text()) <= PIDS
    begun = time.monotonic()
    cluster.remove("bomb.yaml")
    cluster.wait(lambda: cluster.pod("bomb") is None, "the pod to be gone")
    assert time.monotonic() - begun < 20  # the grace is one second
    assert not current.exists()


def test_writable_layer_is_bounded(cluster: Any) -> None:
    found = ended(cluster, "layer", "Succeeded")
    text = cluster.log(found, "main")
    assert "No space left on device" in text
    size = next(int(line.split()[-1]) for line in text.splitlines() if line.split()[-1].isdigit())
    assert size <= 4 << 20
    assert " F x\n" in text
    assert not os.path.exists("/small")
