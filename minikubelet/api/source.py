"""From the text of a manifest file to values with the places they stand at.

YAML is read through PyYAML's C parser, event by event, with bounds on depth, size and aliases; scalars get the types
that Kubernetes' own YAML reader (1.1 with its own corrections) gives them, not PyYAML's. JSON is a subset of what is
read here, so files that begin with `{` take the same way after a check that they are JSON.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_DEPTH: Final = 100
MAX_NODES: Final = 500_000

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file; both count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Node:
    """A value and its place. `value` is a scalar, a list of nodes, or a dict of key to (key's place, node)."""

    value: Any
    mark: Mark
    # How the scalar was written, for messages and for what JSON would have called a number.
    text: str = ""

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, list):
            return [one.plain() for one in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, (_, node) in self.value.items()}
        return self.value


class SourceError(Exception):
    """The text cannot be read; `mark` says where."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that stands twice in one mapping; the last one counts, as in Kubernetes."""

    key: str
    first: Mark
    second: Mark


def decode_text(data: bytes) -> str:
    """Return the file's text: UTF-8, or UTF-16 with its byte order mark.

    Raises:
        SourceError: It is neither, or holds characters that YAML does not allow.
    """
    if len(data) > MAX_BYTES:
        raise SourceError(f"file is {len(data)} bytes, at most {MAX_BYTES} are read", Mark(1, 1))
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise SourceError(f"yaml: invalid {error.encoding.upper()}: {error.reason}", Mark(line, column)) from error


def read_documents(text: str) -> tuple[list[Node], list[list[Duplicate]]]:
    """Return the documents of a file and each one's duplicate keys.

    Raises:
        SourceError: The text is not YAML (or JSON), or exceeds a bound.
    """
    if text.lstrip().startswith("{"):
        text = _check_json(text)
    reader = _Reader(text)
    return reader.documents()


def _check_json(text: str) -> str:
    """Return a text that begins like JSON as the YAML reader, which gives the places, can read it.

    Raises:
        SourceError: It is no JSON, or something follows it: Kubernetes then does not try YAML.
    """
    start = len(text) - len(text.lstrip())
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        what = f"couldn't get version/kind; json parse error: {error.msg}"
        raise SourceError(what, Mark(error.lineno, error.colno)) from error
    except RecursionError as error:
        raise SourceError("nested too deeply", Mark(1, 1)) from error
    rest = text[end:].strip()
    if rest:
        line = text.count("\n", 0, text.index(rest, end)) + 1
        what = f"couldn't get version/kind; json parse error: invalid character '{rest[0]}' after top-level value"
        raise SourceError(what, Mark(line, 1))
    # Tabs can only stand between values here, and there YAML does not want them.
    return text.replace("\t", " ")


class _Reader:
    def __init__(self, text: str) -> None:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._loader = loader(text)
        self._nodes = 0
        self._anchors: dict[str, Node] = {}
        self._weights: dict[int, int] = {}
        self._duplicates: list[Duplicate] = []

    def documents(self) -> tuple[list[Node], list[list[Duplicate]]]:
        documents: list[Node] = []
        duplicates: list[list[Duplicate]] = []
        try:
            while True:
                event = self._loader.get_event()
                if event is None or isinstance(event, yaml.StreamEndEvent):
                    return documents, duplicates
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors.clear()
                    self._duplicates = []
                    documents.append(self._node(self._loader.get_event(), 0))
                    duplicates.append(self._duplicates)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)
            raise SourceError(f"yaml: line {place.line}: {error.problem}", place) from error
        except yaml.YAMLError as error:
            raise SourceError(f"yaml: {str(error).splitlines()[0]}", Mark(1, 1)) from error

    def _node(self, event: Any, depth: int) -> Node:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise SourceError(f"nested more than {MAX_DEPTH} levels deep", mark)
        if self._nodes > MAX_NODES:
            raise SourceError(f"more than {MAX_NODES} values", mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, mark)
        before = self._nodes
        node = self._value(event, depth, mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
            self._weights[id(node)] = self._nodes - before + 1
        return node

    def _alias(self, event: Any, mark: Mark) -> Node:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise SourceError(f"yaml: unknown anchor '{event.anchor}' referenced", mark)
        # An alias costs what it stands for: a bomb of aliases runs into the bound at once.
        self._nodes += self._weights.get(id(found), 1)
        if self._nodes > MAX_NODES:
            raise SourceError(f"more than {MAX_NODES} values, aliases expanded", mark)
        return Node(found.value, mark, found.text)

    def _value(self, event: Any, depth: int, mark: Mark) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(following := self._loader.get_event(), yaml.SequenceEndEvent):
                items.append(self._node(following, depth + 1))
            return Node(items, mark)
        return self._mapping(depth, mark)

    def _mapping(self, depth: int, mark: Mark) -> Node:
        entries: dict[str, tuple[Mark, Node]] = {}
        merged: list[Node] = []
        while not isinstance(following := self._loader.get_event(), yaml.MappingEndEvent):
            key = self._node(following, depth + 1)
            value = self._node(self._loader.get_event(), depth + 1)
            if isinstance(key.value, list | dict):
                raise SourceError("yaml: a mapping or list cannot be a key", key.mark)
            if key.text == "<<" and not getattr(following, "style", None):
                merged.append(value)
                continue
            name = _key_text(key)
            if name in entries:
                self._duplicates.append(Duplicate(name, entries[name][0], key.mark))
            entries[name] = (key.mark, value)
        for one in merged:
            _merge(entries, one)
        return Node(entries, mark)


def _merge(entries: dict[str, tuple[Mark, Node]], source: Node) -> None:
    sources = source.value if isinstance(source.value, list) else [source]
    for one in sources:
        if not isinstance(one.value, dict):
            raise SourceError("yaml: map merge requires map or sequence of maps as the value", source.mark)
        for name, entry in one.value.items():
            entries.setdefault(name, entry)


def _key_text(key: Node) -> str:
    if isinstance(key.value, str):
        return key.value
    if isinstance(key.value, bool):
        return "true" if key.value else "false"
    if key.value is None:
        raise SourceError("yaml: null cannot be a key", key.mark)
    return str(key.value)


# Scalars: the YAML reader behind Kubernetes (sigs.k8s.io/yaml) resolves plain scalars like this.

_INTEGER: Final = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_TAGS: Final = {"tag:yaml.org,2002:" + name: name for name in ("str", "int", "float", "bool", "null", "binary")}


def _scalar(event: Any, mark: Mark) -> Node:
    text: str = event.value
    tag = _TAGS.get(event.tag) if event.tag not in (None, "!") else None
    if tag == "binary":
        return Node(_binary(text, mark), mark, text)
    if tag == "str" or (event.style and tag is None) or event.tag == "!":
        return Node(text, mark, text)
    value = resolve_scalar(text)
    if tag == "int" and not (isinstance(value, int) and not isinstance(value, bool)):
        raise SourceError(f"yaml: cannot decode `{text}` as a !!int", mark)
    if tag == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise SourceError(f"json: unsupported value: {text}", mark)
    return Node(value, mark, text)


def _binary(text: str, mark: Mark) -> str:
    try:
        return base64.b64decode(text, validate=False).decode()
    except ValueError as error:
        raise SourceError(f"yaml: !!binary value contains invalid base64 data: {error}", mark) from error


def resolve_scalar(text: str) -> Scalar:
    """Return what a plain scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in "+-.0123456789":
        return text
    integer = _integer(text)
    if integer is not None:
        return integer
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _integer(text: str) -> int | float | None:
    plain = text.replace("_", "")
    sign, digits = (plain[0], plain[1:]) if plain[:1] in ("+", "-") else ("", plain)
    lowered = digits.lower()
    number: int | None = None
    for prefix, base in (("0x", 16), ("0o", 8), ("0b", 2)):
        if lowered.startswith(prefix):
            number = _int(lowered[2:], base)
            break
    else:
        if digits.isascii() and digits.isdigit():
            octal = len(digits) > 1 and digits[0] == "0"
            number = _int(digits, 8) if octal else int(digits)
            if number is None:
                return int(digits)  # 08 and 09 are no octal numbers
    if number is None:
        return None
    value = -number if sign == "-" else number
    return value if -(2**63) <= value < 2**64 else float(value)


def _int(digits: str, base: int) -> int | None:
    try:
        return int(digits, base) if digits and digits[0] not in "+-_" else None
    except ValueError:
        return None
