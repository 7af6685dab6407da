"""Selectors as apimachinery's own tests have them."""

from __future__ import annotations

import pytest

from minikubelet.server.selectors import Selector, SelectorError, parse_labels

LABELS = {"x": "a", "y": "b", "size": "5", "example.com/tier": "front"}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x=a",
            "x==a",
            " x = a ",
            "x=a,y=b",
            "x!=c",
            "z!=a",
            "x in (a,b)",
            "x notin (c)",
            "z notin (a)",
            "x",
            "!z",
        ),
        *("size>4", "size<6", "example.com/tier=front", "x in (a), y notin (x,y)", "x in ( a , b )"),
    ],
)
def test_labels_that_are_selected(text: str) -> None:
    assert Selector("pods", text).matches({"metadata": {"labels": LABELS}})


@pytest.mark.parametrize(
    "text", ["x=b", "x!=a", "z", "!x", "x in (b)", "x notin (a,b)", "size>5", "size<5", "z>1", "x=a,y=c", "x="]
)
def test_labels_that_are_not(text: str) -> None:
    assert not Selector("pods", text).matches({"metadata": {"labels": LABELS}})


@pytest.mark.parametrize(
    "text",
    [
        "x=a||y=b",
        "x==a==b",
        "!x=a",
        "x<a",
        "x in a",
        "x in (a",
        "x in (a b)",
        ",",
        "x=a,",
        "x y",
        "-x",
        "x=-",
        "x=" + "a" * 64,
    ],
)
def test_labels_that_cannot_be_understood(text: str) -> None:
    with pytest.raises(SelectorError):
        parse_labels(text)


def test_fields() -> None:
    pod = {"metadata": {"name": "a,b", "namespace": "n"}, "spec": {"hostNetwork": True}, "status": {"phase": "Running"}}
    for text, expected in (
        (r"metadata.name=a\,b", True),
        ("metadata.namespace!=n", False),
        ("status.phase=Running,spec.hostNetwork=true", True),
        ("spec.nodeName=", True),
    ):
        assert Selector("pods", "", text).matches(pod) is expected, text
    for kind, text in (("pods", "spec.x=1"), ("pods", "metadata.name"), ("nodes", "metadata.namespace=x")):
        with pytest.raises(SelectorError):
            Selector(kind, "", text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("x in (a b)", "unable to parse requirement: found 'b', expected: ',' or ')'"),
        ("x in a", "unable to parse requirement: found 'a' expected: '('"),
        ("x=(", "unable to parse requirement: found '(', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("x=a y", "found 'y', expected: ',' or 'end of string'"),
        ("x,", "found '', expected: identifier after ','"),
    ],
)
def test_what_cannot_be_parsed_is_told_in_kubernetes_words(text: str, error: str) -> None:
    with pytest.raises(SelectorError) as raised:
        parse_labels(text)
    assert str(raised.value) == error
