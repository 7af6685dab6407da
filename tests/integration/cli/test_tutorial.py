"""The tutorial, as somebody would type it: every command runs, and every line shown appears."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def plain(text: str) -> str:
    """Return a line with numbers and spaces made equal, and the node named as the tutorial names it."""
    text = text.replace("-n1", "-node").replace("within a second", "after 1s")  # on a machine that takes its time
    return re.sub(r"\d+", "N", " ".join(text.split()))


def test_tutorial(node):
    environment = {
        **os.environ,
        "M": str(node.manifests),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MINIKUBELET_CONFIG_DIR": str(node.base / "config"),
        "MINIKUBELET_STATE_DIR": str(node.state_dir),
        "MINIKUBELET_RUN_DIR": str(node.run_dir),
        "MINIKUBELET_LOG_DIR": str(node.log_dir),
    }
    blocks = BLOCK.findall(TUTORIAL.read_text())
    assert len(blocks) > 15
    output = ""
    for kind, text in blocks:
        if kind == "sh":
            done = subprocess.run(
                ["bash", "-eu", "-o", "pipefail", "-c", text],
                env=environment, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            output = done.stdout + done.stderr
        else:
            shown = [plain(line) for line in output.splitlines()]
            for line in text.splitlines():
                assert any(plain(line) in one for one in shown), f"{line!r} is not in:\n{output}"
