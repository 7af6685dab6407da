"""The published API objects of this node: what the server lists, gets and watches.

Owner of resource versions. Objects are JSON-ready dicts; every change gets the next version and is kept for a while, so
that a watch can go on from where a list was taken. A watcher that does not keep up is cut off, never waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

_HISTORY: Final = 4096
_QUEUE: Final = 1024

Key = tuple[str, str]


class ExpiredError(Exception):
    """The resource version is too old, or the watcher too slow: list again (410 Gone)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change: ADDED, MODIFIED or DELETED, with the object as it was then."""

    type: str
    kind: str
    version: int
    object: dict[str, Any]


class Store:
    """Owner of all published objects, by kind (`pods`, `events`, ...), namespace and name."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, dict[str, Any]]] = {}
        self._version = 1
        self._history: deque[Change] = deque(maxlen=_HISTORY)
        self._watchers: set[asyncio.Queue[Change | None]] = set()

    @property
    def version(self) -> int:
        """Return the newest resource version."""
        return self._version

    def put(self, kind: str, namespace: str, name: str, value: dict[str, Any]) -> None:
        """Publish an object; `metadata.resourceVersion` is set here."""
        objects = self._objects.setdefault(kind, {})
        known = (namespace, name) in objects
        self._version += 1
        stamped = {**value, "metadata": {**value.get("metadata", {}), "resourceVersion": str(self._version)}}
        objects[(namespace, name)] = stamped
        self._tell(Change("MODIFIED" if known else "ADDED", kind, self._version, stamped))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Withdraw an object; nothing happens when there is none."""
        gone = self._objects.get(kind, {}).pop((namespace, name), None)
        if gone is None:
            return
        self._version += 1
        stamped = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._version)}}
        self._tell(Change("DELETED", kind, self._version, stamped))

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return one object, or None."""
        return self._objects.get(kind, {}).get((namespace, name))

    def list(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind, of one namespace or ("") all, by namespace and name."""
        found = self._objects.get(kind, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def _tell(self, change: Change) -> None:
        self._history.append(change)
        for queue in list(self._watchers):
            try:
                queue.put_nowait(change)
            except asyncio.QueueFull:
                self._watchers.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)

    async def watch(self, kind: str, since: int) -> AsyncIterator[Change]:
        """Yield every change of a kind after a resource version, for as long as the caller asks.

        Raises:
            ExpiredError: The version is no longer in the history, or the caller was too slow.
        """
        if since < self._version and (not self._history or self._history[0].version > since + 1):
            raise ExpiredError(f"too old resource version: {since} ({self._version})")
        queue: asyncio.Queue[Change | None] = asyncio.Queue(_QUEUE)
        past = [change for change in self._history if change.version > since]
        self._watchers.add(queue)
        try:
            for change in past:
                if change.kind == kind:
                    yield change
            while True:
                following = await queue.get()
                if following is None:
                    raise ExpiredError("the watch did not keep up with the changes")
                if following.kind == kind:
                    yield following
        finally:
            self._watchers.discard(queue)
