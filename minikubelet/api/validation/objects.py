"""The rules for ConfigMaps and Secrets.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateConfigMap`, `ValidateSecret` (v1.36).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Final

import msgspec

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, forbidden, invalid, required, too_long
from minikubelet.api.types import ConfigMap, ObjectMeta, Secret
from minikubelet.api.validation.metadata import validate_metadata

_LIMIT: Final = 1024 * 1024
_IMMUTABLE: Final = "field is immutable when `immutable` is set"


def validate_config_map(value: ConfigMap) -> list[FieldError]:
    """Return what is wrong with a ConfigMap."""
    errors = validate_metadata(_in_namespace(value.metadata), "metadata", name=syntax.dns_subdomain)
    data, binary = value.data or {}, value.binary_data or {}
    for key in data:
        errors += [invalid(f"data[{key}]", key, one) for one in syntax.config_key(key)]
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key in binary:
        errors += [invalid(f"binaryData[{key}]", key, one) for one in syntax.config_key(key)]
    size = sum(len(text.encode()) for text in data.values()) + sum(map(len, _decoded(binary).values()))
    return errors + ([too_long("", _LIMIT)] if size > _LIMIT else [])


# What Secrets of a type must hold; of the pair for basic authentication either will do.
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/basic-auth": ("username", "password"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_ACCOUNT: Final = "kubernetes.io/service-account.name"


def validate_secret(value: Secret) -> list[FieldError]:
    """Return what is wrong with a Secret; its values are never shown."""
    errors = validate_metadata(_in_namespace(value.metadata), "metadata", name=syntax.dns_subdomain)
    for name, keys in (("data", value.data or {}), ("stringData", value.string_data or {})):
        for key in keys:
            errors += [invalid(f"{name}[{key}]", key, one) for one in syntax.config_key(key)]
    held = _secret_data(value)
    if sum(map(len, held.values())) > _LIMIT:
        errors.append(too_long("data", _LIMIT))
    return errors + _by_type(value, held)


def _by_type(value: Secret, held: dict[str, bytes]) -> list[FieldError]:
    if value.type == "kubernetes.io/service-account-token":
        named = (value.metadata.annotations or {}).get(_ACCOUNT)
        return [] if named else [required(f"metadata.annotations[{_ACCOUNT}]")]
    needed = _NEEDED.get(value.type, ())
    if value.type == "kubernetes.io/basic-auth" and any(key in held for key in needed):
        return []
    if value.type == "kubernetes.io/ssh-auth" and not held.get(needed[0]):
        return [required(f"data[{needed[0]}]")]
    errors = [required(f"data[{key}]") for key in needed if key not in held]
    if value.type.startswith("kubernetes.io/docker") and not errors:
        try:
            fits = isinstance(json.loads(held[needed[0]]), dict | type(None))
        except (ValueError, RecursionError):
            fits = False
        if not fits:
            detail = "it must be a JSON object"
            errors.append(invalid(f"data[{needed[0]}]", "<secret contents redacted>", detail))
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
    return {key: _bytes(text) for key, text in (data or {}).items()}


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _in_namespace(meta: ObjectMeta) -> ObjectMeta:
    return meta if meta.namespace else msgspec.structs.replace(meta, namespace="default")
