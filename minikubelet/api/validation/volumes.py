"""The rules for volumes.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateVolumes` (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, duplicate, forbidden, invalid, required, unsupported
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import KeyToPath, Volume, wire_name

_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_MODE_RULE: Final = "must be a number between 0 and 0777 (octal), both inclusive"


def validate_volumes(volumes: Sequence[Volume], path: str) -> list[FieldError]:
    """Return what is wrong with a Pod's volumes."""
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        found = _validate_source(volume, here)
        if not volume.name:
            found.append(required(f"{here}.name"))
        else:
            found += [invalid(f"{here}.name", volume.name, one) for one in syntax.dns_label(volume.name)]
        if volume.name in names:
            found.append(duplicate(f"{here}.name", volume.name))
        if not found:
            names.add(volume.name)
        errors += found
    return errors


def _validate_source(volume: Volume, path: str) -> list[FieldError]:
    sources = [name for name in volume.__struct_fields__ if name != "name" and getattr(volume, name) is not None]
    errors: list[FieldError] = []
    for name in sources[1:]:
        errors.append(forbidden(f"{path}.{wire_name(name)}", "may not specify more than 1 volume type"))
    if not sources:
        return [required(path, "must specify a volume type")]
    if volume.host_path is not None:
        errors += _validate_host_path(volume, f"{path}.hostPath")
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        if parse_quantity(volume.empty_dir.size_limit).nanos < 0:
            detail = "SizeLimit field must be a valid resource quantity"
            errors.append(forbidden(f"{path}.emptyDir.sizeLimit", detail))
    if volume.config_map is not None:
        if not volume.config_map.name:
            errors.append(required(f"{path}.configMap.name"))
        errors += _mode(volume.config_map.default_mode, f"{path}.configMap.defaultMode")
        errors += _items(volume.config_map.items, f"{path}.configMap.items")
    if volume.secret is not None:
        if not volume.secret.secret_name:
            errors.append(required(f"{path}.secret.secretName"))
        errors += _mode(volume.secret.default_mode, f"{path}.secret.defaultMode")
        errors += _items(volume.secret.items, f"{path}.secret.items")
    if volume.downward_api is not None:
        errors += _mode(volume.downward_api.default_mode, f"{path}.downwardAPI.defaultMode")
    return errors


def _validate_host_path(volume: Volume, path: str) -> list[FieldError]:
    source = volume.host_path
    if source is None:
        return []
    if not source.path:
        return [required(f"{path}.path")]
    errors: list[FieldError] = []
    if ".." in source.path.split("/"):
        errors.append(invalid(f"{path}.path", source.path, "must not contain '..'"))
    if (source.type or "") not in _HOST_PATH_TYPES:
        errors.append(unsupported(f"{path}.type", source.type, _HOST_PATH_TYPES))
    return errors


def _mode(mode: int | None, path: str) -> list[FieldError]:
    return [invalid(path, mode, _MODE_RULE)] if mode is not None and not 0 <= mode <= 0o777 else []


def _items(items: Sequence[KeyToPath] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(items or ()):
        here = f"{path}[{index}]"
        if not one.key:
            errors.append(required(f"{here}.key"))
        if not one.path:
            errors.append(required(f"{here}.path"))
        errors += local_path(one.path, f"{here}.path", non_descending=True)
        errors += _mode(one.mode, f"{here}.mode")
    return errors


def local_path(text: str, path: str, *, non_descending: bool = False) -> list[FieldError]:
    """Check a path that must stay below a volume."""
    errors: list[FieldError] = []
    if text.startswith("/"):
        errors.append(invalid(path, text, "must be a relative path"))
    if ".." in text.split("/"):
        errors.append(invalid(path, text, "must not contain '..'"))
    elif non_descending and text.startswith(".."):
        errors.append(invalid(path, text, "must not start with '..'"))
    return errors
