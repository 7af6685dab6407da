"""Values of a manifest file with the places they stand at, as its readers give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
