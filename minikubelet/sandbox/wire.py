"""JSON by the C parts of the standard library's module, without the module.

`json` imports `re` and with it `enum`, `functools` and `collections`: 1.2 MB in the fork server. The text is the same.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

from minikubelet.linux.lean import Any


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


class _Options:
    """What the scanner wants to know; `JSONDecoder` has these defaults."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = make_scanner(_Options)  # type: ignore[arg-type]  # anything with these attributes serves
_iterate = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, True)


def dumps(value: object) -> str:
    """Return a value as JSON without white space. Raises TypeError for what JSON does not have."""
    return "".join(_iterate(value, 0))


def loads(text: str) -> Any:
    """Return the value that a text is, white space at its end aside. Raises ValueError."""
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError("no JSON value") from error
    if end < len(text.rstrip()):
        raise ValueError("more than one JSON value")
    return value
