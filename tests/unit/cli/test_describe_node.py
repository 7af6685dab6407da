"""`describe node`: what pods ask for beside what they may have, and that it is the Node of the API and of admission."""

from __future__ import annotations

from datetime import datetime

from minikubelet.api.quantity import NANO
from minikubelet.cli.describe_node import node_lines
from minikubelet.cli.tabwriter import align
from minikubelet.node.facts import node_facts
from minikubelet.node.machine import Machine, node_object
from minikubelet.node.settings import Settings

NOW = datetime.fromisoformat("2026-01-01T00:10:00Z").timestamp()


def node() -> dict[str, object]:
    settings = Settings(
        node_name="n1",
        node_labels=(("disk", "ssd"),),
        system_reserved=(("cpu", "500m"), ("memory", "1Gi")),
        kube_reserved=(("memory", "1Gi"),),
    )
    facts = node_facts(settings, {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi"})
    assert facts.allocatable["cpu"] == 3500 * NANO // 1000
    machine = Machine(node=facts, version="1", pod_cidrs=("10.0.0.0/24",), started="2026-01-01T00:00:00Z")
    return node_object(machine, [], addresses=["192.0.2.1"], changed={}, now="2026-01-01T00:00:00Z")


def pod(name: str, *containers: dict[str, object], phase: str = "Running", **spec: object) -> dict[str, object]:
    return {
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": list(containers), **spec},
        "status": {"phase": phase},
    }


def asks(name: str, requests: dict[str, str], limits: dict[str, str] | None = None, **more: object):
    return {"name": name, "image": "host", "resources": {"requests": requests, "limits": limits or {}}, **more}


def test_the_node_has_what_admission_counts_with():
    found = node()
    assert found["metadata"]["labels"]["disk"] == "ssd"
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
    status = found["status"]
    assert {name: status["capacity"][name] for name in ("cpu", "memory", "pods")} == {
        "cpu": "4",
        "memory": "8Gi",
        "pods": "110",
    }
    assert {name: status["allocatable"][name] for name in ("cpu", "memory", "ephemeral-storage")} == {
        "cpu": "3500m",
        "memory": "6Gi",
        "ephemeral-storage": "100Gi",
    }


def test_allocated_resources():
    found = node()
    for kind in ("capacity", "allocatable"):  # the machine's own are another's
        for name in [one for one in found["status"][kind] if one.startswith("hugepages-")]:
            del found["status"][kind][name]
    pods = [
        pod(
            "web",
            asks("a", {"cpu": "250m", "memory": "512Mi"}, {"memory": "1Gi"}),
            asks("b", {"cpu": "100m"}),
            initContainers=[asks("i", {"cpu": "1"}), asks("s", {"cpu": "50m"}, restartPolicy="Always")],
        ),
        pod("whole", asks("a", {"cpu": "100m"}), resources={"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}),
        pod("done", asks("a", {"cpu": "3"}), phase="Succeeded"),
    ]
    text = align("\n".join(node_lines(found, pods, [], NOW)))
    lines = [line.rstrip() for line in text.splitlines()]
    begin = next(number for number, line in enumerate(lines) if line.startswith("Non-terminated Pods:"))
    shown = [" ".join(line.split()) for line in lines[begin:]]
    assert shown[:5] == [
        "Non-terminated Pods: (2 in total)",
        "Namespace Name CPU Requests CPU Limits Memory Requests Memory Limits Age",
        "--------- ---- ------------ ---------- --------------- ------------- ---",
        "default web 1 (28%) 0 (0%) 512Mi (8%) 1Gi (16%) 10m",
        "default whole 2 (57%) 3 (85%) 0 (0%) 0 (0%) 10m",
    ]
    assert shown[5:12] == [
        "Allocated resources:",
        "(Total limits may be over 100 percent, i.e., overcommitted.)",
        "Resource Requests Limits",
        "-------- -------- ------",
        "cpu 3 (85%) 3 (85%)",
        "memory 512Mi (8%) 1Gi (16%)",
        "ephemeral-storage 0 (0%) 0 (0%)",
    ]


def test_roles_and_taints():
    found = node()
    head = [" ".join(line.split()) for line in node_lines(found, [], [], NOW)]
    assert (head[1], "Taints: <none>" in head) == ("Roles: <none>", True)
    found["metadata"]["labels"] |= {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": ""}
    found["spec"]["taints"] = [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "dedicated", "value": "db", "effect": "NoExecute"},
    ]
    text = align("\n".join(node_lines(found, [], [], NOW)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[1] == "Roles: edge,worker"
    at = lines.index("Taints: node.kubernetes.io/unschedulable:NoSchedule")
    assert lines[at + 1] == "dedicated=db:NoExecute"
