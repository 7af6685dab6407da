"""Chaos knows every fault point of the program, and none that is not there any more."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from tests.chaos.faults import DAEMON, SANDBOX

SOURCES = Path(__file__).parents[3] / "minikubelet"
# What a container prints may not be lost in chaos: the tests of exhaustion fill the disk below it.
ELSEWHERE = {"log.write"}


def points() -> set[str]:
    found = {name for path in SOURCES.rglob("*.py") for name in re.findall(r"\bpoint\(\"([^\"]+)\"", path.read_text())}
    return {f"{name}*" if name.endswith(".") else name for name in found}


def test_every_point_is_struck_by_chaos() -> None:
    patterns = {*DAEMON, *SANDBOX}
    assert {one for one in points() - ELSEWHERE if not any(fnmatchcase(one, known) for known in patterns)} == set()
    assert {one for one in patterns if one not in points()} == set()
