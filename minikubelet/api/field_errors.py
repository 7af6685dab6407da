"""Errors about fields, worded as Kubernetes words them: `<path>: <Type>: <value>: <detail>`.

Source: k8s.io/apimachinery/pkg/util/validation/field/errors.go (v1.36).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

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
    listed = ", ".join(quote(one) for one in supported)
    return FieldError(path, f"{path}: Unsupported value: {show(value)}: supported values: {listed}")


def duplicate(path: str, value: Any) -> FieldError:
    """A value stands twice."""
    return FieldError(path, f"{path}: Duplicate value: {show(value)}")


def not_found(path: str, value: Any, detail: str = "") -> FieldError:
    """A name refers to nothing."""
    return FieldError(path, f"{path}: Not found: {show(value)}{': ' + detail if detail else ''}")


def forbidden(path: str, detail: str) -> FieldError:
    """A field may not be set."""
    return FieldError(path, f"{path}: Forbidden: {detail}")


def too_long(path: str, limit: int) -> FieldError:
    """A text is too long, in bytes."""
    return FieldError(path, f"{path}: Too long: may not be more than {limit} bytes")


def too_many(path: str, count: int, limit: int) -> FieldError:
    """A list is too long."""
    return FieldError(path, f"{path}: Too many: {count}: must have at most {limit} items")


def show(value: Any) -> str:
    """Return a value as errors show it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quote(value)
        case int() | float():
            return str(value)
        case None:
            return "null"
        case _:
            text = json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)
            return text.translate(_NOT_IN_HTML)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: fields in the order of their types, maps in that of their keys."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, order="deterministic")
    if isinstance(value, dict):
        fields: dict[Any, Any] = value
        return {name: _plain(one) for name, one in fields.items()}
    return msgspec.to_builtins(value)


# Go's encoder of JSON keeps these out of what could land in a web page.
_NOT_IN_HTML: Final = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}
_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str) -> str:
    """Return a text in quotes, as Go's %q does it: what cannot be seen is escaped."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_escaped(one) for one in text) + '"'


def visible(text: str) -> str:
    """Return a text in which what cannot be seen, or would steer a terminal, is escaped."""
    return text if text.isprintable() else "".join(_escaped(one) if not one.isprintable() else one for one in text)


def _escaped(one: str) -> str:
    known = _ESCAPES.get(one)
    if known is not None or one.isprintable():
        return known or one
    code = ord(one)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
