"""The rules for ConfigMaps and Secrets.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateConfigMap`, `ValidateSecret` (v1.36).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, invalid, too_long
from minikubelet.api.types import ConfigMap, ObjectMeta, Secret
from minikubelet.api.validation.metadata import validate_metadata

_LIMIT: Final = 1024 * 1024


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


def _in_namespace(meta: ObjectMeta) -> ObjectMeta:
    return meta if meta.namespace else msgspec.structs.replace(meta, namespace="default")


def _base64(path: str, text: str) -> list[FieldError]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return [invalid(path, "<hidden>", "must be base64")]
    return []
