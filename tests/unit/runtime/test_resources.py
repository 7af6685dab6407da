"""U-QOS, U-OOM, U-CPU: what resources mean, as Kubernetes' own tests have it; and how they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from minikubelet.api.types import Container, ObjectMeta, Pod, PodSpec, ResourceRequirements
from minikubelet.lifecycle.resources import (
    GroupLimits,
    container_limits,
    container_weight,
    cpu_quota,
    cpu_shares,
    oom_score_adj,
    pod_limits,
    pod_list,
    pod_weight,
    qos_class,
)
from minikubelet.runtime.cgroups import CgroupPaths
from minikubelet.runtime.limits import apply_limits

NAMES = {"c": "cpu", "m": "memory", "h": "hugepages-2Mi"}
MIB = 1024**2


def entries(text: str) -> dict[str, str]:
    """`c1 m2Mi` is one processor and two mebibytes."""
    return {NAMES[word[0]]: word[1:] for word in text.split()}


def resources(text: str) -> ResourceRequirements:
    """`requests / limits`, each as words."""
    requests, _, limits = text.partition("/")
    return ResourceRequirements(requests=entries(requests), limits=entries(limits))


def container(text: str, name: str = "c", **changes: str) -> Container:
    return Container(name=name, image="i", resources=resources(text), **changes)  # type: ignore[arg-type]


def pod_of(*apps: str, inits: tuple[Container, ...] = (), level: str = "", class_name: str = "") -> Pod:
    spec = PodSpec(
        containers=[container(text) for text in apps],
        init_containers=list(inits),
        resources=resources(level) if level else None,
        priority_class_name=class_name,
    )
    return Pod(api_version="v1", kind="Pod", metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=spec)


G = "c1 m2Gi / c1 m2Gi"
INIT = (container("c1 m1Gi / c2 m2Gi", "init"),)

QOS: list[tuple[int, str, Pod]] = [
    (1, "Guaranteed", pod_of(G)),
    (2, "Guaranteed", pod_of(G, G)),
    (3, "BestEffort", pod_of("", "")),
    (4, "BestEffort", pod_of("")),
    (5, "Burstable", pod_of("", "c1 / c2")),
    (6, "Burstable", pod_of("", G)),
    (7, "Burstable", pod_of("m2Gi / m2Gi")),
    (8, "Burstable", pod_of("c1 m2Gi /")),
    (9, "Burstable", pod_of("c1 m2Gi / c2 m4Gi", G)),
    (10, "Burstable", pod_of("/ c1 m2Gi", "")),
    (11, "Burstable", pod_of("c1 m1Gi / c2 m2Gi")),
    (12, "Burstable", pod_of("c0 m0 / c1 m2Gi")),
    (13, "BestEffort", pod_of("/ h1Gi")),
    (14, "Burstable", pod_of("", inits=INIT)),
    (15, "Guaranteed", pod_of("", "c1 /", level="c4 m4Gi / c4 m4Gi")),
    (16, "Burstable", pod_of(G, level="c4 m4Gi / c5 m5Gi")),
    (17, "Burstable", pod_of("", level="c4 m4Gi /")),
]


@pytest.mark.conformance("U-QOS")
@pytest.mark.parametrize(("number", "expected", "pod"), QOS, ids=[f"U-QOS-{row[0]}" for row in QOS])
def test_qos_class(number: int, expected: str, pod: Pod) -> None:
    assert qos_class(pod) == expected


NODE = 4_000_000_000

OOM: list[tuple[int, Pod, range]] = [
    (1, pod_of("c1 / c1"), range(999, 1000)),
    (2, pod_of("c0 m0 / m10G"), range(999, 1000)),
    (3, pod_of("/ m0"), range(1000, 1001)),
    (4, pod_of(""), range(1000, 1001)),
    (5, pod_of("c5m m10G / c5m m10G"), range(-997, -996)),
    (6, pod_of(f"c5m m{NODE // 2} / c5m m10G"), range(495, 506)),
    (7, pod_of(f"c5m m{NODE - 1} / c10m m10G"), range(3, 4)),
    (8, pod_of("", class_name="system-node-critical"), range(-997, -996)),
]


@pytest.mark.conformance("U-OOM")
@pytest.mark.parametrize(("number", "pod", "expected"), OOM, ids=[f"U-OOM-{row[0]}" for row in OOM])
def test_oom_score_adj(number: int, pod: Pod, expected: range) -> None:
    assert oom_score_adj(pod, pod.spec.containers[0], NODE) in expected


def test_a_sidecar_is_not_killed_before_the_containers_it_serves() -> None:
    sidecar = container("m1M /", "sidecar", restart_policy="Always")
    plain = container("m1M /", "plain")
    pod = pod_of("m1G /", "m2G /", inits=(sidecar, plain))
    assert oom_score_adj(pod, sidecar, NODE) == oom_score_adj(pod, pod.spec.containers[0], NODE) == 750
    assert oom_score_adj(pod, plain, NODE) == 999


def test_memory_that_a_pod_asks_for_and_no_container_claims_is_shared_out() -> None:
    pod = pod_of("m1G /", "", level="m3G / m4G")
    assert [oom_score_adj(pod, one, NODE) for one in pod.spec.containers] == [500, 750]


QUOTA = [(0, None), (5, 1000), (9, 1000), (10, 1000), (200, 20000), (500, 50000), (1000, 100_000), (1500, 150_000)]


@pytest.mark.conformance("U-CPU")
@pytest.mark.parametrize(("milli", "expected"), QUOTA, ids=[f"U-CPU-{n}" for n in range(1, 9)])
def test_cpu_quota(milli: int, expected: int | None) -> None:
    assert cpu_quota(milli) == expected


GROUPS: list[tuple[int, Pod, GroupLimits]] = [
    (9, pod_of(""), GroupLimits(shares=2)),
    (10, pod_of("c100m m100Mi /"), GroupLimits(shares=102)),
    (11, pod_of("c100m m100Mi / c200m m200Mi"), GroupLimits(shares=102, quota_us=20000, memory=200 * MIB)),
    (12, pod_of("c100m m100Mi / c200m m200Mi", "c100m m100Mi /"), GroupLimits(shares=204)),
    (13, pod_of("c100m m100Mi / c100m m100Mi"), GroupLimits(shares=102, quota_us=10000, memory=100 * MIB)),
    (
        14,
        pod_of("c100m m100Mi /", level="c300m m1Gi / c1 m2Gi"),
        GroupLimits(shares=307, quota_us=100_000, memory=2048 * MIB),
    ),
]


@pytest.mark.conformance("U-CPU")
@pytest.mark.parametrize(("number", "pod", "expected"), GROUPS, ids=[f"U-CPU-{row[0]}" for row in GROUPS])
def test_pod_group(number: int, pod: Pod, expected: GroupLimits) -> None:
    assert pod_limits(pod) == expected


def test_what_a_pods_status_says_of_its_resources() -> None:
    """The sum of what runs at one time, written as its first part; a limit of one container is one of the pod."""
    assert pod_list(pod_of("", "")) is None
    pod = pod_of("c250m m64Mi / c500m", "c1 m1G /", inits=(container("c3 m1Mi / c4 m2Mi", "i"),))
    assert pod_list(pod) == {"cpu": "3", "memory": "1067108864"}
    assert pod_list(pod, limits=True) == {"cpu": "4", "memory": "2Mi"}
    assert pod_list(pod_of("c250m m64Mi /", "c250m m64Mi /")) == {"cpu": "500m", "memory": "128Mi"}
    level = pod_of("c100m m100Mi /", level="c300m m1Gi / c1 m2Gi")
    assert (pod_list(level), pod_list(level, limits=True)) == (
        {"cpu": "300m", "memory": "1Gi"},
        {"cpu": "1", "memory": "2Gi"},
    )
    overhead = msgspec.structs.replace(level, spec=msgspec.structs.replace(level.spec, overhead={"memory": "1Mi"}))
    assert pod_list(overhead) == {"cpu": "300m", "memory": "1025Mi"}


def test_shares_and_weights() -> None:
    assert [cpu_shares(milli) for milli in (0, 1, 1000, 10**9)] == [2, 2, 1024, 262_144]
    assert [pod_weight(shares) for shares in (2, 1024, 262_144)] == [1, 39, 10_000]
    assert [container_weight(shares) for shares in (2, 1024, 262_144)] == [1, 100, 10_000]


def test_a_container_without_a_limit_has_its_pods() -> None:
    pod = pod_of("c100m / m1Gi", level="c1 m2Gi / c2 m2Gi")
    found = container_limits(pod, pod.spec.containers[0])
    assert found == GroupLimits(shares=102, quota_us=200_000, memory=1024 * MIB)


def group(base: Path, version: int, files: Mapping[str, str]) -> CgroupPaths:
    for name in files:
        (base / name).write_text("")
    directory = str(base)
    controllers = ("cpu", "memory", "pids", "hugetlb")
    return CgroupPaths(directories=(directory,), by_controller=dict.fromkeys(controllers, directory), version=version)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            2,
            {
                "cpu.weight": "17",
                "cpu.max": "20000 100000",
                "memory.max": str(200 * MIB),
                "memory.swap.max": "0",
                "memory.oom.group": "1",
                "hugetlb.2MB.max": str(4 * MIB),
                "hugetlb.1GB.max": "0",
            },
        ),
        (
            1,
            {
                "cpu.shares": "102",
                "cpu.cfs_period_us": "100000",
                "cpu.cfs_quota_us": "20000",
                "memory.limit_in_bytes": str(200 * MIB),
                "memory.memsw.limit_in_bytes": str(200 * MIB),
                "hugetlb.2MB.limit_in_bytes": str(4 * MIB),
                "hugetlb.1GB.limit_in_bytes": "0",
            },
        ),
    ],
)
def test_a_containers_limits_are_written(tmp_path: Path, version: int, expected: dict[str, str]) -> None:
    pod = pod_of("c100m m100Mi / c200m m200Mi h4Mi")
    apply_limits(pod, pod.spec.containers[0], group(tmp_path, version, expected))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == expected


def test_a_pods_group_bounds_its_processes(tmp_path: Path) -> None:
    apply_limits(pod_of(""), None, group(tmp_path, 2, {"cpu.weight": "", "pids.max": ""}), pids_limit=100)
    assert (tmp_path / "pids.max").read_text() == "100"
