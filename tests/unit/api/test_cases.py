"""What Kubernetes 1.36.2's own code says of a thousand manifests, line by line (tests/data/cases/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minikubelet.api.expansion import expand
from minikubelet.api.manifest import parse_manifest
from minikubelet.api.nodes import SourceError
from minikubelet.api.quantity import QuantityError, parse_quantity
from minikubelet.api.source import decode_text, read_documents

DATA = Path(__file__).parents[2] / "data"


def cases(name: str) -> list[Any]:
    """Return the lines of a file as parameters."""
    lines = [json.loads(line) for line in (DATA / "cases" / f"{name}.jsonl").read_text().splitlines()]
    return [pytest.param(one, id=one["id"]) for one in lines]


def text_of(case: dict[str, Any]) -> bytes:
    return str(case.get("yaml", case.get("json"))).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("case", cases("validation"))
def test_validation(case: dict[str, Any]) -> None:
    manifest = parse_manifest(text_of(case), file=case.get("file", "f"), node_name="node1")
    errors = [one.message for one in manifest.errors]
    match case.get("deviates"):
        case "kind" | "multi-document" | "file-extension":
            return  # accepted here on purpose, with verdicts of our own: test_differences has them
        case "api-reference":
            want = case["noref"]
            strict = parse_manifest(text_of(case), file="f", node_name="node1", strict_static=True)
            assert strict.stages[-1] == case["stage"]
            assert [one.message for one in strict.errors] == case["errors"]
        case _:
            want = case
    assert (not errors) is want["ok"]
    if want["stage"] in ("name", "validation") or any("invalid character" in one for one in want["errors"]):
        assert (sorted(errors) if case.get("unordered") else errors) == want["errors"]


@pytest.mark.parametrize("case", cases("defaults"))
def test_defaults(case: dict[str, Any]) -> None:
    manifest = parse_manifest(text_of(case), file="f", node_name="node1")
    assert manifest.pods, [one.message for one in manifest.problems]
    found = msgspec.to_builtins(manifest.pods[0].pod)
    assert found["spec"] == case["spec"]
    meta = {name: value for name, value in found["metadata"].items() if name != "uid"}
    kept = {name: text for name, text in meta.pop("annotations", {}).items() if ".io/config." not in name}
    if kept:
        meta["annotations"] = kept
    want = dict(case["metadata"])
    wanted = {name: text for name, text in want.pop("annotations", {}).items() if ".io/config." not in name}
    if wanted:
        want["annotations"] = wanted
    assert meta == want


@pytest.mark.parametrize("case", cases("quantities"))
def test_quantities(case: dict[str, Any]) -> None:
    if not case["ok"]:
        with pytest.raises(QuantityError) as caught:
            parse_quantity(case["in"])
        assert str(caught.value) == case["error"]
        return
    wrapped = case.get("overflow", [])
    try:
        quantity = parse_quantity(case["in"])
    except QuantityError:
        assert wrapped
        return
    found = {
        "canonical": quantity.canonical(),
        "value": quantity.value(),
        "milli": quantity.milli_value(),
        "format": quantity.format,
    }
    assert {k: v for k, v in found.items() if k not in wrapped} == {k: case[k] for k in found if k not in wrapped}


@pytest.mark.parametrize("case", cases("expansion"))
def test_expansion(case: dict[str, Any]) -> None:
    assert expand(case["in"], {"A": "1", "B": "$(A)", "E": ""}) == case["out"]


@pytest.mark.parametrize("case", cases("yaml"))
def test_yaml_scalars(case: dict[str, Any]) -> None:
    text = f"a: {case['in']}".encode()
    if not case["ok"]:
        with pytest.raises(SourceError):
            read_documents(decode_text(text))
        return
    documents, _ = read_documents(decode_text(text))
    found = documents[0].plain()["a"]
    want = json.loads(case["json"])
    # A number beyond 64 bits is a float to both, and only printed as a whole one.
    assert found == (float(want) if isinstance(found, float) else want)
    assert isinstance(found, bool) is isinstance(want, bool)
