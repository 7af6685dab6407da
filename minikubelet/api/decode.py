"""From positioned nodes to API values: types checked, unknown fields found, every problem with its place.

Kubernetes stops at the first value of a wrong type and passes over fields that it does not know. Here all wrong types
are reported at once, and an unknown field is a warning with the spelling that was probably meant.
"""

from __future__ import annotations

import base64
import difflib
import re
import types as python_types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final, TypeGuard, TypeVar, Union

import msgspec

from minikubelet.api.field_errors import quote, visible
from minikubelet.api.problems import Problem, Severity
from minikubelet.api.quantity import QuantityError, parse_quantity
from minikubelet.api.source import Mark, Node

T = TypeVar("T", bound=msgspec.Struct)

_INT64: Final = range(-(2**63), 2**63)
_INT32: Final = range(-(2**31), 2**31)
_LONGEST_NAME: Final = 64  # of a field that a likely spelling is looked for
# Misspellings and words of other tools that similarity does not find, in lower case.
_KNOWN_MISSPELLINGS: Final = {
    "scretname": "secretname",
    "entrypoint": "command",
    "cmd": "args",
    "environment": "env",
    "cwd": "workingdir",
    "workdir": "workingdir",
    "pullpolicy": "imagepullpolicy",
    "healthcheck": "livenessprobe",
    "tmpfs": "emptydir",
    "user": "runasuser",
    "group": "runasgroup",
}
_UNSUPPORTED: Final = re.compile(r': Unsupported value: "([^"]*)": supported values: (.*)')
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt])i?b?", re.ASCII | re.IGNORECASE)
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)
_QUOTED: Final = re.compile(r'"([^"]*)"')
MAX_PROBLEMS: Final = 1000  # of one document; what exceeds it is counted


@dataclass(slots=True)
class Decoding:
    """What one document's decoding collects."""

    document: int
    problems: list[Problem] = field(default_factory=list[Problem])
    places: dict[str, Mark] = field(default_factory=dict[str, Mark])
    failed: bool = False
    dropped: dict[Severity, int] = field(default_factory=dict[Severity, int])

    def error(self, path: str, mark: Mark, detail: str, hint: str = "") -> None:
        """Note that a value cannot be used."""
        self.failed = True
        self._add(Severity.ERROR, path, mark, f"{path}: {detail}" if path else detail, hint)

    def warn(self, path: str, mark: Mark, detail: str, hint: str = "") -> None:
        """Note something that is passed over."""
        self._add(Severity.WARNING, path, mark, f"{path}: {detail}" if path else detail, hint)

    def warn_of_node(self, path: str, message: str) -> None:
        """Note that this node does not honour a field."""
        self._add(Severity.WARNING, path, self.place(path), message, is_of_node=True)

    def warn_of_failure(self, path: str, detail: str, names: Iterable[str]) -> None:
        """Note a field that is accepted and cannot work; `names` are those that it may have meant."""
        value = _QUOTED.search(detail)
        meant = likely_name(value[1], names) if value is not None else ""
        self.warn(path, self.place(path), detail, _meant(meant) if meant else "")

    def add(self, path: str, message: str) -> None:
        """Note an error about a field, whose place is known or that of what is around it."""
        if len(self.problems) >= MAX_PROBLEMS:
            # Of what is only counted nobody reads where it is and what was meant.
            self.dropped[Severity.ERROR] = self.dropped.get(Severity.ERROR, 0) + 1
            return
        found = _UNSUPPORTED.search(message)
        meant = likely_name(found[1], _QUOTED.findall(found[2])) if found is not None else ""
        hint = _meant(meant) if meant else ""
        if message == f"{path}: Required value":
            hint = self._misspelt(path)
        self._add(Severity.ERROR, path, self.place(path), message, hint)

    def _misspelt(self, path: str) -> str:
        """Say which unknown field beside a missing one was probably meant to be it."""
        parent, _, name = path.rpartition(".")
        for one in self.problems:
            beside, _, wrong = one.field.rpartition(".")
            if beside == parent and one.hint == _meant(name):
                return f'line {one.line} has "{wrong}" in its place'
        return ""

    def place(self, path: str) -> Mark:
        """Return where a field stands, or else the nearest thing around it that does."""
        return nearest(self.places, path)

    def close(self) -> None:
        """Say how many problems there are beyond those that are told."""
        for severity, count in self.dropped.items():
            rest = f"{count} more {severity.value}s are not shown"
            self.problems.append(self._problem(severity, "", Mark(1, 1), rest, ""))
        self.dropped.clear()

    def _add(
        self, severity: Severity, path: str, mark: Mark, message: str, hint: str = "", *, is_of_node: bool = False
    ) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(self._problem(severity, path, mark, message, hint, is_of_node=is_of_node))
        else:
            self.dropped[severity] = self.dropped.get(severity, 0) + 1

    def _problem(
        self, severity: Severity, path: str, mark: Mark, message: str, hint: str, *, is_of_node: bool = False
    ) -> Problem:
        return Problem(
            severity=severity,
            field=visible(path),
            message=visible(message),
            document=self.document,
            line=mark.line,
            column=mark.column,
            hint=hint,
            is_of_node=is_of_node,
        )


def nearest(places: Mapping[str, Mark], path: str) -> Mark:
    """Return where a field stands, or else the nearest thing around it that does."""
    while path:
        if path in places:
            return places[path]
        cut = max(path.rfind("."), path.rfind("["))
        path = path[:cut] if cut > 0 else ""
    return places.get("", Mark(1, 1))


def decode_object(node: Node, kind: type[T], into: Decoding, *, path: str = "") -> T:
    """Return the value of an object; problems and places go to `into`, whose `failed` says whether it may be used."""
    plain = _struct(node, kind, path, into)
    return msgspec.convert(plain, kind, strict=False)


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field holds: `base` is a scalar type, list, dict, a struct, or None where anything goes.

    `kind` tells texts and numbers with rules of their own apart: quantity, time, base64, int32, int-or-string.
    """

    base: Any
    kind: str = ""
    optional: bool = False
    item: FieldType | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an API type."""

    attribute: str
    type: FieldType
    required: bool


@cache
def struct_fields(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """Return an API type's fields by their wire names."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        one.encode_name: Field(one.name, field_type(hints[one.name]), one.required)
        for one in msgspec.structs.fields(kind)
    }


def field_type(hint: Any) -> FieldType:
    """Return what a type hint of `api.types` stands for."""
    origin = typing.get_origin(hint)
    if origin in (Union, python_types.UnionType):
        options = [one for one in typing.get_args(hint) if one is not type(None)]
        optional = len(options) < len(typing.get_args(hint))
        if len(options) > 1:
            return FieldType(int, "int-or-string", optional)
        return replace(field_type(options[0]), optional=optional)
    if origin is Annotated:
        base, meta = typing.get_args(hint)
        return FieldType(base, meta.extra["kind"])
    if origin is list:
        return FieldType(list, item=field_type(typing.get_args(hint)[0]))
    if origin is dict:
        return FieldType(dict, item=field_type(typing.get_args(hint)[1]))
    return FieldType(None if hint is Any else hint, optional=hint is Any)


def is_struct(base: Any) -> TypeGuard[type[msgspec.Struct]]:
    """Tell whether a field's type is an object with fields."""
    return isinstance(base, type) and issubclass(base, msgspec.Struct)


# A list that counts when it is empty: everywhere else Kubernetes treats none and an empty one alike.
_EMPTY_COUNTS: Final = "spec.resources.claims"


def _struct(node: Node, kind: type[msgspec.Struct], path: str, into: Decoding) -> dict[str, Any]:
    into.places.setdefault(path, node.mark)
    fields = struct_fields(kind)
    result: dict[str, Any] = {}
    if node.value is not None and not isinstance(node.value, dict):
        into.error(
            path,
            node.mark,
            f"cannot unmarshal {go_name(node)} into an object ({kind.__name__})",
            _form(node, path, kind),
        )
    elif node.value is not None:
        for name, (mark, value) in node.value.items():
            known = fields.get(name)
            below = f"{path}.{name}" if path else name
            if known is None:
                _unknown(name, mark, below, fields, into)
                continue
            into.places[below] = mark
            decoded = _value(value, known.type, below, into)
            empty = decoded in ([], {}) and known.type.base in (list, dict)
            if decoded is not None and (known.required or not empty or below == _EMPTY_COUNTS):
                result[name] = decoded
    for name, known in fields.items():
        if known.required and name not in result:
            result[name] = _zero(known.type)
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


# Kubernetes trims the JSON text, in which tabs, line ends and the like are escapes that stay.
_BLANKS: Final = " \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def _quantity(node: Node, path: str, into: Decoding, *, listed: bool = False) -> str | None:
    if isinstance(node.value, bool | list | dict):
        into.error(path, node.mark, f"cannot unmarshal {go_name(node)} into a quantity")
        return None
    text = node.text.strip(_BLANKS)
    try:
        quantity = parse_quantity(text)
    except QuantityError as error:
        into.error(path, node.mark, str(error), _likely_quantity(text.strip()))
        return None
    # Only in lists of resources Kubernetes rounds what is finer than thousandths.
    return (quantity.rounded_up_to_milli() if listed else quantity).canonical()


def _list(node: Node, item: FieldType, path: str, into: Decoding) -> list[Any] | None:
    if not isinstance(node.value, list):
        into.error(path, node.mark, f"cannot unmarshal {go_name(node)} into a list", _form(node, path, list))
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
        into.error(path, node.mark, f"cannot unmarshal {go_name(node)} into a map", _form(node, path, dict))
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
        into.error(path, node.mark, detail, _form(node, path, kind.base))
        return None
    if kind.kind == "time":
        return _time(node, str(value), path, into)
    if kind.kind == "base64":
        return _base64(node, str(value), path, into)
    return value


_TYPE_NAMES: Final[dict[Any, str]] = {str: "string", bool: "bool"}
_WIDTHS: Final = {"": ("int64", _INT64), "int32": ("int32", _INT32), "int-or-string": ("int32", _INT32)}


def _integer(node: Node, kind: FieldType, path: str, into: Decoding) -> int | None:
    name, width = _WIDTHS[kind.kind]
    if isinstance(node.value, int) and not isinstance(node.value, bool) and node.value in width:
        return node.value
    wanted = "int or string" if kind.kind == "int-or-string" else name
    number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
    found = f"number {node.text}" if number else go_name(node)
    detail = f"cannot unmarshal {found} into a value of type {wanted}"
    into.error(path, node.mark, detail, _form(node, path, int))
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


_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_NO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)


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


_ZEROES: Final[dict[Any, Callable[[], Any]]] = {int: int, bool: bool, str: str, list: list[Any], dict: dict[str, Any]}


def _unknown(name: str, mark: Mark, path: str, fields: dict[str, Field], into: Decoding) -> None:
    meant = likely_name(name, fields)
    hint = _meant(meant) if meant else ""
    into.warn(path, mark, f"unknown field, ignored{': ' + hint if hint else ''}", hint)


def _likely_quantity(text: str) -> str:
    """Return a hint on a size with the suffix of another tool: `10Gb`, `64mib`, `512K`."""
    found = _SIZE.fullmatch(text)
    return f'did you mean "{found[1]}{found[2].upper()}i"?' if found is not None else ""


def _meant(name: str) -> str:
    return f'did you mean "{name}"?'


def likely_name(name: str, known: Iterable[str]) -> str:
    """Return the one of the known names that was probably meant, "" when none is near."""
    if len(name) > _LONGEST_NAME:
        return ""
    names = {one.lower(): one for one in known}
    lowered = name.lower()
    lowered = _KNOWN_MISSPELLINGS.get(lowered, lowered)
    if lowered in names:
        return names[lowered]
    close = difflib.get_close_matches(lowered, names, n=1, cutoff=0.65)
    return names[close[0]] if close else ""


def _form(node: Node, path: str, wanted: Any) -> str:
    """Return how a value of the wrong shape should have been written, as far as it can be told."""
    value = node.value
    if path.startswith(("data[", "stringData[", "binaryData[")):
        return "write it in quotes" if wanted is str and isinstance(value, bool | int | float) else ""
    if wanted is str and isinstance(value, bool | int | float):
        return f'write it in quotes: "{node.text}"'
    if wanted is int and isinstance(value, str) and value.lstrip("-").isdigit():
        return f"write it without quotes: {value}"
    if wanted is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return f"write it without quotes: {value.lower()}"
    if wanted is list and isinstance(value, dict):
        return 'it is a list: begin each item with "- "'
    if wanted is list and isinstance(value, str | int | float | bool):
        words = node.text.split() if path.endswith((".command", ".args")) else [node.text]
        plain = all(_PLAIN_WORD.fullmatch(word) for word in words)  # what a shell would not change
        return f"it is a list: write [{', '.join(quote(one) for one in (words if plain else [node.text]))}]"
    if wanted is dict and isinstance(value, list):
        return 'it is a map: write "key: value" without "- "'
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct) and isinstance(value, str | list):
        return f"it has fields: {', '.join(list(struct_fields(wanted))[:4])}"
    return ""


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
