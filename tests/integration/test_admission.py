"""Admission on a real node: rejections, what they hold on to, and when they are thought over."""

from __future__ import annotations

import json
import os
import socket

import pytest

pytestmark = pytest.mark.root

CONFIG = """
nodeLabels: {disk: ssd}
systemReserved: {memory: 1Gi}
allowedUnsafeSysctls: ['net.core.somaxconn', 'net.ipv4.conf.*']
"""


def pod(name: str, *, command: str = "exec sleep 1000", more: str = "", port: int = 0, memory: str = "") -> str:
    ports = f"[{{containerPort: 80, hostPort: {port}, hostIP: 127.0.0.1}}]" if port else "[]"
    requests = f"{{memory: '{memory}'}}" if memory else "{}"
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {more}
  containers:
  - name: main
    image: host
    command: [sh, -c, '{command}']
    ports: {ports}
    resources: {{requests: {requests}}}
"""


def phase(expected: str):
    return lambda found: found["status"]["phase"] == expected


def rejected(cluster, name: str, reason: str) -> str:
    """Wait until a pod is rejected; return why, checked against its event."""
    found = cluster.wait_pod(name, phase("Failed"), "Failed")
    assert found["status"]["reason"] == reason
    message = found["status"]["message"].removeprefix("Pod was rejected: ")
    listed = json.loads(cluster.cli("get", "events", "-A", "-o", "json").stdout)["items"]
    own = [one for one in listed if one["involvedObject"]["uid"] == found["metadata"]["uid"]]
    assert [(one["type"], one["reason"], one["message"]) for one in own] == [("Warning", reason, message)]
    assert "containerStatuses" not in found["status"] or all(
        "waiting" in one["state"] for one in found["status"]["containerStatuses"]
    )
    return message


def groups(uid: str) -> list[str]:
    """Return the control groups of a pod."""
    return [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"pod{uid}")]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def greedy(name: str, priority: str) -> str:
    """Return a pod that asks for most of the processors; it leaves a moment after it was asked to, once it listens."""
    deaf = 'trap "sleep 0.5; exit 0" TERM; echo listens; sleep 1000 & wait'
    text = pod(name, more=f"{priority}", command="true")
    text = text.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 20")
    text = text.replace("[sh, -c, 'true']", json.dumps(["sh", "-c", deaf]))
    cpu = f"{{requests: {{cpu: '{(os.cpu_count() or 1) * 0.7}'}}}}"
    return text.replace("{requests: {}}", cpu)


def events_of(cluster, found) -> list[tuple[str, str, str]]:
    listed = json.loads(cluster.cli("get", "events", "-A", "-o", "json").stdout)["items"]
    uid = found["metadata"]["uid"]
    return [(one["type"], one["reason"], one["message"]) for one in listed if one["involvedObject"]["uid"] == uid]


def test_critical_pod_ends_one_of_lower_priority(cluster):
    cluster.write("modest.yaml", greedy("modest", "priority: 10"))
    modest = cluster.wait_pod("modest", phase("Running"), "Running")
    cluster.wait(lambda: cluster.output(modest) == "listens\n", "it to listen")
    # As every static pod it is critical, but so is the other: without a priority it cannot make room.
    cluster.write("vague.yaml", greedy("vague", "priorityClassName: system-node-critical"))
    message = rejected(cluster, "vague", "UnexpectedAdmissionError")
    assert "no set of running pods found to reclaim resources: [(res: cpu, q: " in message
    assert cluster.pod("modest")["status"]["phase"] == "Running"

    priority = "priority: 2000001000\n  priorityClassName: system-node-critical"
    cluster.write("critical.yaml", greedy("critical", priority))
    ended = cluster.wait_pod("modest", phase("Failed"), "Failed")
    why = "Preempted in order to admit critical pod"
    assert (ended["status"]["reason"], ended["status"]["message"]) == ("Preempting", why)
    assert ("Warning", "Preempting", why) in events_of(cluster, ended)
    assert ("Normal", "Killing", "Stopping container main") in events_of(cluster, ended)
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    target = next(one for one in ended["status"]["conditions"] if one["type"] == "DisruptionTarget")
    assert (target["status"], target["reason"], target["message"]) == (
        "True",
        "TerminationByKubelet",
        "Pod was preempted by Kubelet to accommodate a critical pod.",
    )
    begun = cluster.wait_pod("critical", phase("Running"), "Running")
    cluster.wait(lambda: cluster.output(begun) == "listens\n", "it to listen")
    # It begins when the other has ended, not beside it.
    gone = ended["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    assert begun["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] >= gone
    # What was preempted stays so until its file changes, also when there is room again.
    cluster.remove("critical.yaml")
    cluster.wait(lambda: cluster.pod("critical") is None, "the critical pod to be gone")
    assert cluster.pod("modest")["status"]["phase"] == "Failed"


def test_rejection_lasts_until_the_file_changes(cluster):
    cluster.write("picky.yaml", pod("picky", more="nodeSelector: {disk: hdd}"))
    assert "didn't match Pod's node affinity/selector" in rejected(cluster, "picky", "NodeAffinity")
    cluster.write("picky.yaml", pod("picky", more="nodeSelector: {disk: ssd, kubernetes.io/hostname: n1}"))
    cluster.wait_pod("picky", phase("Running"), "Running")


def test_reserved_memory_is_not_given_away(cluster):
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cluster.write("big.yaml", pod("big", memory=str(total - (1 << 30) + 1)))
    message = rejected(cluster, "big", "UnexpectedAdmissionError")
    assert "no set of running pods found to reclaim resources: [(res: memory, q: " in message
    assert f"capacity: {total - (1 << 30)})" in message


def test_sysctls(cluster):
    context = "securityContext: {{sysctls: [{{name: {}, value: '1000'}}]}}"
    cluster.write("bad.yaml", pod("bad", more=context.format("kernel.msgmax")))
    cluster.write("good.yaml", pod("good", more=context.format("net.core.somaxconn")))
    assert rejected(cluster, "bad", "SysctlForbidden") == 'forbidden sysctl: "kernel.msgmax" not allowlisted'
    cluster.wait_pod("good", phase("Running"), "Running")


def test_sysctls_are_set_before_the_pods_link_comes(cluster):
    """What a link begins with are the namespace's defaults of that moment."""
    sysctls = "securityContext: {sysctls: [{name: net.ipv4.conf.default.rp_filter, value: '2'}]}"
    more = f"restartPolicy: Never\n  {sysctls}"
    cluster.write("early.yaml", pod("early", more=more, command="cat /proc/sys/net/ipv4/conf/eth0/rp_filter"))
    found = cluster.wait_pod("early", phase("Succeeded"), "its end")
    assert cluster.output(found).strip() == "2"


def test_host_port_is_held_until_its_pod_has_ended(cluster):
    port = free_port()
    cluster.write("first.yaml", pod("first", port=port))
    cluster.wait_pod("first", phase("Running"), "Running")
    cluster.write("second.yaml", pod("second", port=port))
    rejected(cluster, "second", "NodePorts")
    # The new version of a pod has its predecessor's port.
    old = cluster.pod("first")["metadata"]["uid"]
    cluster.write("first.yaml", pod("first", port=port, command="echo again; exec sleep 1000"))
    cluster.wait_pod("first", lambda p: phase("Running")(p) and p["metadata"]["uid"] != old, "the new version")
    (cluster.manifests / "first.yaml").unlink()
    cluster.wait(lambda: cluster.pod("first") is None, "the first pod to be gone")
    assert cluster.pod("second")["status"]["phase"] == "Failed"
    cluster.write("second.yaml", pod("second", port=port, command="echo now; exec sleep 1000"))
    cluster.wait_pod("second", phase("Running"), "Running")


def test_finished_pod_releases_its_port(cluster):
    port = free_port()
    cluster.write("job.yaml", pod("job", port=port, more="restartPolicy: Never", command="true"))
    cluster.wait_pod("job", phase("Succeeded"), "Succeeded")
    uid = cluster.pod("job")["metadata"]["uid"]
    cluster.wait(lambda: not groups(uid), "the pod's control groups to be gone")
    cluster.write("after.yaml", pod("after", port=port))
    cluster.wait_pod("after", phase("Running"), "Running")


def test_port_of_another_program_is_refused_with_its_name(cluster):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        cluster.write("late.yaml", pod("late", port=port))
        message = rejected(cluster, "late", "NodePorts")
    assert message.startswith(
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: "
    )
    assert f"{port}" in message
    assert f"{os.getpid()}" in message


def test_restart_admits_anew_and_touches_nothing_that_runs(cluster):
    cluster.write("runs.yaml", pod("runs", more="nodeSelector: {disk: ssd}"))
    cluster.write("waits.yaml", pod("waits", more="nodeSelector: {disk: nvme}"))
    before = cluster.wait_pod("runs", phase("Running"), "Running")
    rejected(cluster, "waits", "NodeAffinity")
    cluster.kill()
    (cluster.base / "config" / "config.yaml").write_text("nodeLabels: {disk: nvme}")
    cluster.start()
    cluster.wait_pod("waits", phase("Running"), "Running")
    after = cluster.wait_pod("runs", phase("Running"), "Running")
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
