"""What a person sees: colours where they help, the width of the terminal, tables.

Colours appear on a terminal only, and not with NO_COLOR or TERM=dumb. Tables are not cut: as with kubectl, a line that
is too long for the terminal wraps, and what is piped into another program is whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, TextIO

RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
DIM: Final = "2"
# For prefixes of logs: the same name always has the same colour.
PREFIXES: Final = ("36", "33", "35", "32", "34", "96", "93", "95", "92", "94")

_NARROWEST: Final = 3  # cells of a column, before the spaces between
_BAD: Final = (
    "Error",
    "BackOff",
    "Failed",
    "OOM",
    "Invalid",
    "Never",
    "Unknown",
    "Cannot",
    "ExitCode",
    "Signal",
    "Evict",
)
_CALM: Final = ("Running", "Completed", "Succeeded", "Ready", "Active")
# Control characters that a program could put into its messages to play with the terminal.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def wants_colour(stream: TextIO) -> bool:
    """Tell whether to colour what goes to this stream."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return the text in a colour, or as it is where no colours are wanted."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and wants_colour(stream or sys.stdout) else text


def printable(text: str) -> str:
    """Return text with control characters written out: what others chose must not steer the terminal."""
    return text.translate(_CONTROLS)


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes: East Asian wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    narrow = len(text) - sum(category(one) in ("Mn", "Me", "Cf") for one in text)
    return narrow + sum(east_asian_width(one) in "WF" for one in text)


def cut(text: str, columns: int) -> str:
    """Return the text, or as much of it as fits into so many columns with an ellipsis behind."""
    if cells(text) <= columns:
        return text
    while text and cells(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"


def width(stream: TextIO | None = None) -> int:
    """Return the columns of the terminal, 80 where there is none; COLUMNS wins."""
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def wrap(text: str, columns: int, indent: str = "") -> str:
    """Return a paragraph broken at spaces; words longer than a line stay whole."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and cells(indent) + cells(line) + 1 + cells(word) > columns:
            lines.append(indent + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, indent + line])


def status_colour(status: str) -> str:
    """Return the colour of a STATUS cell: red for what failed, yellow for what is under way, none for what is well."""
    if any(one in status for one in _BAD):
        return RED
    return "" if status.startswith(_CALM) and status != "NotReady" else YELLOW


def render(rows: Sequence[Sequence[str]], *, colour_of: Callable[[str, str], str] | None = None) -> str:
    """Return rows, the headers first, as kubectl prints them: columns of three cells or more, and three spaces between.

    Args:
        rows: All of one length.
        colour_of: Given a column's header and a cell, the cell's colour or "".
    """
    if not rows:
        return ""
    widths = [max(_NARROWEST, *(cells(row[column]) for row in rows)) for column in range(len(rows[0]))]
    return "".join(f"{line(row, widths, rows[0], colour_of)}\n" for row in rows)


def line(
    row: Sequence[str],
    widths: Sequence[int],
    headers: Sequence[str] = (),
    colour_of: Callable[[str, str], str] | None = None,
) -> str:
    """Return one row padded to the widths; the last cell is not padded."""
    painted: list[str] = []
    for index, (cell, wide) in enumerate(zip(row, widths, strict=True)):
        padding = " " * (wide - cells(cell)) if index < len(row) - 1 else ""
        colour = colour_of(headers[index], cell) if colour_of is not None and row is not headers else ""
        painted.append(paint(cell, colour) + padding)
    return "   ".join(painted).rstrip()


def colour_of_cell(header: str, cell: str) -> str:
    """Return the colour of a table's cell."""
    if header == "STATUS":
        return status_colour(cell)
    return YELLOW if header == "TYPE" and cell == "Warning" else ""
