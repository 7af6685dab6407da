"""The one loop of a pause: calls a handler when something happens on its descriptor."""

from __future__ import annotations

import select

from minikubelet.linux.lean import Callable, suppress


class Loop:
    """Owner of the handlers. Nothing in it waits but `events`."""

    __slots__ = (
        "_epoll",
        "_handlers",
    )

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}

    def watch(self, descriptor: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """Call `handler` when something happens on a descriptor."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor; the caller closes it."""
        if self._handlers.pop(descriptor, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events on a descriptor that is watched."""
        self._epoll.modify(descriptor, events)

    def events(self, limit_s: float) -> list[tuple[int, int]]:
        """Wait until something happens, -1 for as long as nothing does; return on which descriptors, and what."""
        return self._epoll.poll(limit_s)

    def handle(self, descriptor: int, events: int) -> None:
        """Call a descriptor's handler, if it still has one."""
        handler = self._handlers.get(descriptor)
        if handler is not None:
            handler(events)

    def close(self) -> None:
        """Give up everything."""
        self._epoll.close()
        self._handlers.clear()
