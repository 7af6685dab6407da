"""A fork whose child begins in a version 2 control group, for processes with one thread.

A process that moves into a group takes a lock over all threads of the machine, which costs a grace period of the
kernel: 10 ms measured for each pause, container and command. One that is made there (clone3(2) with CLONE_INTO_CGROUP,
Linux 5.7) needs no such lock.

The C library has no function for it, so the system call is made directly, between the calls with which the interpreter
asks to be told of "any similar function that clones the current process" (C API, `PyOS_AfterFork_Child`). What the C
library's own fork does beyond the call concerns other threads, of which there are none, and the number of the thread
that it keeps: the kernel writes that, as it does for the library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from minikubelet.linux.lean import Final, cache, signal

_CLONE_INTO_CGROUP: Final = 0x200000000
_CLONE_CHILD_SETTID: Final = 0x01000000
_CLONE_CHILD_CLEARTID: Final = 0x00200000
_SYS_CLONE3: Final = 435
_PR_GET_TID_ADDRESS: Final = 40

_syscall: Final = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_before: Final = ctypes.pythonapi.PyOS_BeforeFork
_after_in_parent: Final = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_in_child: Final = ctypes.pythonapi.PyOS_AfterFork_Child
for _one in (_before, _after_in_parent, _after_in_child):
    _one.restype = None


def fork_in_group(directory: str) -> int:
    """Fork as `os.fork` does; the child begins in a control group of version 2.

    Raises:
        OSError: The kernel cannot do it or the group is of another kind, or what `os.fork` raises. Nothing is forked.
    """
    tid = thread_number_address()
    if not tid:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = _CLONE_INTO_CGROUP | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
        arguments = struct.pack("11Q", flags, 0, tid, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
        _before()
        pid = int(_syscall(ctypes.c_long(_SYS_CLONE3), arguments, ctypes.c_size_t(len(arguments))))
        if pid == 0:
            _after_in_child()
        else:
            number = ctypes.get_errno()
            _after_in_parent()
            if pid < 0:
                raise OSError(number, os.strerror(number), directory)
    finally:
        os.close(group)
    return pid


@cache
def thread_number_address() -> int:
    """Return where the C library keeps the number of the one thread, 0 where the kernel does not tell."""
    found = ctypes.create_string_buffer(8)
    prctl = ctypes.PyDLL(None).prctl
    if prctl(_PR_GET_TID_ADDRESS, ctypes.byref(found), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        return 0
    return int.from_bytes(found.raw, "little")
