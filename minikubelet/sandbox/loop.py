"""The one loop of a pause: calls a handler when something happens on its descriptor."""

from __future__ import annotations

import select

from minikubelet.linux.lean import Any, Callable


class Loop:
    """Owner of the handlers. Nothing in it waits but `events`.

    A handler comes with arguments instead of being a closure: each function made touches its code, its names and its
    module, pages that a pause then has for itself.
    """

    __slots__ = (
        "_epoll",
        "_handlers",
    )

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def watch(
        self, descriptor: int, handler: Callable[..., None], *arguments: Any, events: int = select.EPOLLIN
    ) -> None:
        """Call `handler` with its arguments, and what has happened as the last one, when it does on a descriptor."""
        self._handlers[descriptor] = handler, arguments
        self._epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor; the caller closes it."""
        if self._handlers.pop(descriptor, None) is not None:
            try:  # noqa: SIM105  # done for each start, and `suppress` is a class, three functions and an exception more
                self._epoll.unregister(descriptor)
            except OSError:
                pass

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events on a descriptor that is watched."""
        self._epoll.modify(descriptor, events)

    def events(self, limit_s: float) -> list[tuple[int, int]]:
        """Wait until something happens, -1 for as long as nothing does; return on which descriptors, and what."""
        return self._epoll.poll(limit_s)

    def handle(self, descriptor: int, events: int) -> None:
        """Call a descriptor's handler, if it still has one."""
        found = self._handlers.get(descriptor)
        if found is not None:
            handler, arguments = found
            handler(*arguments, events)

    def close(self) -> None:
        """Give up everything."""
        self._epoll.close()
        self._handlers.clear()
