"""The record of one pod's sandboxes and containers that outlives the daemon, the pause and a power cut.

One JSON object a line, appended; the state is what replaying the lines gives. A torn last line (the machine stopped
while it was written) is passed over, as is anything that is not ours. Lines for which there is no room wait in memory
and are written, whole and in order, as soon as there is. A journal that has grown is written anew, atomically.
"""

from __future__ import annotations

import os

from minikubelet.linux.faults import point
from minikubelet.linux.files import write_atomic
from minikubelet.linux.lean import Any, Final, Mapping, suppress
from minikubelet.sandbox.protocol import from_line, to_line

Record = dict[str, Any]

# A pod that restarts for ever adds lines for ever: from this size on the journal is written anew.
COMPACT_SIZE: Final = 256 * 1024
_MAX_PENDING: Final = 1024 * 1024


class Journal:
    """Appends records; exits are waited for on disk."""

    __slots__ = (
        "_descriptor",
        "_limit",
        "_overflowed",
        "_path",
        "_pending",
        "_size",
    )

    def __init__(self, path: str) -> None:
        """Open for appending. Raises OSError."""
        self._path = path
        self._pending = bytearray()
        self._overflowed = False
        self._limit = COMPACT_SIZE
        self._open()
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._pending += b"\n"  # close the line that a crash left open

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.lseek(self._descriptor, 0, os.SEEK_END)

    def append(self, record: Record) -> None:
        """Append one record; without room for it, it waits for the next call of this or `flush`."""
        self._pending += to_line(record) + b"\n"
        if len(self._pending) > _MAX_PENDING:
            self._pending.clear()
            self._overflowed = True
        self.flush()

    def flush(self) -> bool:
        """Write what waits; True when nothing waits any more."""
        try:
            point("journal.write")
            while self._pending:
                written = os.write(self._descriptor, self._pending)
                self._size += written
                del self._pending[:written]
        except OSError:
            return False
        return not self._overflowed

    def is_behind(self) -> bool:
        """Tell whether something waits for room on the disk."""
        return bool(self._pending) or self._overflowed

    def wants_compaction(self) -> bool:
        """Tell whether it should be written anew."""
        return self._size > self._limit or self._overflowed

    def rewrite(self, sandbox: Record, containers: Mapping[str, Record]) -> None:
        """Replace everything by this state and what it says of earlier sandboxes, atomically.

        Without room the old journal goes on.
        """
        records = snapshot(self._path, sandbox, containers)
        text = b"".join(to_line(one) + b"\n" for one in records)
        try:
            point("journal.rewrite")
            write_atomic(self._path, text, mode=0o600, durable=True)
            before = self._descriptor
            self._open()
        except OSError:
            return
        os.close(before)
        self._pending.clear()
        self._overflowed = False
        self._limit = max(COMPACT_SIZE, 2 * len(text))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def sync(self) -> None:
        """Wait until all records are on disk."""
        with suppress(OSError):
            os.fdatasync(self._descriptor)


def snapshot(path: str, sandbox: Record, containers: Mapping[str, Record]) -> list[Record]:
    """Return the records whose replay gives this state of a sandbox, and what the journal has of earlier ones."""
    sandboxes: dict[str, Record] = {}
    known: dict[str, Record] = {}
    with suppress(FileNotFoundError):
        sandboxes, known = read_journal(path)
    earlier = {name: one for name, one in known.items() if one.get("sandbox_id") != sandbox["id"]}
    needed = {str(one.get("sandbox_id")) for one in earlier.values()}  # whatever a damaged journal has there
    return [
        *({"do": "sandbox", "id": name, "state": one} for name, one in sandboxes.items() if name in needed),
        {"do": "sandbox", "id": sandbox["id"], "state": sandbox},
        *({"do": "container", "id": name, "state": one} for name, one in (earlier | dict(containers)).items()),
    ]


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
                record = from_line(line)
                apply(record, sandboxes, containers)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
    whole = {name: one for name, one in containers.items() if one.keys() >= _CONTAINER_KEYS}
    return {name: one for name, one in sandboxes.items() if one.keys() >= _SANDBOX_KEYS}, whole


# Without these a record says nothing: its beginning was in a line that was lost.
_SANDBOX_KEYS: Final = frozenset({"id", "attempt", "created_at", "pid", "start_ticks", "host_network", "spec"})
_CONTAINER_KEYS: Final = frozenset({"id", "name", "restart_count", "created_at", "created_mono", "state"})


def apply(record: Record, sandboxes: dict[str, Record], containers: dict[str, Record]) -> None:
    """Apply one record to the replayed state."""
    kind, identity = record["do"], record["id"]
    if kind == "sandbox":
        sandboxes[identity] = dict(record["state"])
    elif kind == "container":
        containers.setdefault(identity, {}).update(record["state"])
    elif kind == "remove":
        containers.pop(identity, None)
    elif kind == "remove_sandbox":
        sandboxes.pop(identity, None)
