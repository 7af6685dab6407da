"""A pytest plugin that writes which rows of Kubernetes' node tests hold: `--conformance-report=docs/conformance.md`.

A test names the rows that it restates by `@pytest.mark.conformance("PROBE-03")`; a parameter of a table may carry its
row in its id instead (`U-EXP-7`, the mark then names the table). A row holds when every test that names it passed. Rows
that no test names need a reason in data/conformance_reasons.txt, or the report says that they are not tested.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"
IDS = DATA / "conformance_ids.txt"
REASONS = DATA / "conformance_reasons.txt"
_ROW = re.compile(r"U-[A-Z]+-\d+")
_PROPERTY = "conformance"
_HEADER = """# Conformance

Rows of Kubernetes' own node tests, restated for static pods. This page is written by the test run
(`pytest -m conformance --conformance-report=docs/conformance.md`, as root); do not edit it. P0 rows must hold; P1 rows
need an interface beside the manifests or an optional feature; P2 rows need a real API server or images.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the list."""

    id: str
    priority: str
    title: str

    @property
    def table(self) -> str:
        return self.id.rpartition("-")[0]


@dataclass(slots=True)
class Outcomes:
    """What was seen of the tests that name one row."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def read_rows() -> list[Row]:
    """Return all rows, in the list's order."""
    lines = IDS.read_text(encoding="utf-8").splitlines()
    return [Row(*line.split("\t")) for line in lines if line and not line.startswith("#")]


def read_reasons() -> dict[str, str]:
    """Return why rows have no test: by id, by table, or by table and priority (`LIFE P2`)."""
    lines = REASONS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {name: reason for names, reason in pairs for name in names.split(", ")}


def rows_of(marks: list[str], node_id: str) -> set[str]:
    """Return the rows that a test restates: those it names, and for a table that it names the one in its own id."""
    found = {mark for mark in marks if re.fullmatch(r".*-\d+", mark)}
    tables = set(marks) - found
    return found | {row for row in _ROW.findall(node_id) if row.rpartition("-")[0] in tables}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that asks for the report."""
    parser.addoption("--conformance-report", metavar="FILE", help="write which rows of Kubernetes' own tests hold")


def pytest_configure(config: pytest.Config) -> None:
    """Collect outcomes if a report is asked for, in the process that sees them all."""
    target = config.getoption("--conformance-report")
    if target and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Report(Path(target)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note each test's rows where its reports carry them, over process borders too."""
    for item in items:
        marks = [str(name) for mark in item.iter_markers("conformance") for name in mark.args]
        item.user_properties.extend((_PROPERTY, row) for row in sorted(rows_of(marks, item.nodeid)))


class _Report:
    """Collects outcomes and writes the page at the end."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._outcomes: dict[str, Outcomes] = defaultdict(Outcomes)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, row in report.user_properties:
            if name != _PROPERTY:
                continue
            outcomes = self._outcomes[str(row)]
            if report.failed:
                outcomes.failed.append(report.nodeid)
            elif report.skipped:
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
                outcomes.skipped.append(str(reason).removeprefix("Skipped: "))
            elif report.when == "call":
                outcomes.passed += 1

    def pytest_sessionfinish(self) -> None:
        self._target.write_text(render(read_rows(), read_reasons(), self._outcomes), encoding="utf-8")


def render(rows: list[Row], reasons: dict[str, str], outcomes: dict[str, Outcomes]) -> str:
    """Return the page."""
    results = {row.id: result(row, reasons, outcomes) for row in rows}
    lines = [_HEADER, "| rows | P0 | P1 | P2 |", "|---|---|---|---|"]
    for title, wanted in (("hold", {"pass"}), ("all", set(results.values()))):
        counts = [sum(row.priority == one and results[row.id] in wanted for row in rows) for one in ("P0", "P1", "P2")]
        lines.append(f"| {title} | {' | '.join(str(count) for count in counts)} |")
    table = ""
    for row in rows:
        if row.table != table:
            table = row.table
            lines += ["", f"## {table}", "", "| id | | row | result |", "|---|---|---|---|"]
        title = row.title.replace("|", "\\|")
        lines.append(f"| {row.id} | {row.priority} | {title} | {results[row.id]} |")
    return "\n".join(lines) + "\n"


def result(row: Row, reasons: dict[str, str], outcomes: dict[str, Outcomes]) -> str:
    """Return what is to be said of one row."""
    seen = outcomes.get(row.id)
    if seen is not None and seen.failed:
        return f"FAILED: {seen.failed[0]}"
    if seen is not None and seen.passed:
        return "pass"
    if seen is not None and seen.skipped:
        return f"skipped: {seen.skipped[0]}"
    for name in (row.id, f"{row.table} {row.priority}", row.table, row.priority):
        if name in reasons:
            return reasons[name]
    return "not tested"
