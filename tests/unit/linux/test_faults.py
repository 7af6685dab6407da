"""Fault points: rules are read, carried out, and cost nothing when there are none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minikubelet.linux import faults


def test_rules() -> None:
    assert faults.parse_rules("journal.write=ENOSPC spawn.*=KILL@0.02") == [
        ("journal.write", "ENOSPC", 1.0),
        ("spawn.*", "KILL", 0.02),
    ]
    assert faults.parse_rules("spawn.*=/x/gate") == [("spawn.*", "/x/gate", 1.0)]
    assert faults.parse_rules("*=~0.1@0.3") == [("*", "~0.1", 0.3)]


@pytest.mark.parametrize("text", ["journal", "=EIO", "a=NOPE", "a=EIO@often", "a=~long"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        faults.parse_rules(text)


def test_first_rule_that_fits_decides() -> None:
    strike = faults.injector(faults.parse_rules("a.one=EIO@0.5 a.*=ENOSPC"), iter([0.6, 0.4]).__next__)
    strike("a.one")  # the first rule's chance was missed; the second is not asked
    with pytest.raises(OSError) as caught:
        strike("a.one")
    assert caught.value.errno == errno.EIO
    strike = faults.injector(faults.parse_rules("a.*=ENOSPC"))
    strike("b.two")
    with pytest.raises(OSError) as caught:
        strike("a.two")
    assert caught.value.errno == errno.ENOSPC


def test_a_step_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    strike = faults.injector(faults.parse_rules("a=~0.4@0.5"), iter([0.2, 0.5, 0.7]).__next__)
    strike("a")
    strike("a")  # its chance was missed
    assert slept == [0.2]


def test_nothing_strikes_while_it_rests() -> None:
    strike = faults.injector(faults.parse_rules("a=EIO"))
    faults.rest(True)
    try:
        strike("a")
    finally:
        faults.rest(False)
    with pytest.raises(OSError):
        strike("a")


def test_off_by_default_and_kills_when_told_so() -> None:
    assert faults.point is faults._nothing
    code = "from minikubelet.linux.faults import point; point('here'); print('alive')"
    for rules, expected in (("here=KILL", -9), ("there=KILL", 0)):
        done = subprocess.run([sys.executable, "-c", code], env={faults.VARIABLE: rules}, check=False, timeout=30)
        assert done.returncode == expected


def test_waits_at_a_gate_that_is_there(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    code = f"from minikubelet.linux.faults import point; point('here'); print('passed {os.getpid()}', flush=True)"
    command, environment = [sys.executable, "-c", code], {faults.VARIABLE: f"here={gate}"}
    assert "passed" in subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30).stdout
    os.mkfifo(gate)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    try:
        with open(gate, "wb"):  # opens when the process has come to it
            assert process.poll() is None
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate(timeout=30)
