"""From positioned nodes to API values: types checked, unknown fields found, every problem with its place.

Kubernetes stops at the first value of a wrong type and passes over fields that it does not know. Here all wrong types
are reported at once, and an unknown field is a warning with the spelling that was probably meant.
"""

from __future__ import annotations

import difflib
import types as python_types
import typing
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Final, TypeVar, Union

import msgspec

from minikubelet.api.problems import Problem, Severity
from minikubelet.api.quantity import QuantityError, parse_quantity
from minikubelet.api.source import Mark, Node

T = TypeVar("T", bound=msgspec.Struct)

_INT64: Final = range(-(2**63), 2**63)
# Misspellings that tutorials have spread, beyond what similarity finds.
_KNOWN_MISSPELLINGS: Final = {"scretname": "secretName", "readonly": "readOnly"}


@dataclass(slots=True)
class Decoding:
    """What one document's decoding collects."""

    document: int
    problems: list[Problem] = field(default_factory=list)
    places: dict[str, Mark] = field(default_factory=dict)
    failed: bool = False

    def error(self, path: str, mark: Mark, detail: str) -> None:
        """Note that a value cannot be used."""
        self.failed = True
        self._add(Severity.ERROR, path, mark, f"{path}: {detail}" if path else detail)

    def warn(self, path: str, mark: Mark, detail: str, hint: str = "") -> None:
        """Note something that is passed over."""
        self._add(Severity.WARNING, path, mark, f"{path}: {detail}" if path else detail, hint)

    def _add(self, severity: Severity, path: str, mark: Mark, message: str, hint: str = "") -> None:
        self.problems.append(
            Problem(
                severity=severity,
                field=path,
                message=message,
                document=self.document,
                line=mark.line,
                column=mark.column,
                hint=hint,
            )
        )


def decode_object(node: Node, kind: type[T], into: Decoding, *, path: str = "") -> T:
    """Return the value of an object; problems and places go to `into`, whose `failed` says whether it may be used."""
    plain = _struct(node, kind, path, into)
    return msgspec.convert(plain, kind, strict=False)


@dataclass(frozen=True, slots=True)
class _Field:
    attribute: str
    type: Any
    required: bool


@cache
def struct_fields(kind: type[msgspec.Struct]) -> dict[str, _Field]:
    """Return an API type's fields by their wire names."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {one.encode_name: _Field(one.name, hints[one.name], one.required) for one in msgspec.structs.fields(kind)}


def _struct(node: Node, kind: type[msgspec.Struct], path: str, into: Decoding) -> dict[str, Any]:
    into.places.setdefault(path, node.mark)
    fields = struct_fields(kind)
    result: dict[str, Any] = {}
    if node.value is not None and not isinstance(node.value, dict):
        into.error(path, node.mark, f"cannot unmarshal {_go_name(node)} into an object ({_type_name(kind)})")
    elif node.value is not None:
        for name, (mark, value) in node.value.items():
            known = fields.get(name)
            below = f"{path}.{name}" if path else name
            if known is None:
                _unknown(name, mark, below, fields, into)
                continue
            into.places[below] = mark
            decoded = _value(value, known.type, below, into)
            # An empty list is as good as none: Kubernetes leaves it out of what it prints.
            if decoded is not None and (known.required or decoded != []):
                result[name] = decoded
    for name, known in fields.items():
        if known.required and name not in result:
            result[name] = _zero(known.type)
    return result


def _value(node: Node, kind: Any, path: str, into: Decoding) -> Any:
    """Return a plain value that `msgspec.convert` takes, None for null."""
    if node.value is None and not _is_quantity(kind):
        return None
    kind, quantity = _unwrap(kind)
    if quantity:
        return _quantity(node, path, into)
    origin = typing.get_origin(kind)
    if origin is list:
        return _list(node, typing.get_args(kind)[0], path, into)
    if origin is dict:
        return _map(node, typing.get_args(kind)[1], path, into)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(node, kind, path, into)
    return _scalar(node, kind, path, into)


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """Return a type without `| None`, and whether it is a quantity."""
    if _is_quantity(kind):
        return str, True
    if typing.get_origin(kind) in (Union, python_types.UnionType):
        options = [one for one in typing.get_args(kind) if one is not type(None)]
        if len(options) == 1:
            return options[0], False
    return kind, False


def _is_quantity(kind: Any) -> bool:
    if typing.get_origin(kind) in (Union, python_types.UnionType):
        return any(_is_quantity(one) for one in typing.get_args(kind))
    return typing.get_origin(kind) is Annotated


def _quantity(node: Node, path: str, into: Decoding) -> str | None:
    if node.value is None:
        return "0"
    if isinstance(node.value, bool | list | dict):
        into.error(path, node.mark, f"cannot unmarshal {_go_name(node)} into a quantity")
        return None
    text = str(node.value).strip() if isinstance(node.value, str) else node.text.replace("_", "")
    try:
        return parse_quantity(text).rounded_up_to_milli().canonical()
    except QuantityError as error:
        into.error(path, node.mark, str(error))
        return None


def _list(node: Node, item: Any, path: str, into: Decoding) -> list[Any] | None:
    if not isinstance(node.value, list):
        into.error(path, node.mark, f"cannot unmarshal {_go_name(node)} into a list")
        return None
    result: list[Any] = []
    for index, one in enumerate(node.value):
        below = f"{path}[{index}]"
        into.places[below] = one.mark
        decoded = _value(one, item, below, into)
        result.append(_zero(item) if decoded is None else decoded)
    return result


def _map(node: Node, item: Any, path: str, into: Decoding) -> dict[str, Any] | None:
    if not isinstance(node.value, dict):
        into.error(path, node.mark, f"cannot unmarshal {_go_name(node)} into a map")
        return None
    result: dict[str, Any] = {}
    for key, (mark, one) in node.value.items():
        below = f"{path}[{key}]"
        into.places[below] = mark
        decoded = _value(one, item, below, into)
        result[key] = _zero(item) if decoded is None else decoded
    return result


def _scalar(node: Node, kind: Any, path: str, into: Decoding) -> Any:
    value = node.value
    if kind is Any:
        return node.plain()
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    whole = _whole_number(value)
    if kind is int and whole is not None:
        return whole
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if typing.get_origin(kind) in (Union, python_types.UnionType):  # int or string
        if isinstance(value, str):
            return value
        if whole is not None:
            return whole
    into.error(path, node.mark, f"cannot unmarshal {_go_name(node)} into a value of type {_type_name(kind)}")
    return None


def _whole_number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and value in _INT64 else None


def _zero(kind: Any) -> Any:
    """Return what Kubernetes sees where nothing is written."""
    if type(None) in typing.get_args(kind):
        return None
    kind, quantity = _unwrap(kind)
    origin = typing.get_origin(kind)
    if quantity:
        return "0"
    if origin is list:
        return []
    if origin is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {name: _zero(one.type) for name, one in struct_fields(kind).items() if one.required}
    if origin in (Union, python_types.UnionType):
        return 0 if int in typing.get_args(kind) else None
    return {int: 0, bool: False, str: "", float: 0.0}.get(kind)


def _unknown(name: str, mark: Mark, path: str, fields: dict[str, _Field], into: Decoding) -> None:
    lowered = name.lower()
    meant = next((known for known in fields if known.lower() == lowered), _KNOWN_MISSPELLINGS.get(lowered, ""))
    if meant not in fields:
        close = difflib.get_close_matches(name, fields, n=1, cutoff=0.7)
        meant = close[0] if close else ""
    hint = f'did you mean "{meant}"?' if meant else ""
    into.warn(path, mark, f"unknown field, ignored{': ' + hint if hint else ''}", hint)


def _go_name(node: Node) -> str:
    match node.value:
        case bool():
            return "bool"
        case int() | float():
            return f"number {node.text}"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _type_name(kind: Any) -> str:
    return "string" if kind is str else str(getattr(kind, "__name__", "int or string"))
