"""The rules for paths below a volume, and for the files put there.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateLocalNonReservedPath`, `validateKeyToPath` (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from minikubelet.api.field_errors import FieldError, invalid, required
from minikubelet.api.types import KeyToPath

_MODE_RULE: Final = "must be a number between 0 and 0777 (octal), both inclusive"


def no_backsteps(text: str, path: str) -> list[FieldError]:
    """Check that a path does not lead out of where it begins."""
    return [invalid(path, text, "must not contain '..'")] if ".." in text.split("/") else []


def local_path(text: str, path: str) -> list[FieldError]:
    """Check a path that must stay below a directory."""
    errors = [invalid(path, text, "must be a relative path")] if text.startswith("/") else []
    return errors + no_backsteps(text, path)


def visible_path(text: str, path: str) -> list[FieldError]:
    """Check a path that must stay below a volume and may not look like the volume's own links."""
    errors = local_path(text, path)
    if text.startswith("..") and not text.startswith("../"):
        errors.append(invalid(path, text, "must not start with '..'"))
    return errors


def validate_mode(mode: int | None, path: str) -> list[FieldError]:
    """Check a file's mode."""
    return [invalid(path, mode, _MODE_RULE)] if mode is not None and not 0 <= mode <= 0o777 else []


def validate_items(items: Iterable[KeyToPath] | None, path: str) -> list[FieldError]:
    """Check which keys of an object become which files."""
    errors: list[FieldError] = []
    for index, one in enumerate(items or ()):
        errors += validate_item(one, f"{path}[{index}]")
    return errors


def validate_item(one: KeyToPath, path: str) -> list[FieldError]:
    """Check a key that becomes a file."""
    errors = [] if one.key else [required(f"{path}.key")]
    if not one.path:
        errors.append(required(f"{path}.path"))
    errors += visible_path(one.path, f"{path}.path")
    return errors + validate_mode(one.mode, f"{path}.mode")
