"""A bell for changes of files and directories: what changed is for the caller to look up. Source: inotify(7)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from typing import Final

IN_MODIFY: Final = 0x2
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_MOVED_TO: Final = 0x80
IN_DELETE_SELF: Final = 0x400

_CHANGES: Final = IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_DELETE_SELF


class Bell:
    """Rings when something in a watched directory, or in a file of it, changed."""

    def __init__(self) -> None:
        """Raises OSError when the user's inotify instances are used up."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def watch(self, path: str) -> bool:
        """Watch a directory or file; False when it is not there. Watching twice is once."""
        number: int = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), ctypes.c_uint32(_CHANGES))
        return number >= 0

    def wait(self, at_most_s: float | None) -> None:
        """Return when something changed since the last call, or when the time is over (None: never)."""
        select.select([self._descriptor], [], [], at_most_s)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, 65536):
                pass

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)
