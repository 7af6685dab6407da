"""Amounts, as `top` reads and prints them."""

from __future__ import annotations

import pytest

from minikubelet.cli.top import amount, cpu_cell, memory_cell


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("2", 2), ("3m", 0.003), ("250m", 0.25), ("660689n", 0.000660689), ("12u", 0.000012), ("1.5", 1.5),
        ("10268Ki", 10268 * 1024), ("12Mi", 12 << 20), ("2Gi", 2 << 30), ("1k", 1000), ("1M", 1e6), ("1e3", 1000),
        ("24684096Ki", 24684096 * 1024), ("what", 0),
    ],
)  # fmt: skip
def test_amount(text, value):
    assert amount(text) == pytest.approx(value)


@pytest.mark.parametrize(("cores", "cell"), [(0, "0m"), (0.0000001, "1m"), (0.25, "250m"), (2, "2000m")])
def test_cpu(cores, cell):
    assert cpu_cell(cores) == cell


@pytest.mark.parametrize(("size", "cell"), [(0, "0Mi"), (12 << 20, "12Mi"), ((12 << 20) + 5, "12Mi")])
def test_memory(size, cell):
    assert memory_cell(size) == cell
