"""A pod's user namespace: root inside is an ordinary, otherwise unused id outside.

The pause stays outside, for it writes logs and joins control groups as the host's root. A short-lived child makes the
user namespace and, from within, the pod's other namespaces, so that these belong to it: a capability of a container
then counts for its own network and no other. The pause holds the user namespace by descriptor and joins the rest.
"""

from __future__ import annotations

import os

from minikubelet.linux import libc
from minikubelet.linux.files import write_small
from minikubelet.sandbox.spec import IdMap

_JOINED = (("net", libc.CLONE_NEWNET), ("uts", libc.CLONE_NEWUTS), ("ipc", libc.CLONE_NEWIPC))


def make(id_map: IdMap, flags: int) -> int:
    """Make a user namespace and, owned by it, the namespaces in `flags`; join the latter.

    Returns:
        A descriptor of the user namespace.

    Raises:
        OSError: The kernel does not allow (another) one.
    """
    told_reading, told_writing = os.pipe2(os.O_CLOEXEC)
    go_reading, go_writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(go_writing)
        _hold(flags, told_writing, go_reading)
    os.close(told_writing)
    os.close(go_reading)
    try:
        number = os.read(told_reading, 16)
        if number != b"0":
            raise OSError(int(number or b"5"), "cannot make user namespace: " + os.strerror(int(number or b"5")))
        line = f"0 {id_map.first} {id_map.length}".encode()
        write_small(f"/proc/{child}/uid_map", line)
        write_small(f"/proc/{child}/gid_map", line)
        user_namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        for name, flag in _JOINED:
            if flags & flag:
                descriptor = os.open(f"/proc/{child}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
                libc.setns(descriptor, flag)
                os.close(descriptor)
        return user_namespace
    finally:
        os.close(told_reading)
        os.close(go_writing)
        os.waitpid(child, 0)


def _hold(flags: int, told: int, go: int) -> None:
    """Make the namespaces, say so (0, or the error's number), and wait until they have been opened; never returns."""
    try:
        libc.unshare(libc.CLONE_NEWUSER | flags)
        os.write(told, b"0")
        os.read(go, 1)
    except OSError as error:
        os.write(told, str(error.errno).encode())
    finally:
        os._exit(0)
