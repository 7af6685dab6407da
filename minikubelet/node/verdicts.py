"""The verdict on each manifest file, where its author looks: accepted, accepted with warnings, or refused, and why."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from minikubelet.api.problems import Problem, Severity
from minikubelet.linux.files import write_atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the daemon made of one file."""

    file: str
    problems: tuple[Problem, ...] = ()
    refusal: str = ""  # why the whole file was not read, or a pod of it not taken
    running: tuple[str, ...] = ()  # namespace/name of the pods that this file (or its last good version) keeps
    keeps_last_good: bool = False

    @property
    def is_refused(self) -> bool:
        """Tell whether the file as it is now was turned down."""
        return bool(self.refusal) or any(one.severity is Severity.ERROR for one in self.problems)

    def text(self) -> str:
        """Return the verdict as its file holds it."""
        accepted = "accepted with warnings" if self.problems else "accepted"
        head = "refused" if self.is_refused else accepted
        lines = [f"{self.file}: {head}"]
        if self.refusal:
            lines.append(f"{self.file}: error: {self.refusal}")
        lines.extend(problem_line(self.file, one) for one in self.problems)
        if self.keeps_last_good:
            lines.append("the last good version of this file goes on running:")
        lines.extend(f"pod {name}" for name in self.running)
        return "\n".join(lines) + "\n"


def problem_line(file: str, problem: Problem) -> str:
    """Return one problem as compilers print it."""
    return f"{file}:{problem.line}:{problem.column}: {problem.severity.value}: {problem.message}"


class VerdictFiles:
    """Owner of `<run>/manifests`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._written: dict[str, str] = {}

    def start(self) -> None:
        """Make the directory and empty it."""
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        for name in os.listdir(self._directory):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._directory, name))

    def write(self, verdicts: Sequence[Verdict]) -> None:
        """Make the files exactly these verdicts; only changes are written."""
        wanted = {os.path.basename(one.file) + ".txt": one.text() for one in verdicts}
        for name in self._written.keys() - wanted.keys():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._directory, name))
        for name, text in wanted.items():
            if self._written.get(name) != text:
                write_atomic(os.path.join(self._directory, name), text.encode())
        self._written = wanted
