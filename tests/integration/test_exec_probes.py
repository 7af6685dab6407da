"""What an exec probe runs in, and how one that hangs, floods or leaves processes behind is ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

FLOOD = "while :; do echo 0123456789012345678901234567890123456789; done"
# Away from its parent, its session and its terminal: as a daemon does it.
DAEMON = "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(1234)"


def pod(name: str, probe: list[str], *, timeout: int = 1, more: str = "", env: str = "[]") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host
    command: [sleep, '1000']
    env: {env}
    {more}
    readinessProbe:
      exec: {{command: {json.dumps(probe)}}}
      timeoutSeconds: {timeout}
      periodSeconds: 60
"""


PODS = {
    "hangs": pod("hangs", ["sh", "-c", "echo begun; sleep 1001"]),
    "holds": pod("holds", ["sh", "-c", "sleep 1002 & echo left; exit 0"], timeout=30),
    "fails": pod("fails", ["sh", "-c", "sleep 1003 & echo why >&2; echo no; exit 3"], timeout=30),
    "floods": pod("floods", ["sh", "-c", FLOOD]),
    "prints": pod("prints", ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; exit 1"], timeout=30),
    "daemon": pod("daemon", ["sh", "-c", f'python3 -c "{DAEMON}"; sleep 1001']),
    "absent": pod("absent", ["no-such-command"], timeout=30),
    "sees": pod(
        "sees",
        ["sh", "-c", "id -u; pwd; echo $A; readlink /proc/self/ns/*; cat /proc/1/comm; cat /proc/self/cgroup; exit 1"],
        timeout=30,
        more="workingDir: /tmp\n    securityContext: {runAsUser: 1234}",
        env="[{name: A, value: $(B)$(HOME)}, {name: B, value: b}]",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def dropped(cluster):
    for name, text in PODS.items():
        cluster.write(f"{name}.yaml", text)


def unhealthy(cluster, name: str) -> str:
    """Wait for the message of a pod's failed probe."""
    found: list[str] = []

    def seen() -> bool:
        listed = json.loads(cluster.cli("get", "events", "-A", "-o", "json").stdout or '{"items": []}')["items"]
        found.extend(
            one["message"]
            for one in listed
            if one["involvedObject"]["name"] == f"{name}-n1" and one["reason"] == "Unhealthy"
        )
        return bool(found)

    cluster.wait(seen, "a failed probe")
    return found[0]


def processes(cluster, name: str) -> list[str]:
    """Return the command lines of the processes in a pod's control groups."""
    uid = cluster.pod(name)["metadata"]["uid"]
    found = set()
    for top, _, _ in os.walk("/sys/fs/cgroup"):  # passes over what other nodes remove meanwhile
        if f"/kubepods-{cluster.bridge}/" in top and f"/pod{uid}/" in top:
            with contextlib.suppress(OSError):
                found |= {int(one) for one in (Path(top) / "cgroup.procs").read_text().split()}
    lines = []
    for pid in sorted(found):
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
        except OSError:
            continue
    return [line for line in lines if line and not line.startswith("minikubelet")]


def test_hanging_probe_is_ended_with_its_children(cluster):
    message = unhealthy(cluster, "hangs")
    expected = 'Readiness probe failed: command timed out: "sh -c echo begun; sleep 1001" timed out after 1s'
    assert message == expected
    cluster.wait(lambda: processes(cluster, "hangs") == ["sleep 1000"], "the probe's processes to be gone")


def test_flood_is_ended_at_the_timeout(cluster):
    assert "timed out after 1s" in unhealthy(cluster, "floods")
    cluster.wait(lambda: processes(cluster, "floods") == ["sleep 1000"], "the probe's processes to be gone")


def test_daemons_of_a_hanging_probe_are_ended(cluster):
    assert "timed out after 1s" in unhealthy(cluster, "daemon")
    cluster.wait(lambda: processes(cluster, "daemon") == ["sleep 1000"], "the probe's processes to be gone")


def test_exit_counts_whoever_holds_the_output_open(cluster):
    cluster.wait_pod("holds", lambda p: p["status"]["containerStatuses"][0]["ready"], "ready")
    assert unhealthy(cluster, "fails") == "Readiness probe failed: no\nwhy\n"


def test_output_is_kept_to_its_limit(cluster):
    message = unhealthy(cluster, "prints")
    assert re.fullmatch("Readiness probe failed: x{1000,}", message)
    assert len(message) <= 10 * 1024 + len("Readiness probe failed: ")


def test_command_that_does_not_exist_is_an_error_not_a_failure(cluster):
    assert unhealthy(cluster, "absent") == (
        "Readiness probe errored and resulted in unknown state: OCI runtime exec failed: exec failed: unable to start "
        'container process: exec: "no-such-command": executable file not found in $PATH: unknown'
    )


def test_probe_runs_in_the_world_of_its_container(cluster):
    text = unhealthy(cluster, "sees").removeprefix("Readiness probe failed: ")
    uid, directory, variable, *rest = text.splitlines()
    assert (uid, directory) == ("1234", "/tmp")
    assert variable.startswith("$(B)")
    process = cluster.container_process(cluster.pod("sees"))
    own = {os.readlink(process / "ns" / name) for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup")}
    assert own <= set(rest)
    assert "sleep" in rest
    # Seen from the control group namespace the container's own groups are the roots.
    groups = dict(line.split(":")[1:] for line in rest if re.match(r"\d+:", line))
    assert {groups.get(name, groups.get("")) for name in ("cpu", "memory", "pids")} == {"/"}


@pytest.mark.conformance("ST-10")
def test_restart_of_the_daemon_changes_neither_started_nor_ready(cluster):
    """Last, for it takes the daemon away."""
    probes = "startupProbe: {exec: {command: ['true']}, periodSeconds: 1}\n    "
    cluster.write("steady.yaml", pod("steady", ["sh", "-c", "sleep 0.1"], timeout=30, more=probes))

    def is_ready(found) -> bool:
        one = found["status"]["containerStatuses"][0]
        return one["ready"] and one["started"] and one["restartCount"] == 0

    before = cluster.wait_pod("steady", is_ready, "ready")
    cluster.kill()
    cluster.start()
    flickers: list[object] = []
    # The daemon has taken the pod up again once it acts on its file; until then every state of it is watched.
    cluster.write("other.yaml", pod("other", ["true"]))

    def watched() -> bool:
        found = cluster.pod("steady")
        if found is None or not is_ready(found):
            flickers.append(found)
        other = cluster.pod("other")
        return other is not None and other["status"]["phase"] == "Running"

    cluster.wait(watched, "another pod to run")
    assert flickers == []
    ready = [one for one in cluster.pod("steady")["status"]["conditions"] if one["type"] == "Ready"]
    assert ready == [one for one in before["status"]["conditions"] if one["type"] == "Ready"]
