"""Whatever stands in a state file, the daemon starts: what cannot be read is passed over and made anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikubelet.api.manifest import parse_manifest
from minikubelet.api.types import ObjectMeta
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.status import parse_rfc3339
from minikubelet.node.deletion import Deletion
from minikubelet.node.desired import rfc3339
from minikubelet.node.events import EventRecorder
from minikubelet.node.kept import _CLAIMS, KeptManifests
from minikubelet.node.kept_results import KeptResults
from minikubelet.node.status_manager import StatusManager
from minikubelet.node.store import Store
from minikubelet.runtime.network.records import parse_record

TEXT = b"""apiVersion: v1
kind: Pod
metadata: {name: w}
spec: {containers: [{name: c, image: x, command: [a]}]}
"""
POD = parse_manifest(TEXT, file="f", node_name="n").pods[0].pod
STATUS = json.loads(msgspec.json.encode(POD)) | {"status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}}
KEPT = {"file": "/etc/m/a.yaml", "first_seen": 1e9, "modified": 1e9, "content": "YQ=="}
PROBES = {"c1": {"Liveness": "Success"}}
RECORD = {"version": 1, "uid": "u", "pod": "d/w", "ips": ["10.0.0.1"]}

ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})
ODD |= st.sampled_from(["\ud800", "0000", "9999-99-99", 1e308, 2**70, [[]], {"a": {}}])


def event() -> dict[str, Any]:
    store = Store(first_version=1)
    recorder = EventRecorder(path="/dev/null", store=store, node_name="n", clock=lambda: 1e9)
    recorder.event(POD, "Normal", "Started", "m", container="c")
    return json.loads(json.dumps(next(iter(recorder._events.values()))))


EVENT = event()


def read_events(base: Path, data: bytes) -> None:
    path = base / "events.jsonl"
    path.write_bytes(data + b"\n" + json.dumps(EVENT).encode() + b"\n")
    recorder = EventRecorder(path=str(path), store=Store(first_version=1), node_name="n", clock=lambda: 1e9)
    recorder.start()
    assert recorder._events[EVENT["metadata"]["name"]]  # the sound one after the damaged one
    recorder.event(POD, "Normal", "Started", "m", container="c")
    recorder.stop()


def read_kept(base: Path, data: bytes) -> None:
    (base / "kept").mkdir(exist_ok=True)
    for name in ("x.json", _CLAIMS):
        (base / "kept" / name).write_bytes(data)
    kept = KeptManifests(str(base / "kept"))
    kept.start()
    kept.claims()
    for one in kept.all():
        rfc3339(one.first_seen)
        rfc3339(one.modified)


def read_probes(base: Path, data: bytes) -> None:
    (base / "u").mkdir(exist_ok=True)
    (base / "u" / "probes.json").write_bytes(data)
    KeptResults(str(base)).load(PodUID("u"))


def read_record(base: Path, data: bytes) -> None:
    try:
        parse_record(data)
    except ValueError:  # then it is set aside
        return


def read_status(base: Path, data: bytes) -> None:
    (base / "default_w-n.json").write_bytes(data)
    manager = StatusManager(
        status_dir=str(base), table_path=str(base / "t"), store=Store(first_version=1), render=lambda pods: ""
    )
    found = manager.previous("default", POD.metadata.name, POD.metadata.uid)
    if found is not None and found.start_time:
        parse_rfc3339(found.start_time)


READERS = [(read_events, EVENT), (read_kept, KEPT), (read_probes, PROBES), (read_record, RECORD), (read_status, STATUS)]
NOISE = [
    b"", b"\x00", b"{", b"[]", b"null", b'{"a": "\xff\xfe"}', b"\xff" * 100, b"[" * 100_000, b'{"a":' * 100_000,
    b'"\\ud800"', b"1e999", b'{"\\ud800": {"\\ud800": "\\ud800"}}',
]  # fmt: skip


@pytest.mark.parametrize(("reader", "good"), READERS, ids=lambda one: getattr(one, "__name__", ""))
@pytest.mark.parametrize("noise", NOISE, ids=range(len(NOISE)))
def test_noise(tmp_path: Path, reader: Any, good: Any, noise: bytes) -> None:
    reader(tmp_path, noise)
    text = json.dumps(good).encode()
    reader(tmp_path, text[: len(text) // 2] + noise + text[len(text) // 2 :])


@pytest.mark.parametrize(("reader", "good"), READERS, ids=lambda one: getattr(one, "__name__", ""))
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_of_other_kinds(tmp_path: Path, reader: Any, good: Any, data: st.DataObject) -> None:
    changed = json.loads(json.dumps(good))
    here = changed
    while True:
        key = data.draw(st.sampled_from(sorted(here)))
        if not isinstance(here[key], dict) or not here[key] or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = data.draw(ODD)
    reader(tmp_path, json.dumps(changed).encode())


def test_a_deletion_that_cannot_be_read_ends_the_pod_now() -> None:
    meta = ObjectMeta(name="w", deletion_timestamp="yesterday", deletion_grace_period_seconds=30)
    assert Deletion.restored(meta, wall=1000.0, boot=5.0).deadline == 5.0
