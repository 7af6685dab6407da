"""What was probably meant: near names, the suffix of another tool, the form that a value should have had."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final

from minikubelet.api.field_errors import quote
from minikubelet.api.field_types import is_struct, struct_fields
from minikubelet.api.nodes import Node

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
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt])i?b?", re.ASCII | re.IGNORECASE)
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)


def likely_quantity(text: str) -> str:
    """Return a hint on a size with the suffix of another tool: `10Gb`, `64mib`, `512K`."""
    found = _SIZE.fullmatch(text)
    return f'did you mean "{found[1]}{found[2].upper()}i"?' if found is not None else ""


def did_you_mean(name: str) -> str:
    """Return the hint on what was probably meant; "" on nothing."""
    return f'did you mean "{name}"?' if name else ""


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


def likely_form(node: Node, path: str, wanted: Any) -> str:
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
    if is_struct(wanted) and isinstance(value, str | list):
        return f"it has fields: {', '.join(list(struct_fields(wanted))[:4])}"
    return ""
