"""Aligns text with tabs as Go's text/tabwriter does for `kubectl describe`: each column over the lines that have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from minikubelet.cli.terminal import cells

_PADDING: Final = 2


def align(text: str) -> str:
    """Return the text with its tabs replaced by as many spaces as make columns."""
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in lines]
    _measure(lines, widths, 0, len(lines), 0)
    return "\n".join(_join(row, wide) for row, wide in zip(lines, widths, strict=True))


def _measure(lines: Sequence[Sequence[str]], widths: Sequence[list[int]], start: int, end: int, column: int) -> None:
    """Set the width of one column for each block of neighbouring lines that have it, then of the columns in it."""
    first = start
    while first < end:
        if column >= len(lines[first]) - 1:
            first += 1
            continue
        last = first
        while last < end and column < len(lines[last]) - 1:
            last += 1
        width = max(cells(lines[one][column]) for one in range(first, last)) + _PADDING
        for one in range(first, last):
            widths[one].append(width)
        _measure(lines, widths, first, last, column + 1)
        first = last


def _join(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (width - cells(cell)) for cell, width in zip(row, widths, strict=False)]
    return "".join([*padded, row[-1]]).rstrip()
