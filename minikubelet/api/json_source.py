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

from minikubelet.api.field_errors import quote
from minikubelet.api.nodes import Duplicate, Mark, Node, SourceError
from minikubelet.api.source import MAX_DEPTH, MAX_NODES

_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FINE: Final = re.compile(r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_HEXADECIMAL: Final = re.compile("[0-9a-fA-F]{0,3}")
_SHOWN: Final = {"'": "\\'", '"': '"'}  # in the quotes of Go's messages
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

    def fail(self, at: int, where: str, begin: int | None = None) -> NoReturn:
        """Refuse a character, or the end of the text; the place told is where what is broken begins."""
        if at >= len(self._text):
            what = "unexpected end of JSON input"
        else:
            found = _SHOWN.get(self._text[at]) or quote(self._text[at])[1:-1]
            what = f"invalid character '{found}' {where}"
        place = self.mark(at if begin is None else begin)
        raise SourceError(f"couldn't get version/kind; json parse error: {what}", place)

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
                first, old = entries.pop(key)
                self.duplicates.append(Duplicate(key, first, key_mark, joined=isinstance(node.value, dict | list)))
                node = _joined(old, node)
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
        except JSONDecodeError:
            self._refuse_string(at + 1)
        return _SURROGATE.sub("\ufffd", text), end

    def _refuse_string(self, at: int) -> NoReturn:
        """Refuse the first character of a string that is none."""
        at = _fit(_FINE, self._text, at)
        if self._text[at : at + 1] != "\\":
            self.fail(at, "in string literal")
        if self._text[at + 1 : at + 2] != "u":
            self.fail(at + 1, "in string escape code")
        self.fail(_fit(_HEXADECIMAL, self._text, at + 2), "in \\u hexadecimal character escape")

    def _plain(self, at: int, mark: Mark) -> tuple[Node, int]:
        for word, value in _WORDS.items():
            if self._text.startswith(word[0], at):
                for number, letter in enumerate(word):
                    if self._text[at + number : at + number + 1] != letter:
                        self.fail(at + number, f"in literal {word} (expecting '{letter}')", at)
                return Node(value, mark, word), at + len(word)
        found = _NUMBER.match(self._text, at)
        if found is None:
            if self._text[at : at + 1] == "-":
                self.fail(at + 1, "in numeric literal")
            self.fail(at, "looking for beginning of value")
        text = found[0]
        self._check_end(found.end(), found)
        whole = found[1] is None and found[2] is None and len(text) <= _LONGEST_INTEGER
        return Node(int(text) if whole else float(text), mark, text), found.end()

    def _check_end(self, at: int, number: re.Match[str]) -> None:
        """Refuse a number that breaks off after its point or exponent."""
        match self._text[at : at + 1]:
            case "." if number[1] is None and number[2] is None:
                self.fail(at + 1, "after decimal point in numeric literal")
            case "e" | "E" if number[2] is None:
                self.fail(at + 1 + (self._text[at + 1 : at + 2] in ("-", "+")), "in exponent of numeric literal")


def _fit(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found is not None else at


def _joined(old: Node, new: Node) -> Node:
    """Return what a key holds that stands twice: objects and the items of lists are read into what was there."""
    if isinstance(old.value, dict) and isinstance(new.value, dict):
        entries = old.value
        for key, (mark, node) in new.value.items():
            entries[key] = (mark, _joined(entries[key][1], node) if key in entries else node)
        return Node(entries, new.mark, new.text)
    if isinstance(old.value, list) and isinstance(new.value, list):
        for number, item in enumerate(old.value[: len(new.value)]):
            new.value[number] = _joined(item, new.value[number])
    return new
