"""Tables as they look: kubectl's alignment, and the live table at several widths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.cli import terminal
from minikubelet.cli.live_table import changes, fit
from minikubelet.cli.tabwriter import align


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Let what is printed go to a terminal, as far as colours ask."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)


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


COLOURED_AT_40 = """\
NAME                    STATUS
crash-node              \x1b[31mCrashLoopBackOff\x1b[0m
job-node                Completed
a-pod-with-a-rather-…   Running"""


@pytest.mark.parametrize(
    ("width", "expected"), [(200, WIDE), (120, WIDE), (92, WIDE), (80, AT_80), (40, AT_40), (20, AT_20)]
)
def test_live_table_fits(width, expected):
    lines = fit(ROWS, width=width, height=24)
    assert "\n".join(lines) == expected
    assert max(len(line) for line in lines) <= width


def test_live_table_has_colours_on_a_terminal_and_none_with_no_color(on_a_terminal, monkeypatch):
    assert "\n".join(fit(ROWS, width=40, height=24)) == COLOURED_AT_40
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\n".join(fit(ROWS, width=40, height=24)) == AT_40


WORDS = st.text(st.sampled_from("ab-漢字é\u0301界x"), min_size=1, max_size=70)


@given(rows=st.lists(st.tuples(st.just("default"), *[WORDS] * 6), min_size=1, max_size=12), width=st.integers(24, 220))
def test_no_line_of_the_live_table_is_longer_than_the_terminal(rows, width):
    lines = fit(rows, width=width, height=8)
    assert len(lines) <= 8
    assert max(terminal.cells(line) for line in lines) <= width


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("ｱ", 1), ("", 0), ("→✓", 2), ("a\u200bb", 2)]
)
def test_columns_that_a_text_takes(text, columns):
    assert terminal.cells(text) == columns


GET_ROWS = [
    ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "NOTE"],
    ["web-n1", "1/1", "Running", "0", "5m", "日本語の名前"],
    ["a-name-with-more-characters-than-most-pods-have-n1", "0/1", "Error", "12 (3s ago)", "2d", "x"],
    ["starting-n1", "0/1", "ContainerCreating", "0", "1s", "é"],
]
PLAIN_TABLE = """\
NAME                                                 READY   STATUS              RESTARTS      AGE   NOTE
web-n1                                               1/1     Running             0             5m    日本語の名前
a-name-with-more-characters-than-most-pods-have-n1   0/1     Error               12 (3s ago)   2d    x
starting-n1                                          0/1     ContainerCreating   0             1s    é
"""


def test_table_is_whole_whatever_the_terminal(on_a_terminal, monkeypatch):
    for columns in ("40", "80", "120", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("NO_COLOR", "1")
        assert terminal.render(GET_ROWS, colour_of=terminal.colour_of_cell) == PLAIN_TABLE
        monkeypatch.delenv("NO_COLOR")
        coloured = PLAIN_TABLE.replace(" Error ", " \x1b[31mError\x1b[0m ").replace(
            "ContainerCreating", "\x1b[33mContainerCreating\x1b[0m"
        )
        assert terminal.render(GET_ROWS, colour_of=terminal.colour_of_cell) == coloured


def test_wide_characters_keep_columns_straight():
    assert terminal.render([["A", "B"], ["漢字", "x"], ["abc", "y"]]) == "A      B\n漢字   x\nabc    y\n"
    assert terminal.render([["A", "B", "C"], ["x", "y", "z"]]) == "A     B     C\nx     y     z\n"  # as Go's tabwriter
    assert align("名前:\tx\nlonger:\ty") == "名前:    x\nlonger:  y"


PARAGRAPH = "web-n1 is not well: its container main keeps ending (3 times so far), and said 「起動できません」."


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            40,
            "web-n1 is not well: its container main\nkeeps ending (3 times so far), and said\n「起動できません」.",
        ),
        (
            80,
            "web-n1 is not well: its container main keeps ending (3 times so far), and said\n「起動できません」.",
        ),
        (120, PARAGRAPH),
        (200, PARAGRAPH),
    ],
)
def test_paragraphs_at_several_widths(columns, expected):
    assert terminal.wrap(PARAGRAPH, columns) == expected


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
