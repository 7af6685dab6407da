"""Selectors for what is read from files."""

from __future__ import annotations

import pytest

from minikubelet.cli.main import CommandFailed
from minikubelet.cli.selectors import matches

POD = {"metadata": {"name": "web-n1", "labels": {"app": "web", "tier": "front"}}, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    ("labels", "fields", "expected"),
    [
        ("", "", True),
        ("app=web", "", True),
        ("app==web,tier=front", "", True),
        ("app=db", "", False),
        ("app!=db", "", True),
        ("other!=x", "", True),
        ("app", "", True),
        ("!app", "", False),
        ("!other", "", True),
        ("app in (web, db)", "", True),
        ("app in (db),tier=front", "", False),
        ("app notin (db)", "", True),
        ("other notin (db)", "", True),
        ("", "status.phase=Running", True),
        ("", "status.phase!=Running", False),
        ("", "metadata.name=web-n1,status.phase=Running", True),
        ("", "spec.nodeName=", True),
    ],
)
def test_matches(labels, fields, expected):
    assert matches(POD, labels, fields) is expected


@pytest.mark.parametrize("text", ["app=", "a b", "app in web", "=x"])
def test_bad_selectors(text):
    if text == "app=":
        assert not matches(POD, text, "")
        return
    with pytest.raises(CommandFailed, match="cannot understand the selector"):
        matches(POD, text, "")
