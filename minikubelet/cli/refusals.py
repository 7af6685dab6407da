"""What the verdict files say is refused now: told by the verbs that list pods, until it is mended."""

from __future__ import annotations

import os
import sys


def tell_refusals(run_dir: str) -> None:
    """Print a line for each refused manifest on stderr, behind what stdout has."""
    sys.stdout.flush()
    for line in refusals(run_dir):
        print(line, file=sys.stderr)


def refusals(run_dir: str) -> list[str]:
    """Return a line for each manifest that is refused now."""
    return [line for path, text in verdicts(run_dir) for line in refusal_line(text, path)]


def verdicts(run_dir: str) -> list[tuple[str, str]]:
    """Return the path and the text of every verdict file that can be read."""
    directory = os.path.join(run_dir, "manifests")
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".txt"))
    except OSError:
        return []
    found: list[tuple[str, str]] = []
    for name in names:
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found.append((path, file.read()))
        except OSError:
            continue  # mended meanwhile, or not for this user
    return found


def refusal_line(verdict: str, path: str = "") -> list[str]:
    """Return the one line that tells a refusal, nothing for another verdict.

    Args:
        verdict: The text of a verdict file.
        path: Where it lies, for whoever wants to read it all.
    """
    head, *rest = verdict.splitlines() or [""]
    if not head.endswith(": refused"):
        return []
    errors = [line for line in rest if ": error: " in line]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return [f"manifest refused: {errors[0] if errors else head}{more}{f'; see {path}' if path else ''}"]
