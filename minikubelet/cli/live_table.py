"""The table that `run --standalone` keeps up to date, fitted to the terminal; plain lines where there is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from minikubelet.cli import terminal
from minikubelet.lifecycle import columns

Json = Mapping[str, Any]
Row = tuple[str, ...]

_HEADERS: Final = columns.HEADERS[:7]
# What is left out first when the terminal is narrow; NAME and STATUS always stay.
_LEAVE_OUT: Final = ("NAMESPACE", "AGE", "RESTARTS", "IP", "READY")
_BETWEEN: Final = 3
_LEAST: Final = 8


def pod_rows(pods: Sequence[Json], now: float) -> list[Row]:
    """Return the cells under NAMESPACE, NAME, READY, STATUS, RESTARTS, AGE, IP of each pod."""
    return [columns.pod_row(one, now)[: len(_HEADERS)] for one in pods]


def fit(rows: Sequence[Row], *, width: int, height: int) -> list[str]:
    """Return the table's lines, none longer than `width`, no more than `height`.

    Columns are left out, and at last names are cut, until it fits. Pods that are not well stay when there is no room
    for all.
    """
    shown, hidden = _choose(rows, height - 1)
    kept = list(range(len(_HEADERS)))
    if all(row[0] == "default" for row in rows):
        kept.remove(0)
    table = [_HEADERS, *shown]
    for name in _LEAVE_OUT:
        if _needed(table, kept) <= width:
            break
        kept = [index for index in kept if _HEADERS[index] != name]
    cells = [[row[index] for index in kept] for row in table]
    widths = _shrink([max(terminal.cells(row[i]) for row in cells) for i in range(len(kept))], width)
    cells = [[terminal.cut(cell, wide) for cell, wide in zip(row, widths, strict=True)] for row in cells]
    lines = [
        terminal.line(row, widths, cells[0], terminal.colour_of_cell if row is not cells[0] else None) for row in cells
    ]
    return [*lines, f"... and {hidden} more"[:width]] if hidden else lines


def _choose(rows: Sequence[Row], room: int) -> tuple[list[Row], int]:
    if len(rows) <= room:
        return list(rows), 0
    room = max(1, room - 1)
    first = sorted(range(len(rows)), key=lambda index: (_is_well(rows[index]), index))[:room]
    return [rows[index] for index in sorted(first)], len(rows) - room


def _is_well(row: Row) -> bool:
    ready, _, total = row[2].partition("/")
    return row[3] == "Completed" or (row[3] == "Running" and ready == total)


def _needed(rows: Sequence[Row], kept: Sequence[int]) -> int:
    return sum(max(terminal.cells(row[index]) for row in rows) for index in kept) + _BETWEEN * (len(kept) - 1)


def _shrink(widths: list[int], width: int) -> list[int]:
    """Take from the widest column until the line fits, as far as that makes sense."""
    while sum(widths) + _BETWEEN * (len(widths) - 1) > width and max(widths) > _LEAST:
        widest = widths.index(max(widths))
        widths[widest] -= 1
    return widths


def changes(before: Mapping[str, Row], rows: Sequence[Row]) -> tuple[dict[str, Row], list[str]]:
    """Return the rows by pod, and a line for each pod that is new, another or gone; ages do not count."""
    now = {f"{row[0]}/{row[1]}": (*row[:4], row[4].partition(" ")[0], "", row[6]) for row in rows}
    lines = [_line(key, row) for key, row in now.items() if before.get(key) != row]
    return now, [*lines, *(f"{key}: gone" for key in before if key not in now)]


def _line(key: str, row: Row) -> str:
    restarts = f", {row[4]} {'restart' if row[4] == '1' else 'restarts'}" if row[4] not in ("0", "") else ""
    address = f", {row[6]}" if row[6] != "<none>" else ""
    return f"{key}: {row[3]}, {row[2]} ready{restarts}{address}"
