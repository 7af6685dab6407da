"""The record of one pod's sandboxes and containers that outlives the daemon, the pause and a power cut.

One JSON object a line, appended; the state is what replaying the lines gives. A torn last line (the machine stopped
while it was written) is passed over, as is anything that is not ours.
"""

from __future__ import annotations

import json
import os
from typing import Any

from minikubelet.sandbox.protocol import to_line

Record = dict[str, Any]


class Journal:
    """Appends records; exits are waited for on disk."""

    def __init__(self, path: str) -> None:
        """Open for appending. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._write(b"\n")  # close the line that a crash left open

    def append(self, record: Record) -> None:
        """Append one record; a full disk loses it on disk but not in memory."""
        self._write(to_line(record) + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            os.write(self._descriptor, line)
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def sync(self) -> None:
        """Wait until all records are on disk."""
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            return


def read_journal(path: str) -> tuple[dict[str, Record], dict[str, Record]]:
    """Replay a journal: sandboxes by id and containers by id, in the order they came.

    Raises:
        FileNotFoundError: There is none.
    """
    sandboxes: dict[str, Record] = {}
    containers: dict[str, Record] = {}
    with open(path, "rb") as file:
        for line in file:
            try:
                record = json.loads(line)
                apply(record, sandboxes, containers)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    return sandboxes, containers


def apply(record: Record, sandboxes: dict[str, Record], containers: dict[str, Record]) -> None:
    """Apply one record to the replayed state."""
    kind, identity = record["do"], record["id"]
    if kind == "sandbox":
        sandboxes[identity] = record["state"]
    elif kind == "container":
        containers.setdefault(identity, {}).update(record["state"])
    elif kind == "remove":
        containers.pop(identity, None)
