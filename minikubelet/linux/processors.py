"""Which of the machine's processors a thread may run on."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Final

_sched_getcpu: Final = ctypes.PyDLL(None).sched_getcpu


def send_elsewhere(thread: int) -> None:
    """Have a sleeping thread of this process wake on another processor than the caller's, where there is one.

    Linux wakes it on its waker's or its last one, and in a virtual machine finds the others taken even when they idle;
    what the woken one does in the kernel then holds up its waker. The thread itself undoes this (`roam`).

    Args:
        thread: Its number in the system.
    """
    others = os.sched_getaffinity(0) - {_sched_getcpu()}
    if others:
        with contextlib.suppress(OSError):  # the machine's owner has moved us meanwhile, or the thread is gone
            os.sched_setaffinity(thread, others)


def roam() -> None:
    """Let the calling thread run wherever the process' first thread may."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))
