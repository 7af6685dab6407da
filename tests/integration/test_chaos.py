"""A short round of chaos, so that the harness cannot rot; `make chaos` runs longer ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def test_no_law_is_broken_for_a_short_while() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seconds", "15"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
