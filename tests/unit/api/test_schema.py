"""The schema that editors use: it takes what is in order, and refuses what it can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minikubelet.api.manifest import parse_manifest
from minikubelet.api.schema import manifest_schema
from minikubelet.api.source import read_documents

fastjsonschema = pytest.importorskip("fastjsonschema")
CASES = Path(__file__).parents[2] / "data" / "cases" / "validation.jsonl"


@pytest.fixture(scope="module")
def check() -> Any:
    return fastjsonschema.compile(manifest_schema(), use_default=False)


def test_it_takes_every_good_case(check: Any) -> None:
    taken = 0
    for line in CASES.read_text().splitlines():
        case = json.loads(line)
        text = str(case.get("yaml", case.get("json")))
        manifest = parse_manifest(text.encode("utf-8", "surrogatepass"), file="f", node_name="n")
        if any(not one.is_of_node for one in manifest.problems):
            continue
        documents, _ = read_documents(text.removeprefix("\ufeff"))
        for one in documents:
            plain = one.plain()
            # "/v1" is a spelling that Kubernetes takes and nobody should be led to.
            if (
                plain is not None
                and plain.get("apiVersion") == "v1"
                and plain.get("kind") in ("Pod", "ConfigMap", "Secret", "List")
            ):
                check(plain)
                taken += 1
        for document in manifest.pods:
            check(json.loads(msgspec.json.encode(document.pod)))
    assert taken > 300


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a"},
    "spec": {"containers": [{"name": "c", "image": "x"}]},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.restartPolicy", "always"),
        ("spec.restartpolicy", "Always"),
        ("spec.containers", None),
        ("spec.containers.0.command", "sleep 1"),
        ("spec.containers.0.ports", [{"containerPort": 2**31}]),
        ("spec.containers.0.volumeMounts", [{"name": "a"}]),
        ("spec.containers.0.livenessProbe", {"httpGet": {"port": True}}),
        ("metadata.labels", {"a": 1}),
        ("kind", "pod"),
        ("apiVersion", "v2"),
    ],
)
def test_it_refuses(check: Any, path: str, value: Any) -> None:
    pod = json.loads(json.dumps(POD))
    check(pod)
    *above, last = path.split(".")
    here: Any = pod
    for name in above:
        here = here[int(name)] if isinstance(here, list) else here[name]
    here[last] = value
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check(pod)


def test_every_property_is_described() -> None:
    for name, one in manifest_schema()["definitions"].items():
        for field, about in one["properties"].items():
            assert about["description"], f"{name}.{field}"
