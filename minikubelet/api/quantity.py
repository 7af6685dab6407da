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
_FAST_DIGITS: Final = 18
_LONGEST: Final = 400  # digits of a number; beyond, only noughts could keep it in range
_FORMAT_ERROR: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_SUFFIX_ERROR: Final = "unable to parse quantity's suffix"
_NUMBER: Final = re.compile(r"([+-]?)([0-9]*)(\.?)([0-9]*)")
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
    # What was written, where Kubernetes keeps it as it is: short decimal numbers in groups of three digits.
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
        return Quantity(self.milli_value() * 10**6, self.format)

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
    if not text:
        raise QuantityError(_FORMAT_ERROR)
    if text == "0":
        return Quantity(0, "DecimalSI")
    match = _NUMBER.match(text)
    if match is None:
        raise QuantityError(_FORMAT_ERROR)
    sign, whole, _, fraction = match.groups()
    if len(whole.lstrip("0")) > _LONGEST:
        raise QuantityError(_OVERFLOW)
    if len(fraction) > _LONGEST:  # all that is finer rounds up
        fraction = fraction[:_LONGEST] + ("1" if fraction[_LONGEST:].strip("0") else "")
    suffix = text[match.end() :]
    if not _SUFFIX.fullmatch(suffix) or not text[:1].isascii():
        raise QuantityError(_FORMAT_ERROR)
    base, exponent, kind = _read_suffix(suffix)
    digits = int((whole.lstrip("0") + fraction) or "0")
    scale = len(fraction)
    if base == 2:
        numerator, denominator = digits * NANO << exponent, 10**scale
    else:
        power = exponent + 9 - scale
        if abs(power) > 400:
            raise QuantityError(_FORMAT_ERROR if digits else _SUFFIX_ERROR)
        numerator, denominator = (digits * 10**power, 1) if power >= 0 else (digits, 10**-power)
    nanos = -(-numerator // denominator)
    if nanos > _MAX * NANO:
        raise QuantityError(_OVERFLOW)
    kept = text if base == 10 and _is_kept(whole.lstrip("0") or "0", fraction, exponent) else ""
    fast = _FAST_DIGITS - len((whole + fraction).lstrip("0")) if base == 10 else 14 - len(whole) - exponent * 3 // 10
    is_long = fast < 0 or (base == 2 and bool(fraction))
    return Quantity(-nanos if sign == "-" else nanos, kind, kept, is_long)


def _is_kept(whole: str, fraction: str, exponent: int) -> bool:
    """Tell whether Kubernetes prints a decimal number as it was written."""
    digits = whole + fraction
    scale = exponent - len(fraction)
    fits = len(digits) <= _FAST_DIGITS and scale >= -9
    return fits and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


_OVERFLOW: Final = "quantity is out of range, it must fit 64 bits"


def _read_suffix(suffix: str) -> tuple[int, int, str]:
    if suffix in _DECIMAL:
        return 10, _DECIMAL[suffix], "DecimalSI"
    if suffix in _BINARY:
        return 2, _BINARY[suffix], "BinarySI"
    if suffix[0] in "eE" and re.fullmatch(r"[+-]?[0-9]+", suffix[1:]):
        return 10, int(suffix[1:]), "DecimalExponent"
    raise QuantityError(_SUFFIX_ERROR)
