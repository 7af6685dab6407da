"""Label and field selectors as the API takes them. Pure.

Source: apimachinery pkg/labels (selector.go, the lexer and parser), pkg/fields/selector.go, and the field labels that
pkg/apis/core/v1/conversion.go registers (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

_EVERYWHERE: Final = ("metadata.name", "metadata.namespace")
# What may be selected by, beside name and namespace.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    "events": (
        *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")),
        "involvedObject.resourceVersion",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "secrets": ("type",),
    "configmaps": (),
}
_CLUSTER_WIDE: Final = ("nodes", "namespaces")

_TOKEN: Final = re.compile(r"\s*(==|!=|=|<|>|!|\(|\)|,|[^\s=!<>(),]+)")
_SPECIAL: Final = frozenset(("=", "==", "!=", "<", ">", "(", ")", ","))
_PART: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_KEY: Final = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?{_PART}")
_VALUE: Final = re.compile(rf"(?:{_PART})?")
_MAX_PART: Final = 63
_FORM: Final = (
    "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)


class SelectorError(ValueError):
    """The selector cannot be understood; the text says where."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `operator` is `in`, `notin`, `exists`, `!`, `gt` or `lt`."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels meet it; an absent label meets `notin` and `!` only."""
        found = labels.get(self.key)
        match self.operator:
            case "in":
                return found is not None and found in self.values
            case "notin":
                return found is None or found not in self.values
            case "exists":
                return found is not None
            case "!":
                return found is None
            case _:
                if found is None or not found.lstrip("-").isdigit():
                    return False
                limit = int(self.values[0])
                return int(found) > limit if self.operator == "gt" else int(found) < limit


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Return the requirements of a label selector; "" selects everything.

    Raises:
        SelectorError: It cannot be understood.
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text):
        raise SelectorError(f"unable to parse requirement: found unexpected characters in {text!r}")
    requirements: list[Requirement] = []
    at = 0
    while at < len(tokens):
        if tokens[at] in _SPECIAL:
            raise SelectorError(f"found '{tokens[at]}', expected: !, identifier, or 'end of string'")
        try:
            requirement, at = _requirement(tokens, at)
        except SelectorError as error:
            raise SelectorError(f"unable to parse requirement: {error}") from None
        requirements.append(requirement)
        if at < len(tokens):
            if tokens[at] != ",":
                raise SelectorError(f"found '{tokens[at]}', expected: ',' or 'end of string'")
            at += 1
            if at == len(tokens):
                raise SelectorError("found '', expected: identifier after ','")
    return tuple(requirements)


def _requirement(tokens: list[str], at: int) -> tuple[Requirement, int]:
    if tokens[at] == "!":
        key = _key(tokens, at + 1)
        return Requirement(key, "!"), at + 2
    key = _key(tokens, at)
    at += 1
    if at >= len(tokens) or tokens[at] == ",":
        return Requirement(key, "exists"), at
    operator = tokens[at]
    match operator:
        case "=" | "==" | "!=":
            value, at = _one_value(tokens, at + 1)
            return Requirement(key, "notin" if operator == "!=" else "in", (value,)), at
        case "in" | "notin":
            values, at = _value_set(tokens, at + 1)
            return Requirement(key, operator, values), at
        case "<" | ">":
            value, at = _one_value(tokens, at + 1)
            if not value.lstrip("-").isdigit():
                wanted = "for 'Gt', 'Lt' operators, the value must be an integer"
                raise SelectorError(f'values[0][{key}]: Invalid value: "{value}": {wanted}')
            return Requirement(key, "gt" if operator == ">" else "lt", (value,)), at
        case _:
            raise SelectorError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")


def _key(tokens: list[str], at: int) -> str:
    key = tokens[at] if at < len(tokens) else ""
    if not key or key in _SPECIAL:
        raise SelectorError(f"found '{key}', expected: identifier")
    name = key.rpartition("/")[2]
    if not _KEY.fullmatch(key) or len(name) > _MAX_PART:
        raise SelectorError(f'<nil>: Invalid value: "{key}": name part must {_FORM}')
    return key


def _one_value(tokens: list[str], at: int) -> tuple[str, int]:
    if at >= len(tokens) or tokens[at] == ",":
        return "", at
    if tokens[at] in _SPECIAL:
        raise SelectorError(f"found '{tokens[at]}', expected: identifier")
    return _checked_value(tokens[at]), at + 1


def _value_set(tokens: list[str], at: int) -> tuple[tuple[str, ...], int]:
    if at >= len(tokens) or tokens[at] != "(":
        raise SelectorError(f"found '{tokens[at] if at < len(tokens) else ''}' expected: '('")
    values: list[str] = []
    expects = True
    at += 1
    while at < len(tokens) and tokens[at] != ")":
        if tokens[at] == ",":
            if expects:
                values.append("")
            expects = True
        elif not expects:
            raise SelectorError(f"found '{tokens[at]}', expected: ',' or ')'")
        else:
            values.append(_checked_value(tokens[at]))
            expects = False
        at += 1
    if at >= len(tokens):
        raise SelectorError("found '', expected: ',' or ')'")
    if expects:
        values.append("")
    return tuple(values), at + 1


def _checked_value(value: str) -> str:
    if not _VALUE.fullmatch(value) or len(value) > _MAX_PART:
        wanted = f"a valid label must be an empty string or {_FORM}"
        raise SelectorError(f'values: Invalid value: "{value}": {wanted}')
    return value


def parse_fields(kind: str, text: str) -> tuple[tuple[str, bool, str], ...]:
    """Return a field selector's terms: path, whether it must be equal, value.

    Raises:
        SelectorError: It cannot be understood, or this kind cannot be selected by that field.
    """
    terms: list[tuple[str, bool, str]] = []
    known = FIELDS.get(kind, ())
    for one in _split_fields(text):
        found = re.match(r"((?:\\.|[^\\=!])*)(==|!=|=)(.*)", one, re.DOTALL)
        if found is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{one}'")
        path, operator, value = found.groups()
        allowed = path == "metadata.name" or (path == "metadata.namespace" and kind not in _CLUSTER_WIDE)
        if not allowed and path not in known:
            raise SelectorError(f'field label not supported: "{path}"')
        terms.append((path, operator != "!=", re.sub(r"\\(.)", r"\1", value)))
    return tuple(terms)


def _split_fields(text: str) -> list[str]:
    """Cut at commas that no backslash stands before."""
    return [one for one in re.split(r"(?<!\\),", text) if one]


class Selector:
    """Which objects of a kind are asked for."""

    def __init__(self, kind: str, labels: str = "", fields: str = "") -> None:
        """Raises SelectorError for what cannot be understood."""
        self._labels = parse_labels(labels)
        self._fields = parse_fields(kind, fields)
        self._value: Callable[[Json, str], str] = _event_value if kind == "events" else field_value

    @property
    def is_empty(self) -> bool:
        """Tell whether everything is selected."""
        return not self._labels and not self._fields

    def matches(self, found: Json) -> bool:
        """Tell whether an object is selected."""
        labels = found["metadata"].get("labels") or {}
        return all(one.holds(labels) for one in self._labels) and all(
            (self._value(found, path) == value) is equal for path, equal, value in self._fields
        )


def field_value(found: Json, path: str) -> str:
    """Return a field as a selector compares it: absent is "", false is `false`."""
    if path == "status.podIPs":
        return field_value(found, "status.podIP")
    value: Any = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or (value is None and path in ("spec.hostNetwork", "spec.unschedulable")):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _event_value(found: Json, path: str) -> str:
    if path == "source":
        return field_value(found, "source.component") or field_value(found, "reportingComponent")
    return field_value(found, path)
