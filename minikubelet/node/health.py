"""What is wrong with the node right now: named problems, each set and cleared by the part that has it.

Read by /healthz, `minikubelet status` and the metrics. A problem is said once in the log when it comes, or changes,
and once when it is over; who sets it need not remember whether it had done so before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from minikubelet.runtime.wording import words

log = structlog.get_logger(__name__)

_PAUSE: Final = "pause "
_RECORD: Final = "record of "


class Health:
    """Owner of the problems that stand; a name is short and stays the same (`state directory`, `pause default/web`)."""

    def __init__(self, on_change: Callable[[str, str], None] | None = None) -> None:
        """Args: on_change: Told a problem's name and text ("" when it is over); the daemon makes it an event."""
        self._problems: dict[str, str] = {}
        self._on_change = on_change

    def set(self, name: str, text: str) -> None:
        """Say that something is wrong, in one line that says what to do, or ("") that it no longer is."""
        if self._problems.get(name, "") == text:
            return
        if text:
            self._problems[name] = text
            log.error("problem", name=name, problem=text)
        else:
            del self._problems[name]
            log.info("problem over", name=name)
        if self._on_change is not None:
            self._on_change(name, text)

    def problems(self) -> dict[str, str]:
        """Return the problems that stand, by name."""
        return dict(sorted(self._problems.items()))

    def problems_of_node(self) -> dict[str, str]:
        """Return those of the node itself, not of one of its pods."""
        return {name: text for name, text in self.problems().items() if not name.startswith((_PAUSE, _RECORD))}

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Run a step whose OSError, which is raised on, is this problem, and whose success is its end."""
        try:
            yield
        except OSError as error:
            self.set(name, describe(error))
            raise
        self.set(name, "")


def pause_problem(pod: str) -> str:
    """Return the name of a problem with a pod's pause; it has been said of that pod."""
    return f"{_PAUSE}{pod}"


def is_pause_problem(name: str) -> bool:
    """Tell whether a problem is one of a pod's pause."""
    return name.startswith(_PAUSE)


def record_problem(pod: str) -> str:
    """Return the name of a problem with a pod's record."""
    return f"{_RECORD}{pod}"


_ADVICE = {
    28: "no space left: make room on that file system (also check inodes: df -i)",
    122: "the disk quota is used up: raise it or make room",
    30: "the file system is read-only: remount it writable, and look for disk errors in the kernel's log",
    24: "too many open files: raise LimitNOFILE of the unit",
    23: "too many open files on the machine: raise fs.file-max",
    11: "no more processes: raise TasksMax of the unit, kernel.pid_max or kernel.threads-max",
    12: "out of memory",
}


def describe(error: OSError) -> str:
    """Return an error with its path and, for the usual causes, what to do about it."""
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return words(error)
    return f"{error.filename}: {advice}" if error.filename else advice
