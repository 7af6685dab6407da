"""Resource quantities: exact numbers with the suffixes of Kubernetes.

A quantity is kept as a whole number of nano units, the finest that Kubernetes knows; what is finer is rounded up.
Numbers that do not fit 64 bits, where Kubernetes' own arithmetic wraps or caps, are refused.
Source: k8s.io/apimachinery/pkg/api/resource/quantity.go (v1.36).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

NANO: Final = 10**9
_MAX: Final = 2**63 - 1
_INT64: Final = range(-(2**63), 2**63)
_FAST_DIGITS: Final = 18
_FAST_BINARY_DIGITS: Final = 14
_LONGEST: Final = 400  # digits of a number; beyond, only noughts could keep it in range
_FORMAT_ERROR: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_NUMERIC_ERROR: Final = "unable to parse numeric part of quantity"
_SUFFIX_ERROR: Final = "unable to parse quantity's suffix"
_NUMBER: Final = re.compile(r"([+-]?)([0-9]*)(\.?)([0-9]*)", re.ASCII)
_SUFFIX: Final = re.compile(r"[eEinumkKMGTP]*[-+]?[0-9]*", re.ASCII)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES: Final = {exponent: name for name, exponent in _DECIMAL.items()}
_BINARY_NAMES: Final = {exponent: name for name, exponent in _BINARY.items()}


class QuantityError(ValueError):
    """The text is no quantity; the message is Kubernetes' own."""


@dataclass(frozen=True, slots=True, order=False)
class Quantity:
    """A number of nano units and the family of suffixes that it is printed with."""

    nanos: int
    format: str  # "DecimalSI", "BinarySI" or "DecimalExponent"
    # What was written, where Kubernetes keeps it as it is: short numbers that need no other suffix.
    text: str = ""
    # Kubernetes holds long numbers in another form, in which negative ones wrap when they are made whole.
    is_long: bool = False

    def value(self) -> int:
        """Return the number rounded away from zero to a whole one."""
        return self._whole(NANO)

    def milli_value(self) -> int:
        """Return the number of thousandths, rounded away from zero."""
        return self._whole(10**6)

    def _whole(self, unit: int) -> int:
        if self.nanos >= 0 or not self.is_long:
            return _round_away(self.nanos, unit)
        wrapped = (self.nanos + 2**63) % 2**64 - 2**63
        return int(math.copysign(abs(wrapped) // unit, wrapped)) + bool(wrapped % unit)

    def canonical(self) -> str:
        """Return the one text that Kubernetes prints: no fraction, the largest suffix that fits."""
        if self.text:
            return self.text
        if self.format == "BinarySI" and abs(self.nanos) >= 1024 * NANO and self.nanos % NANO == 0:
            number, exponent = self.nanos // NANO, 0
            while number % 1024 == 0 and exponent < 60:
                number, exponent = number // 1024, exponent + 10
            return f"{number}{_BINARY_NAMES.get(exponent, '')}"
        number, exponent = self.nanos, -9
        if number == 0:
            return "0"
        while number % 1000 == 0 and (self.format == "DecimalExponent" or exponent < 18):
            number, exponent = number // 1000, exponent + 3
        if self.format == "DecimalExponent":
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_NAMES[exponent]}"

    def rounded_up_to_milli(self) -> Quantity:
        """Return the number as resource lists hold it: no finer than thousandths."""
        if self.nanos % 10**6 == 0:
            return self
        return Quantity(_round_away(self.nanos, 10**6) * 10**6, self.format)

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)


def _round_away(number: int, unit: int) -> int:
    whole = -(-abs(number) // unit)
    return whole if number >= 0 else -whole


def parse_quantity(text: str) -> Quantity:
    """Return the quantity that a text stands for.

    Raises:
        QuantityError: It is none, or it does not fit 64 bits.
    """
    if text == "0":
        return Quantity(0, "DecimalSI")
    match = _NUMBER.match(text)
    if not text or match is None:
        raise QuantityError(_FORMAT_ERROR)
    sign, written, _, fraction = match.groups()
    suffix = text[match.end() :]
    if not _SUFFIX.fullmatch(suffix):
        raise QuantityError(_FORMAT_ERROR)
    base, exponent, kind = _read_suffix(suffix)
    whole = written.lstrip("0")
    is_long = _is_long(base, exponent, whole, fraction)
    if is_long and not written and not fraction:
        raise QuantityError(_NUMERIC_ERROR)
    nanos = _nanos(base, exponent, whole, fraction)
    if nanos > _MAX * NANO:
        raise QuantityError(_OVERFLOW)
    if base == 2 and 0 < nanos < NANO:
        kind = "DecimalSI"
    kept = text if not is_long and _is_kept(base, exponent, whole or "0", fraction) else ""
    return Quantity(-nanos if sign == "-" else nanos, kind, kept, is_long)


def _nanos(base: int, exponent: int, whole: str, fraction: str) -> int:
    """Return a number in nano units, what is finer rounded up; numbers far out of range may come out as any such."""
    if len(whole) > _LONGEST:
        raise QuantityError(_OVERFLOW)
    if len(fraction) > _LONGEST:  # all that is finer rounds up
        fraction = fraction[:_LONGEST] + ("1" if fraction[_LONGEST:].strip("0") else "")
    digits = int((whole + fraction) or "0")
    if base == 2:
        return _divide_up(digits * NANO << exponent, 10 ** len(fraction))
    power = max(-3 * _LONGEST, min(3 * _LONGEST, exponent + 9 - len(fraction)))
    return digits * 10**power if power >= 0 else _divide_up(digits, 10**-power)


def _divide_up(number: int, by: int) -> int:
    return -(-number // by)


def _is_long(base: int, exponent: int, whole: str, fraction: str) -> bool:
    """Tell whether Kubernetes holds a number in the form for those that may not fit 64 bits."""
    whole = whole or "0"
    if base == 2:
        return bool(fraction) or len(whole) + exponent * 3 // 10 > _FAST_BINARY_DIGITS
    return len(whole) + len(fraction) > _FAST_DIGITS or exponent - len(fraction) < -9


def _is_kept(base: int, exponent: int, whole: str, fraction: str) -> bool:
    """Tell whether Kubernetes prints a number as it was written."""
    if base == 2:
        return int(whole) % 8 != 0
    digits = whole + fraction
    return (exponent - len(fraction)) % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


_OVERFLOW: Final = "quantity is out of range, it must fit 64 bits"


def _read_suffix(suffix: str) -> tuple[int, int, str]:
    if suffix in _DECIMAL:
        return 10, _DECIMAL[suffix], "DecimalSI"
    if suffix in _BINARY:
        return 2, _BINARY[suffix], "BinarySI"
    if suffix[0] in "eE" and re.fullmatch(r"[+-]?[0-9]+", suffix[1:]) and len(suffix) < _LONGEST:
        exponent = int(suffix[1:])
        if exponent in _INT64:
            return 10, (exponent + 2**31) % 2**32 - 2**31, "DecimalExponent"
    raise QuantityError(_SUFFIX_ERROR)
