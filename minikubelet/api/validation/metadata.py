"""The rules for object metadata.

Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, invalid, required, too_long
from minikubelet.api.types import ObjectMeta

_ANNOTATIONS_LIMIT: Final = 256 * 1024


def validate_metadata(meta: ObjectMeta, path: str, *, name: Callable[[str], list[str]]) -> list[FieldError]:
    """Return what is wrong with an object's metadata; `name` is the rule for its name."""
    errors: list[FieldError] = []
    if meta.generate_name:
        # What the server will append makes a trailing dash right.
        prefix = meta.generate_name.removesuffix("-") + "a" if meta.generate_name.endswith("-") else meta.generate_name
        errors += [invalid(f"{path}.generateName", meta.generate_name, one) for one in name(prefix)]
    if not meta.name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        errors += [invalid(f"{path}.name", meta.name, one) for one in name(meta.name)]
    if not meta.namespace:
        errors.append(required(f"{path}.namespace"))
    else:
        errors += [invalid(f"{path}.namespace", meta.namespace, one) for one in syntax.dns_label(meta.namespace)]
    if meta.generation < 0:
        errors.append(invalid(f"{path}.generation", meta.generation, "must be greater than or equal to 0"))
    for key, value in (meta.labels or {}).items():
        errors += [invalid(f"{path}.labels", key, one) for one in syntax.qualified_name(key)]
        errors += [invalid(f"{path}.labels", value, one) for one in syntax.label_value(value)]
    size = 0
    for key, value in (meta.annotations or {}).items():
        errors += [invalid(f"{path}.annotations", key, one) for one in syntax.qualified_name(key.lower())]
        size += len(key.encode()) + len(value.encode())
    if size > _ANNOTATIONS_LIMIT:
        errors.append(too_long(f"{path}.annotations", _ANNOTATIONS_LIMIT))
    for one in meta.finalizers or ():
        errors += [invalid(f"{path}.finalizers", one, detail) for detail in syntax.qualified_name(one)]
    if {"orphan", "foregroundDeletion"} <= set(meta.finalizers or ()):
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid(f"{path}.finalizers", meta.finalizers, detail))
    for index, one in enumerate(meta.finalizers or ()):
        if "/" not in one and one not in ("orphan", "foregroundDeletion", "kubernetes"):
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid(f"{path}.finalizers[{index}]", one, detail))
    return errors
