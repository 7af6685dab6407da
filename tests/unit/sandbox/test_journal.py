"""The journal: torn lines, no room, growth, damage."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.sandbox import journal as module
from minikubelet.sandbox.journal import Journal, read_journal

Json = dict[str, Any]


def sandbox(name: str = "s1") -> Json:
    return {
        "id": name,
        "attempt": 0,
        "created_at": 1.0,
        "pid": 7,
        "start_ticks": 9,
        "boot_id": "b",
        "host_network": False,
        "spec": {},
    }


def container(name: str, of: str = "s1", **more: object) -> Json:
    return {
        "id": name,
        "name": "main",
        "restart_count": 0,
        "sandbox_id": of,
        "created_at": 1.0,
        "created_mono": 1.0,
        "state": "running",
        **more,
    }


def make(path: Path) -> Journal:
    one = Journal(str(path))
    one.append({"do": "sandbox", "id": "s1", "state": sandbox()})
    one.append({"do": "container", "id": "c1", "state": container("c1")})
    return one


def test_replay_gives_the_state(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    one = make(path)
    one.append({"do": "container", "id": "c2", "state": container("c2")})
    one.append({"do": "container", "id": "c1", "state": {"state": "exited"}})
    one.append({"do": "remove", "id": "c2"})
    sandboxes, containers = read_journal(str(path))
    assert sandboxes == {"s1": sandbox()}
    assert containers == {"c1": container("c1", state="exited")}
    one.append({"do": "remove_sandbox", "id": "s1"})
    assert read_journal(str(path))[0] == {}


@given(cut=st.integers(0, 400), noise=st.binary(max_size=40))
def test_whatever_stands_at_its_end_the_lines_before_and_after_count(
    tmp_path_factory: Any, cut: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("j") / "journal"
    make(path).close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: max(first, len(whole) - cut)] + noise)
    again = Journal(str(path))
    again.append({"do": "container", "id": "c9", "state": container("c9")})
    again.close()
    sandboxes, containers = read_journal(str(path))
    assert sandboxes == {"s1": sandbox()}
    assert containers["c9"] == container("c9")


def test_what_has_no_room_is_written_whole_and_in_order_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    one = make(path)
    real, room = os.write, [5]

    def scarce(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, bytes(data[: room[0]]))
        room[0] -= written
        return written

    monkeypatch.setattr(module.os, "write", scarce)
    one.append({"do": "container", "id": "c1", "state": {"state": "exited"}})
    one.append({"do": "container", "id": "c2", "state": container("c2")})
    assert one.is_behind()
    assert not one.flush()
    monkeypatch.setattr(module.os, "write", real)
    assert one.flush()
    assert not one.is_behind()
    _, containers = read_journal(str(path))
    assert containers == {"c1": container("c1", state="exited"), "c2": container("c2")}


def test_a_grown_journal_is_written_anew_with_what_earlier_sandboxes_left(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    one = make(path)
    one.append({"do": "sandbox", "id": "s2", "state": sandbox("s2")})
    state = container("c2", "s2")
    while not one.wants_compaction():
        one.append({"do": "container", "id": "c2", "state": state})
    before = read_journal(str(path))
    one.rewrite(sandbox("s2"), {"c2": state})
    assert read_journal(str(path)) == before
    assert path.stat().st_size < 4096
    assert not one.wants_compaction()
    one.append({"do": "remove", "id": "c1"})
    one.rewrite(sandbox("s2"), {"c2": state})
    assert read_journal(str(path)) == ({"s2": sandbox("s2")}, {"c2": state})
    assert os.listdir(tmp_path) == ["journal"]


def test_too_much_that_has_no_room_is_dropped_and_made_up_for_by_a_rewrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    one = make(path)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    for _ in range(8000):
        one.append({"do": "container", "id": "c1", "state": container("c1", restart_count=4)})
    assert len(one._pending) <= module._MAX_PENDING
    monkeypatch.setattr(module.os, "write", real)
    assert not one.flush()
    assert one.wants_compaction()
    one.rewrite(sandbox(), {"c1": container("c1", restart_count=4)})
    assert one.flush()
    assert read_journal(str(path))[1] == {"c1": container("c1", restart_count=4)}


def test_no_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "journal").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        Journal(str(tmp_path / "journal"))
    assert target.read_text() == "precious"


def test_records_without_a_beginning_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lines = [
        {"do": "container", "id": "c1", "state": {"state": "exited"}},
        {"do": "sandbox", "id": "s1", "state": {"pid": 3}},
        {"do": "what", "id": 3},
        ["not", "ours"],
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert read_journal(str(path)) == ({}, {})
