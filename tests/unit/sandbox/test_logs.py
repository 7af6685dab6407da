"""The log writer: format, cutting, rotation, and a disk without room."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.cli.log_files import read_log
from minikubelet.sandbox.logs import (
    MAX_LINE,
    LineStream,
    LogFile,
    compress_rotated,
    has_long_line,
    rotated_files,
    timestamp,
)

LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP]) (.*)", re.DOTALL)


def parse(output: bytes) -> list[tuple[bytes, bytes]]:
    """Return tag and text of each line."""
    assert output == b"" or output.endswith(b"\n")
    found = []
    for line in output.split(b"\n")[:-1]:
        match = LINE.fullmatch(line)
        assert match is not None, line
        found.append((match[3], match[4]))
    return found


def test_lines_of_one_read_are_whole_and_share_their_time() -> None:
    stream = LineStream("stderr")
    output = stream.feed(b"one\n\nthree\nfou")
    assert parse(output) == [(b"F", b"one"), (b"F", b""), (b"F", b"three")]
    assert len({line.split(b" ", 1)[0] for line in output.splitlines()}) == 1
    assert b" stderr F one\n" in output
    assert parse(stream.feed(b"r\n")) == [(b"F", b"four")]
    assert stream.finish() == b""


def test_an_unfinished_line_is_a_piece() -> None:
    stream = LineStream("stdout")
    assert stream.feed(b"no end") == b""
    assert parse(stream.finish()) == [(b"P", b"no end")]


def test_carriage_returns_before_line_ends_go() -> None:
    assert parse(LineStream("stdout").feed(b"a\r\nb\rc\r\n")) == [(b"F", b"a"), (b"F", b"b\rc")]


@pytest.mark.parametrize(
    ("length", "tags"), [(MAX_LINE, b"F"), (MAX_LINE + 1, b"PF"), (2 * MAX_LINE, b"PF"), (2 * MAX_LINE + 1, b"PPF")]
)
def test_long_lines_are_cut(length: int, tags: bytes) -> None:
    output = parse(LineStream("stdout").feed(b"short\n" + b"x" * length + b"\nshort\n"))
    assert b"".join(tag for tag, _ in output) == b"F" + tags + b"F"
    assert b"".join(text for _, text in output[1:-1]) == b"x" * length
    assert max(len(text) for _, text in output) <= MAX_LINE


def test_an_endless_line_is_not_held_in_memory() -> None:
    stream = LineStream("stdout")
    output = parse(stream.feed(b"x" * 1_000_000))
    assert {tag for tag, _ in output} == {b"P"}
    assert sum(len(text) for _, text in output) > 1_000_000 - MAX_LINE


@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(1, 40000).map(lambda n: b"y" * n)), max_size=8))
def test_nothing_is_lost_however_it_is_read(chunks: list[bytes]) -> None:
    stream = LineStream("stdout")
    lines = [one for chunk in chunks for one in parse(stream.feed(chunk))] + parse(stream.finish())
    told = b"".join(text + (b"\n" if tag == b"F" else b"") for tag, text in lines)
    # A carriage return at the end of a piece may have lost its line end to the next read.
    assert told.replace(b"\r\n", b"\n") == b"".join(chunks).replace(b"\r\n", b"\n")


@given(st.lists(st.integers(0, MAX_LINE + 3), min_size=1, max_size=5))
def test_long_lines_are_found(lengths: list[int]) -> None:
    whole = b"".join(b"z" * length + b"\n" for length in lengths)
    assert has_long_line(whole) == any(length > MAX_LINE for length in lengths)


def test_rotation_keeps_the_size_and_every_line(tmp_path: Path) -> None:
    path = str(tmp_path / "c" / "0.log")
    log = LogFile(path, max_size=1000, max_files=100)
    rotations = sum(log.write(b"%099d\n" % number) for number in range(95))
    log.close()
    assert rotations == 9
    files = rotated_files(path)
    assert [Path(one).stat().st_size for one in files] == [1000] * 9
    lines = b"".join(Path(one).read_bytes() for one in [*files, path]).splitlines()
    assert [int(line) for line in lines] == list(range(95))


def test_the_last_lines_stay_in_the_file_however_full_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "0.log")
    log = LogFile(path, max_size=100, max_files=4)
    assert not log.write(b"%0199d\n" % 1)
    assert rotated_files(path) == []
    assert log.write(b"the end\n")
    log.close()
    assert Path(path).read_text() == "the end\n"
    assert [len(Path(one).read_text()) for one in rotated_files(path)] == [200]


def test_a_new_file_that_cannot_be_made_is_told_with_its_cause_and_costs_counted_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "0.log")
    log = LogFile(path, max_size=100, max_files=4)
    log.write(b"%0199d\n" % 1)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("minikubelet.sandbox.logs.os.open", refuse)
        log.write(b"a\nb\n")
    assert log.trouble == f"lines are lost, {path}: No space left on device"
    log.write(b"c\n")
    log.close()
    assert [line.split(b" F ")[-1] for line in Path(path).read_bytes().splitlines()] == [
        b"minikubelet: 2 lines lost: no space for the log",
        b"c",
    ]


def test_old_files_go_and_rotated_ones_are_compressed_but_for_the_newest(tmp_path: Path) -> None:
    path = str(tmp_path / "0.log")
    (tmp_path / "10.log.20260101-000000").write_text("another instance")
    (tmp_path / "0.log.20200101-000000.tmp").write_text("of a compression that was killed")
    log = LogFile(path, max_size=100, max_files=4)
    for number in range(8):
        log.write(b"%099d\n" % number)
    compress_rotated(path)
    files = rotated_files(path)
    assert [one.endswith(".gz") for one in files] == [True, True, False]
    assert [int(gzip.open(one).read()) for one in files[:2]] == [4, 5]
    assert [int(Path(one).read_text()) for one in (files[2], path)] == [6, 7]
    assert not list(tmp_path.glob("*.tmp"))
    assert {Path(one).stat().st_mode & 0o777 for one in files} == {0o640}
    assert (tmp_path / "10.log.20260101-000000").exists()
    log.write(b"%099d\n" % 8)
    assert [one.endswith(".gz") for one in rotated_files(path)] == [True, False, False]
    log.close()


def test_a_deleted_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "c" / "0.log"
    log = LogFile(str(path), max_size=1000, max_files=2)
    log.write(b"gone\n")
    path.unlink()
    path.parent.rmdir()
    log._checked = 0.0  # a second has passed
    log.write(b"there\n")
    assert path.read_bytes() == b"there\n"
    log.close()


def test_a_part_whose_compression_was_killed_at_the_end_counts_once(tmp_path: Path) -> None:
    """The packed part had its name, and the plain one was not yet removed."""
    path = tmp_path / "0.log"
    log = LogFile(str(path), max_size=100, max_files=5)
    for number in range(4):
        log.write(b"2026-01-01T00:00:00Z stdout F %070d\n" % number)
    log.close()
    first = Path(rotated_files(str(path))[0])
    before = first.read_bytes()
    compress_rotated(str(path))
    first.write_bytes(before)
    assert [one.endswith(".gz") for one in rotated_files(str(path))] == [True, True, False]
    assert [int(line.text) for line in read_log(str(path))] == list(range(4))
    compress_rotated(str(path))
    assert not first.exists()


def test_a_file_that_somebody_emptied_is_not_rotated(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), max_size=100, max_files=2)
    log.write(b"x" * 79 + b"\n")
    path.write_bytes(b"")
    assert not log.write(b"y" * 79 + b"\n")
    assert path.read_bytes() == b"y" * 79 + b"\n"
    log.close()


@contextlib.contextmanager
def small_disk() -> Iterator[None]:
    """Let no file grow over 1000 bytes: a write is then cut in the middle, as on a full disk.

    No fixture: the test runner itself writes its report, perhaps to a file, before fixtures are taken down.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_without_room_are_counted_and_told_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), max_size=10**6, max_files=2)
    lines = b"".join(b"%069d\n" % number for number in range(30))
    with small_disk():
        log.write(lines)
        log.write(b"lost" * 20 + b"\n")
    kept = path.read_bytes().splitlines()
    assert [int(line) for line in kept] == list(range(14)), "whole lines only"
    path.write_bytes(b"")  # room again
    log.write(b"after\n")
    note, after = path.read_bytes().splitlines()
    assert note.endswith(b" stderr F minikubelet: 17 lines lost: no space for the log")
    assert after == b"after"
    log.close()


def test_lost_lines_are_told_at_the_end_too(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), max_size=10**6, max_files=2)
    with small_disk():
        log.write(b"x" * 2000 + b"\n")
    assert path.read_bytes() == b""
    log.close()
    assert b"1 lines lost" in path.read_bytes()


@pytest.mark.parametrize(
    ("zone", "text"), [("UTC0", "1970-01-01T00:00:01.000000002Z"), ("CET-1", "1970-01-01T01:00:01.000000002+01:00")]
)
def test_stamps_are_local_times_and_utc_is_a_letter(monkeypatch: pytest.MonkeyPatch, zone: str, text: str) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        assert timestamp(1_000_000_002) == text.encode()
    time.tzset()
