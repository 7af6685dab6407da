"""Arguments that several verbs share, spelled as kubectl spells them."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from typing import Final

from minikubelet.cli.main import CommandFailed

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_namespace(parser: argparse.ArgumentParser, *, all_too: bool = False) -> None:
    """Declare -n and, if wanted, -A."""
    parser.add_argument("-n", "--namespace", default="default", help="default: default")
    if all_too:
        parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")


def add_container(parser: argparse.ArgumentParser) -> None:
    """Declare -c."""
    parser.add_argument(
        "-c", "--container", default="", help="default: the pod's first, or the one it names as default"
    )


def namespace_of(options: argparse.Namespace) -> str:
    """Return the namespace asked for, "" for all."""
    return "" if getattr(options, "all_namespaces", False) else str(options.namespace)


def duration(text: str) -> float:
    """Return the seconds of Go's durations: `90s`, `1m30s`, `500ms`. Raises ArgumentTypeError."""
    parts = re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text)
    sign = -1.0 if text.startswith("-") else 1.0
    if text.lstrip("-") == "0":
        return 0.0
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("-"):
        raise argparse.ArgumentTypeError(f'"{text}" is not a duration such as 90s, 5m or 1h30m')
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def whole(text: str) -> int:
    """Return a whole number. Raises ArgumentTypeError."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number') from None


def moment(text: str) -> str:
    """Return a time in RFC 3339 as it was given. Raises ArgumentTypeError."""
    try:
        if datetime.fromisoformat(text).tzinfo is None:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a time in RFC 3339, such as 2026-01-31T12:00:00Z') from None
    return text


def split_kind(word: str, kinds: tuple[str, ...] = ("pod", "pods", "po")) -> str:
    """Return a name given as `pod/NAME` without its kind. Raises CommandFailed for another kind."""
    kind, slash, name = word.partition("/")
    if not slash:
        return word
    if kind.lower() not in kinds:
        raise CommandFailed(f'cannot do this with "{word}": only pods', 2)
    return name
