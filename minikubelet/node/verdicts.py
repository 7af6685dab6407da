"""The verdict on each manifest file, where its author looks: accepted, accepted with warnings, or refused, and why."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from minikubelet.api.problems import Problem, Severity
from minikubelet.linux.files import write_atomic

log = structlog.get_logger(__name__)

# Reasons of refusals, as the events have them.
FAILED_READING: Final = "FailedReading"  # the file may not or cannot be read
FAILED_PARSING: Final = "FailedParsing"  # it is no YAML, or not of the shape of its kind
FAILED_VALIDATION: Final = "FailedValidation"  # its values break rules, or its name is taken; the kubelet's word

_MAX_NAME_BYTES: Final = 240
# Events are forgotten after an hour; a refusal lasts until it is mended.
_REMIND_S: Final = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the daemon made of one file (or, when it cannot be used, of the directory)."""

    file: str
    problems: tuple[Problem, ...] = ()
    refusals: tuple[str, ...] = ()  # why the whole file was not read, or objects of it not taken
    reason: str = FAILED_VALIDATION  # of the refusal, if there is one
    running: tuple[str, ...] = ()  # the pods that this file (or its last good version) keeps
    uids: tuple[str, ...] = ()  # of those pods, in the same order
    keeps_last_good: bool = False
    good_since: str = ""  # when the version that runs was last changed, RFC 3339
    waiting: bool = False  # somebody still writes it

    @property
    def is_refused(self) -> bool:
        """Tell whether the file as it is now, or something in it, was turned down."""
        return bool(self.refusals) or any(one.severity is Severity.ERROR for one in self.problems)

    def errors(self) -> list[str]:
        """Return every reason why it was refused, each as one line that begins with the file."""
        lines = [f"{self.file}: error: {one}" for one in self.refusals]
        lines += [problem_line(self.file, one) for one in self.problems if one.severity is Severity.ERROR]
        return lines

    def text(self) -> str:
        """Return the verdict as its file holds it."""
        accepted = "accepted with warnings" if self.problems else "accepted"
        if self.waiting and not self.problems and not self.refusals:
            accepted = "waiting: another program still has the file open for writing"
        lines = [f"{self.file}: {'refused' if self.is_refused else accepted}"]
        lines.extend(f"{self.file}: error: {one}" for one in self.refusals)
        lines.extend(problem_line(self.file, one) for one in self.problems)
        if self.running and self.keeps_last_good:
            lines.append(f"the last good version of this file, of {self.good_since}, goes on running:")
        elif self.running:
            lines.append(f"running the version of {self.good_since}:")
        lines.extend(f"pod {name} (uid {uid})" for name, uid in zip(self.running, self.uids, strict=True))
        return "\n".join(lines) + "\n"


def problem_line(file: str, problem: Problem) -> str:
    """Return one problem as compilers print it."""
    return f"{file}:{problem.line}:{problem.column}: {problem.severity.value}: {problem.text()}"


class VerdictFiles:
    """Owner of `<run>/manifests`; says each refusal once when it comes, and again while it lasts."""

    def __init__(self, directory: str, *, report: Callable[[Verdict], None], clock: Callable[[], float]) -> None:
        """Create it.

        Args:
            directory: Where verdict files lie.
            report: Called with a verdict whose refusal is new, or is to be told again.
            clock: Seconds that only go forward.
        """
        self._directory = directory
        self._report = report
        self._clock = clock
        self._written: dict[str, Verdict] = {}
        self._told: dict[str, tuple[list[str], float]] = {}
        self._verdicts: tuple[Verdict, ...] = ()
        self._trouble = ""

    def start(self) -> None:
        """Make the directory and empty it."""
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        for name in os.listdir(self._directory):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._directory, name))

    def refused(self) -> list[Verdict]:
        """Return the verdicts on what is refused now."""
        return [one for one in self._verdicts if one.is_refused]

    def write(self, verdicts: Sequence[Verdict]) -> None:
        """Make the files exactly these verdicts; only changes are written, and what could not be is written later."""
        self._verdicts = tuple(verdicts)
        self._tell()
        self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet, and remind of refusals that have been there for long."""
        self._remind()
        wanted = {_file_name(one.file): one for one in self._verdicts}
        trouble = ""
        for name in self._written.keys() - wanted.keys():
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._directory, name))
            del self._written[name]
        for name, verdict in wanted.items():
            if self._written.get(name) == verdict:
                continue
            try:
                text = verdict.text().encode("utf-8", "backslashreplace")
                write_atomic(os.path.join(self._directory, name), text)
                self._written[name] = verdict
            except OSError as error:
                trouble = str(error)
                self._drop_stale(name)
        if trouble and trouble != self._trouble:
            log.error("cannot write verdicts, trying again at each listing", path=self._directory, error=trouble)
        self._trouble = trouble

    def _drop_stale(self, name: str) -> None:
        """Remove a verdict that no longer holds and cannot be replaced."""
        if self._written.pop(name, None) is not None:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._directory, name))

    def _tell(self) -> None:
        files = {one.file for one in self._verdicts}
        for file in [one for one in self._told if one not in files]:
            del self._told[file]
        for one in self._verdicts:
            known = self._told.get(one.file)
            errors = one.errors()
            if not one.is_refused:
                if self._told.pop(one.file, None) is not None:
                    log.info("manifest accepted", file=one.file)
            elif known is None or known[0] != errors:
                self._told[one.file] = (errors, self._clock())
                for line in errors:
                    log.warning("manifest refused", problem=line, reason=one.reason)
                self._report(one)

    def _remind(self) -> None:
        now = self._clock()
        for one in self._verdicts:
            errors, told_at = self._told.get(one.file, ([], now))
            if now - told_at >= _REMIND_S:
                self._told[one.file] = (errors, now)
                self._report(one)


def _file_name(path: str) -> str:
    """Return the verdict file's name, cut where `<file>.txt` would be longer than a name may be."""
    name = os.path.basename(path.rstrip("/"))
    encoded = os.fsencode(name)
    if len(encoded) > _MAX_NAME_BYTES:
        cut = encoded[: _MAX_NAME_BYTES - 20].decode("utf-8", "ignore")
        name = f"{cut}-{hashlib.sha256(encoded).hexdigest()[:16]}"
    return f"{name}.txt"
