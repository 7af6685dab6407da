"""What the decoding of one document collects: problems, each with its place, and where every field stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from minikubelet.api.field_errors import visible
from minikubelet.api.hints import did_you_mean, likely_name
from minikubelet.api.nodes import Mark
from minikubelet.api.problems import Problem, Severity

MAX_PROBLEMS: Final = 1000  # of one document; what exceeds it is counted
_UNSUPPORTED: Final = re.compile(r': Unsupported value: "([^"]*)": supported values: (.*)')
_QUOTED: Final = re.compile(r'"([^"]*)"')


@dataclass(slots=True)
class Decoding:
    """What one document's decoding collects."""

    document: int
    problems: list[Problem] = field(default_factory=list[Problem])
    places: dict[str, Mark] = field(default_factory=dict[str, Mark])
    failed: bool = False
    dropped: dict[Severity, int] = field(default_factory=dict[Severity, int])

    def error(self, path: str, mark: Mark, detail: str, hint: str = "") -> None:
        """Note that a value cannot be used."""
        self.failed = True
        self._add(Severity.ERROR, path, mark, f"{path}: {detail}" if path else detail, hint)

    def warn(self, path: str, mark: Mark, detail: str, hint: str = "") -> None:
        """Note something that is passed over."""
        self._add(Severity.WARNING, path, mark, f"{path}: {detail}" if path else detail, hint)

    def warn_of_node(self, path: str, message: str) -> None:
        """Note that this node does not honour a field."""
        self._add(Severity.WARNING, path, self.place(path), message, is_of_node=True)

    def warn_of_failure(self, path: str, detail: str, names: Iterable[str]) -> None:
        """Note a field that is accepted and cannot work; `names` are those that it may have meant."""
        value = _QUOTED.search(detail)
        meant = likely_name(value[1], names) if value is not None else ""
        self.warn(path, self.place(path), detail, did_you_mean(meant))

    def add(self, path: str, message: str) -> None:
        """Note an error about a field, whose place is known or that of what is around it."""
        if len(self.problems) >= MAX_PROBLEMS:
            # Of what is only counted nobody reads where it is and what was meant.
            self.dropped[Severity.ERROR] = self.dropped.get(Severity.ERROR, 0) + 1
            return
        found = _UNSUPPORTED.search(message)
        meant = likely_name(found[1], _QUOTED.findall(found[2])) if found is not None else ""
        hint = did_you_mean(meant)
        if message == f"{path}: Required value":
            hint = self._misspelt(path)
        self._add(Severity.ERROR, path, self.place(path), message, hint)

    def _misspelt(self, path: str) -> str:
        """Say which unknown field beside a missing one was probably meant to be it."""
        parent, _, name = path.rpartition(".")
        for one in self.problems:
            beside, _, wrong = one.field.rpartition(".")
            if beside == parent and one.hint == did_you_mean(name):
                return f'line {one.line} has "{wrong}" in its place'
        return ""

    def place(self, path: str) -> Mark:
        """Return where a field stands, or else the nearest thing around it that does."""
        return nearest(self.places, path)

    def close(self) -> None:
        """Say how many problems there are beyond those that are told."""
        for severity, count in self.dropped.items():
            rest = f"{count} more {severity.value}s are not shown"
            self.problems.append(self._problem(severity, "", Mark(1, 1), rest, ""))
        self.dropped.clear()

    def _add(
        self, severity: Severity, path: str, mark: Mark, message: str, hint: str = "", *, is_of_node: bool = False
    ) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(self._problem(severity, path, mark, message, hint, is_of_node=is_of_node))
        else:
            self.dropped[severity] = self.dropped.get(severity, 0) + 1

    def _problem(
        self, severity: Severity, path: str, mark: Mark, message: str, hint: str, *, is_of_node: bool = False
    ) -> Problem:
        return Problem(
            severity=severity,
            field=visible(path),
            message=visible(message),
            document=self.document,
            line=mark.line,
            column=mark.column,
            hint=hint,
            is_of_node=is_of_node,
        )


def nearest(places: Mapping[str, Mark], path: str) -> Mark:
    """Return where a field stands, or else the nearest thing around it that does."""
    while path:
        if path in places:
            return places[path]
        cut = max(path.rfind("."), path.rfind("["))
        path = path[:cut] if cut > 0 else ""
    return places.get("", Mark(1, 1))
