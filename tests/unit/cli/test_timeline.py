"""The order of a timeline, whose sources are exact to the second or finer."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from minikubelet.cli.facts import Facts
from minikubelet.cli.timeline import Entry, in_order, records

POD: dict[str, Any] = {
    "spec": {"initContainers": [{"name": "zeta"}], "containers": [{"name": "app"}, {"name": "beside"}]}
}


def test_what_is_behind_an_init_container_comes_after_its_end_in_the_same_second():
    entries = [
        Entry(10.0, 2, "event", "zeta", "Pulled"),
        Entry(10.0, 2, "event", "zeta", "Created"),
        Entry(10.0, 2, "event", "app", "Pulled"),
        Entry(10.0, 2, "Warning", "", "MissingClusterDNS"),
        Entry(10.0, 1, "start", "app", "container started"),
        Entry(10.0, 1, "start", "zeta", "container started"),
        Entry(10.999999, 4, "end", "zeta", "container ended"),
        Entry(10.9, 3, "out", "app", "hello"),
        Entry(10.2, 3, "out", "zeta", "prepared"),
        Entry(9.5, 3, "out", "app", "before"),
        Entry(11.1, 3, "out", "app", "after"),
    ]
    expected = (
        "before MissingClusterDNS container_started Pulled Created prepared container_ended container_started Pulled "
        "hello after"
    )
    ordered = in_order(sorted(entries, key=lambda one: one.time), POD)
    assert [one.text.replace(" ", "_") for one in ordered] == expected.split()


def at(second: float) -> str:
    return datetime.fromtimestamp(1_800_000_000 + second, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unhealthy(message: str, first: float, last: float, count: int) -> dict[str, Any]:
    return {
        "type": "Warning", "reason": "Unhealthy", "message": message, "count": count,
        "firstTimestamp": at(first), "lastTimestamp": at(last),
        "involvedObject": {"fieldPath": "spec.containers{app}"},
    }  # fmt: skip


def stretch(result: str, first: float, last: float, count: int, output: str = "") -> dict[str, Any]:
    return {"result": result, "output": output, "first": at(first), "last": at(last), "count": count}


def texts(entries: Iterable[Entry]) -> list[tuple[float, str, str]]:
    return [(round(one.time - 1_800_000_000, 3), one.what, one.text) for one in entries]


def test_a_stable_probe_is_one_entry_and_failures_are_told_once():
    clock = datetime.fromtimestamp(1_800_000_020).strftime("%H:%M:%S")
    probe = {
        "container": "app",
        "kind": "readiness",
        "history": [
            stretch("failure", 10.25, 11.25, 2, "HTTP probe failed\nwith statuscode: 500"),
            stretch("success", 12.25, 20.25, 42),
            stretch("unknown", 21.25, 21.25, 1, "no such container"),
        ],
    }
    failed = "Readiness probe failed: HTTP probe failed with statuscode: 500"
    known = Facts(POD, events=[unhealthy(failed, 3, 11, 7)], probes=[probe])
    clock10 = datetime.fromtimestamp(1_800_000_010).strftime("%H:%M:%S")
    again = "readiness probe failed: HTTP probe failed with statuscode: 500"
    assert texts(sorted(records(known))) == [
        # Of before the daemon's memory there is the event only.
        (3.0, "Warning", f"Unhealthy: {failed}"),
        (10.25, "Probe", again),
        (11.25, "Probe", f"{again} (x2 since {clock10})"),
        (12.25, "probe", f"readiness probe succeeded (and 41 more times until {clock})"),
        (21.25, "Probe", "readiness probe could not be run: no such container"),
    ]


def test_starts_and_ends_are_exact_and_told_once():
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": at(1.5), "memoryPeakBytes": 48 << 20}
    instances = [
        {"id": "c1", "container": "app", "restartCount": 0, "startedAt": at(1.25), "exit": ended},
        {"id": "c2", "container": "app", "restartCount": 1, "startedAt": at(1.75)},
    ]
    status = {
        "containerStatuses": [
            {
                "name": "app",
                "containerID": "minikubelet://c2",
                "state": {"running": {"startedAt": at(2)}},
                "lastState": {
                    "terminated": {"containerID": "minikubelet://c1", "startedAt": at(1), "finishedAt": at(1)}
                },
            }
        ]
    }
    known = Facts({**POD, "status": status}, instances=instances)
    assert texts(sorted(records(known))) == [
        (1.25, "start", "container started"),
        (1.505, "end", "container ended with exit code 137 (OOMKilled, memory peak 48Mi)"),
        (1.75, "start", "container started (restart 1)"),
    ]
    without_journal = known._replace(instances=())
    assert [what for _, what, _ in texts(sorted(records(without_journal)))] == ["start", "end", "start"]


def test_a_flood_within_one_second_is_not_held():
    def flood() -> Iterator[Entry]:
        for _ in range(100_000):
            yield Entry(10.5, 3, "out", "app", "x")

    tracemalloc.start()
    count = sum(1 for _ in in_order(flood(), POD))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 6_000_000  # a tenth of the entries
