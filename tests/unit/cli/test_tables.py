"""Tables as they look: kubectl's alignment, and the live table at several widths."""

from __future__ import annotations

import pytest

from minikubelet.cli import terminal
from minikubelet.cli.live_table import changes, fit
from minikubelet.cli.tabwriter import align

ROWS = [
    ("default", "crash-node", "0/1", "CrashLoopBackOff", "2 (8s ago)", "20s", "10.89.0.2"),
    ("default", "job-node", "0/1", "Completed", "0", "20s", "<none>"),
    ("default", "a-pod-with-a-rather-long-name-node", "1/1", "Running", "0", "20s", "10.89.0.5"),
]

WIDE = """\
NAME                                 READY   STATUS             RESTARTS     AGE   IP
crash-node                           0/1     CrashLoopBackOff   2 (8s ago)   20s   10.89.0.2
job-node                             0/1     Completed          0            20s   <none>
a-pod-with-a-rather-long-name-node   1/1     Running            0            20s   10.89.0.5"""
AT_80 = """\
NAME                                 READY   STATUS             IP
crash-node                           0/1     CrashLoopBackOff   10.89.0.2
job-node                             0/1     Completed          <none>
a-pod-with-a-rather-long-name-node   1/1     Running            10.89.0.5"""
AT_40 = """\
NAME                    STATUS
crash-node              CrashLoopBackOff
job-node                Completed
a-pod-with-a-rather-…   Running"""
AT_20 = """\
NAME       STATUS
crash-n…   CrashLoo…
job-node   Completed
a-pod-w…   Running"""


@pytest.mark.parametrize(("width", "expected"), [(120, WIDE), (80, AT_80), (40, AT_40), (20, AT_20)])
def test_live_table_fits(width, expected):
    lines = fit(ROWS, width=width, height=24)
    assert "\n".join(lines) == expected
    assert max(len(line) for line in lines) <= width


def test_namespaces_are_shown_when_there_are_several():
    lines = fit([*ROWS, ("kube", "x", "1/1", "Running", "0", "1s", "10.0.0.1")], width=120, height=24)
    assert lines[0].startswith("NAMESPACE   NAME")


def test_what_is_not_well_stays_when_there_is_no_room():
    rows = [("default", f"p{n}", "1/1", "Running", "0", "1s", "10.0.0.1") for n in range(50)]
    rows[30] = ("default", "p30", "0/1", "Error", "0", "1s", "10.0.0.1")
    lines = fit(rows, width=80, height=10)
    assert len(lines) == 10
    assert any(line.startswith("p30") for line in lines)
    assert lines[-1] == "... and 42 more"


def test_changes_are_told_once_and_ages_do_not_count():
    known, lines = changes({}, ROWS)
    assert lines[0] == "default/crash-node: CrashLoopBackOff, 0/1 ready, 2 restarts, 10.89.0.2"
    older = [(*row[:4], row[4].replace("8s", "9s"), "21s", row[6]) for row in ROWS]
    known, lines = changes(known, older)
    assert lines == []
    known, lines = changes(known, older[1:])
    assert lines == ["default/crash-node: gone"]


def test_align_as_go_does():
    text = "Name:\tweb\nA longer title:\tx\n\nBlock:\n  a\tb\tc\n  aaa\tbbbb\tc\nend"
    assert align(text) == ("Name:            web\nA longer title:  x\n\nBlock:\n  a    b     c\n  aaa  bbbb  c\nend")


def test_colours_only_on_a_terminal(monkeypatch):
    class Stream:
        def __init__(self, tty):
            self._tty = tty

        def isatty(self):
            return self._tty

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.paint("x", terminal.RED, Stream(True)) == "\x1b[31mx\x1b[0m"
    assert terminal.paint("x", terminal.RED, Stream(False)) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.paint("x", terminal.RED, Stream(True)) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.paint("x", terminal.RED, Stream(True)) == "x"


@pytest.mark.parametrize(
    ("status", "colour"),
    [
        ("Running", ""),
        ("Completed", ""),
        ("CrashLoopBackOff", terminal.RED),
        ("Init:Error", terminal.RED),
        ("OOMKilled", terminal.RED),
        ("ContainerCreating", terminal.YELLOW),
        ("Init:0/2", terminal.YELLOW),
        ("NotReady", terminal.YELLOW),
        ("Terminating", terminal.YELLOW),
    ],
)
def test_colour_of_a_status(status, colour):
    assert terminal.status_colour(status) == colour


def test_control_characters_do_not_reach_the_terminal():
    assert terminal.printable("a\x1b[2Jb\x07\x9bc") == "a\\x1b[2Jb\\x07\\x9bc"


def test_wrap():
    assert terminal.wrap("one two three four", 9) == "one two\nthree\nfour"
    assert terminal.wrap("averyveryverylongword b", 9, "  ") == "  averyveryverylongword\n  b"
