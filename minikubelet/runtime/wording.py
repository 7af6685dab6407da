"""How errors are told to users: what was being done says the caller, the cause says the system, Python says nothing."""

from __future__ import annotations

import errno
import os

# The kernel's word for it, and what it means where processes and threads are made.
_NO_PROCESS = f"{os.strerror(errno.EAGAIN)} (a limit of processes is reached: TasksMax, a pids limit or kernel.pid_max)"


def words(error: BaseException) -> str:
    """Return an error's cause, with the path that it is about; never the name of a Python type or a bare number."""
    if isinstance(error, OSError) and error.strerror:
        text = _NO_PROCESS if error.errno == errno.EAGAIN else error.strerror
        return f"{error.filename}: {text}" if isinstance(error.filename, str) else text
    if isinstance(error, MemoryError):
        return os.strerror(errno.ENOMEM)
    return str(error) or "internal error, see the daemon's log"
