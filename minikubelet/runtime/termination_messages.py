"""Reads the termination messages of containers that have ended: each instance's own file, or the end of its log."""

from __future__ import annotations

import os
from collections.abc import Callable

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import termination_message
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer


class TerminationMessages:
    """Knows where messages and logs lie; keeps nothing."""

    def __init__(
        self, *, file_of: Callable[[Pod, str, ContainerID], str], log_of: Callable[[Pod, str, int], str]
    ) -> None:
        """Create it.

        Args:
            file_of: The file on the host that one instance's termination message path is.
            log_of: The log of a container's nth instance.
        """
        self._file_of = file_of
        self._log_of = log_of

    def of(self, pod: Pod, container: Container, one: ObservedContainer) -> str:
        """Return the message of an instance that has ended; an unreadable file is an empty one."""
        written = _tail(self._file_of(pod, container.name, one.id), termination_message.FILE_LIMIT)
        text = written.decode("utf-8", "replace")
        if not termination_message.falls_back_to_log(container, text, one.exit):
            return text
        log = _tail(self._log_of(pod, container.name, one.restart_count), termination_message.LOG_TAIL)
        return termination_message.last_lines(log)


def _tail(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            return file.read(limit)
    except OSError:
        return b""
