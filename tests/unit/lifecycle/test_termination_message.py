"""M1 to M4: what a container that has ended says about it."""

from __future__ import annotations

import pytest

from minikubelet.api.types import Container
from minikubelet.lifecycle import termination_message
from minikubelet.lifecycle.observed import Exit


def ended(code: int, reason: str = "Error") -> Exit:
    return Exit(exit_code=code, finished_at=1, finished_mono=1, reason=reason)


@pytest.mark.parametrize(
    ("policy", "text", "end", "expected"),
    [
        ("FallbackToLogsOnError", "", ended(1), True),
        ("FallbackToLogsOnError", "said", ended(1), False),
        ("FallbackToLogsOnError", "", ended(0), False),
        ("FallbackToLogsOnError", "", ended(128, "StartError"), False),
        ("FallbackToLogsOnError", "", None, False),
        ("File", "", ended(1), False),
    ],
)
def test_the_log_stands_in_only_for_a_failure_that_said_nothing(
    policy: str, text: str, end: Exit | None, expected: bool
) -> None:
    container = Container(name="a", image="i", termination_message_policy=policy)
    assert termination_message.falls_back_to_log(container, text, end) is expected


def line(text: str, tag: str = "F") -> bytes:
    return f"2026-01-01T00:00:00.000000000Z stdout {tag} {text}\n".encode()


def test_lines_lose_their_stamps_and_parts_are_joined() -> None:
    log = line("one") + line("tw", "P") + line("o") + b"not a log line\n" + line("three", "P:TAG")
    assert termination_message.last_lines(log) == "one\ntwo\nthree"


def test_only_the_last_eighty_lines_count() -> None:
    log = b"".join(line(str(number)) for number in range(100))
    assert termination_message.last_lines(log).splitlines() == [str(number) for number in range(20, 100)]


def test_only_the_last_2048_bytes_count() -> None:
    log = b"".join(line(str(number % 10) * 99) for number in range(80))
    assert len(termination_message.last_lines(log)) == 2048


def test_messages_share_12_kib_and_are_cut_between_characters() -> None:
    assert len(termination_message.cut("x" * 5000, 1)) == 5000
    assert len(termination_message.cut("x" * 5000, 4)) == 3072
    assert termination_message.cut("ä" * 5000, 3) == "ä" * 2048
    assert termination_message.cut("xä" + "ä" * 5000, 3) == "x" + "ä" * 2047
