"""The published API objects of this node: what the server lists, gets and watches.

Owner of resource versions. Objects are JSON-ready dicts, encoded once when somebody first asks for their bytes; every
change gets the next version and is kept for a while, so that a watch can go on from where a list was taken, and a list
in pieces stays what it was at its first piece. A watcher that does not keep up is cut off, never waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

_HISTORY: Final = 4096
_QUEUE: Final = 1024

Key = tuple[str, str]
_encode = msgspec.json.Encoder().encode


class ExpiredError(Exception):
    """The resource version is too old, or the watcher too slow: list again (410 Gone)."""


class TooLargeError(Exception):
    """The resource version is one that this store has not come to yet."""


class Item:
    """One object as it was at one version."""

    __slots__ = ("_encoded", "key", "object", "version")

    def __init__(self, key: Key, version: int, value: dict[str, Any]) -> None:
        self.key = key
        self.version = version
        self.object = value
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """Return the object as JSON, made once."""
        if self._encoded is None:
            self._encoded = _encode(self.object)
        return self._encoded


class Change:
    """One change: ADDED, MODIFIED or DELETED, with the object as it is now (when deleted: was last) and was before."""

    __slots__ = ("before", "item", "kind", "type", "version")

    def __init__(self, type_: str, kind: str, item: Item, before: Item | None) -> None:
        self.type = type_
        self.kind = kind
        self.version = item.version
        self.item = item
        self.before = before

    @property
    def object(self) -> dict[str, Any]:
        """Return the object."""
        return self.item.object


class Store:
    """Owner of all published objects, by kind (`pods`, `events`, ...), namespace and name."""

    def __init__(self, first_version: int = 1) -> None:
        """Create it empty.

        Args:
            first_version: Versions count from here; one that grows from start to start keeps what a client remembers
                of an earlier daemon from being taken for something of this one.
        """
        self._objects: dict[str, dict[Key, Item]] = {}
        self._version = first_version
        self._history: deque[Change] = deque(maxlen=_HISTORY)
        self._forgotten = first_version  # the newest version that the history no longer holds
        self._watches: set[Watch] = set()
        self._observers: list[Callable[[Change], None]] = []

    @property
    def version(self) -> int:
        """Return the newest resource version."""
        return self._version

    @property
    def watches(self) -> int:
        """Return how many watches are open."""
        return len(self._watches)

    def observe(self, observer: Callable[[Change], None]) -> None:
        """Call `observer` at every change, at once."""
        self._observers.append(observer)

    def put(self, kind: str, namespace: str, name: str, value: dict[str, Any]) -> None:
        """Publish an object; `metadata.resourceVersion` is set here."""
        objects = self._objects.setdefault(kind, {})
        before = objects.get((namespace, name))
        item = self._stamp((namespace, name), value)
        objects[item.key] = item
        self._tell(Change("ADDED" if before is None else "MODIFIED", kind, item, before))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Withdraw an object; nothing happens when there is none."""
        before = self._objects.get(kind, {}).pop((namespace, name), None)
        if before is not None:
            self._tell(Change("DELETED", kind, self._stamp(before.key, before.object), before))

    def _stamp(self, key: Key, value: dict[str, Any]) -> Item:
        self._version += 1
        metadata = {**value.get("metadata", {}), "resourceVersion": str(self._version)}
        return Item(key, self._version, {**value, "metadata": metadata})

    def get(self, kind: str, namespace: str, name: str) -> Item | None:
        """Return one object, or None."""
        return self._objects.get(kind, {}).get((namespace, name))

    def list(self, kind: str, namespace: str = "", *, at: int | None = None) -> list[Item]:
        """Return all objects of a kind, of one namespace or ("") all, by namespace and name.

        Args:
            kind: `pods` and so on.
            namespace: Which namespace.
            at: The version to go back to, None for now.

        Raises:
            ExpiredError: That version is no longer in the history.
            TooLargeError: It is still to come.
        """
        found = self._objects.get(kind, {})
        if at is not None and at != self._version:
            found = self._as_it_was(kind, at)
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def _as_it_was(self, kind: str, version: int) -> dict[Key, Item]:
        self._check(version)
        found = dict(self._objects.get(kind, {}))
        for change in reversed(self._history):
            if change.version <= version:
                break
            if change.kind != kind:
                continue
            if change.before is None:
                found.pop(change.item.key, None)
            else:
                found[change.item.key] = change.before
        return found

    def _check(self, version: int) -> None:
        if version < self._forgotten:
            raise ExpiredError(f"too old resource version: {version} ({self._forgotten})")
        if version > self._version:
            raise TooLargeError(f"Too large resource version: {version}, current: {self._version}")

    def _tell(self, change: Change) -> None:
        if len(self._history) == _HISTORY:
            self._forgotten = self._history[0].version
        self._history.append(change)
        for watch in [one for one in self._watches if one.kind == change.kind]:
            watch.tell(change)
        for observer in self._observers:
            observer(change)

    def watch(self, kind: str, since: int) -> Watch:
        """Begin to watch a kind: every change after a resource version, until the watch is closed.

        Raises:
            ExpiredError: The version is no longer in the history.
            TooLargeError: The version is still to come.
        """
        self._check(since)
        past = [change for change in self._history if change.version > since and change.kind == kind]
        watch = Watch(kind, past, self._watches.discard)
        self._watches.add(watch)
        return watch


class Watch:
    """What one watcher has yet to see."""

    def __init__(self, kind: str, past: list[Change], forget: Callable[[Watch], None]) -> None:
        self.kind = kind
        self._past = deque(past)
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue(_QUEUE)
        self._forget = forget

    def tell(self, change: Change) -> None:
        """Queue a change, or give up on a watcher that does not keep up."""
        try:
            self._queue.put_nowait(change)
        except asyncio.QueueFull:
            self._forget(self)
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(None)

    async def next(self, at_most_s: float) -> Change | None:
        """Return the next change, None when the time has passed first.

        Raises:
            ExpiredError: The watcher was too slow.
        """
        if self._past:
            return self._past.popleft()
        try:
            async with asyncio.timeout(at_most_s):
                change = await self._queue.get()
        except TimeoutError:
            return None
        if change is None:
            raise ExpiredError("too old resource version: the watch did not keep up with the changes")
        return change

    def close(self) -> None:
        """End the watch."""
        self._forget(self)
