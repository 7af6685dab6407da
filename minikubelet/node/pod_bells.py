"""Rings for those who wait for news of one pod. A ring says only: look again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from minikubelet.lifecycle.observed import PodUID


class PodBells:
    """Who waits for which pod."""

    def __init__(self) -> None:
        self._waiting: dict[PodUID, set[asyncio.Event]] = {}

    def ring(self, uid: PodUID) -> None:
        """Wake all who wait for news of a pod."""
        for one in self._waiting.get(uid, ()):
            one.set()

    @contextlib.contextmanager
    def listen(self, uid: PodUID) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the pod has news; who waits clears it."""
        bell = asyncio.Event()
        waiting = self._waiting.setdefault(uid, set())
        waiting.add(bell)
        try:
            yield bell
        finally:
            waiting.discard(bell)
            if not waiting:
                self._waiting.pop(uid, None)
