"""The rules for ConfigMaps and Secrets.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateConfigMap`, `ValidateSecret` (v1.36).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import msgspec

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, forbidden, invalid, too_long
from minikubelet.api.types import ConfigMap, ObjectMeta, Secret
from minikubelet.api.validation.metadata import validate_metadata

_LIMIT: Final = 1024 * 1024
_IMMUTABLE: Final = "field is immutable when `immutable` is set"


def validate_config_map(value: ConfigMap) -> list[FieldError]:
    """Return what is wrong with a ConfigMap."""
    errors = validate_metadata(_in_namespace(value.metadata), "metadata", name=syntax.dns_subdomain)
    total = 0
    for key, text in (value.data or {}).items():
        errors += [invalid(f"data[{key}]", key, one) for one in syntax.config_key(key)]
        if key in (value.binary_data or {}):
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        total += len(text.encode())
    for key, text in (value.binary_data or {}).items():
        errors += [invalid(f"binaryData[{key}]", key, one) for one in syntax.config_key(key)]
        errors += _base64(f"binaryData[{key}]", text)
        total += len(text) * 3 // 4
    if total > _LIMIT:
        errors.append(too_long("", _LIMIT))
    return errors


def validate_secret(value: Secret) -> list[FieldError]:
    """Return what is wrong with a Secret; its values are never shown."""
    errors = validate_metadata(_in_namespace(value.metadata), "metadata", name=syntax.dns_subdomain)
    total = 0
    for key, text in (value.data or {}).items():
        errors += [invalid(f"data[{key}]", key, one) for one in syntax.config_key(key)]
        errors += _base64(f"data[{key}]", text)
        total += len(text) * 3 // 4
    if total > _LIMIT:
        errors.append(too_long("data", _LIMIT))
    return errors


def validate_config_map_update(value: ConfigMap, old: ConfigMap | None) -> list[FieldError]:
    """Return what may not change: all but the metadata of an immutable ConfigMap."""
    if old is None or not old.immutable:
        return []
    errors = [] if value.immutable else [forbidden("immutable", _IMMUTABLE)]
    if (value.data or {}) != (old.data or {}):
        errors.append(forbidden("data", _IMMUTABLE))
    if _decoded(value.binary_data) != _decoded(old.binary_data):
        errors.append(forbidden("binaryData", _IMMUTABLE))
    return errors


def validate_secret_update(value: Secret, old: Secret | None) -> list[FieldError]:
    """Return what may not change: all but the metadata of an immutable Secret."""
    if old is None or not old.immutable:
        return []
    errors = [] if value.immutable else [forbidden("immutable", _IMMUTABLE)]
    if _secret_data(value) != _secret_data(old):
        errors.append(forbidden("data", _IMMUTABLE))
    return errors


def _secret_data(value: Secret) -> dict[str, bytes]:
    return _decoded(value.data) | {key: text.encode() for key, text in (value.string_data or {}).items()}


def _decoded(data: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(text) for key, text in (data or {}).items()}


def _in_namespace(meta: ObjectMeta) -> ObjectMeta:
    return meta if meta.namespace else msgspec.structs.replace(meta, namespace="default")


def _base64(path: str, text: str) -> list[FieldError]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return [invalid(path, "<hidden>", "must be base64")]
    return []
