"""Reading logs: Kubernetes' own table of cases (U-LOG), options, tails and rotations."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.sandbox.logs import LogFile as LogWriter
from minikubelet.sandbox.logs import compress_rotated
from minikubelet.server.errors import ApiError
from minikubelet.server.log_file import LogFile
from minikubelet.server.log_format import LineError, LogFormatter, Stamps, parse_line, tail_start
from minikubelet.server.logs import log_options

STAMP = "2020-01-01T00:00:0{}.000000000Z"
LINES = "".join(f"{STAMP.format(number)} stdout F line{number}\n" for number in (1, 2, 3)).encode()
SECOND = 1_000_000_000
START = Stamps().nanoseconds(b"2020-01-01T00:00:00Z")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "c" / "0.log"
    found.parent.mkdir()
    found.write_bytes(LINES)
    return found


def read(path: Path, tail: int | None = None, **options: object) -> bytes:
    """Print a log as it is now."""
    file = LogFile(str(path), tail=tail)
    formatter = LogFormatter(**options)  # type: ignore[arg-type]
    found = b""
    while (lines := file.read()) and not formatter.is_full:
        found += formatter.feed(lines)
    found += formatter.feed(file.rest())
    file.close()
    return found


@pytest.mark.conformance("U-LOG-1")
def test_defaults_are_everything() -> None:
    options = log_options({}, pod="p", now=100.0)
    assert (options.tail, options.limit, options.since, options.follow, options.timestamps) == (
        (None, None, None, False, False)
    )


@pytest.mark.conformance("U-LOG-2")
def test_since_seconds_counts_from_now() -> None:
    assert log_options({"sinceSeconds": "10"}, pod="p", now=100.0).since == 90 * SECOND


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, b"line1\nline2\nline3\n", marks=pytest.mark.conformance("U-LOG-3")),
        pytest.param({"tail": 2}, b"line2\nline3\n", marks=pytest.mark.conformance("U-LOG-4")),
        pytest.param({"tail": 4}, b"line1\nline2\nline3\n", marks=pytest.mark.conformance("U-LOG-5")),
        pytest.param({"tail": 0}, b"", marks=pytest.mark.conformance("U-LOG-6")),
        pytest.param({"limit": 9}, b"line1\nlin", marks=pytest.mark.conformance("U-LOG-7")),
        pytest.param({"limit": 100}, b"line1\nline2\nline3\n", marks=pytest.mark.conformance("U-LOG-8")),
        pytest.param({"limit": 0}, b"", marks=pytest.mark.conformance("U-LOG-9")),
        pytest.param({"since": START + 2 * SECOND}, b"line2\nline3\n", marks=pytest.mark.conformance("U-LOG-10")),
        pytest.param({"since": START + 90 * SECOND}, b"", marks=pytest.mark.conformance("U-LOG-11")),
    ],
)
def test_what_is_printed(path: Path, options: dict[str, int], expected: bytes) -> None:
    assert read(path, **options) == expected


@pytest.mark.conformance("U-LOG-15")
def test_nothing_is_lost_over_rotations_and_new_files(path: Path) -> None:
    file = LogFile(str(path))
    found = file.read()
    os.rename(path, f"{path}.20200101-000000")
    with open(f"{path}.20200101-000000", "ab") as late:
        late.write(b"%s stdout F late\n" % STAMP.format(4).encode())
    assert LogFormatter().feed(file.read()) == b"late\n"
    path.write_bytes(b"%s stderr F err\n" % STAMP.format(5).encode())
    os.rename(path, f"{path}.20200101-000001")
    path.write_bytes(b"%s stdout F new\n" % STAMP.format(6).encode())
    rest = b""
    while lines := file.read():
        rest += lines
    assert LogFormatter().feed(found + rest) == b"line1\nline2\nline3\nerr\nnew\n"
    assert LogFormatter(stream="stderr").feed(rest) == b"err\n"
    file.close()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_slow_reader_reads_every_file_that_was_rotated_meanwhile(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "c" / "0.log"
    writer = LogWriter(str(path), max_size=2000, max_files=50)
    lines = [f"{STAMP.format(1)} stdout F number {number}\n".encode() for number in range(500)]
    writer.write(lines[0])
    file = LogFile(str(path))
    found = file.read()
    for line in lines[1:]:
        writer.write(line)
    writer.close()
    if compressed:
        compress_rotated(str(path))
    while more := file.read():
        found += more
    file.close()
    assert found == b"".join(lines)


@pytest.mark.conformance("U-LOG-16")
@pytest.mark.conformance("U-LOG-17")
@pytest.mark.conformance("U-LOG-18")
@pytest.mark.conformance("U-LOG-19")
@pytest.mark.parametrize(
    ("line", "stream", "text", "partial"),
    [
        (b"2016-10-20T18:39:20.57606443Z stdout F a log\n", b"stdout", b"a log\n", False),
        (b"2016-10-20T18:39:20.57606443Z stderr F a log\n", b"stderr", b"a log\n", False),
        (b"2016-10-20T18:39:20.57606443Z stdout P a log\n", b"stdout", b"a log", True),
        (b"2016-10-20T18:39:20.57606443+02:00 stdout P:TAG1:TAG2 a log\n", b"stdout", b"a log", True),
        (b"2016-10-20T18:39:20Z stdout F \n", b"stdout", b"\n", False),
    ],
)
def test_lines_that_parse(line: bytes, stream: bytes, text: bytes, partial: bool) -> None:
    entry = parse_line(line)
    assert (entry.stream, entry.text, entry.partial) == (stream, text, partial)


@pytest.mark.conformance("U-LOG-20")
@pytest.mark.parametrize(
    "line",
    [b"unparsable log\n", b"", b"2016-10-20 stdout F x\n", b"2016-10-20T18:39:20Z stdin F x\n", b'{"log": "x"}\n'],
)
def test_lines_that_do_not(line: bytes) -> None:
    with pytest.raises(LineError):
        parse_line(line)
    assert LogFormatter().feed(line + LINES) == b"line1\nline2\nline3\n" if line.endswith(b"\n") else True


@pytest.mark.conformance("U-LOG-21")
def test_streams_apart() -> None:
    both = LINES + b"%s stderr F err\n" % STAMP.format(4).encode()
    assert LogFormatter(stream="stderr").feed(both) == b"err\n"
    assert LogFormatter(stream="stdout").feed(both) == b"line1\nline2\nline3\n"


@pytest.mark.conformance("U-LOG-22")
def test_what_is_older_is_left_out() -> None:
    assert LogFormatter(since=START + 3 * SECOND + 1).feed(LINES) == b""


@pytest.mark.conformance("U-LOG-23")
def test_timestamps_stand_before_each_line() -> None:
    expected = "".join(f"{STAMP.format(number)} line{number}\n" for number in (1, 2, 3)).encode()
    assert LogFormatter(timestamps=True).feed(LINES) == expected
    local = b"2020-01-01T00:00:01.5+00:00 stdout F x\n"
    assert LogFormatter(timestamps=True).feed(local) == b"2020-01-01T00:00:01.500000000Z x\n"


@pytest.mark.conformance("U-LOG-24")
@pytest.mark.conformance("U-LOG-25")
@pytest.mark.conformance("U-LOG-26")
@pytest.mark.conformance("U-LOG-27")
@pytest.mark.conformance("U-LOG-28")
def test_the_limit_counts_all_that_is_printed() -> None:
    line = f"{STAMP.format(1)} stdout F 1234567\n".encode()
    other = line.replace(b"stdout", b"stderr")
    assert LogFormatter(limit=3).feed(line) == b"123"
    assert LogFormatter(limit=11).feed(line + line) == b"1234567\n123"
    assert LogFormatter(limit=16).feed(line + line) == b"1234567\n1234567\n"
    assert LogFormatter(limit=12).feed(line + other) == b"1234567\n1234"
    assert LogFormatter(limit=33, timestamps=True).feed(line) == STAMP.format(1).encode() + b" 12"
    split = LogFormatter(limit=11)
    assert split.feed(line) + split.feed(line) == b"1234567\n123"
    assert split.is_full


@pytest.mark.conformance("U-LOG-29")
def test_ten_thousand_pieces_are_one_line_with_one_stamp() -> None:
    stamp = STAMP.format(1).encode()
    pieces = b"".join(b"%s stdout P piece%d\n" % (stamp, number) for number in range(9999)) + stamp + b" stdout F end\n"
    text = b"".join(b"piece%d" % number for number in range(9999)) + b"end\n"
    assert LogFormatter(timestamps=True).feed(pieces) == stamp + b" " + text
    assert LogFormatter().feed(pieces) == text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"tailLines": "-1"}, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            {"sinceSeconds": "1", "sinceTime": "2020-01-01T00:00:00Z"},
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ({"stream": "Stdin"}, 'Unsupported value: "Stdin"'),
        ({"stream": "Stdout", "tailLines": "3"}, "`tailLines` is forbidden"),
        ({"tailLines": "x"}, 'parsing "x": invalid syntax'),
        ({"sinceTime": "yesterday"}, 'parsing time "yesterday"'),
    ],
)
def test_options_that_cannot_be_taken(query: dict[str, str], message: str) -> None:
    with pytest.raises(ApiError) as caught:
        log_options(query, pod="p", now=0.0)
    assert message in caught.value.message


@given(st.lists(st.binary(max_size=40).map(lambda one: one.replace(b"\n", b"")), max_size=60), st.integers(0, 70))
def test_a_tail_is_the_last_lines(lines: list[bytes], wanted: int) -> None:
    text = b"".join(line + b"\n" for line in lines)
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, text)
        at = tail_start(descriptor, len(text), wanted)
    finally:
        os.close(descriptor)
    assert text[at:] == b"".join(line + b"\n" for line in lines[len(lines) - min(wanted, len(lines)) :])


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.text("abc \r", max_size=5)), max_size=30))
def test_the_quick_way_prints_the_same(lines: list[tuple[bool, bool, str]]) -> None:
    block = "".join(
        f"{STAMP.format(1)} {'stdout' if out else 'stderr'} {'P' if part else 'F'} {text}\n"
        for out, part, text in lines
    ).encode()
    assert LogFormatter().feed(block) == LogFormatter(since=0).feed(block)
