"""Label and field selectors, for what is read from files when no daemon can be asked.

Source: Kubernetes "Labels and Selectors"; apimachinery pkg/labels/selector.go (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from minikubelet.cli.main import CommandFailed

_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)\s*")
_EQUAL = re.compile(r"\s*([\w./-]+)\s*(!=|==|=)\s*([\w.-]*)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([\w./-]+)\s*")


def matches(found: Mapping[str, Any], labels: str, fields: str) -> bool:
    """Tell whether an object is chosen by a label and a field selector. Raises CommandFailed for a bad one."""
    own = found["metadata"].get("labels") or {}
    return all(_holds(own, one) for one in _split(labels)) and all(_field_holds(found, one) for one in _split(fields))


def _split(text: str) -> list[str]:
    """Return the requirements: parted by commas outside parentheses."""
    return [one for one in re.split(r",(?![^(]*\))", text) if one.strip()]


def _holds(labels: Mapping[str, str], text: str) -> bool:
    if found := _SET.fullmatch(text):
        values = {one.strip() for one in found[3].split(",")}
        # As in Kubernetes, `notin` and `!=` also choose objects without the label.
        return (labels.get(found[1]) in values) is (found[2] == "in")
    if found := _EQUAL.fullmatch(text):
        return (labels.get(found[1]) == found[3]) is (found[2] != "!=")
    if found := _EXISTS.fullmatch(text):
        return (found[2] in labels) is (found[1] == "")
    raise CommandFailed(
        f'cannot understand the selector "{text}": use key=value, key!=value, key in (a,b), key or !key'
    )


def _field_holds(one: Mapping[str, Any], text: str) -> bool:
    found = _EQUAL.fullmatch(text)
    if found is None:
        raise CommandFailed(f'cannot understand the field selector "{text}": use field=value or field!=value')
    value: Any = one
    for part in found[1].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return (("" if value is None else str(value)) == found[3]) is (found[2] != "!=")
