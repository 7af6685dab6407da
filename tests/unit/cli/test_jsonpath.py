"""kubectl's JSONPath, by table."""

from __future__ import annotations

import pytest

from minikubelet.cli.jsonpath import Template, find, relaxed
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.output import custom_columns, sort_objects

DATA = {
    "kind": "List",
    "items": [
        {
            "metadata": {"name": "a", "labels": {"x.y/z": "1"}},
            "status": {"phase": "Running", "n": 3, "ready": True, "ips": ["1", "2"]},
        },
        {"metadata": {"name": "b", "labels": {}}, "status": {"phase": "Failed", "n": 5, "ready": False}},
        {"metadata": {"name": "c"}},
    ],
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{.kind}", "List"),
        ("{$.kind}", "List"),
        ("{kind}", "List"),
        ("{['kind']}", "List"),
        ("plain", "plain"),
        ("{.items[*].metadata.name}", "a b c"),
        ("{.items[0].metadata.name}", "a"),
        ("{.items[-1].metadata.name}", "c"),
        ("{.items[9].metadata.name}", ""),
        ("{.items[0:2].metadata.name}", "a b"),
        ("{.items[:-1].metadata.name}", "a b"),
        ("{.items[::2].metadata.name}", "a c"),
        ("{.items[0,2].metadata.name}", "a c"),
        ("{.items[0]['metadata.name','status']}", '{"phase":"Running","n":3,"ready":true,"ips":["1","2"]}'),
        ("{..name}", "a b c"),
        ("{.items[0].status.*}", 'Running 3 true ["1","2"]'),
        ("{.items[0].metadata.labels.x\\.y/z}", "1"),
        ("{.items[0].metadata.labels['x.y/z']}", "1"),
        ('{.items[?(@.status.phase=="Running")].metadata.name}', "a"),
        ("{.items[?(@.status.phase!='Running')].metadata.name}", "b"),
        ("{.items[?(@.status.n>3)].metadata.name}", "b"),
        ("{.items[?(@.status.n>=3)].metadata.name}", "a b"),
        ("{.items[?(@.status.ready==true)].metadata.name}", "a"),
        ("{.items[?(@.status)].metadata.name}", "a b"),
        ("{.items[0].status.ready}", "true"),
        ("{.missing.very}", ""),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.status.phase}{"\\n"}{end}', "a\tRunning\nb\tFailed\nc\t\n"),
        ("{range .items[0:1]}{range .status.ips[*]}<{@}>{end}{end}", "<1><2>"),
        ("name={.items[1].metadata.name}!", "name=b!"),
    ],
)
def test_template(template, expected):
    assert Template(template).render(DATA) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{.items[}",
        "{.items",
        "{range .items[*]}",
        "{end}",
        "{.items[?(@.n==x)]}",
        "{.items[a]}",
        "{'text}",
        "{.a b}",
        "{.}x{..}}y{",
    ],
)
def test_bad_templates_are_told_in_one_line(template):
    with pytest.raises(CommandFailed) as failure:
        Template(template).render(DATA)
    assert str(failure.value).startswith("cannot understand the JSONPath")
    assert failure.value.code == 2


@pytest.mark.parametrize("text", ["status.phase", ".status.phase", "{.status.phase}", "{status.phase}"])
def test_paths_in_every_spelling(text):
    assert find(text, DATA["items"][0]) == ["Running"]
    assert relaxed(text).startswith("{.status")


def test_custom_columns():
    rows = custom_columns("NAME:.metadata.name,PHASE:.status.phase,IPS:.status.ips[*]", DATA["items"])
    assert rows == [
        ["NAME", "PHASE", "IPS"],
        ["a", "Running", "1,2"],
        ["b", "Failed", "<none>"],
        ["c", "<none>", "<none>"],
    ]


def test_custom_columns_without_a_path():
    with pytest.raises(CommandFailed, match=r"HEADER:\.path"):
        custom_columns("NAME", [])


@pytest.mark.parametrize(
    ("path", "names"), [(".metadata.name", ["web-2", "web-10", "web-11"]), (".n", ["web-10", "web-11", "web-2"])]
)
def test_sorting_is_natural_and_by_number(path, names):
    items = [
        {"metadata": {"name": "web-11"}, "n": 9},
        {"metadata": {"name": "web-10"}},
        {"metadata": {"name": "web-2"}, "n": 10},
    ]
    assert [one["metadata"]["name"] for one in sort_objects(items, path)] == names


def test_sorting_by_what_nobody_has_is_an_error():
    with pytest.raises(CommandFailed, match="no object has such a field"):
        sort_objects([{"a": 1}], ".b")
