"""What becomes of one more event: counted with equal ones, told as one with similar ones, or held back. No clock here.

Three steps, as client-go's correlator takes them: from the 10th different message of one object, type and reason on,
with never more than 10 minutes between two, they become one event that says so; an event that was told before is
counted; and an object may have 25 events of a type at once, then one each 5 minutes: what is held back is counted too.
Source: client-go tools/record/events_cache.go (v1.36).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

COMBINED: Final = "(combined from similar events): "
_SIMILAR_LIMIT: Final = 10
_SIMILAR_WINDOW_S: Final = 600.0
_BURST: Final = 25
_REFILL_S: Final = 300.0
_MOST: Final = 4096  # entries of each memory

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that happened to an object; `subject` names the object, `field_path` a part of it."""

    subject: str
    field_path: str = ""
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The event as it is now: its name stays, its count grows, `message` may say that it stands for several."""

    name: str
    message: str
    count: int
    first_at: float


class _Latest(Generic[K, V]):
    """A memory of bounded size that forgets what was not used for longest."""

    def __init__(self) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > _MOST:
            self._entries.popitem(last=False)


_Key = tuple[str, ...]


class Correlator:
    """Remembers what was told. Times are Unix time, for they are shown."""

    def __init__(self) -> None:
        self._similar: _Latest[_Key, tuple[tuple[str, ...], float]] = _Latest()
        self._told: _Latest[_Key, Told] = _Latest()
        self._buckets: _Latest[_Key, tuple[float, float]] = _Latest()

    def restore(self, one: Occurrence, told: Told) -> None:
        """Take up an event that an earlier daemon told, so that its count goes on."""
        combined = told.message.startswith(COMBINED)
        self._told.put(_group(one) if combined else _key(one), told)

    def record(self, one: Occurrence, name: str, now: float) -> Told | None:
        """Take in an occurrence; return the event to be shown, None when it is held back.

        Args:
            one: What happened.
            name: For the event, if it is a new one.
            now: Unix time.
        """
        message, key = self._combine(one, now)
        before = self._told.get(key)
        if before is None:
            told = Told(name=name, message=message, count=1, first_at=now)
        else:
            told = replace(before, message=message, count=before.count + 1)
        self._told.put(key, told)
        return told if self._take((one.subject, one.type), now) else None

    def _combine(self, one: Occurrence, now: float) -> tuple[str, _Key]:
        group = _group(one)
        messages, last = self._similar.get(group) or ((), now)
        if now - last > _SIMILAR_WINDOW_S:
            messages = ()
        messages = (*(other for other in messages if other != one.message), one.message)
        many = len(messages) >= _SIMILAR_LIMIT
        self._similar.put(group, (messages[1:] if many else messages, now))
        return (COMBINED + one.message, group) if many else (one.message, _key(one))

    def _take(self, key: _Key, now: float) -> bool:
        """Take a token of the object's bucket; False when it is empty."""
        tokens, at = self._buckets.get(key) or (float(_BURST), now)
        tokens = min(float(_BURST), tokens + max(0.0, now - at) / _REFILL_S)
        allowed = tokens >= 1.0
        self._buckets.put(key, (tokens - 1.0 if allowed else tokens, now))
        return allowed


def _group(one: Occurrence) -> _Key:
    return one.subject, one.type, one.reason


def _key(one: Occurrence) -> _Key:
    return one.subject, one.field_path, one.type, one.reason, one.message
