"""Graceful node shutdown: the kubelet's groups by priority, graces, and what logind tells.

The tables are those of kubelet pkg/kubelet/nodeshutdown (TestGroupByPriority, TestMigrateConfig) restated.
"""

from __future__ import annotations

import json

import pytest

from minikubelet.api.types import Container, ObjectMeta, Pod, PodSpec
from minikubelet.node.settings import Settings, SettingsError, load_settings
from minikubelet.node.shutdown import (
    CRITICAL_PRIORITY,
    PriorityPeriod,
    begins_shutdown,
    grace_of,
    group_by_priority,
    periods,
)


def pod(name: str, priority: int | None = None, grace: int | None = 30) -> Pod:
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name=name, namespace="default", uid=name),
        spec=PodSpec(
            containers=[Container(name="c", image="host")], priority=priority, termination_grace_period_seconds=grace
        ),
    )


@pytest.mark.parametrize(
    ("total", "critical", "expected"),
    [
        (0, 0, ()),
        (30, 10, (PriorityPeriod(0, 20), PriorityPeriod(CRITICAL_PRIORITY, 10))),
        (30, 0, (PriorityPeriod(0, 30), PriorityPeriod(CRITICAL_PRIORITY, 0))),
    ],
)
def test_two_periods_are_two_priorities(total: float, critical: float, expected: tuple[PriorityPeriod, ...]) -> None:
    assert periods(total, critical, []) == expected


def test_periods_by_priority_are_sorted_and_take_the_place_of_the_two() -> None:
    given = [PriorityPeriod(1000, 2), PriorityPeriod(0, 4), PriorityPeriod(2000, 1)]
    assert periods(0, 0, given) == tuple(sorted(given))


@pytest.mark.parametrize(
    ("configured", "priorities", "expected"),
    [
        # Highest period of a priority not above the pod's own.
        ([(0, 10), (CRITICAL_PRIORITY, 5)], [0, 10, CRITICAL_PRIORITY], [[0, 10], [CRITICAL_PRIORITY]]),
        ([(10, 1), (20, 2), (30, 3), (40, 4)], [0, 1, 2, 10, 12, 25, 40], [[0, 1, 2, 10, 12], [25], [], [40]]),
        # Below the lowest: with the lowest.
        ([(10, 1), (20, 2)], [-100, 9, 20, 21], [[-100, 9], [20, 21]]),
        ([(0, 10)], [], [[]]),
    ],
)
def test_groups(configured: list[tuple[int, int]], priorities: list[int], expected: list[list[int]]) -> None:
    pods = [pod(f"p{one}", one) for one in priorities]
    groups = group_by_priority([PriorityPeriod(*one) for one in configured], pods)
    assert [[one.spec.priority for one in group.pods] for group in groups] == expected
    assert [group.period_s for group in groups] == [period for _, period in configured]


def test_a_pod_without_a_priority_counts_as_zero() -> None:
    groups = group_by_priority([PriorityPeriod(-5, 1), PriorityPeriod(0, 2), PriorityPeriod(1, 3)], [pod("a")])
    assert [len(group.pods) for group in groups] == [0, 1, 0]


@pytest.mark.parametrize(("own", "period", "expected"), [(30, 10, 10), (5, 10, 5), (None, 60, 30), (0, 10, 0)])
def test_grace_is_the_smaller_of_the_pods_and_its_groups(own: int | None, period: float, expected: float) -> None:
    assert grace_of(pod("a", grace=own), period) == expected


def signal(member: str = "PrepareForShutdown", value: object = True) -> bytes:
    message = {"type": "signal", "path": "/org/freedesktop/login1", "member": member}
    return json.dumps({**message, "payload": {"type": "b", "data": [value]}}).encode() + b"\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (signal(), True),
        (signal(value=False), False),
        (signal(member="PrepareForSleep"), None),
        (b"Monitoring bus message stream.\n", None),
        (b'{"member": "PrepareForShutdown", "path": "/org/freedesktop/login1", "payload": {"data": []}}', None),
        (b"[]\n", None),
    ],
)
def test_what_busctl_prints(line: bytes, expected: bool | None) -> None:
    assert begins_shutdown(line) is expected


def settings(tmp_path: object, text: str) -> Settings:
    from pathlib import Path

    directory = Path(str(tmp_path))
    (directory / "config.yaml").write_text("kind: KubeletConfiguration\n" + text)
    return load_settings({"config_dir": str(directory)}, {})


def test_settings_are_read(tmp_path: object) -> None:
    found = settings(tmp_path, "shutdownGracePeriod: 1m30s\nshutdownGracePeriodCriticalPods: 30s\n")
    assert (found.shutdown_grace_period, found.shutdown_grace_period_critical_pods) == (90, 30)
    text = "shutdownGracePeriodByPodPriority:\n- {priority: 10, shutdownGracePeriodSeconds: 20}\n"
    assert settings(tmp_path, text).shutdown_grace_period_by_pod_priority == (
        {"priority": 10, "shutdownGracePeriodSeconds": 20},
    )


@pytest.mark.parametrize(
    "text",
    [
        "shutdownGracePeriod: 10s\nshutdownGracePeriodCriticalPods: 20s\n",
        "shutdownGracePeriod: 10s\nshutdownGracePeriodByPodPriority:\n- {priority: 1, shutdownGracePeriodSeconds: 2}\n",
        "shutdownGracePeriodByPodPriority:\n- {priority: 1}\n",
        "shutdownGracePeriodByPodPriority:\n- {priority: x, shutdownGracePeriodSeconds: 2}\n",
        "shutdownGracePeriodByPodPriority:\n- 3\n",
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: object, text: str) -> None:
    with pytest.raises(SettingsError, match="shutdownGracePeriod"):
        settings(tmp_path, text)
