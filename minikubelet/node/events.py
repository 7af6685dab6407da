"""Events about pods: recorded once, counted when they recur, kept within bounds in memory and on disk.

Source: client-go tools/record/events_cache.go (the same event again is counted, v1.36).
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.status import rfc3339
from minikubelet.linux.files import write_atomic
from minikubelet.node.store import Store

log = structlog.get_logger(__name__)

_MAX_EVENTS: Final = 2000
_MAX_AGE_S: Final = 3600.0
_MAX_LINES: Final = 3 * _MAX_EVENTS
# From this many different messages of one reason within ten minutes on, they are told as one.
_SIMILAR_LIMIT: Final = 10
_SIMILAR_WINDOW_S: Final = 600.0

Identity = tuple[str, str, str, str, str]


class EventRecorder:
    """Owner of all events; publishes them in the store and appends them to a file."""

    def __init__(self, *, path: str, store: Store, node_name: str, clock: Callable[[], float]) -> None:
        """Create it.

        Args:
            path: The file that keeps events over a restart.
            store: Where the API reads them.
            node_name: Reported as the source's host.
            clock: Unix time.
        """
        self._path = path
        self._store = store
        self._node_name = node_name
        self._clock = clock
        self._events: OrderedDict[Identity, dict[str, Any]] = OrderedDict()
        self._similar: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
        self._lines = 0

    def start(self) -> None:
        """Read what an earlier daemon recorded."""
        with contextlib.suppress(FileNotFoundError), open(self._path, encoding="utf-8") as file:
            for line in file:
                try:
                    event = json.loads(line)
                    self._events[_identity(event)] = event
                except (ValueError, KeyError, TypeError):
                    continue  # torn by a crash
        for event in self._events.values():
            self._store.put("events", event["metadata"]["namespace"], event["metadata"]["name"], event)
        self._rewrite()

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", init: bool = False) -> None:
        """Record one event about a pod, or about one of its containers."""
        meta = pod.metadata
        group = "initContainers" if init else "containers"
        involved = {
            "kind": "Pod",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "apiVersion": "v1",
        }
        if container:
            involved["fieldPath"] = f"spec.{group}{{{container}}}"
        self._record(involved, kind, reason, message)

    def node_event(self, kind: str, reason: str, message: str) -> None:
        """Record one event about the node itself; as kubectl shows them, in the namespace `default`."""
        name = self._node_name
        self._record({"kind": "Node", "namespace": "", "name": name, "uid": name}, kind, reason, message)

    def _record(self, involved: dict[str, str], kind: str, reason: str, message: str) -> None:
        now = self._clock()
        message = self._combine(involved, kind, reason, message, now)
        identity = (involved["uid"], involved.get("fieldPath", ""), kind, reason, message)
        known = self._events.pop(identity, None)
        if known is not None:
            event = {**known, "count": known["count"] + 1, "lastTimestamp": rfc3339(now)}
        else:
            event = self._new(involved, kind, reason, message, rfc3339(now))
        self._events[identity] = event
        log.info("event", type=kind, reason=reason, message=message, object=involved["name"])
        self._store.put("events", event["metadata"]["namespace"], event["metadata"]["name"], event)
        self._append(event)
        self._expire(now)

    def _combine(self, involved: dict[str, str], kind: str, reason: str, message: str, now: float) -> str:
        key = (involved["uid"] + involved.get("fieldPath", ""), kind, reason)
        recent = [one for one in self._similar.get(key, []) if now - one[0] < _SIMILAR_WINDOW_S and one[1] != message]
        recent.append((now, message))
        self._similar[key] = recent[-_SIMILAR_LIMIT:]
        return f"(combined from similar events): {message}" if len(recent) >= _SIMILAR_LIMIT else message

    def _new(self, involved: dict[str, str], kind: str, reason: str, message: str, now: str) -> dict[str, Any]:
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": f"{involved['name']}.{secrets.token_hex(8)}",
                "namespace": involved["namespace"] or "default",
                "creationTimestamp": now,
            },
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": self._node_name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": "kubelet",
            "reportingInstance": self._node_name,
        }

    def _expire(self, now: float) -> None:
        oldest = rfc3339(now - _MAX_AGE_S)
        while self._events:
            identity, event = next(iter(self._events.items()))
            if len(self._events) <= _MAX_EVENTS and event["lastTimestamp"] >= oldest:
                return
            del self._events[identity]
            self._store.delete("events", event["metadata"]["namespace"], event["metadata"]["name"])

    def _append(self, event: dict[str, Any]) -> None:
        self._lines += 1
        if self._lines > _MAX_LINES:
            self._rewrite()
            return
        with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def _rewrite(self) -> None:
        text = "".join(json.dumps(event) + "\n" for event in self._events.values())
        self._lines = len(self._events)
        try:
            write_atomic(self._path, text.encode(), mode=0o600)
        except OSError as error:
            log.error("cannot keep events", path=self._path, error=str(error))


def _identity(event: dict[str, Any]) -> Identity:
    involved = event["involvedObject"]
    return (involved["uid"], involved.get("fieldPath", ""), event["type"], event["reason"], event["message"])
