"""The line that says what is waited for: on a terminal only, not before a second is over, and gone in the end."""

from __future__ import annotations

import io

import pytest

from minikubelet.cli import progress, terminal
from minikubelet.cli.drain import waiting_for
from minikubelet.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_nothing_without_a_terminal(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    with Progress(after_s=0.0) as line:
        line.show("waiting")
    assert stream.getvalue() == ""


def test_comes_after_a_second_fits_and_goes(monkeypatch, clock):
    stream = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    monkeypatch.setattr(terminal, "width", lambda stream=None: 20)
    with Progress() as line:
        line.show("at once")
        assert stream.getvalue() == ""
        clock[0] += 1
        line.show("waiting for web \x1b[2J and many more")
        line.show("waiting for web \x1b[2J and many more")
        shown = stream.getvalue()
        assert shown == "\r\x1b[Kwaiting for web \\x…"
        assert terminal.cells(shown.removeprefix("\r\x1b[K")) == 19
    assert stream.getvalue() == f"{shown}\r\x1b[K"


def test_drain_says_whom_it_waits_for():
    pod = {
        "metadata": {"name": "web-n1", "namespace": "default", "deletionTimestamp": "2027-01-15T08:00:30Z"},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Running"},
    }
    now = 1_800_000_000.0
    assert waiting_for([pod], now) == "waiting for web-n1 (Terminating, killed in 30s)"
    assert waiting_for([pod], now + 31) == "waiting for web-n1 (Terminating)"
    assert waiting_for([], now) == ""
