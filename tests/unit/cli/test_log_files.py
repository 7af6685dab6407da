"""Reading logs: whole with rotated parts, the last lines, and while they are written, rotated and restarted."""

from __future__ import annotations

import gzip
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.cli.log_files import Follower, read_log, read_pieces


def line(number: int, *, stream: str = "stdout", tag: str = "F", text: str | None = None) -> bytes:
    shown = f"line {number}" if text is None else text
    return f"2026-01-01T00:00:{number % 60:02d}.000000000+00:00 {stream} {tag} {shown}\n".encode()


def texts(found):
    return [one.text.decode() for one in found]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "0.log"
    (tmp_path / "0.log.20260101-000000.gz").write_bytes(gzip.compress(line(1) + line(2)))
    (tmp_path / "0.log.20260101-000001").write_bytes(line(3) + line(4))
    path.write_bytes(line(5) + line(6))
    return path


def test_rotated_parts_are_read_in_order(log):
    assert texts(read_log(str(log))) == [f"line {n}" for n in range(1, 7)]


@pytest.mark.parametrize("tail", range(8))
def test_tail_reaches_into_rotated_parts(log, tail):
    expected = [f"line {n}" for n in range(1, 7)]
    assert texts(read_log(str(log), tail=tail)) == expected[len(expected) - min(tail, 6) :]


def test_parts_of_long_lines_are_joined_for_each_stream():
    raw = [
        line(1, tag="P", text="a"),
        line(1, stream="stderr", text="other"),
        line(2, tag="P", text="b"),
        line(3, text="c"),
    ]
    found = list(read_pieces([one[:-1] for one in raw]))
    assert [(one.stream, one.text) for one in found] == [(b"stderr", b"other"), (b"stdout", b"abc")]


def test_what_is_no_log_line_is_passed_over():
    assert list(read_pieces([b"", b"x", b"2026 stdout", b"2026 nothing F x"])) == []


@given(
    lines=st.lists(
        st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=200), max_size=60
    ),
    tail=st.integers(0, 70),
)
def test_tail_is_the_end_of_the_whole(tmp_path_factory, lines, tail):
    path = tmp_path_factory.mktemp("log") / "0.log"
    path.write_bytes(b"".join(line(n, text=one) for n, one in enumerate(lines)))
    whole = texts(read_log(str(path)))
    assert whole == lines
    assert texts(read_log(str(path), tail=tail)) == (whole[-tail:] if tail else [])


def test_tail_of_a_large_file_reads_only_its_end(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(line(n) for n in range(100_000)))
    assert texts(read_log(str(path), tail=2)) == ["line 99998", "line 99999"]


def test_follower_sees_appended_lines_and_no_halves(tmp_path):
    path = tmp_path / "0.log"
    follower = Follower(str(tmp_path), 0, at_end=False)
    assert texts(follower.pump()) == []
    path.write_bytes(line(1) + line(2)[:20])
    assert texts(follower.pump()) == ["line 1"]
    with path.open("ab") as file:
        file.write(line(2)[20:])
    assert texts(follower.pump()) == ["line 2"]


def test_follower_survives_rotations_between_two_looks(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(line(1))
    follower = Follower(str(tmp_path), 0, at_end=False)
    assert texts(follower.pump()) == ["line 1"]
    with path.open("ab") as file:
        file.write(line(2))
    for number in (1, 2):
        os.rename(path, f"{path}.20260101-00000{number}")
        path.write_bytes(line(number * 2 + 1) + line(number * 2 + 2))
    assert texts(follower.pump()) == [f"line {n}" for n in (2, 3, 4, 5, 6)]


def test_follower_goes_on_with_the_next_instance(tmp_path):
    (tmp_path / "0.log").write_bytes(line(1))
    follower = Follower(str(tmp_path), 0, at_end=False)
    assert texts(follower.pump()) == ["line 1"]
    with (tmp_path / "0.log").open("ab") as file:
        file.write(line(2))
    (tmp_path / "1.log").write_bytes(line(3))
    (tmp_path / "3.log").write_bytes(line(4))
    assert texts(follower.pump()) == ["line 2", "line 3", "line 4"]


def test_follower_begins_at_the_end_if_told_so(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(line(1))
    follower = Follower(str(tmp_path), 0, at_end=True)
    assert texts(follower.pump()) == []
    with path.open("ab") as file:
        file.write(line(2))
    assert texts(follower.pump()) == ["line 2"]


def test_a_program_that_writes_faster_than_it_is_read_leaves_others_their_turn(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(line(n, text="x" * 1000) for n in range(500)))
    follower = Follower(str(tmp_path), 0, at_end=False)
    turns = [len(list(follower.pump(100_000)))]
    while follower.behind:
        turns.append(len(list(follower.pump(100_000))))
    assert sum(turns) == 500
    assert max(turns) < 200


def test_history_ends_with_what_was_there_and_pump_goes_on(tmp_path):
    path = tmp_path / "0.log"
    (tmp_path / "0.log.20260101-000001").write_bytes(line(0))
    path.write_bytes(line(1))
    follower = Follower(str(tmp_path), 0, at_end=False)
    assert texts(follower.history()) == ["line 0", "line 1"]
    with path.open("ab") as file:
        file.write(line(2))
    assert texts(follower.pump()) == ["line 2"]
    assert texts(Follower(str(tmp_path), 0, at_end=False).history(rotated=False)) == ["line 1", "line 2"]


def test_last_words_without_an_end_of_their_line(tmp_path):
    """Of each stream, behind all that is whole; a part that was rotated in the middle of a line goes on in the next."""
    log = tmp_path / "0.log"
    (tmp_path / "0.log.20260101-000000").write_bytes(line(1, tag="P", text="a"))
    log.write_bytes(line(2, text="b") + line(3, stream="stderr", tag="P", text="err") + line(4, tag="P", text="out"))
    expected = [("ab", True), ("err", False), ("out", False)]
    assert [(one.text.decode(), one.whole) for one in read_log(str(log))] == expected
    assert texts(read_log(str(log), tail=1)) == ["out"]
    assert texts(read_log(str(log), tail=2)) == ["err", "out"]
    follower = Follower(str(tmp_path), 0, at_end=False)
    assert texts(follower.history()) == ["ab"]
    assert texts(follower.rest()) == ["err", "out"]


def test_follower_gives_an_instances_last_words_before_the_next_one(tmp_path):
    (tmp_path / "0.log").write_bytes(line(1, tag="P", text="bye"))
    follower = Follower(str(tmp_path), 0, at_end=False)
    assert texts(follower.pump()) == []
    (tmp_path / "1.log").write_bytes(line(2))
    assert texts(follower.pump()) == ["bye", "line 2"]
    assert texts(follower.rest()) == []
