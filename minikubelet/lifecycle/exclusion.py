"""That two static pods of one full name never run at once: who may start now, who waits, who never will. Pure.

Source: kubelet pod workers `allowPodStart`, `allowStaticPodStart` (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

FullName = tuple[str, str]


class Verdict(Enum):
    """What a pod that wants to start is told."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Names:
    """Who holds each full name (namespace, name), by uid, and who waits for it, in the order of asking."""

    started: Mapping[FullName, str] = field(default_factory=dict[FullName, str])
    waiting: Mapping[FullName, tuple[str, ...]] = field(default_factory=dict[FullName, tuple[str, ...]])


def allow_start(name: FullName, uid: str, names: Names, is_wanted: Callable[[str], bool]) -> tuple[Verdict, Names]:
    """Say whether a pod may start, and who holds and waits then.

    Args:
        name: Its namespace and name.
        uid: Its uid.
        names: Who holds and who waits.
        is_wanted: Whether a uid still is to run: it is in the manifests and has not been told to end.
    """
    if not is_wanted(uid):
        return Verdict.NEVER, names
    if names.started.get(name) == uid:
        return Verdict.NOW, names
    queue = names.waiting.get(name, ())
    while queue and not is_wanted(queue[0]):
        queue = queue[1:]
    if name in names.started or (queue and queue[0] != uid):
        if uid not in queue:
            queue = (*queue, uid)
        return Verdict.LATER, Names(names.started, {**names.waiting, name: queue})
    waiting = {one: uids for one, uids in names.waiting.items() if one != name}
    if queue[1:]:
        waiting[name] = queue[1:]
    return Verdict.NOW, Names({**names.started, name: uid}, waiting)


def released(name: FullName, uid: str, names: Names) -> Names:
    """Return the names after a pod is gone."""
    if names.started.get(name) != uid:
        return names
    return Names({one: holder for one, holder in names.started.items() if one != name}, names.waiting)
