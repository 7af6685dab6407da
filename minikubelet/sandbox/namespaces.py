"""A pod's namespaces: made once, by its pause, and known by a name."""

from __future__ import annotations

import _socket as socket
import errno
import fcntl
import os
import sys

from minikubelet.linux import libc
from minikubelet.linux.files import write_small
from minikubelet.linux.lean import suppress
from minikubelet.sandbox import userns
from minikubelet.sandbox.protocol import receive_descriptor
from minikubelet.sandbox.spec import SandboxSpec


def make_namespaces(spec: SandboxSpec, daemon: socket.SocketType) -> int:
    """Make and prepare the pod's namespaces; the PID namespace, if shared, was made before the fork.

    Args:
        spec: The pod's.
        daemon: Where a given network namespace comes from.

    Returns:
        A descriptor of the pod's user namespace, -1 without one. The pause itself never enters it.
    """
    flags = 0
    if not spec.host_network:
        flags |= libc.CLONE_NEWUTS if spec.given_netns else libc.CLONE_NEWNET | libc.CLONE_NEWUTS
    if not spec.host_ipc:
        flags |= libc.CLONE_NEWIPC
    user_namespace = -1
    if spec.user_namespace is not None:
        user_namespace = userns.make(spec.user_namespace, flags)
    elif flags:
        libc.unshare(flags)
    if not spec.host_network:
        # Bytes it takes as they are; for text it raises an error and catches it.
        socket.sethostname(spec.hostname.encode())  # type: ignore[arg-type]
        if spec.given_netns:
            join_network(daemon)
        else:
            bring_up_loopback()
        if spec.netns_path:
            pin(spec.netns_path)
    for name, value in spec.sysctls.items():
        write_small("/proc/sys/" + (name if "/" in name else name.replace(".", "/")), value.encode())
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    return user_namespace


def join_network(daemon: socket.SocketType) -> None:
    """Join the network namespace that the daemon makes and connects meanwhile. Raises OSError: it could not."""
    descriptor = receive_descriptor(daemon)
    if descriptor < 0:
        raise OSError(errno.ENOENT, "the network namespace was not sent")
    libc.setns(descriptor, libc.CLONE_NEWNET)
    os.close(descriptor)


def bring_up_loopback() -> None:
    """Set `lo` up; see netdevice(7)."""
    control = socket.SocketType(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    request = bytearray(40)  # struct ifreq: the name, and from 16 on the flags
    request[:2] = b"lo"
    request[16:18] = (0x1 | 0x40).to_bytes(2, sys.byteorder)  # UP and RUNNING
    fcntl.ioctl(control.fileno(), 0x8914, request)  # SIOCSIFFLAGS
    control.close()


def pin(path: str) -> None:
    """Give the network namespace a name that `ip netns` shows."""
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.close(os.open(path, flags | os.O_EXCL, 0o444))
    except FileExistsError:
        unpin(path)  # what a lost pause of this pod left there
        os.close(os.open(path, flags, 0o444))
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.close(os.open(path, flags, 0o444))
    libc.mount("/proc/self/ns/net", path, None, libc.MS_BIND)


def unpin(path: str) -> None:
    """Take the name away."""
    with suppress(OSError):
        while True:  # until the kernel says that nothing is mounted there
            libc.umount(path, libc.MNT_DETACH)
    with suppress(OSError):
        os.unlink(path)
