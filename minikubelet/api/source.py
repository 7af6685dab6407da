"""From the text of a manifest file to values with the places they stand at.

YAML is read through PyYAML's C parser, event by event, with bounds on depth, size and aliases; scalars get the types
that Kubernetes' own YAML reader (1.1 with its own corrections) gives them, not PyYAML's. Files that begin with `{` are
JSON (`api.json_source`).
"""

from __future__ import annotations

import base64
import math
import re
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import yaml

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_DEPTH: Final = 100
MAX_NODES: Final = 200_000

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file; both count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Node:
    """A value and its place. `value` is a scalar, a list of nodes, or a dict of key to (key's place, node)."""

    value: Scalar | list[Node] | dict[str, tuple[Mark, Node]]
    mark: Mark
    # A number as JSON writes it, anything else as it was written.
    text: str = ""

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, list):
            return [one.plain() for one in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, (_, node) in self.value.items()}
        return self.value


class SourceError(Exception):
    """The text cannot be read; `mark` says where, `hint` how it can be mended, if that is known."""

    def __init__(self, message: str, mark: Mark, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that stands twice in one mapping; the last one counts, as in Kubernetes."""

    key: str
    first: Mark
    second: Mark
    joined: bool = False  # in JSON, a second object or list is read into the first one


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
        from minikubelet.api.json_source import read_json

        root, duplicates = read_json(text)
        return [root], [duplicates]
    stand_in = ""
    for _ in range(_MOST_COLONS):
        try:
            return _Reader(text, stand_in).documents()
        except _EndingColonError as colon:
            stand_in = stand_in or next(map(chr, sorted({*range(0xE000, 0xF900)} - {*map(ord, text)})), "")
            if not stand_in:
                break
            text = text[: colon.index] + stand_in + text[colon.index + 1 :]
    raise SourceError("yaml: found unexpected ':'", Mark(1, 1), "put quotes around each text that ends with a colon")


_MOST_COLONS: Final = 20
_ENDING_COLON: Final = "found unexpected ':'"


class _EndingColonError(Exception):
    """Unquoted between brackets, a text ends with a colon: it belongs to the text, but not for libyaml."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class _Reader:
    def __init__(self, text: str, stand_in: str) -> None:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            self._loader = loader(text)
        except yaml.reader.ReaderError as error:
            raise _unreadable(text, error) from error
        self._text = text
        self._stand_in = stand_in  # a character that stands where a colon does; "" for none
        self._nodes = 0
        self._anchors: dict[str, Node] = {}
        self._weights: dict[int, int] = {}
        self._duplicates: list[Duplicate] = []
        self._flow: list[str] = []  # how each open list or mapping of the flow style ends

    def documents(self) -> tuple[list[Node], list[list[Duplicate]]]:
        documents: list[Node] = []
        duplicates: list[list[Duplicate]] = []
        try:
            while True:
                event = self._event()
                if event is None or isinstance(event, yaml.StreamEndEvent):
                    return documents, duplicates
                if isinstance(event, yaml.DocumentStartEvent):
                    if event.version not in (None, (1, 1)):
                        raise SourceError("yaml: found incompatible YAML document", _mark(event))
                    self._anchors.clear()
                    self._duplicates = []
                    documents.append(self._node(self._event(), 0))
                    duplicates.append(self._duplicates)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            if mark is not None and error.problem == _ENDING_COLON and self._text[mark.index] == ":":
                raise _EndingColonError(mark.index) from error
            place = Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)
            hint = "a tab: indent with spaces" if _is_indented_with_tab(self._text, place) else ""
            raise SourceError(f"yaml: line {place.line}: {error.problem}", place, hint) from error
        except yaml.reader.ReaderError as error:
            raise _unreadable(self._text, error) from error
        except yaml.YAMLError as error:
            raise SourceError(f"yaml: {str(error).splitlines()[0]}", Mark(1, 1)) from error

    def _event(self) -> Any:
        event = self._loader.get_event()
        # Only unquoted texts: between quotes the same character may come from an escape.
        if self._stand_in and isinstance(event, yaml.ScalarEvent) and not event.style:
            event.value = event.value.replace(self._stand_in, ":")
        return event

    def _node(self, event: Any, depth: int) -> Node:
        mark = _mark(event)
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
            self._check_escapes(event, mark)
            self._check_question(event, mark)
            return _scalar(event, mark)
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.flow_style:
            self._flow.append("]" if is_list else "}")
        node = self._list(depth, mark) if is_list else self._mapping(depth, mark)
        if event.flow_style:
            self._flow.pop()
        return node

    def _list(self, depth: int, mark: Mark) -> Node:
        items: list[Node] = []
        while not isinstance(following := self._event(), yaml.SequenceEndEvent):
            items.append(self._node(following, depth + 1))
        return Node(items, mark)

    def _check_question(self, event: Any, mark: Mark) -> None:
        """Refuse a question mark in an unquoted text between brackets, which ends the text for Kubernetes' reader."""
        if self._flow and not event.style and "?" in event.value:
            problem = f"did not find expected ',' or '{self._flow[-1]}'"
            raise SourceError(f"yaml: line {mark.line}: {problem}", mark, "put quotes around a text with a ?")

    def _check_escapes(self, event: Any, mark: Mark) -> None:
        """Refuse the one escape that YAML 1.2 has and Kubernetes' reader of YAML 1.1 has not."""
        if event.style == '"' and "/" in event.value:
            written = self._text[event.start_mark.index : event.end_mark.index]
            if _ESCAPED_SLASH.search(written):
                raise SourceError("yaml: found unknown escape character", mark, "write / without a backslash")

    def _key(self, event: Any, depth: int) -> Node:
        """Return a key; a number with a fraction or exponent is text already, as Kubernetes' reader prints it."""
        if isinstance(event, yaml.ScalarEvent) and event.anchor is None:
            number = _tagged_value(event, _mark(event))
            if isinstance(number, float):
                self._nodes += 1
                return Node(_float_key(number), _mark(event), event.value)
        return self._node(event, depth)

    def _mapping(self, depth: int, mark: Mark) -> Node:
        entries: dict[str, tuple[Mark, Node]] = {}
        written: dict[str, Mark] = {}
        while not isinstance(following := self._event(), yaml.MappingEndEvent):
            key = self._key(following, depth + 1)
            value = self._node(self._event(), depth + 1)
            if isinstance(key.value, list | dict):
                raise SourceError("yaml: a mapping or list cannot be a key", key.mark)
            if key.text == "<<" and not getattr(following, "style", None):
                _merge(entries, value)
                continue
            name = _key_text(key)
            if name in written:
                self._duplicates.append(Duplicate(name, written[name], key.mark))
            written[name] = key.mark
            entries[name] = (key.mark, value)
        return Node(entries, mark)


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _is_indented_with_tab(text: str, place: Mark) -> bool:
    line = text.split("\n", place.line)[place.line - 1 :][:1]
    return any("\t" in one[: len(one) - len(one.lstrip())] for one in line)


def _unreadable(text: str, error: yaml.reader.ReaderError) -> SourceError:
    """Return what is wrong with a character that YAML does not allow anywhere."""
    found = _CONTROL.search(text)
    offset = found.start() if found else 0
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    what = "control characters are not allowed" if found else str(error.reason)
    return SourceError(f"yaml: {what}", Mark(line, column))


_ESCAPED_SLASH: Final = re.compile(r"(?<!\\)(?:\\\\)*\\/")
_CONTROL: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _merge(entries: dict[str, tuple[Mark, Node]], source: Node) -> None:
    """Take over what a merge key (`<<`) refers to, at its place: what stands before it is overridden, what follows
    overrides. Of several sources the first counts most."""
    sources = source.value if isinstance(source.value, list) else [source]
    for one in reversed(sources):
        if not isinstance(one.value, dict):
            raise SourceError("yaml: map merge requires map or sequence of maps as the value", source.mark)
        entries.update(one.value)


def _key_text(key: Node) -> str:
    if isinstance(key.value, str):
        return key.value
    if isinstance(key.value, bool):
        return "true" if key.value else "false"
    if key.value is None:
        raise SourceError("yaml: null cannot be a key", key.mark)
    if isinstance(key.value, int) and key.value >= 2**63:
        raise SourceError(f"yaml: {key.value} cannot be a key, it does not fit 64 bits", key.mark)
    return str(key.value)


def _float_key(value: float) -> str:
    """Return a number as Go prints one of 32 bits: the shortest text that reads back as the same."""
    try:
        (single,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        single = math.copysign(math.inf, value)
    if not math.isfinite(single):
        return ".nan" if math.isnan(single) else "-.inf" if single < 0 else ".inf"
    text = next(one for one in (f"{single:.{digits}e}" for digits in range(9)) if _is_single(one, single))
    return f"{Decimal(text):f}" if -4 <= int(text.partition("e")[2]) < 6 else text


def _is_single(text: str, value: float) -> bool:
    return bool(struct.unpack("f", struct.pack("f", float(text)))[0] == value)


# Scalars: the YAML reader behind Kubernetes (go.yaml.in/yaml v2, then JSON) resolves them like this.

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


def _tagged_value(event: Any, mark: Mark) -> Scalar:
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


def _scalar(event: Any, mark: Mark) -> Node:
    text: str = event.value
    value = _tagged_value(event, mark)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SourceError(f"json: unsupported value: {text}", mark)
        value = _as_json(value)
    # A number is kept as JSON writes it: that is what Kubernetes reads quantities from.
    return Node(value, mark, text if isinstance(value, str | bool | None) else json_number(value))


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


_FIRST_EXPONENT: Final = 1e21


def json_number(value: float) -> str:
    """Return a number as Go writes it in JSON."""
    if isinstance(value, int):
        return str(value)
    if value and not 1e-6 <= abs(value) < _FIRST_EXPONENT:
        mantissa, _, exponent = f"{Decimal(repr(value)).normalize():e}".partition("e")
        return f"{mantissa}e{exponent}"
    return f"{Decimal(repr(value)):f}"


def _binary(text: str, mark: Mark) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
    except ValueError as error:
        raise SourceError(f"yaml: !!binary value contains invalid base64 data: {error}", mark) from error


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


def _integer(plain: str) -> int:
    digits = plain.lstrip("+-").lower()
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 8 if digits[0] == "0" else 10)
    number = int(digits[2:] if digits[1:2] in ("b", "o", "x") else digits, base)
    return -number if plain[0] == "-" else number
