"""A damaged journal costs records, never the daemon: whatever stands in a record, it is passed over or makes sense."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from minikubelet.lifecycle.status import rfc3339
from minikubelet.runtime.journal_records import ContainerRecord, SandboxRecord, fitting
from minikubelet.runtime.pause_state import observed_container, to_this_boot
from minikubelet.runtime.processes import is_alive

RECORDED = Path(__file__).parents[2] / "data" / "protocol" / "version1.jsonl"
Json = dict[str, Any]


def recorded() -> tuple[dict[str, Json], dict[str, Json]]:
    sandboxes: dict[str, Json] = {}
    containers: dict[str, Json] = {}
    for line in json.loads(RECORDED.read_text().splitlines()[0])["journal"].splitlines():
        record = json.loads(line)
        kept = sandboxes if record["do"] == "sandbox" else containers
        kept.setdefault(record["id"], {}).update(record["state"])
    return sandboxes, containers


SANDBOXES, CONTAINERS = recorded()
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["running", "exited", "\ud800", 2**70, -1, 1e308])
    | st.recursive(st.just([]), lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=3), below))
)
ENDED = {"exit_code": 1, "finished_at": 1.0, "finished_mono": 2.0, "reason": "Error", "from_a_newer_pause": 1}


def test_what_a_pause_writes_fits() -> None:
    assert fitting(SANDBOXES, SandboxRecord, "f") == SANDBOXES
    assert fitting(CONTAINERS, ContainerRecord, "f").keys() == CONTAINERS.keys()
    ((key, one), *_) = CONTAINERS.items()
    found = fitting({key: {**one, "state": "exited", "exit": ENDED}}, ContainerRecord, "f")
    ended = observed_container(found[key]).exit
    assert ended is not None
    assert ended.exit_code == 1


@given(st.lists(st.tuples(st.sampled_from(sorted(next(iter(SANDBOXES.values())))), VALUES), max_size=3))
@settings(max_examples=300, deadline=None)
def test_any_sandbox_record_is_passed_over_or_makes_sense(changes: list[tuple[str, Any]]) -> None:
    records = {key: {**one, **dict(changes)} for key, one in SANDBOXES.items()}
    for one in fitting(records, SandboxRecord, "f").values():
        is_alive(one)
        rfc3339(one["created_at"])
        assert one["spec"]["netns_path"].startswith("/run/netns/")


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ContainerRecord.__struct_fields__)), VALUES), max_size=3),
    st.lists(st.tuples(st.sampled_from(sorted(ENDED)), VALUES), max_size=2),
)
@settings(max_examples=400, deadline=None)
def test_any_container_record_is_passed_over_or_makes_sense(
    changes: list[tuple[str, Any]], end: list[tuple[str, Any]]
) -> None:
    records = {
        key: {**copy.deepcopy(one), "state": "exited", "exit": {**ENDED, **dict(end)}, **dict(changes)}
        for key, one in CONTAINERS.items()
    }
    for one in fitting(records, ContainerRecord, "f").values():
        seen = observed_container(one)
        rfc3339(seen.created_at)
        if seen.exit is not None:
            rfc3339(seen.exit.finished_at)
        to_this_boot(one, 1.0, 2.0)
        is_alive(one)
