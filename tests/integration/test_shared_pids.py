"""Pods whose containers share a PID namespace, or are in the host's: what is ended is that container, and all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.root

# Deaf to SIGTERM, so that it takes SIGKILL to end it.
DEAF = "trap '' TERM; while :; do sleep 0.05; done"


def manifest(name: str, fields: str, *commands: str) -> str:
    """Return a pod with one container for each shell command."""
    containers = "".join(
        f"  - {{name: c{number}, image: host, command: [sh, -c, {command!r}]}}\n"
        for number, command in enumerate(commands)
    )
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, uid: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {fields}
  containers:
{containers}"""


def pids_of(words: str) -> list[int]:
    """Return the processes that were started with this command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if line == words:
                found.append(int(entry.name))
    return found


def running(pod) -> bool:
    return all("running" in one["state"] for one in pod["status"]["containerStatuses"])


def restarts(pod) -> list[int]:
    return [one["restartCount"] for one in pod["status"]["containerStatuses"]]


def test_killing_one_container_of_a_shared_pid_namespace_leaves_the_others(node):
    text = manifest("shared", "shareProcessNamespace: true", DEAF, DEAF, DEAF)
    node.write("shared.yaml", text)
    node.wait_pod("shared", running, "running")
    # The first container is the second process of the namespace; its number outside is a kernel thread's.
    node.write("shared.yaml", text.replace("name: c0, image: host", "name: c0, image: host:2"))
    pod = node.wait_pod("shared", lambda p: restarts(p)[0] == 1 and running(p), "the restart")
    assert restarts(pod) == [1, 0, 0]


def test_what_a_container_leaves_in_the_hosts_pid_namespace_ends_with_it(node):
    number = f"6{node.bridge[3:]}"
    node.write("host.yaml", manifest("host", "hostPID: true", f"(setsid sleep {number} &) ; sleep 0.3; exit 1"))
    node.wait_pod("host", lambda p: restarts(p)[0] >= 1, "a restart")
    node.wait(lambda: len(pids_of(f"sleep {number}")) <= 1, "the end of what the first instance left")
    node.remove("host.yaml")
    node.wait(lambda: node.pod("host") is None, "gone")
    assert pids_of(f"sleep {number}") == []
