"""The file that keeps events over a restart: one line for each change of an event, made short from time to time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import structlog

from minikubelet.linux.faults import point
from minikubelet.linux.files import write_atomic

log = structlog.get_logger(__name__)

_BROKEN_LIMIT: Final = 1024 * 1024

Json = dict[str, Any]


class EventFile:
    """Owner of the file. A failure to write is logged once; what it cost is made good when the file is written anew."""

    def __init__(self, path: str, *, limit: int) -> None:
        """Create it; `limit` is how many bytes it may have before it is written anew."""
        self._path = path
        self._limit = limit
        self._descriptor = -1
        self._size = 0
        self._is_behind = False

    @property
    def is_behind(self) -> bool:
        """Tell whether events are missing in it, or one is there in part, for there was no room: `rewrite` is due."""
        return self._is_behind

    def read(self) -> Iterator[Json]:
        """Yield what was kept, oldest first. Lines that are no events are set aside in a file beside."""
        try:
            with open(self._path, "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("cannot read events", path=self._path, error=str(error))
            return
        broken: list[bytes] = []
        for number, line in enumerate(lines):
            event = _decode(line)
            if event is not None:
                yield event
            elif number < len(lines) - 1:  # the last one may have been torn by a crash
                broken.append(line)
        if broken:
            self._set_aside(broken)

    def _set_aside(self, lines: list[bytes]) -> None:
        beside = f"{self._path}.broken"
        log.warning("lines of the event file are no events, set aside", lines=len(lines), path=beside)
        try:
            write_atomic(beside, b"\n".join(lines)[:_BROKEN_LIMIT] + b"\n", mode=0o600)
        except OSError as error:
            log.error("cannot set lines aside", path=beside, error=str(error))

    def append(self, event: Json) -> bool:
        """Add the newest state of an event; True when `rewrite` is due: it is too long, or there is room again."""
        line = msgspec.json.encode(event) + b"\n"
        try:
            point("events.write")
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._descriptor = os.open(self._path, flags, 0o600)
                self._size = os.fstat(self._descriptor).st_size
            if os.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        except OSError as error:
            self._fail(error)
            return False
        self._size += len(line)
        return self._size > self._limit or self._is_behind

    def rewrite(self, events: Iterable[Json]) -> None:
        """Replace the file by these events."""
        data = b"".join(msgspec.json.encode(one) + b"\n" for one in events)
        self.close()
        try:
            write_atomic(self._path, data, mode=0o600)
            self._is_behind = False
        except OSError as error:
            self._fail(error)
        self._size = len(data)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _fail(self, error: OSError) -> None:
        if not self._is_behind:
            log.error("cannot keep events", path=self._path, error=str(error))
        self._is_behind = True


def _decode(line: bytes) -> Json | None:
    try:
        event = msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    parts = (event.get("metadata"), event.get("involvedObject"))
    if not all(isinstance(one, dict) for one in parts) or not isinstance(event.get("count"), int):
        return None
    texts = [event.get(name) for name in ("type", "reason", "message", "firstTimestamp", "lastTimestamp")]
    texts += [event["metadata"].get(name) for name in ("name", "namespace")]
    texts += [event["involvedObject"].get(name) for name in ("kind", "name", "uid")]
    return event if all(isinstance(one, str) for one in texts) else None
