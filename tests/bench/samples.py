"""Numbers with their spread, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    `values` are samples in `unit`; `goal` is what this should show at most, None where nothing is promised; `bare` is
    what the kernel alone takes for the same, measured in the same run, in the same unit.
    """

    measure: str
    subject: str
    values: tuple[float, ...]
    unit: str
    goal: float | None = None
    bare: float | None = None

    @property
    def median(self) -> float:
        """Return the middle sample."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """Say whether the goal is kept: `ok`, `over`, or nothing without a goal."""
        if self.goal is None:
            return ""
        return "ok" if self.median <= self.goal else "over"


def show(rows: Sequence[Row]) -> str:
    """Return the table as text."""
    head = ("measure", "subject", "median", "min .. max", "n", "goal", "x bare", "")
    lines = [head]
    for row in rows:
        spread = f"{_number(min(row.values))} .. {_number(max(row.values))}" if len(row.values) > 1 else ""
        lines.append(
            (
                row.measure,
                row.subject,
                f"{_number(row.median)} {row.unit}",
                spread,
                str(len(row.values)),
                "" if row.goal is None else f"<= {_number(row.goal)}",
                "" if not row.bare else f"{row.median / row.bare:.1f}",
                row.verdict,
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows for a program to read."""
    return [
        {
            "measure": row.measure,
            "subject": row.subject,
            "unit": row.unit,
            "median": row.median,
            "values": list(row.values),
            "goal": row.goal,
            "bare": row.bare,
        }
        for row in rows
    ]


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
