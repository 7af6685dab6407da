"""The OpenAPI document: what kubectl looks for in it, and that it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from minikubelet.api.documentation import KINDS
from minikubelet.server.openapi import document

DOCUMENT = document("0.1.0")
SCHEMAS = DOCUMENT["components"]["schemas"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_every_reference_leads_somewhere():
    found = set(references(DOCUMENT))
    assert len(found) > 50
    assert {one.removeprefix("#/components/schemas/") for one in found} <= SCHEMAS.keys()


def test_kubectl_explain_finds_the_kind_of_a_resource():
    for kind in KINDS:
        operation = DOCUMENT["paths"][f"/api/v1/namespaces/{{namespace}}/{kind.lower()}s"]["get"]
        assert operation["x-kubernetes-group-version-kind"] == {"group": "", "version": "v1", "kind": kind}
        schema = SCHEMAS[f"io.k8s.api.core.v1.{kind}"]
        assert operation["x-kubernetes-group-version-kind"] in schema["x-kubernetes-group-version-kind"]
    # As the template follows it: allOf with one reference, or items.
    pod = SCHEMAS["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["allOf"][0]["$ref"].rpartition("/")[2]
    containers = SCHEMAS[pod]["properties"]["containers"]["items"]["$ref"].rpartition("/")[2]
    probe = SCHEMAS[containers]["properties"]["livenessProbe"]
    assert probe["allOf"][0]["$ref"].endswith(".Probe")
    assert probe["description"].startswith("Checks while the container runs")


def test_kubectl_apply_finds_that_writes_are_checked_here():
    path = DOCUMENT["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]
    for operation in (path["patch"], path["put"], DOCUMENT["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"]):
        assert operation["parameters"][0]["name"] == "fieldValidation"
        assert operation["parameters"][0]["in"] == "query"


def test_every_schema_has_a_plain_type():
    for name, schema in SCHEMAS.items():
        for field, one in schema["properties"].items():
            assert isinstance(one.get("type", ""), str), (name, field)
            assert "type" in one or "allOf" in one, (name, field)
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
