"""What a node does after its machine was restarted: the run directory is empty, no pause lives, records are there."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Json = dict[str, Any]
CONFIG = "crashLoopBackOff: {maxContainerRestartPeriod: 1s}"
SLEEP = ["sleep", "1000"]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pod(name: str, policy: str, **commands: list[str]) -> str:
    """Return a pod; containers whose names begin with `init` are init containers, `side` is a sidecar."""
    made = {one: {"name": one, "image": "host", "command": command} for one, command in commands.items()}
    if "side" in made:
        made["side"]["restartPolicy"] = "Always"
    inits = [one for name, one in made.items() if name.startswith(("init", "side"))]
    apps = [one for one in made.values() if one not in inits]
    spec: Json = {"restartPolicy": policy, "terminationGracePeriodSeconds": 1, "containers": apps}
    return json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "initContainers": inits}}
    )


PODS = {
    "always": pod("always", "Always", init=["true"], side=SLEEP, main=SLEEP),
    "job": pod("job", "OnFailure", done=["true"], main=SLEEP),
    "done": pod("done", "OnFailure", main=["true"]),
    "once": pod("once", "Never", main=SLEEP),
    "failed": pod("failed", "Never", main=["false"]),
}


def status_of(found: Json, name: str) -> Json:
    status = found["status"]
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return next(one for one in every if one["name"] == name)


def runs(*names: str, count: int = 0):
    def check(found: Json) -> bool:
        return all(
            "running" in one["state"] and one["restartCount"] == count for one in (status_of(found, n) for n in names)
        )

    return check


def phase(expected: str):
    return lambda found: found["status"]["phase"] == expected


def reboot(node) -> None:
    """Let the machine go down and come up: all processes die at once, what lies in memory is gone."""
    node.kill()
    for journal in (node.state_dir / "pods").glob("*/journal.jsonl"):
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        for pid in [one["state"]["pid"] for one in records if one.get("do") == "sandbox"][-1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            node.wait(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), "a pause to be gone")
        journal.write_text(journal.read_text().replace(BOOT_ID, BOOT_ID[::-1]))  # what it tells of is of another boot
    shutil.rmtree(node.run_dir)
    node.start()


def events(node, name: str) -> list[tuple[str, str]]:
    listed = json.loads(node.cli("get", "events", "-A", "-o", "json").stdout)["items"]
    return [(one["reason"], one["message"]) for one in listed if one["involvedObject"]["name"] == f"{name}-n1"]


def test_reboot(cluster):
    for name, text in PODS.items():
        cluster.write(f"{name}.yaml", text)
    before = {
        "always": cluster.wait_pod("always", runs("side", "main"), "running"),
        "job": cluster.wait_pod(
            "job", lambda p: runs("main")(p) and "terminated" in status_of(p, "done")["state"], "up"
        ),
        "once": cluster.wait_pod("once", runs("main"), "running"),
        "done": cluster.wait_pod("done", phase("Succeeded"), "Succeeded"),
        "failed": cluster.wait_pod("failed", phase("Failed"), "Failed"),
    }
    reboot(cluster)

    # All begins anew, in order, in another sandbox; what was running counts one restart more.
    always = cluster.wait_pod("always", runs("side", "main", count=1), "running again")
    assert status_of(always, "init")["restartCount"] == 1
    assert always["metadata"]["uid"] == before["always"]["metadata"]["uid"]
    changed = ("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
    assert changed in events(cluster, "always")
    for name in ("side", "main"):
        last = status_of(always, name)["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (255, "Unknown")
    ready = {one["type"]: one["status"] for one in always["status"]["conditions"]}
    assert ready["Initialized"] == ready["PodReadyToStartContainers"] == "True"

    # What had succeeded under OnFailure is not run again, what had not is.
    job = cluster.wait_pod("job", runs("main", count=1), "running again")
    done = status_of(job, "done")
    assert (done["restartCount"], done["state"]["terminated"]["exitCode"]) == (0, 0)

    # Nothing is run again that may not be; what nobody saw ending has failed.
    once = cluster.wait_pod("once", phase("Failed"), "Failed")
    ended = status_of(once, "main")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (255, "Unknown")
    for name in ("once", "done", "failed"):
        found = cluster.wait_pod(name, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"), "the end")
        assert status_of(found, "main")["restartCount"] == 0
        assert changed not in events(cluster, name)
    assert cluster.pod("done")["status"]["phase"] == "Succeeded"
    assert cluster.pod("failed")["status"]["phase"] == "Failed"
    assert status_of(cluster.pod("failed"), "main")["state"]["terminated"]["exitCode"] == 1
