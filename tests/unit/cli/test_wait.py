"""`wait`: what is waited for, and when it is so."""

from __future__ import annotations

import argparse

import pytest

from minikubelet.cli.wait import Goal, is_hopeless, is_met, parse_goal

POD = {
    "metadata": {"name": "web-n1"},
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}],
    },
}


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("delete", Goal("delete")),
        ("create", Goal("create")),
        ("condition=Ready", Goal("condition", "ready", "True")),
        ("condition=ready=false", Goal("condition", "ready", "false")),
        ("jsonpath={.status.phase}=Running", Goal("jsonpath", "{.status.phase}", "Running")),
        ("jsonpath={.status.podIP}", Goal("jsonpath", "{.status.podIP}", None)),
        ("jsonpath=.status.phase=Running", Goal("jsonpath", ".status.phase", "Running")),
        ('jsonpath={.a[?(@.x=="y")].b}=z', Goal("jsonpath", '{.a[?(@.x=="y")].b}', "z")),
    ],
)
def test_parse_goal(text, goal):
    assert parse_goal(text) == goal


@pytest.mark.parametrize("text", ["", "ready", "condition", "condition=", "jsonpath", "deleted"])
def test_bad_goals(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_goal(text)


@pytest.mark.parametrize(
    ("text", "pod", "expected"),
    [
        ("delete", None, True),
        ("delete", POD, False),
        ("create", POD, True),
        ("create", None, False),
        ("condition=Ready", POD, True),
        ("condition=ready", POD, True),
        ("condition=Initialized", POD, False),
        ("condition=Initialized=False", POD, True),
        ("condition=Other", POD, False),
        ("condition=Ready", None, False),
        ("jsonpath={.status.phase}=Running", POD, True),
        ("jsonpath={.status.phase}=Failed", POD, False),
        ("jsonpath={.status.phase}", POD, True),
        ("jsonpath={.status.podIP}", POD, False),
    ],
)
def test_is_met(text, pod, expected):
    assert is_met(parse_goal(text), pod) is expected


@pytest.mark.parametrize(
    ("text", "phase", "expected"),
    [
        ("condition=Ready", "Succeeded", True),
        ("condition=Ready", "Failed", True),
        ("condition=Ready", "Running", False),
        ("condition=Ready=False", "Failed", False),
        ("jsonpath={.status.phase}=Running", "Failed", False),
    ],
)
def test_hopeless_goals_are_not_waited_for(text, phase, expected):
    assert is_hopeless(parse_goal(text), {"status": {"phase": phase}}) is expected
