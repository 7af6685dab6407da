"""One line on the terminal's stderr that says what is waited for; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Final, Self

from minikubelet.cli import terminal

_PATIENCE_S: Final = 1.0


class Progress:
    """The line. It comes when something has taken a second, and goes before anything else is printed."""

    def __init__(self, *, after_s: float = _PATIENCE_S) -> None:
        """Args: after_s: Say nothing for so many seconds."""
        self._due = time.monotonic() + after_s
        self._shown = ""
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    @property
    def is_due(self) -> bool:
        """Tell whether a line would be shown now: making it may cost something."""
        return sys.stderr.isatty() and time.monotonic() >= self._due

    @property
    def age(self) -> float:
        """Return the seconds since something was last put there."""
        return time.monotonic() - self._shown_at

    def show(self, text: str) -> None:
        """Put this in place of what is shown; an empty text takes it away."""
        self._shown_at = time.monotonic() if text else self._shown_at
        if text == self._shown or (text and not self.is_due):
            return
        line = terminal.cut(terminal.printable(text), terminal.width(sys.stderr) - 1)
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        self._shown = text

    def clear(self) -> None:
        """Take the line away."""
        self.show("")
