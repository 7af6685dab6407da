"""The benchmark run small, so that it cannot rot; `make bench` measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def test_the_benchmark_runs_and_says_what_it_measured(tmp_path: Path) -> None:
    report, picture = tmp_path / "bench.json", tmp_path / "bench.svg"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--json", str(report), "--svg", str(picture)]
    command += ["--only", "start", "restart", "logs", "scale"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["measure"]: row["median"] for row in json.loads(report.read_text())["rows"]}
    assert rows["one program in namespaces"] > 0
    assert rows["1 pod, manifest to first instruction"] > 0
    assert "polyline" in picture.read_text()
