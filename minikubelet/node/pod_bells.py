"""Rings when a pod has news, for those who wait for one pod and those who follow all. A ring says only: look again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from minikubelet.lifecycle.observed import PodUID


class PodBells:
    """Owner of who waits for which pod."""

    def __init__(self) -> None:
        self._waiting: dict[PodUID, set[asyncio.Event]] = {}
        self._observers: list[Callable[[PodUID], None]] = []

    def observe(self, observer: Callable[[PodUID], None]) -> None:
        """Have it told of each ring from now on, in the order of these calls and before those who wait."""
        self._observers.append(observer)

    def ring(self, uid: PodUID) -> None:
        """Say that a pod has news."""
        for observer in self._observers:
            observer(uid)
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
