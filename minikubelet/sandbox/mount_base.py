"""The mount namespace in which containers build their roots, and which their own begin as copies of.

A new mount namespace is a copy of the one it is made in, mount by mount. The host's holds those of all pods, so that
a container's start, and its end, would cost the more the more pods there are (8 ms each with 1000). This one holds
what a root is built from and nothing else: the host's root, without what is mounted on it, and the kernel's own file
systems. It is made once, by the fork server, and has no process in it; a descriptor keeps it.
"""

from __future__ import annotations

import os

from minikubelet.linux import libc, mounts
from minikubelet.linux.lean import Final, NoReturn, signal, suppress

HOST_ROOT: Final = "/host"
SCRATCH: Final = "/scratch"  # an empty directory to mount a root on
# The same by name as on the host, with what is mounted below or without.
_SHOWN: Final = (("/proc", False), ("/sys", False), ("/sys/fs/cgroup", True), ("/dev", False))


def make(directory: str) -> int:
    """Make it, with the help of a directory that is not there before and after.

    Returns:
        A descriptor, for `setns`.

    Raises:
        OSError: What a mount of it met.
    """
    os.mkdir(directory, 0o700)
    child = os.fork()
    if child == 0:
        _hold(directory)
    _, status = os.waitpid(child, os.WUNTRACED)
    os.rmdir(directory)
    if not os.WIFSTOPPED(status):
        number = os.waitstatus_to_exitcode(status)
        raise OSError(number, f"cannot make the containers' mount namespace: {os.strerror(number)}")
    try:
        return os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _hold(directory: str) -> NoReturn:
    """Make the namespace and stop, so that it can be opened, or exit with the number of an error; never returns."""
    number = 1
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
        _furnish(directory)
        os.kill(os.getpid(), signal.SIGSTOP)
    except OSError as error:
        number = error.errno or 1
    finally:
        os._exit(number)


def _furnish(directory: str) -> None:
    """Make the namespace's own root with all that is shown in it, and enter it."""
    trees = [(HOST_ROOT, mounts.clone("/", recursive=False))]
    for path, recursive in _SHOWN:
        with suppress(FileNotFoundError):  # without control groups
            trees.append((path, mounts.clone(path, recursive=recursive)))
    mounts.mount_tmpfs(directory, size=4096, mode=0o755)
    os.chdir(directory)
    for path in (HOST_ROOT, SCRATCH, *(path for path, _ in _SHOWN if path.count("/") == 1)):
        os.mkdir(path[1:], 0o755)
    for path, tree in trees:
        target = os.open(path[1:], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        libc.set_tree_attributes(tree, read_only=False, propagation=libc.MS_PRIVATE, recursive=True)
        libc.move_tree(tree, target)
        os.close(target)
    libc.pivot_root(".", ".")
    libc.umount(".", libc.MNT_DETACH)
