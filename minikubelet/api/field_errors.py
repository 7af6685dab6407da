"""Errors about fields, worded as Kubernetes words them: `<path>: <Type>: <value>: <detail>`.

Source: k8s.io/apimachinery/pkg/util/validation/field/errors.go (v1.36).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error; `text` is the whole line."""

    path: str
    text: str


def required(path: str, detail: str = "") -> FieldError:
    """A field must be there."""
    return FieldError(path, f"{path}: Required value{': ' + detail if detail else ''}")


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """A value breaks a rule."""
    return FieldError(path, f"{path}: Invalid value: {show(value)}{': ' + detail if detail else ''}")


def unsupported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    """A value is none of a list."""
    listed = ", ".join(json.dumps(one) for one in supported)
    return FieldError(path, f"{path}: Unsupported value: {show(value)}: supported values: {listed}")


def duplicate(path: str, value: Any) -> FieldError:
    """A value stands twice."""
    return FieldError(path, f"{path}: Duplicate value: {show(value)}")


def not_found(path: str, value: Any) -> FieldError:
    """A name refers to nothing."""
    return FieldError(path, f"{path}: Not found: {show(value)}")


def forbidden(path: str, detail: str) -> FieldError:
    """A field may not be set."""
    return FieldError(path, f"{path}: Forbidden: {detail}")


def too_long(path: str, limit: int) -> FieldError:
    """A text is too long, in bytes."""
    return FieldError(path, f"{path}: Too long: may not be more than {limit} bytes")


def show(value: Any) -> str:
    """Return a value as errors show it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case int() | float():
            return str(value)
        case None:
            return "null"
        case _:
            return json.dumps(msgspec.to_builtins(value), separators=(",", ":"), ensure_ascii=False)
