"""From the text of a manifest file to values with the places they stand at.

YAML is read through PyYAML's C parser, event by event, with bounds on depth, size and aliases; scalars get the types
that Kubernetes' own YAML reader (1.1 with its own corrections) gives them, not PyYAML's. Files that begin with `{` are
JSON (`api.json_source`).
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from minikubelet.api.nodes import Duplicate, Mark, Node, SourceError
from minikubelet.api.scalars import float_key, key_text, scalar_node, tagged_value

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_DEPTH: Final = 100
MAX_NODES: Final = 200_000

_MOST_COLONS: Final = 20
_ENDING_COLON: Final = "found unexpected ':'"
_ESCAPED_SLASH: Final = re.compile(r"(?<!\\)(?:\\\\)*\\/")
_CONTROL: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
            return scalar_node(event, mark)
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
            number = tagged_value(event, _mark(event))
            if isinstance(number, float):
                self._nodes += 1
                return Node(float_key(number), _mark(event), event.value)
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
            name = key_text(key)
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


def _merge(entries: dict[str, tuple[Mark, Node]], source: Node) -> None:
    """Take over what a merge key (`<<`) refers to, at its place: what stands before it is overridden, what follows
    overrides. Of several sources the first counts most."""
    sources = source.value if isinstance(source.value, list) else [source]
    for one in reversed(sources):
        if not isinstance(one.value, dict):
            raise SourceError("yaml: map merge requires map or sequence of maps as the value", source.mark)
        entries.update(one.value)
