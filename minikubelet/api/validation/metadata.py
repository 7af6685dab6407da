"""The rules for object metadata.

Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go, pkg/apis/meta/v1/validation (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, invalid, required, too_long
from minikubelet.api.types import ManagedFieldsEntry, ObjectMeta, OwnerReference

ANNOTATIONS_LIMIT: Final = 256 * 1024
_LONGEST_MANAGER: Final = 128
_LONGEST_SUBRESOURCE: Final = 256


def validate_metadata(meta: ObjectMeta, path: str, *, name: Callable[[str], list[str]]) -> list[FieldError]:
    """Return what is wrong with an object's metadata; `name` is the rule for its name."""
    errors: list[FieldError] = []
    if meta.generate_name:
        wrong = syntax.name_prefix(meta.generate_name)
        errors += [invalid(f"{path}.generateName", meta.generate_name, one) for one in wrong]
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
    errors += validate_labels(meta.labels or {}, f"{path}.labels")
    errors += validate_annotations(meta.annotations or {}, f"{path}.annotations")
    errors += _owners(meta.owner_references or [], f"{path}.ownerReferences")
    errors += _finalizers(meta.finalizers or [], f"{path}.finalizers")
    for index, one in enumerate(meta.managed_fields or ()):
        errors += _managed_fields(one, f"{path}.managedFields[{index}]")
    for index, finalizer in enumerate(meta.finalizers or ()):
        if "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion", "kubernetes"):
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid(f"{path}.finalizers[{index}]", finalizer, detail))
    return errors


def validate_labels(labels: Mapping[str, str], path: str) -> list[FieldError]:
    """Return what is wrong with labels."""
    errors: list[FieldError] = []
    for key, value in labels.items():
        errors += [invalid(path, key, one) for one in syntax.qualified_name(key)]
        errors += [invalid(path, value, one) for one in syntax.label_value(value)]
    return errors


def validate_annotations(annotations: Mapping[str, str], path: str) -> list[FieldError]:
    """Return what is wrong with annotations, whose keys may have capitals and whose values are free."""
    errors: list[FieldError] = []
    for key in annotations:
        errors += [invalid(path, key, one) for one in syntax.qualified_name(key.lower())]
    if annotations_size(annotations) > ANNOTATIONS_LIMIT:
        errors.append(too_long(path, ANNOTATIONS_LIMIT))
    return errors


def annotations_size(annotations: Mapping[str, str]) -> int:
    """Return the bytes in all keys and values."""
    return sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())


def _owners(owners: list[OwnerReference], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for one in owners:
        errors += _owner(one, path)
        if not one.controller:
            continue
        name = f"{one.kind}/{one.name}"
        if controller:
            detail = (
                'Only one reference can have Controller set to true. Found "true" in references for '
                f"{controller} and {name}"
            )
            errors.append(invalid(path, [_go_owner(each) for each in owners], detail))
        else:
            controller = name
    return errors


def _owner(one: OwnerReference, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    group, _, version = one.api_version.rpartition("/")
    if one.api_version.count("/") > 1:
        group, version = "", ""
    if not version:
        errors.append(invalid(f"{path}.apiVersion", one.api_version, "version must not be empty"))
    for name, value in (("kind", one.kind), ("name", one.name), ("uid", one.uid)):
        if not value:
            errors.append(invalid(f"{path}.{name}", value, "must not be empty"))
    if (group, version, one.kind) == ("", "v1", "Event"):
        errors.append(invalid(path, _go_owner(one), "/v1, Kind=Event is disallowed from being an owner"))
    return errors


def _go_owner(one: OwnerReference) -> dict[str, object]:
    """Return an owner as Kubernetes prints it, in which the first four fields are never left out."""
    shown: dict[str, object] = {"apiVersion": one.api_version, "kind": one.kind, "name": one.name, "uid": one.uid}
    if one.controller is not None:
        shown["controller"] = one.controller
    if one.block_owner_deletion is not None:
        shown["blockOwnerDeletion"] = one.block_owner_deletion
    return shown


def _finalizers(finalizers: list[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for one in finalizers:
        errors += [invalid(path, one, detail) for detail in syntax.qualified_name(one)]
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid(path, finalizers, detail))
    return errors


def _managed_fields(one: ManagedFieldsEntry, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if one.operation not in ("Apply", "Update"):
        errors.append(invalid(f"{path}.operation", one.operation, "must be `Apply` or `Update`"))
    if one.fields_type not in ("", "FieldsV1"):
        errors.append(invalid(f"{path}.fieldsType", one.fields_type, "must be `FieldsV1`"))
    if len(one.manager.encode()) > _LONGEST_MANAGER:
        errors.append(too_long(f"{path}.manager", _LONGEST_MANAGER))
    position = 0
    for character in one.manager:
        if not character.isprintable():
            shown = f"U+{ord(character):04X}"
            detail = f"invalid character {shown} (at position {position})"
            errors.append(invalid(f"{path}.manager", one.manager, detail))
        position += len(character.encode())
    if len(one.subresource.encode()) > _LONGEST_SUBRESOURCE:
        errors.append(too_long(f"{path}.subresource", _LONGEST_SUBRESOURCE))
    return errors
