"""Events about pods and the node: told once, counted when they recur, kept within bounds in memory and on disk.

What is told, counted, combined or held back is decided by `lifecycle.event_correlation`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.event_correlation import Correlator, Occurrence, Told
from minikubelet.lifecycle.status import parse_rfc3339, rfc3339
from minikubelet.node.event_file import EventFile
from minikubelet.node.store import Store

log = structlog.get_logger(__name__)

# As long as kube-apiserver keeps an event, counted from its latest occurrence.
MAX_AGE_S: Final = 3600.0
MAX_EVENTS: Final = 2000
# How often events that have grown old are looked for while none is recorded.
_EXPIRY_S: Final = 60.0
_MAX_BYTES: Final = 4 * 1024 * 1024  # of messages
_FILE_LIMIT: Final = 3 * _MAX_BYTES

Json = dict[str, Any]


class EventRecorder:
    """Owner of all events; publishes them in the store and keeps them in a file."""

    def __init__(
        self,
        *,
        path: str,
        store: Store,
        node_name: str,
        clock: Callable[[], float],
        afterwards: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        """Create it.

        Args:
            path: The file that keeps events over a restart.
            store: Where the API reads them.
            node_name: Reported as the source's host.
            clock: Unix time.
            afterwards: Does something a moment later, in order.
        """
        self._file = EventFile(path, limit=_FILE_LIMIT)
        self._store = store
        self._node_name = node_name
        self._clock = clock
        self._afterwards = afterwards
        self._correlator = Correlator()
        self._events: OrderedDict[str, Json] = OrderedDict()  # by name, the one that happened longest ago first
        self._bytes = 0
        self._last_name = 0

    def start(self) -> None:
        """Read what an earlier daemon recorded."""
        for event in self._file.read():
            if _is_dated(event):
                self._keep(event)
        self.expire()
        for event in self._events.values():
            told = Told(
                name=event["metadata"]["name"],
                message=event["message"],
                count=event["count"],
                first_at=parse_rfc3339(event["firstTimestamp"]),
            )
            self._correlator.restore(_occurrence(event), told)
            self._store.put("events", event["metadata"]["namespace"], event["metadata"]["name"], event)
        self._file.rewrite(self._events.values())

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", init: bool = False) -> None:
        """Record one event about a pod, or about one of its containers."""
        meta = pod.metadata
        involved = {
            "kind": "Pod",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "apiVersion": "v1",
        }
        if container:
            group = "initContainers" if init else "containers"
            involved["fieldPath"] = f"spec.{group}{{{container}}}"
        self._record(involved, kind, reason, message)

    def node_event(self, kind: str, reason: str, message: str) -> None:
        """Record one event about the node itself; as kubectl shows them, in the namespace `default`."""
        name = self._node_name
        self._record({"kind": "Node", "namespace": "", "name": name, "uid": name}, kind, reason, message)

    def expire(self) -> None:
        """Forget what nobody has to know any more: the old, and the oldest of too many."""
        oldest = rfc3339(self._clock() - MAX_AGE_S)
        while self._events:
            name, event = next(iter(self._events.items()))
            if event["lastTimestamp"] >= oldest and len(self._events) <= MAX_EVENTS and self._bytes <= _MAX_BYTES:
                return
            del self._events[name]
            self._bytes -= len(event["message"])
            self._store.delete("events", event["metadata"]["namespace"], name)

    async def keep_expiring(self) -> None:
        """Forget the old also while none is recorded, for ever."""
        while True:
            await asyncio.sleep(_EXPIRY_S)
            self.expire()

    def catch_up(self) -> None:
        """Write what had no room in the file: there may be some again."""
        if self._file.is_behind:
            self._file.rewrite(self._events.values())

    def stop(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _record(self, involved: dict[str, str], kind: str, reason: str, message: str) -> None:
        now = self._clock()
        self._afterwards(lambda: self._tell(involved, kind, reason, message, now))

    def _tell(self, involved: dict[str, str], kind: str, reason: str, message: str, now: float) -> None:
        one = Occurrence(
            subject=_subject(involved),
            field_path=involved.get("fieldPath", ""),
            type=kind,
            reason=reason,
            message=message,
        )
        told = self._correlator.record(one, self._name(involved["name"], now), now)
        if told is None:
            return
        event = self._event(involved, kind, reason, told, now)
        # Probes and timers are shared among pods: whose event it is, the context of the task does not tell.
        whose = {"pod": f"{involved['namespace']}/{involved['name']}"} if involved["kind"] == "Pod" else {}
        log.info(
            "event", type=kind, reason=reason, message=told.message, count=told.count, uid=involved["uid"], **whose
        )
        self._keep(event)
        self._store.put("events", event["metadata"]["namespace"], told.name, event)
        too_long = self._file.append(event)
        self.expire()
        if too_long:
            self._file.rewrite(self._events.values())

    def _name(self, subject: str, now: float) -> str:
        """Return a name that no event had before: the object's with the time, as client-go makes it."""
        self._last_name = max(int(now * 1e9), self._last_name + 1)
        return f"{subject}.{self._last_name:x}"

    def _keep(self, event: Json) -> None:
        before = self._events.pop(event["metadata"]["name"], None)
        if before is not None:
            self._bytes -= len(before["message"])
        self._events[event["metadata"]["name"]] = event
        self._bytes += len(event["message"])

    def _event(self, involved: dict[str, str], kind: str, reason: str, told: Told, now: float) -> Json:
        first = rfc3339(told.first_at)
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": told.name,
                "namespace": involved["namespace"] or "default",
                "creationTimestamp": first,
            },
            "involvedObject": involved,
            "reason": reason,
            "message": told.message,
            "source": {"component": "kubelet", "host": self._node_name},
            "firstTimestamp": first,
            "lastTimestamp": rfc3339(now),
            "count": told.count,
            "type": kind,
            "eventTime": None,
            "reportingComponent": "kubelet",
            "reportingInstance": self._node_name,
        }


def _is_dated(event: Json) -> bool:
    try:
        parse_rfc3339(event["firstTimestamp"])
        parse_rfc3339(event["lastTimestamp"])
    except ValueError:
        return False
    return True


def _subject(involved: Json) -> str:
    return "/".join(str(involved.get(name, "")) for name in ("kind", "namespace", "name", "uid"))


def _occurrence(event: Json) -> Occurrence:
    involved = event["involvedObject"]
    return Occurrence(
        subject=_subject(involved),
        field_path=str(involved.get("fieldPath", "")),
        type=event["type"],
        reason=event["reason"],
        message=event["message"],
    )
