"""The list of conformance rows, the page made of it, and the marks of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance_report import IDS, Outcomes, Row, read_reasons, read_rows, render, result, rows_of

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_lists_every_row() -> None:
    listed = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    assert [row.id for row in read_rows() if row.id not in listed] == []
    assert len({row.id for row in read_rows()}) == len(read_rows()) > 600


def test_reasons_name_rows_that_there_are() -> None:
    rows = read_rows()
    known = {row.id for row in rows} | {row.table for row in rows} | {row.priority for row in rows}
    known |= {f"{row.table} {row.priority}" for row in rows}
    assert read_reasons().keys() <= known
    assert IDS.exists()


def test_marks_name_rows_that_there_are(request: pytest.FixtureRequest) -> None:
    rows = read_rows()
    known = {row.id for row in rows} | {row.table for row in rows}
    marks = [mark for item in request.session.items for mark in item.iter_markers("conformance")]
    assert {str(name) for mark in marks for name in mark.args} - known == set()


def test_a_table_mark_stands_for_the_row_in_the_test_id() -> None:
    assert rows_of(["U-EXP"], "test_a.py::test[U-EXP-3]") == {"U-EXP-3"}
    assert rows_of(["U-EXP", "U-EXP-37"], "test_a.py::test[U-EXP-3]") == {"U-EXP-3", "U-EXP-37"}
    assert rows_of(["PROBE-03"], "test_a.py::test[U-EXP-3]") == {"PROBE-03"}
    assert rows_of([], "test_a.py::test[U-EXP-3]") == set()


def test_what_is_said_of_a_row() -> None:
    row = Row("LIFE-01", "P2", "a row")
    outcomes = {"LIFE-01": Outcomes(passed=2)}
    assert result(row, {}, outcomes) == "pass"
    outcomes["LIFE-01"].failed.append("test_a.py::test")
    assert result(row, {}, outcomes) == "FAILED: test_a.py::test"
    assert result(row, {}, {"LIFE-01": Outcomes(skipped=["no nginx"])}) == "skipped: no nginx"
    assert result(row, {"P2": "general", "LIFE P2": "exact"}, {}) == "exact"
    assert result(row, {}, {}) == "not tested"
    assert "| LIFE-01 | P2 | a row | not tested |" in render([row], {}, {})
