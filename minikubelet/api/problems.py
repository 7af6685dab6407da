"""What is wrong with a manifest, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """An error keeps a pod from running; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error or warning, at a place of the file.

    `field` is the path (`spec.containers[0].image`), "" for the whole document; `message` is the whole text, path
    included, in Kubernetes' wording where Kubernetes has one; `line` and `column` count from 1.
    """

    severity: Severity
    field: str
    message: str
    document: int
    line: int
    column: int
    hint: str = ""
    # The text is right; it is this node that does not do what it asks for.
    is_of_node: bool = False

    def text(self) -> str:
        """Return the message, with the hint where it does not say the same already."""
        return f"{self.message} ({self.hint})" if self.hint and self.hint not in self.message else self.message
