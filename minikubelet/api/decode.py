"""From positioned nodes to API values: types checked, unknown fields found, every problem with its place.

Kubernetes stops at the first value of a wrong type and passes over fields that it does not know. Here all wrong types
are reported at once, and an unknown field is a warning with the spelling that was probably meant.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from minikubelet.api.decoding import Decoding
from minikubelet.api.field_errors import quote
from minikubelet.api.field_types import Field, FieldType, is_struct, struct_fields
from minikubelet.api.hints import did_you_mean, likely_form, likely_name, likely_quantity
from minikubelet.api.nodes import Mark, Node
from minikubelet.api.quantity import QuantityError, parse_quantity

T = TypeVar("T", bound=msgspec.Struct)

_INT64: Final = range(-(2**63), 2**63)
_INT32: Final = range(-(2**31), 2**31)
# A list that counts when it is empty: everywhere else Kubernetes treats none and an empty one alike.
_EMPTY_COUNTS: Final = "spec.resources.claims"
# Kubernetes trims the JSON text, in which tabs, line ends and the like are escapes that stay.
_BLANKS: Final = " \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_TYPE_NAMES: Final[dict[Any, str]] = {str: "string", bool: "bool"}
_WIDTHS: Final = {"": ("int64", _INT64), "int32": ("int32", _INT32), "int-or-string": ("int32", _INT32)}
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_NO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)
# What Kubernetes sees where nothing is written.
_ZEROES: Final[dict[Any, Callable[[], Any]]] = {int: int, bool: bool, str: str, list: list[Any], dict: dict[str, Any]}


def decode_object(node: Node, kind: type[T], into: Decoding, *, path: str = "") -> T:
    """Return the value of an object; problems and places go to `into`, whose `failed` says whether it may be used."""
    plain = _struct(node, kind, path, into)
    return msgspec.convert(plain, kind, strict=False)


def go_name(node: Node) -> str:
    """Return what JSON calls a value's kind."""
    match node.value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _struct(node: Node, kind: type[msgspec.Struct], path: str, into: Decoding) -> dict[str, Any]:
    into.places.setdefault(path, node.mark)
    fields = struct_fields(kind)
    result: dict[str, Any] = {}
    if isinstance(node.value, dict):
        result = _fields(node.value, fields, path, into)
    elif node.value is not None:
        detail = f"cannot unmarshal {go_name(node)} into an object ({kind.__name__})"
        into.error(path, node.mark, detail, likely_form(node, path, kind))
    for name, known in fields.items():
        if known.required and name not in result:
            result[name] = _zero(known.type)
    return result


def _fields(
    entries: Mapping[str, tuple[Mark, Node]], fields: Mapping[str, Field], path: str, into: Decoding
) -> dict[str, Any]:
    """Return the known fields of an object that count; unknown ones are warned of."""
    result: dict[str, Any] = {}
    for name, (mark, value) in entries.items():
        known = fields.get(name)
        below = f"{path}.{name}" if path else name
        if known is None:
            hint = did_you_mean(likely_name(name, fields))
            into.warn(below, mark, f"unknown field, ignored{': ' + hint if hint else ''}", hint)
            continue
        into.places[below] = mark
        decoded = _value(value, known.type, below, into)
        empty = decoded in ([], {}) and known.type.base in (list, dict)
        if decoded is not None and (known.required or not empty or below == _EMPTY_COUNTS):
            result[name] = decoded
    return result


def _value(node: Node, kind: FieldType, path: str, into: Decoding) -> Any:
    """Return a plain value that `msgspec.convert` takes, None for null."""
    if node.value is None:
        return "0" if kind.kind == "quantity" and not kind.optional else None
    if kind.base is None:
        return node.plain()
    if kind.base is list and kind.item is not None:
        return _list(node, kind.item, path, into)
    if kind.base is dict and kind.item is not None:
        return _map(node, kind.item, path, into)
    if is_struct(kind.base):
        return _struct(node, kind.base, path, into)
    if kind.kind == "quantity":
        return _quantity(node, path, into)
    return _scalar(node, kind, path, into)


def _quantity(node: Node, path: str, into: Decoding, *, listed: bool = False) -> str | None:
    if isinstance(node.value, bool | list | dict):
        into.error(path, node.mark, f"cannot unmarshal {go_name(node)} into a quantity")
        return None
    text = node.text.strip(_BLANKS)
    try:
        quantity = parse_quantity(text)
    except QuantityError as error:
        into.error(path, node.mark, str(error), likely_quantity(text.strip()))
        return None
    # Only in lists of resources Kubernetes rounds what is finer than thousandths.
    return (quantity.rounded_up_to_milli() if listed else quantity).canonical()


def _list(node: Node, item: FieldType, path: str, into: Decoding) -> list[Any] | None:
    if not isinstance(node.value, list):
        into.error(path, node.mark, f"cannot unmarshal {go_name(node)} into a list", likely_form(node, path, list))
        return None
    result: list[Any] = []
    for index, one in enumerate(node.value):
        below = f"{path}[{index}]"
        into.places[below] = one.mark
        decoded = _value(one, item, below, into)
        result.append(_zero(item) if decoded is None else decoded)
    return result


def _map(node: Node, item: FieldType, path: str, into: Decoding) -> dict[str, Any] | None:
    if not isinstance(node.value, dict):
        into.error(path, node.mark, f"cannot unmarshal {go_name(node)} into a map", likely_form(node, path, dict))
        return None
    result: dict[str, Any] = {}
    for key, (mark, one) in node.value.items():
        below = f"{path}[{key}]"
        into.places[below] = mark
        listed = item.kind == "quantity" and one.value is not None
        decoded = _quantity(one, below, into, listed=True) if listed else _value(one, item, below, into)
        result[key] = _zero(item) if decoded is None else decoded
    return result


def _scalar(node: Node, kind: FieldType, path: str, into: Decoding) -> Any:
    value = node.value
    if kind.kind == "int-or-string" and isinstance(value, str):
        return value
    if kind.base is int:
        return _integer(node, kind, path, into)
    if not isinstance(value, kind.base):
        detail = f"cannot unmarshal {go_name(node)} into a value of type {_TYPE_NAMES[kind.base]}"
        into.error(path, node.mark, detail, likely_form(node, path, kind.base))
        return None
    if kind.kind == "time":
        return _time(node, str(value), path, into)
    if kind.kind == "base64":
        return _base64(node, str(value), path, into)
    return value


def _integer(node: Node, kind: FieldType, path: str, into: Decoding) -> int | None:
    name, width = _WIDTHS[kind.kind]
    if isinstance(node.value, int) and not isinstance(node.value, bool) and node.value in width:
        return node.value
    wanted = "int or string" if kind.kind == "int-or-string" else name
    number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
    found = f"number {node.text}" if number else go_name(node)
    detail = f"cannot unmarshal {found} into a value of type {wanted}"
    into.error(path, node.mark, detail, likely_form(node, path, int))
    return None


def _time(node: Node, text: str, path: str, into: Decoding) -> str | None:
    """Return a time as Kubernetes prints it."""
    found = _RFC3339.fullmatch(text)
    try:
        if found is not None:
            moment = datetime.fromisoformat(f"{found[1]}{found[2].replace('Z', '+00:00')}").astimezone(UTC)
            return None if moment == _NO_TIME else moment.isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        pass
    into.error(path, node.mark, f'parsing time {quote(text)} as "2006-01-02T15:04:05Z07:00": cannot parse it')
    return None


def _base64(node: Node, text: str, path: str, into: Decoding) -> str | None:
    text = text.replace("\r", "").replace("\n", "")
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except ValueError:
        into.error(path, node.mark, "illegal base64 data")  # what a Secret holds is never shown
        return None


def _zero(kind: FieldType) -> Any:
    """Return what Kubernetes sees where nothing is written."""
    if kind.optional:
        return None
    if kind.kind == "quantity":
        return "0"
    if is_struct(kind.base):
        return {name: _zero(one.type) for name, one in struct_fields(kind.base).items() if one.required}
    return _ZEROES[kind.base]() if kind.base in _ZEROES else None
