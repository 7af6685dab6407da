"""`/openapi/v3`: the kinds that manifests have, as OpenAPI describes them, for `kubectl explain` and `kubectl apply`.

Made from the types when it is asked for, and not kept: a client does so once and keeps it by the hash in the path. The
paths hold what kubectl looks for: which kind a resource has, and that a write is checked here (it is then refused with
the file to edit).
Source: apiserver pkg/endpoints/openapi, kubectl pkg/explain/v2/templates/plaintext.tmpl, kube-openapi handler3 (v1.36).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web

from minikubelet.api.documentation import KINDS, description, every_struct, find, struct_of
from minikubelet.api.field_types import FieldType, struct_fields
from minikubelet.api.support import Support, support_of
from minikubelet.server.errors import json_response
from minikubelet.server.resources import RESOURCES

Json = dict[str, Any]

_PREFIX: Final = "io.k8s.api.core.v1."
_FIELD_VALIDATION: Final = {
    "name": "fieldValidation",
    "in": "query",
    "description": "Ignore, Warn or Strict.",
    "schema": {"type": "string", "uniqueItems": True},
}


class OpenApi:
    """Serves the index and the one document."""

    def __init__(self, version: str) -> None:
        """Args: version: Of this program: whenever it is another, so may the types be."""
        self._version = version

    async def index(self, request: web.Request) -> web.Response:
        """Answer `/openapi/v3`."""
        return json_response({"paths": {"api/v1": {"serverRelativeURL": f"/openapi/v3/api/v1?hash={self._version}"}}})

    async def core(self, request: web.Request) -> web.Response:
        """Answer `/openapi/v3/api/v1`."""
        body = await asyncio.to_thread(lambda: msgspec.json.encode(document(self._version)))
        return web.Response(body=body, content_type="application/json")


def document(version: str) -> Json:
    """Return the OpenAPI document of the core group."""
    return {
        "openapi": "3.0.0",
        "info": {"title": "minikubelet", "version": version},
        "paths": {path: item for name in RESOURCES for path, item in _paths(name)},
        "components": {
            "schemas": {
                f"{_PREFIX}{one.__name__}": _schema(one) for one in sorted(every_struct(), key=lambda one: one.__name__)
            }
        },
    }


def _paths(name: str) -> list[tuple[str, Json]]:
    resource = RESOURCES[name]
    if resource.kind not in KINDS:
        return []
    kind = {"group": "", "version": "v1", "kind": resource.kind}
    collection = f"/api/v1/namespaces/{{namespace}}/{name}"

    def operation(action: str) -> Json:
        writes = action not in ("get", "list")
        content = {"application/json": {"schema": _reference(resource.kind)}}
        found: Json = {
            "operationId": f"{action}CoreV1Namespaced{resource.kind}",
            "responses": {"200": {"description": "OK", "content": content}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        }
        return {**found, "parameters": [_FIELD_VALIDATION]} if writes else found

    return [
        (collection, {"get": operation("list"), "post": operation("post")}),
        (f"{collection}/{{name}}", {one: operation(one) for one in ("get", "put", "patch", "delete")}),
    ]


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{_PREFIX}{name}"}


def _schema(kind: type[msgspec.Struct]) -> Json:
    properties: Json = {}
    for name, field in struct_fields(kind).items():
        text = description(kind, name)
        entry = support_of(kind, name)
        if entry.support is Support.UNHONOURED:
            text += f" Not honoured on this node: {entry.sentence}."
        one = _value(field.type)
        # A reference stands alone: what is beside it is passed over.
        properties[name] = {"allOf": [one], "description": text} if "$ref" in one else {**one, "description": text}
    found: Json = {"type": "object", "properties": properties}
    if kind.__name__ in KINDS:
        found["description"] = find(kind.__name__.lower()).description
        found["x-kubernetes-group-version-kind"] = [{"group": "", "version": "v1", "kind": kind.__name__}]
    return found


def _value(kind: FieldType) -> Json:
    if kind.item is not None:
        below = _value(kind.item)
        return (
            {"type": "array", "items": below}
            if kind.base is list
            else {"type": "object", "additionalProperties": below}
        )
    struct = struct_of(kind)
    if struct is not None:
        return _reference(struct.__name__)
    match kind.kind:
        case "quantity":
            return {"type": "string"}
        case "int-or-string":
            return {"type": "string", "format": "int-or-string"}
        case "time":
            return {"type": "string", "format": "date-time"}
        case "base64":
            return {"type": "string", "format": "byte"}
        case "int32":
            return {"type": "integer", "format": "int32"}
        case _:
            names = {str: "string", int: "integer", bool: "boolean"}
            return {"type": names[kind.base]} if kind.base in names else {"type": "object"}
