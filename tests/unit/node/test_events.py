"""Events in memory, in the store and in their file."""

from __future__ import annotations

import json
import os

import msgspec
import pytest
import structlog

from minikubelet.api.types import Pod
from minikubelet.node import events as module
from minikubelet.node.events import EventRecorder
from minikubelet.node.store import Store

POD = msgspec.convert(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-n1", "namespace": "default", "uid": "u1"},
        "spec": {"containers": [{"name": "main", "image": "host"}]},
    },
    Pod,
)


class Rig:
    def __init__(self, path) -> None:
        self.path = path / "events.jsonl"
        self.now = 1_700_000_000.0
        self.begin()

    def begin(self) -> None:
        self.store = Store()
        clock = lambda: self.now  # noqa: E731
        self.recorder = EventRecorder(path=str(self.path), store=self.store, node_name="n1", clock=clock)
        self.recorder.start()

    def listed(self):
        return [one.object for one in self.store.list("events")]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def test_event_has_the_form_that_kubectl_knows(rig):
    rig.recorder.event(POD, "Warning", "Unhealthy", "no", container="main")
    (event,) = rig.listed()
    event["metadata"].pop("resourceVersion", None)
    assert event == {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": "web-n1.17979cfe362a0000",
            "namespace": "default",
            "creationTimestamp": "2023-11-14T22:13:20Z",
        },
        "involvedObject": {
            "kind": "Pod",
            "namespace": "default",
            "name": "web-n1",
            "uid": "u1",
            "apiVersion": "v1",
            "fieldPath": "spec.containers{main}",
        },
        "reason": "Unhealthy",
        "message": "no",
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2023-11-14T22:13:20Z",
        "lastTimestamp": "2023-11-14T22:13:20Z",
        "count": 1,
        "type": "Warning",
        "eventTime": None,
        "reportingComponent": "kubelet",
        "reportingInstance": "n1",
    }


def test_field_path_of_an_init_container(rig):
    rig.recorder.event(POD, "Normal", "Started", "Container started", container="side", init=True)
    assert rig.listed()[0]["involvedObject"]["fieldPath"] == "spec.initContainers{side}"


def test_recurring_event_keeps_its_name_over_a_restart(rig):
    rig.recorder.event(POD, "Warning", "BackOff", "again")
    (first,) = rig.listed()
    rig.now += 100
    rig.recorder.event(POD, "Warning", "BackOff", "again")
    rig.begin()
    rig.now += 100
    rig.recorder.event(POD, "Warning", "BackOff", "again")
    (event,) = rig.listed()
    assert event["metadata"]["name"] == first["metadata"]["name"]
    assert (event["count"], event["firstTimestamp"]) == (3, first["firstTimestamp"])
    assert event["lastTimestamp"] == "2023-11-14T22:16:40Z"


def test_names_differ_even_at_one_time(rig):
    for number in range(5):
        rig.recorder.event(POD, "Normal", f"R{number}", "x")
    assert len({one["metadata"]["name"] for one in rig.listed()}) == 5


def test_events_live_for_an_hour_from_their_last_occurrence(rig):
    rig.recorder.event(POD, "Normal", "Old", "x")
    rig.now += 1800
    rig.recorder.event(POD, "Normal", "Young", "x")
    rig.now += 1801
    rig.recorder.expire()
    assert [one["reason"] for one in rig.listed()] == ["Young"]
    rig.now += 3600
    rig.begin()
    assert rig.listed() == []


def test_bounds(rig, monkeypatch):
    monkeypatch.setattr(module, "MAX_EVENTS", 10)
    for number in range(30):
        rig.recorder.event(POD, ("Normal", "Warning")[number % 2], f"R{number}", "x")
    assert [one["reason"] for one in rig.listed()] == [f"R{number}" for number in range(20, 30)]
    monkeypatch.setattr(module, "_MAX_BYTES", 1000)
    rig.now += 3000  # tokens for ten more
    rig.recorder.event(POD, "Normal", "Long", "y" * 990)
    assert sum(len(one["message"]) for one in rig.listed()) <= 1000


def test_file_is_made_short_and_stays_private(rig):
    rig.recorder._file._limit = 2000
    for number in range(20):
        rig.recorder.event(POD, "Normal", "Same", "x" if number % 2 else "y")
    lines = rig.path.read_text().splitlines()
    assert len(lines) < 20
    assert rig.path.stat().st_mode & 0o777 == 0o600
    assert {json.loads(line)["message"] for line in lines} == {"x", "y"}
    rig.begin()
    assert sorted(one["count"] for one in rig.listed()) == [10, 10]


def test_broken_lines_are_set_aside_and_cost_no_other(rig):
    rig.recorder.event(POD, "Normal", "One", "x")
    good = rig.path.read_bytes()
    dated = good.replace(b"2023-11-14T22:13:20Z", b"yesterday at noon...")
    rig.path.write_bytes(b"[[[[\n\x00\xff\n{}\n" + dated + good + good[:50])
    rig.begin()
    assert [one["reason"] for one in rig.listed()] == ["One"]
    assert rig.path.with_name("events.jsonl.broken").read_bytes() == b"[[[[\n\x00\xff\n{}\n"
    rig.recorder.event(POD, "Normal", "Two", "x")
    assert len(rig.path.read_text().splitlines()) == 2


def test_disk_that_takes_nothing_costs_only_what_a_restart_would_know(rig):
    rig.path.unlink()
    rig.path.mkdir()
    rig.recorder.stop()
    rig.recorder.event(POD, "Normal", "One", "x")
    assert [one["reason"] for one in rig.listed()] == ["One"]


@pytest.mark.parametrize("kept", [0, 10], ids=["nothing", "a part of the line"])
@pytest.mark.parametrize("how", ["the next event", "word of room"])
def test_what_had_no_room_is_in_the_file_when_there_is_some(rig, monkeypatch, kept, how):
    rig.recorder.event(POD, "Normal", "Started", "before")

    real, room = os.write, [kept] if kept else []

    def full(descriptor, data):
        if not room:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: room.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        rig.recorder.event(POD, "Warning", "Unhealthy", "meanwhile")
        rig.recorder.catch_up()  # no: there is none yet
    if how == "the next event":
        rig.recorder.event(POD, "Normal", "Killing", "after")
    else:
        rig.recorder.catch_up()
    rig.begin()
    expected = ["before", "meanwhile", *(["after"] if how == "the next event" else [])]
    assert [one["message"] for one in rig.listed()] == expected
    assert not rig.path.with_name("events.jsonl.broken").exists()


def test_node_events_are_in_the_default_namespace(rig):
    rig.recorder.node_event("Warning", "Trouble", "x")
    (event,) = rig.listed()
    assert event["metadata"]["namespace"] == "default"
    assert event["involvedObject"] == {"kind": "Node", "namespace": "", "name": "n1", "uid": "n1"}


def test_log_tells_whose_event_it_is_whatever_task_records_it(rig):
    with structlog.contextvars.bound_contextvars(pod="default/other-n1", uid="u2"):
        merge = structlog.contextvars.merge_contextvars
        with structlog.testing.capture_logs(processors=[merge]) as logs:
            rig.recorder.event(POD, "Warning", "Unhealthy", "no")
    assert [(one["pod"], one["uid"]) for one in logs] == [("default/web-n1", "u1")]
