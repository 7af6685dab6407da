"""Fault points: rules are read, carried out, and cost nothing when there are none."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from minikubelet.linux import faults


def test_rules() -> None:
    assert faults.parse_rules("journal.write=ENOSPC spawn.*=KILL@0.02") == [
        ("journal.write", "ENOSPC", 1.0),
        ("spawn.*", "KILL", 0.02),
    ]


@pytest.mark.parametrize("text", ["journal", "=EIO", "a=NOPE", "a=EIO@often"])
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


def test_off_by_default_and_kills_when_told_so() -> None:
    assert faults.point is faults._nothing
    code = "from minikubelet.linux.faults import point; point('here'); print('alive')"
    for rules, expected in (("here=KILL", -9), ("there=KILL", 0)):
        done = subprocess.run([sys.executable, "-c", code], env={faults.VARIABLE: rules}, check=False, timeout=30)
        assert done.returncode == expected
