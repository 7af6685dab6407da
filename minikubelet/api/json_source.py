"""Reads JSON with the place of every value, as strictly as Kubernetes does.

A file that begins with `{` is JSON to Kubernetes and nothing else: numbers keep the form they are written in (`8e1` is
no port), and what follows the object is an error.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from json import JSONDecodeError, decoder
from typing import Final, NoReturn

from minikubelet.api.source import MAX_DEPTH, MAX_NODES, Duplicate, Mark, Node, SourceError

_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_WORDS: Final = {"true": True, "false": False, "null": None}
_LONGEST_INTEGER: Final = 20  # with its sign, in 64 bits
# The standard library's own reader of strings, in C; it is there since Python 3.0, but not in the type stubs.
_scan_string: Final[Callable[[str, int, bool], tuple[str, int]]] = vars(decoder)["scanstring"]


def read_json(text: str) -> tuple[Node, list[Duplicate]]:
    """Return the one value of a JSON file, and the keys that stand twice.

    Raises:
        SourceError: It is no JSON, something follows it, or it exceeds a bound.
    """
    reader = _JsonReader(text)
    root, end = reader.value(reader.skip(0), 0)
    end = reader.skip(end)
    if end < len(text):
        reader.fail(end, "after top-level value")
    return root, reader.duplicates


class _JsonReader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(one.end() for one in re.finditer("\n", text))]
        self._nodes = 0
        self.duplicates: list[Duplicate] = []

    def skip(self, at: int) -> int:
        """Return where the next character that is not blank stands."""
        found = _BLANKS.match(self._text, at)
        return found.end() if found is not None else at

    def mark(self, at: int) -> Mark:
        """Return the place of a character."""
        line = bisect_right(self._lines, at)
        return Mark(line, at - self._lines[line - 1] + 1)

    def fail(self, at: int, where: str) -> NoReturn:
        """Refuse a character, or the end of the text."""
        if at >= len(self._text):
            what = "unexpected end of JSON input"
        else:
            found = "\\'" if self._text[at] == "'" else self._text[at]
            what = f"invalid character '{found}' {where}"
        raise SourceError(f"couldn't get version/kind; json parse error: {what}", self.mark(at))

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        """Return the value that begins at a place, and where it ends."""
        mark = self.mark(at)
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise SourceError(f"nested more than {MAX_DEPTH} levels deep", mark)
        if self._nodes > MAX_NODES:
            raise SourceError(f"more than {MAX_NODES} values", mark)
        match self._text[at : at + 1]:
            case "{":
                return self._object(at, depth, mark)
            case "[":
                return self._array(at, depth, mark)
            case '"':
                text, end = self._string(at)
                return Node(text, mark, text), end
            case _:
                return self._plain(at, mark)

    def _object(self, at: int, depth: int, mark: Mark) -> tuple[Node, int]:
        entries: dict[str, tuple[Mark, Node]] = {}
        at = self.skip(at + 1)
        if self._text[at : at + 1] == "}":
            return Node(entries, mark), at + 1
        while True:
            if self._text[at : at + 1] != '"':
                self.fail(at, "looking for beginning of object key string")
            key_mark = self.mark(at)
            key, at = self._string(at)
            at = self.skip(at)
            if self._text[at : at + 1] != ":":
                self.fail(at, "after object key")
            node, at = self.value(self.skip(at + 1), depth + 1)
            if key in entries:
                self.duplicates.append(Duplicate(key, entries[key][0], key_mark))
            entries.pop(key, None)
            entries[key] = (key_mark, node)
            at = self.skip(at)
            match self._text[at : at + 1]:
                case ",":
                    at = self.skip(at + 1)
                case "}":
                    return Node(entries, mark), at + 1
                case _:
                    self.fail(at, "after object key:value pair")

    def _array(self, at: int, depth: int, mark: Mark) -> tuple[Node, int]:
        items: list[Node] = []
        at = self.skip(at + 1)
        if self._text[at : at + 1] == "]":
            return Node(items, mark), at + 1
        while True:
            node, at = self.value(at, depth + 1)
            items.append(node)
            at = self.skip(at)
            match self._text[at : at + 1]:
                case ",":
                    at = self.skip(at + 1)
                case "]":
                    return Node(items, mark), at + 1
                case _:
                    self.fail(at, "after array element")

    def _string(self, at: int) -> tuple[str, int]:
        try:
            text, end = _scan_string(self._text, at + 1, True)
        except JSONDecodeError as error:
            what = f"couldn't get version/kind; json parse error: {error.msg}"
            raise SourceError(what, self.mark(min(error.pos, len(self._text)))) from error
        return _SURROGATE.sub("\ufffd", text), end

    def _plain(self, at: int, mark: Mark) -> tuple[Node, int]:
        for word, value in _WORDS.items():
            if self._text.startswith(word, at):
                return Node(value, mark, word), at + len(word)
        found = _NUMBER.match(self._text, at)
        if found is None:
            self.fail(at, "looking for beginning of value")
        text = found[0]
        whole = found[1] is None and found[2] is None and len(text) <= _LONGEST_INTEGER
        return Node(int(text) if whole else float(text), mark, text), found.end()
