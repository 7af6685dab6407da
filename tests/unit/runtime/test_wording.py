"""What users are told of errors: paths and causes, never names of Python's or numbers of the kernel's."""

from __future__ import annotations

import errno
import os

import pytest

from minikubelet.runtime.port import RuntimeFailure
from minikubelet.runtime.wording import words
from minikubelet.sandbox.pause import cause_of


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES), "/a/b"), "/a/b: Permission denied"),
        (OSError("cannot remove it"), "cannot remove it"),
        (RuntimeFailure("the pause process is gone"), "the pause process is gone"),
        (MemoryError(), "Cannot allocate memory"),
        (KeyError(), "internal error, see the daemon's log"),
        (
            OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
            "Resource temporarily unavailable (a limit of processes is reached: TasksMax, a pids limit or "
            "kernel.pid_max)",
        ),
    ],
)
def test_what_the_daemon_says(error: Exception, expected: str) -> None:
    assert words(error) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "Too many open files"),
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT), "/logs"), "/logs: No such file or directory"),
        (KeyError("spec"), "request not understood: 'spec'"),
        (LookupError("container c is not running"), "container c is not running"),
        (OSError(errno.ESRCH, os.strerror(errno.ESRCH)), "cannot exec in a stopped container"),
        (
            OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
            "cannot fork: Resource temporarily unavailable (the pids limit of the pod or of the machine is reached)",
        ),
    ],
)
def test_what_a_pause_says(error: Exception, expected: str) -> None:
    assert cause_of(error) == expected
