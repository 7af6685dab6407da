"""The rules for the claims that ephemeral volumes bring with them.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidatePersistentVolumeClaimTemplate` (v1.36).
"""

from __future__ import annotations

from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, forbidden, invalid, required, unsupported
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import (
    ObjectMeta,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimTemplate,
    TypedLocalObjectReference,
    TypedObjectReference,
)
from minikubelet.api.validation.affinity import validate_label_selector
from minikubelet.api.validation.metadata import validate_annotations, validate_labels

_ACCESS_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES: Final = ("Block", "Filesystem")


def validate_claim_template(template: PersistentVolumeClaimTemplate, path: str) -> list[FieldError]:
    """Return what is wrong with a template of a claim."""
    meta, here = template.metadata, f"{path}.metadata"
    errors = validate_annotations(meta.annotations or {}, f"{here}.annotations")
    errors += validate_labels(meta.labels or {}, f"{here}.labels")
    empty = ObjectMeta()
    for name, shown in _META_FIELDS.items():
        if getattr(meta, name) != getattr(empty, name):
            errors.append(forbidden(f"{here}.{shown}", "cannot be set"))
    return errors + _spec(template.spec, f"{path}.spec")


# What a template's metadata may not have, named as Kubernetes names it here.
_META_FIELDS: Final = {
    "name": "name",
    "generate_name": "generateName",
    "namespace": "namespace",
    "self_link": "selfLink",
    "uid": "uID",
    "resource_version": "resourceVersion",
    "generation": "generation",
    "creation_timestamp": "creationTimestamp",
    "deletion_timestamp": "deletionTimestamp",
    "deletion_grace_period_seconds": "deletionGracePeriodSeconds",
    "owner_references": "ownerReferences",
    "finalizers": "finalizers",
    "managed_fields": "managedFields",
}


def _spec(spec: PersistentVolumeClaimSpec, path: str) -> list[FieldError]:
    modes = spec.access_modes or []
    errors: list[FieldError] = []
    if not modes:
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    errors += validate_label_selector(spec.selector, f"{path}.selector")
    errors += [unsupported(f"{path}.accessModes", one, _ACCESS_MODES) for one in modes if one not in _ACCESS_MODES]
    if "ReadWriteOncePod" in modes and any(one in _ACCESS_MODES[:3] for one in modes):
        errors.append(forbidden(f"{path}.accessModes", "may not use ReadWriteOncePod with other access modes"))
    size, where = (spec.resources.requests or {}).get("storage"), f"{path}.resources[storage]"
    if size is None:
        errors.append(required(where))
    elif parse_quantity(size).nanos <= 0:
        errors.append(invalid(where, size, "must be greater than zero"))
    errors += _class_name(spec.storage_class_name, f"{path}.storageClassName")
    if spec.volume_mode is not None and spec.volume_mode not in _VOLUME_MODES:
        errors.append(unsupported(f"{path}.volumeMode", spec.volume_mode, _VOLUME_MODES))
    errors += _data_source(spec.data_source, f"{path}.dataSource")
    errors += _data_source(spec.data_source_ref, f"{path}.dataSourceRef")
    errors += _data_sources_together(spec, path)
    return errors + _class_name(spec.volume_attributes_class_name, f"{path}.volumeAttributesClassName")


def _class_name(name: str | None, path: str) -> list[FieldError]:
    return [invalid(path, name, one) for one in syntax.dns_subdomain(name)] if name else []


def _data_source(source: TypedLocalObjectReference | TypedObjectReference | None, path: str) -> list[FieldError]:
    if source is None:
        return []
    errors = [required(f"{path}.{name}") for name in ("name", "kind") if not getattr(source, name)]
    group = source.api_group or ""
    if not group and source.kind != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid(path, source.kind, detail))
    if group:
        errors += [invalid(f"{path}.apiGroup", group, one) for one in syntax.dns_subdomain(group)]
    if isinstance(source, TypedObjectReference) and source.namespace:
        errors += [invalid(f"{path}.namespace", source.namespace, one) for one in syntax.dns_label(source.namespace)]
    return errors


def _data_sources_together(spec: PersistentVolumeClaimSpec, path: str) -> list[FieldError]:
    one, other = spec.data_source, spec.data_source_ref
    if one is None or other is None:
        return []
    if other.namespace:
        detail = "may not be specified when dataSourceRef.namespace is specified"
        return [invalid(path, {}, detail)]  # a path, in which Kubernetes has nothing to show
    if (one.api_group, one.kind, one.name) != (other.api_group, other.kind, other.name):
        return [invalid(path, {}, "must match dataSourceRef")]
    return []
