"""Admission: which pods may run on a node, and which make room for others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import Pod
from minikubelet.lifecycle.admission import Node, decide

NODE = Node(
    name="n1",
    labels={"kubernetes.io/os": "linux", "disk": "ssd", "cores": "8", "odd": "1_0", "huge": "9" * 20},
    allocatable={
        name: parse_quantity(text).nanos for name, text in {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "0"}.items()
    },
    max_pods=3,
    allowed_unsafe_sysctls=("kernel.msg*", "net.core.somaxconn"),
)


def pod(
    name: str = "p", *, requests: dict[str, str] | None = None, ports: Any = (), labels: Any = None, **spec: Any
) -> Pod:
    """Return a pod of one container, decoded as a manifest would be."""
    limits = {"limits": requests} if requests and spec.pop("guaranteed", False) else {}
    container = {
        "name": "c",
        "image": "host",
        "resources": {"requests": requests or {}, **limits},
        "ports": list(ports),
    }
    container |= spec.pop("container", {})
    value = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }
    return msgspec.convert(value, Pod)


def reason(one: Pod, *others: Pod, node: Node = NODE) -> str | None:
    rejection = decide(one, others, node).rejection
    return rejection.reason if rejection is not None else None


def message(one: Pod, *others: Pod, node: Node = NODE) -> str:
    rejection = decide(one, others, node).rejection
    assert rejection is not None
    return rejection.message


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def named(name: str) -> list[dict[str, Any]]:
    return [{"key": "metadata.name", "operator": "In", "values": [name]}]


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("kernel.shm_rmid_forced", {}, None),
        ("net.ipv4.tcp_syncookies", {}, None),
        ("net/ipv4/tcp_syncookies", {}, None),
        ("kernel.msgmax", {}, None),
        ("net.core.somaxconn", {}, None),
        ("net.core.somaxconn2", {}, 'forbidden sysctl: "net.core.somaxconn2" not allowlisted'),
        ("kernel.shmmax", {}, 'forbidden sysctl: "kernel.shmmax" not allowlisted'),
        (
            "kernel.shm_rmid_forced",
            {"hostIPC": True},
            'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host ipc enabled',
        ),
        (
            "net.ipv4.tcp_syncookies",
            {"hostNetwork": True},
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled',
        ),
    ],
)
def test_sysctls(name, spec, expected):
    one = pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **spec)
    if expected is None:
        assert reason(one) is None
    else:
        assert (reason(one), message(one)) == ("SysctlForbidden", expected)


def test_operating_system():
    assert reason(pod(os={"name": "linux"})) is None
    assert reason(pod(os={"name": "windows"})) == "PodOSNotSupported"
    assert reason(pod(labels={"kubernetes.io/os": "windows"})) == "PodOSSelectorNodeLabelDoesNotMatch"
    assert reason(pod(labels={"kubernetes.io/os": "linux"})) is None


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, True),
        ({"nodeSelector": {"disk": "ssd"}}, True),
        ({"nodeSelector": {"disk": "hdd"}}, False),
        ({"nodeSelector": {"absent": ""}}, False),
        ({"affinity": affinity(expression("disk", "In", "hdd", "ssd"))}, True),
        ({"affinity": affinity(expression("disk", "NotIn", "ssd"))}, False),
        ({"affinity": affinity(expression("absent", "NotIn", "x"))}, True),
        ({"affinity": affinity(expression("disk", "Exists"))}, True),
        ({"affinity": affinity(expression("disk", "DoesNotExist"))}, False),
        ({"affinity": affinity(expression("cores", "Gt", "7"))}, True),
        ({"affinity": affinity(expression("cores", "Gt", "8"))}, False),
        ({"affinity": affinity(expression("cores", "Lt", "9"))}, True),
        ({"affinity": affinity(expression("disk", "Gt", "1"))}, False),
        # What Go does not read as a number of 64 bits is none.
        ({"affinity": affinity(expression("odd", "Gt", "1"))}, False),
        ({"affinity": affinity(expression("huge", "Gt", "1"))}, False),
        ({"affinity": affinity(expression("cores", "Gt", "0_7"))}, False),
        ({"affinity": affinity(expression("cores", "Gt", "-07"))}, True),
        ({"affinity": affinity({})}, False),
        ({"affinity": affinity({}, expression("disk", "Exists"))}, True),
        ({"affinity": affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})}, True),
        (
            {"affinity": affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})},
            False,
        ),
        ({"affinity": affinity(expression("disk", "Exists")), "nodeSelector": {"disk": "hdd"}}, False),
    ],
)
def test_node_selector_and_affinity(spec, fits):
    assert reason(pod(**spec)) == (None if fits else "NodeAffinity")


def port(number: int, ip: str = "", protocol: str = "TCP") -> dict[str, Any]:
    return {"containerPort": 80, "hostPort": number, "hostIP": ip, "protocol": protocol}


@pytest.mark.parametrize(
    ("own", "taken", "free"),
    [
        (port(80), port(80), False),
        (port(80), port(81), True),
        (port(80), port(80, protocol="UDP"), True),
        (port(80, "127.0.0.1"), port(80, "127.0.0.2"), True),
        (port(80, "127.0.0.1"), port(80, "127.0.0.1"), False),
        (port(80, "127.0.0.1"), port(80), False),
        (port(80), port(80, "127.0.0.1"), False),
        (port(80, "0.0.0.0"), port(80, "127.0.0.1"), False),
        (port(80, "::"), port(80, "127.0.0.1"), False),
    ],
)
def test_host_ports(own, taken, free):
    assert reason(pod("a", ports=[own]), pod("b", ports=[taken])) == (None if free else "NodePorts")
    sidecar = {"name": "s", "image": "host", "restartPolicy": "Always", "ports": [taken]}
    assert reason(pod("a", ports=[own]), pod("b", initContainers=[sidecar])) == (None if free else "NodePorts")
    # A regular init container's ports are not published.
    assert reason(pod("a", ports=[own]), pod("b", initContainers=[{**sidecar, "restartPolicy": None}])) is None


SHORT = "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods"


def test_resources_that_do_not_suffice():
    assert reason(pod(requests={"cpu": "1500m"}), pod("b", requests={"cpu": "500m"})) is None
    one, other = pod(requests={"cpu": "1501m"}), pod("b", requests={"cpu": "500m"})
    assert reason(one, other) == "UnexpectedAdmissionError"
    assert message(one, other) == (
        SHORT + " to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 1), ] "
        "(Node didn't have enough resource: cpu, requested: 1501, used: 500, capacity: 2000)"
    )
    assert reason(pod(requests={"memory": "2Gi"})) == "UnexpectedAdmissionError"
    assert reason(pod(requests={"hugepages-2Mi": "2Mi"})) == "UnexpectedAdmissionError"
    # Resources that no node has are the cluster's.
    assert reason(pod(requests={"example.com/gpu": "1"})) is None


def test_pods_are_counted():
    others = [pod(name) for name in "abc"]
    assert reason(pod(), *others[:2]) is None
    assert "capacity: 3" in message(pod(), *others)


def test_other_reasons_go_before_want_of_resources():
    assert reason(pod(requests={"cpu": "9"}, nodeSelector={"disk": "hdd"})) == "NodeAffinity"


def test_app_armor():
    profile = {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    assert reason(pod(**profile)) == "AppArmor"
    assert reason(pod(container=profile)) == "AppArmor"
    assert reason(pod(securityContext={"appArmorProfile": {"type": "Unconfined"}})) is None
    assert reason(pod(**profile), node=Node(name="n1", app_armor=True)) is None


def preempted(one: Pod, *others: Pod) -> list[str]:
    decision = decide(one, others, NODE)
    assert decision.rejection is None
    return [other.metadata.name for other in decision.preempt]


def test_lower_priority_makes_room():
    big = {"cpu": "1500m"}
    assert preempted(pod(requests=big, priority=10), pod("b", requests=big, priority=5)) == ["b"]
    assert reason(pod(requests=big, priority=10), pod("b", requests=big, priority=10)) == "UnexpectedAdmissionError"
    assert reason(pod(requests=big, priority=10), pod("b", requests=big)) == "UnexpectedAdmissionError"
    assert reason(pod(requests=big), pod("b", requests=big, priority=5)) == "UnexpectedAdmissionError"


def test_as_few_as_suffice_and_of_the_lowest_class():
    wanted = pod(requests={"cpu": "1"}, priority=10)
    burstable = [pod(name, requests={"cpu": cpu}, priority=1) for name, cpu in (("b1", "300m"), ("b2", "1200m"))]
    full = {"cpu": "500m", "memory": "1Mi"}
    guaranteed = pod("g", requests=full, priority=1, guaranteed=True)
    assert preempted(wanted, *burstable) == ["b2"]
    assert preempted(wanted, burstable[0], guaranteed, pod("x", requests={"cpu": "700m"})) == ["g"]


def test_best_effort_pods_give_their_place():
    others = [pod("a", priority=1), pod("b", requests={"cpu": "1m"}, priority=1), pod("c", priority=20)]
    assert preempted(pod(priority=10), *others) == ["a"]


@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 20)), max_size=6), st.integers(1, 2000))
def test_preemption_makes_room_and_spares_who_may_not_be_ended(sizes, own):
    node = Node(name="n1", allocatable={"cpu": parse_quantity("2").nanos})
    others: list[Pod] = []
    used = 0
    for number, (milli, priority) in enumerate(sizes):
        if used + milli <= 2000:
            others.append(pod(f"o{number}", requests={"cpu": f"{milli}m"}, priority=priority))
            used += milli
    decision = decide(pod(requests={"cpu": f"{own}m"}, priority=10), others, node)
    if decision.rejection is None:
        rest = [one for one in others if one not in decision.preempt]
        assert decide(pod(requests={"cpu": f"{own}m"}), rest, node).rejection is None
        assert all((one.spec.priority or 0) < 10 for one in decision.preempt)
    else:
        spared = [one for one in others if (one.spec.priority or 0) >= 10]
        assert decide(pod(requests={"cpu": f"{own}m"}), spared, node).rejection is not None
