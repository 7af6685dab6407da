"""The JSON schema of what manifests may hold, made from the types."""

from __future__ import annotations

from typing import Any

import msgspec

from minikubelet.api.types import ConfigMap, Pod, Secret


def manifest_schema() -> dict[str, Any]:
    """Return a schema (JSON Schema 2020-12) of one document: Pod, ConfigMap, Secret, or a List of them."""
    kinds: dict[str, Any] = {"Pod": Pod, "ConfigMap": ConfigMap, "Secret": Secret}
    schemas, components = msgspec.json.schema_components(kinds.values(), ref_template="#/$defs/{name}")
    for name, component in components.items():
        _adjust(component)
        if name in kinds:
            component["properties"]["kind"] = {"const": name}
            component["properties"]["apiVersion"] = {"const": "v1"}
    items: dict[str, Any] = {"type": "array", "items": {"oneOf": list(schemas)}}
    listed = {
        "type": "object",
        "properties": {"apiVersion": {"const": "v1"}, "kind": {"enum": ["List", "PodList"]}, "items": items},
        "required": ["apiVersion", "kind", "items"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "minikubelet manifest",
        "oneOf": [*schemas, listed],
        "$defs": components,
    }


def _adjust(component: dict[str, Any]) -> None:
    """Allow what is accepted beyond the types: numbers as quantities, and null for nothing."""
    for name, one in component.get("properties", {}).items():
        one.pop("default", None)
        extra = one.pop("kind", None)
        if extra == "quantity" or name in ("sizeLimit", "divisor"):
            component["properties"][name] = {"type": ["string", "number", "null"]}
        elif name in ("limits", "requests", "overhead"):
            values = {"type": ["string", "number", "null"]}
            component["properties"][name] = {
                "anyOf": [{"type": "object", "additionalProperties": values}, {"type": "null"}]
            }
