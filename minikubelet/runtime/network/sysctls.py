"""Kernel settings that the network needs: changed only where they differ, said in the log, and put back on removal.

What a setting was before is written down first, so that it can still be put back after any number of crashes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any, Final

import structlog

from minikubelet.linux.files import write_atomic

log = structlog.get_logger(__name__)

_ROOT: Final = "/proc/sys"


class Sysctls:
    """The settings changed by one daemon.

    Args:
        path: The file that keeps the former values, JSON: name to [before, now].
        root: `/proc/sys`, or a directory that plays it.
    """

    def __init__(self, path: str, *, root: str = _ROOT) -> None:
        self._path = path
        self._root = root

    def ensure(self, name: str, value: str, *, reason: str, remember: bool = True) -> bool:
        """Give a setting a value; False (and a line in the log) when the machine does not let us.

        Args:
            name: As `sysctl` takes it with slashes, `net/ipv4/ip_forward`: link names may contain dots.
            value: The text to write.
            reason: For the log.
            remember: Whether to put it back on removal; a setting of our own link vanishes with the link.
        """
        path = os.path.join(self._root, name)
        try:
            before = _read(path)
            if before == value:
                return True
            if remember:
                self._remember(name, before, value)
            _write(path, value)
        except OSError as error:
            log.warning("sysctl not changed", sysctl=name, value=value, reason=reason, error=str(error))
            return False
        if remember:
            log.info("sysctl changed", sysctl=name, value=value, before=before, reason=reason)
        return True

    def restore(self, is_needed: Callable[[], bool] = lambda: False) -> None:
        """Put back what still has the value that was given to it here, unless another daemon needs it.

        Args:
            is_needed: Tells whether there is one. It shows itself before it looks at the settings: asked again
                afterwards, so that one which came in between and found them well has them.
        """
        if is_needed():
            return
        for name, (before, now) in self._remembered().items():
            path = os.path.join(self._root, name)
            with contextlib.suppress(OSError):
                if _read(path) == now:
                    _write(path, before)
                    if is_needed():
                        _write(path, now)
                        continue
                    log.info("sysctl put back", sysctl=name, value=before)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _remember(self, name: str, before: str, now: str) -> None:
        changes = self._remembered()
        first = changes[name][0] if name in changes else before
        changes[name] = (first, now)
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        write_atomic(self._path, json.dumps(changes).encode(), mode=0o600, durable=True)

    def _remembered(self) -> dict[str, tuple[str, str]]:
        try:
            with open(self._path, encoding="utf-8") as file:
                changes: Any = json.load(file)
            return {str(name): (str(before), str(now)) for name, (before, now) in changes.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("former sysctls unreadable", path=self._path, error=str(error))
            return {}


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
