"""What YAML's plain texts stand for: resolved as the YAML reader behind Kubernetes does, and as JSON writes numbers.

Source: go.yaml.in/yaml v2 resolve.go, then sigs.k8s.io/yaml to JSON.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from decimal import Decimal
from typing import Any, Final

from minikubelet.api.nodes import Mark, Node, Scalar, SourceError

_INTEGER: Final = re.compile(r"[-+]?(?:0[bB][01]+|0[oO]?[0-7]+|0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# What begins with a point is read by Go alone, which lets single underscores stand between digits.
_FRACTION: Final = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?")
_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_PREFIX: Final = "tag:yaml.org,2002:"
_RESOLVED_TAGS: Final = ("bool", "int", "float", "null", "timestamp")
_LONGEST_NUMBER: Final = 400  # more digits than any number of 64 bits can be written with
# As Go writes numbers in JSON.
_FIRST_EXPONENT: Final = 1e21


def scalar_node(event: Any, mark: Mark) -> Node:
    """Return the value of a scalar event. Raises SourceError."""
    text: str = event.value
    value = tagged_value(event, mark)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SourceError(f"json: unsupported value: {text}", mark)
        value = _as_json(value)
    # A number is kept as JSON writes it: that is what Kubernetes reads quantities from.
    return Node(value, mark, text if isinstance(value, str | bool | None) else json_number(value))


def tagged_value(event: Any, mark: Mark) -> Scalar:
    """Return what a scalar stands for by its tag, or else by how it is written."""
    text: str = event.value
    tag = (event.tag or "").removeprefix(_PREFIX)
    if tag == "binary":
        return _binary(text, mark)
    if tag not in _RESOLVED_TAGS and (tag or not event.implicit[0]):
        return text
    value = resolve_scalar(text)
    if tag:
        _check_tag(tag, text, value, mark)
    return value


def resolve_scalar(text: str) -> Scalar:
    """Return what a plain scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in "+-.0123456789" or len(text) > _LONGEST_NUMBER:
        return text
    plain = text if text[0] == "." else text.replace("_", "")
    if _INTEGER.fullmatch(plain):
        whole = _integer(plain)
        if -(2**63) <= whole < 2**64:
            return whole
    if _FLOAT.fullmatch(plain) or _FRACTION.fullmatch(plain):
        number = float(plain)
        return number if math.isfinite(number) else text
    return text


def json_number(value: float) -> str:
    """Return a number as Go writes it in JSON."""
    if isinstance(value, int):
        return str(value)
    if value and not 1e-6 <= abs(value) < _FIRST_EXPONENT:
        mantissa, _, exponent = f"{Decimal(repr(value)).normalize():e}".partition("e")
        return f"{mantissa}e{exponent}"
    return f"{Decimal(repr(value)):f}"


def key_text(key: Node) -> str:
    """Return a mapping's key as the text that it is in JSON. Raises SourceError."""
    if isinstance(key.value, str):
        return key.value
    if isinstance(key.value, bool):
        return "true" if key.value else "false"
    if key.value is None:
        raise SourceError("yaml: null cannot be a key", key.mark)
    if isinstance(key.value, int) and key.value >= 2**63:
        raise SourceError(f"yaml: {key.value} cannot be a key, it does not fit 64 bits", key.mark)
    return str(key.value)


def float_key(value: float) -> str:
    """Return a number as Go prints one of 32 bits: the shortest text that reads back as the same."""
    try:
        (single,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        single = math.copysign(math.inf, value)
    if not math.isfinite(single):
        return ".nan" if math.isnan(single) else "-.inf" if single < 0 else ".inf"
    text = next(one for one in (f"{single:.{digits}e}" for digits in range(9)) if _is_single(one, single))
    return f"{Decimal(text):f}" if -4 <= int(text.partition("e")[2]) < 6 else text


def _check_tag(tag: str, text: str, value: Scalar, mark: Mark) -> None:
    fits = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "null": value is None,
        "timestamp": isinstance(value, str) and _DATE.fullmatch(text) is not None,
    }
    if not fits[tag]:
        raise SourceError(f"yaml: cannot decode `{text}` as a !!{tag}", mark)


def _as_json(value: float) -> int | float:
    """Return a number as it is after it was written as JSON, where whole ones have neither point nor exponent."""
    if value.is_integer() and abs(value) < _FIRST_EXPONENT:
        return int(Decimal(repr(value)))
    return value


def _binary(text: str, mark: Mark) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
    except ValueError as error:
        raise SourceError(f"yaml: !!binary value contains invalid base64 data: {error}", mark) from error


def _integer(plain: str) -> int:
    digits = plain.lstrip("+-").lower()
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 8 if digits[0] == "0" else 10)
    number = int(digits[2:] if digits[1:2] in ("b", "o", "x") else digits, base)
    return -number if plain[0] == "-" else number


def _is_single(text: str, value: float) -> bool:
    return bool(struct.unpack("f", struct.pack("f", float(text)))[0] == value)
