"""What the server is given of the node, and what it allows its clients at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from minikubelet.lifecycle.observed import ObservedContainer, PodUID
from minikubelet.node.pod_bells import PodBells
from minikubelet.node.settings import Settings
from minikubelet.node.store import Store
from minikubelet.runtime.pauses import Pauses
from minikubelet.server.errors import ApiError, not_found

Json = dict[str, Any]

MAX_STREAMS: Final = 64
MAX_FOLLOWERS: Final = 128
MAX_WATCHES: Final = 128


class Quota:
    """How many of one kind of long request may be open."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self.taken = 0

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Hold one of them. Raises ApiError 429 when all are taken."""
        if self.taken >= self._limit:
            text = f"too many requests: {self._limit} {self._what} are open already; close some and try again"
            raise ApiError(429, text, details={"retryAfterSeconds": 1})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of the node that requests are answered from."""

    settings: Settings
    store: Store
    pauses: Pauses
    bells: PodBells
    version: str
    streams: Quota = field(default_factory=lambda: Quota("interactive streams", MAX_STREAMS))
    followers: Quota = field(default_factory=lambda: Quota("followed logs", MAX_FOLLOWERS))
    watches: Quota = field(default_factory=lambda: Quota("watches", MAX_WATCHES))

    def pod(self, namespace: str, name: str) -> Json:
        """Return a published pod. Raises ApiError 404."""
        item = self.store.get("pods", namespace, name)
        if item is None:
            raise not_found("pods", name)
        return item.object

    def instance(self, pod: Json, container_id: str) -> ObservedContainer | None:
        """Return the instance with a published container ID, None when it is forgotten."""
        plain = container_id.rpartition("//")[2]
        view = self.pauses.view(PodUID(pod["metadata"]["uid"]))
        return next((one for found in view.containers.values() for one in found if one.id == plain), None)
