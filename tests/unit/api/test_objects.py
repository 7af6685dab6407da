"""ConfigMaps and Secrets: what may not change, and that no message shows a secret."""

from __future__ import annotations

import base64

import pytest

from minikubelet.api.manifest import Manifest, parse_manifest


def parse(text: str, before: Manifest | None = None) -> Manifest:
    return parse_manifest(text.encode(), file="f.yaml", node_name="n1", before=before)


def messages(manifest: Manifest) -> list[str]:
    return [one.message for one in manifest.problems]


MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: {a: b}}
immutable: true
data: {k: v}
binaryData: {b: AAE=}
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: s}
immutable: true
stringData: {k: value}
"""
SET = "Forbidden: field is immutable when `immutable` is set"


@pytest.mark.conformance("CMV-21")
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (MAP, MAP, []),
        (MAP, MAP.replace("a: b", "a: c"), []),
        (MAP, MAP.replace("k: v", "k: w"), [f"data: {SET}"]),
        (MAP, MAP.replace("AAE=", "AAI="), [f"binaryData: {SET}"]),
        (MAP, MAP.replace("immutable: true\n", ""), [f"immutable: {SET}"]),
        (MAP, MAP.replace("name: c", "name: other").replace("k: v", "k: w"), []),
        (MAP.replace("immutable: true\n", ""), MAP.replace("k: v", "k: w"), []),
        (SECRET, SECRET.replace("metadata: {name: s}", "metadata: {name: s, labels: {a: b}}"), []),
        (SECRET, SECRET.replace("stringData: {k: value}", "data: {k: dmFsdWU=}"), []),
        (SECRET, SECRET.replace("value", "hunter2"), [f"data: {SET}"]),
        (SECRET, SECRET.replace("immutable: true", "immutable: false"), [f"immutable: {SET}"]),
    ],
)
def test_immutable_objects_keep_their_data(old: str, new: str, expected: list[str]) -> None:
    found = parse(new, before=parse(old))
    assert messages(found) == expected
    assert len(found.config_maps) + len(found.secrets) == (0 if expected else 1)


def test_refusal_of_a_change_tells_its_line() -> None:
    found = parse(MAP.replace("k: v", "k: w"), before=parse(MAP))
    assert [(one.line, one.field) for one in found.problems] == [(5, "data")]


@pytest.mark.conformance("CFG-03")
@pytest.mark.conformance("CFG-08")
@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_empty_keys_are_refused(kind: str) -> None:
    found = parse(f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: c}}\ndata: {{'': dmFsdWU=}}\n")
    assert not found.config_maps
    assert not found.secrets
    assert any(message.startswith("data[]: Invalid value") for message in messages(found))


PASSWORD = "hunter2"
ENCODED = base64.b64encode(PASSWORD.encode()).decode()
BROKEN = [
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: 31337}\n",
    f"kind: Secret\nstringData: {{p: {PASSWORD}}}\n",
    f"apiVersion: v1\ndata: {{p: {ENCODED}}}\n",
    f"apiVersion: v2\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{p: {PASSWORD}}}\n",
    f"apiVersion: v1\nkind: secret\nmetadata: {{name: s}}\nstringData: {{p: {PASSWORD}}}\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{p: {PASSWORD}!}}\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: [{ENCODED}]\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{p: [{PASSWORD}]}}\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{p: {{q: {PASSWORD}}}}}\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {PASSWORD}\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{p: {PASSWORD}, p: {PASSWORD}}}\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData:\n  p: '{PASSWORD}\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData:\n  p: {PASSWORD}: x\n",
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData:\n\tp: {PASSWORD}\n",
    f'{{"apiVersion": "v1", "kind": "Secret", "stringData": {{"p": "{PASSWORD}"}}',
    f"apiVersion: v1\nkind: Secret\nmetadata: {{name: UPPER}}\nstringData: {{p: {PASSWORD}}}\n",
]


@pytest.mark.parametrize("text", BROKEN)
def test_no_message_shows_a_secret(text: str) -> None:
    found = parse(text)
    assert found.problems
    for one in found.problems:
        assert PASSWORD not in one.message + one.hint
        assert "31337" not in one.message + one.hint
        assert ENCODED not in one.message + one.hint


@pytest.mark.parametrize(
    "text",
    [
        "items: [{kind: Secret, stringData: {pw: hunter2}}]",
        "[{kind: Secret, data: {pw: hunter2}}]",
        "{apiVersion: v1, StringData: {pw: hunter2}}\n",
    ],
)
def test_a_document_of_no_kind_is_shown_without_its_secrets(text: str) -> None:
    found = parse_manifest(f"# not JSON\n{text}".encode(), file="f", node_name="n")
    assert found.errors
    assert not any("hunter2" in one.message for one in found.problems)
