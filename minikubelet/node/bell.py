"""Rings when something happened at watched places. It never says what: whoever hears it looks for himself.

watchdog's inotify reader is used on its own, not through its observers: those hold a file that is moved away back for
half a second to find where it went, say nothing when the kernel's queue overflows, and take three threads. The reader
tells all of it at once, from one thread, and an overflow rings too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

log = structlog.get_logger(__name__)

# What can change the outcome of a scan. Reading changes nothing, so opening and closing without writing are left out.
_MASK: Final = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
# A program that writes a file in thousands of pieces is heard so often.
_MODIFIED_EVERY_S: Final = 0.1
_MAX_LINKS: Final = 40

# A directory, and the one name in it that matters, or "" for all.
Place = tuple[str, str]


class _Reader(InotifyFD):
    """watchdog's reader, whose descriptor the processes that the daemon starts do not inherit."""

    @classmethod
    def _create_inotify_fd(cls) -> int:
        descriptor = super()._create_inotify_fd()
        os.set_inheritable(descriptor, False)
        return descriptor


class Bell:
    """Owner of the inotify watches. `ring` is called on the loop, once for all that happened before it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """Create it; nothing is heard before `watch`.

        Args:
            ring: Called on the event loop.
        """
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._reader: InotifyFD | None = None
        self._watched: dict[tuple[int, int], WatchDescriptor] = {}
        self._names: dict[WatchDescriptor, frozenset[bytes]] = {}
        self._rung = False
        self._modified = False
        self._trouble = ""

    def watch(self, places: Iterable[Place]) -> None:
        """Watch exactly these places; those that cannot be watched are left to regular listing, said once."""
        wanted: dict[tuple[int, int], tuple[str, set[str]]] = {}
        for directory, name in places:
            with contextlib.suppress(OSError):
                found = os.stat(directory)
                if stat.S_ISDIR(found.st_mode):
                    wanted.setdefault((found.st_dev, found.st_ino), (directory, set()))[1].add(name)
        try:
            self._adjust(wanted)
            self._trouble = ""
        except OSError as error:
            if str(error) != self._trouble:
                log.warning("cannot watch all directories, listing them regularly instead", error=str(error))
            self._trouble = str(error)

    def _adjust(self, wanted: dict[tuple[int, int], tuple[str, set[str]]]) -> None:
        if self._reader is None:
            reader = _Reader()
            reader.start()
            self._reader = reader
        gone = [self._watched.pop(identity) for identity in self._watched.keys() - wanted.keys()]
        self._reader.remove_callbacks([(descriptor, CallbackId(id(self))) for descriptor in gone])
        for identity, (directory, names) in wanted.items():
            descriptor = self._watched.get(identity)
            if descriptor is None:
                try:
                    descriptor = self._reader.add_callback(os.fsencode(directory), _MASK, self, CallbackId(id(self)))
                except FileNotFoundError:  # gone since it was looked at: what took its place is seen by looking again
                    self._ring()
                    continue
                self._watched[identity] = descriptor
            self._names[descriptor] = frozenset(() if "" in names else map(os.fsencode, names))

    @property
    def is_deaf(self) -> bool:
        """Tell whether some place cannot be watched."""
        return bool(self._trouble)

    def close(self) -> None:
        """Hear nothing any more."""
        reader, self._reader = self._reader, None
        self._watched.clear()
        if reader is not None:
            reader.stop()
            reader.join(1.0)

    # Called by the reader's thread

    def on_event(self, event: InotifyEvent) -> None:
        """Carry one event to the loop."""
        names = self._names.get(event.wd)
        if names and event.name and event.name not in names:
            return
        if event.is_modify:
            if not self._modified and not self._rung:
                self._modified = True
                self._call(self._loop.call_later, _MODIFIED_EVERY_S, self._now)
        elif not self._rung:
            self._rung = True
            self._call(self._now)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Forget a watched directory that is gone, and look what took its place."""
        self._call(self._forget, wd)

    def on_queue_overflow(self) -> None:
        """Ring for events that were lost; what they told is found by looking."""
        self._call(self._now)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    # On the loop

    def _now(self) -> None:
        self._rung = self._modified = False
        self._ring()

    def _forget(self, descriptor: WatchDescriptor) -> None:
        for identity in [one for one, known in self._watched.items() if known == descriptor]:
            del self._watched[identity]
        self._names.pop(descriptor, None)
        self._ring()


def places_of(path: str) -> list[Place]:
    """Return the places where a path can change its meaning.

    They are every link on the way, the last name, and all of the path itself if it is a directory; where it ends in
    nothing, the first name that is missing.
    """
    found: list[Place] = []
    here, rest, links = "/", [one for one in os.path.abspath(path).split("/") if one], 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            here = os.path.dirname(here)
            continue
        full = os.path.join(here, name)
        try:
            mode = os.lstat(full).st_mode
        except OSError:
            return [*found, (here, name)]
        if stat.S_ISLNK(mode) and links < _MAX_LINKS:
            links += 1
            found.append((here, name))
            target = os.readlink(full)
            rest = [one for one in target.split("/") if one not in ("", ".")] + rest
            here = "/" if target.startswith("/") else here
            continue
        if not rest:
            found.append((here, name))
        here = full
    return [*found, (here, "")]
