"""System calls that Python 3.11 does not wrap, through the C library. Every function raises OSError with its errno.

Standard library only and cheap to import: the pause processes live in this module.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

from minikubelet.linux.faults import point
from minikubelet.linux.files import read_small
from minikubelet.linux.lean import Callable, Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MNT_DETACH: Final = 2

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_NO_NEW_PRIVS: Final = 39
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_SECCOMP: Final = 22
PR_SET_KEEPCAPS: Final = 8
SECCOMP_MODE_FILTER: Final = 2

_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 1
_MOUNT_ATTR_NODEV: Final = 4
_MOUNT_ATTR_IDMAP: Final = 0x00100000
_CLOSE_RANGE_CLOEXEC: Final = 4
_SYS_CLOSE_RANGE: Final = 436
_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_SYS_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_SYS_MOUNT_SETATTR: Final = 442
_SYS_OPENAT2: Final = 437
_SYS_PIDFD_GETFD: Final = 438
_CAPABILITY_VERSION_3: Final = 0x20080522

# PyDLL keeps the interpreter lock: these processes have one thread, and a fork in between would be a fork without it.
_libc: Final = ctypes.PyDLL(None, use_errno=True)
_MACHINE: Final = os.uname().machine


# Bound once. Without types an integer is passed as an int, bytes and None as a pointer; what is longer says so. To
# convert to types that were declared makes objects and looks up their classes, for which pauses pay in pages.
_unshare: Final = _libc.unshare
_setns: Final = _libc.setns
_mount: Callable[..., int] = _libc.mount  # the rehearsal puts another in its place
_umount2: Final = _libc.umount2
_prctl: Final = _libc.prctl
_signal: Final = _libc.signal
_memmove: Final = _libc.memmove
_long: Final = ctypes.c_ulong
# Through `syscall` every argument is a long; a pointer is given as the address or the bytes themselves.
_syscall: Final = _libc.syscall
_syscall.restype = ctypes.c_long
# As `os.fsencode` does, which is a closure over these.
_ENCODING: Final = sys.intern(sys.getfilesystemencoding())
_ERRORS: Final = sys.intern(sys.getfilesystemencodeerrors())


def _check(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode(_ENCODING, _ERRORS)


def unshare(flags: int) -> None:
    """Move this process into new namespaces."""
    point("libc.unshare")
    _check(_unshare(flags))


def setns(descriptor: int, flags: int = 0) -> None:
    """Move this process into the namespace (or those of the pidfd) that a descriptor refers to."""
    point("libc.setns")
    _check(_setns(descriptor, flags))


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    """Mount, remount or bind; see mount(2)."""
    point("libc.mount")
    _check(_mount(_bytes(source), _bytes(target), _bytes(kind), _long(flags), _bytes(options)), target)


def umount(target: str, flags: int = 0) -> None:
    """Unmount; see umount2(2)."""
    point("libc.umount")
    _check(_umount2(_bytes(target), flags), target)


def set_read_only(target: str, *, recursive: bool) -> None:
    """Make a mount, or with `recursive` all mounts below it too, read-only (mount_setattr(2), Linux 5.12)."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    _check(
        _syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            _bytes(target),
            ctypes.c_uint(flags),
            attributes,
            ctypes.c_size_t(len(attributes)),
        ),
        target,
    )


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root; see pivot_root(2)."""
    point("libc.pivot_root")
    number = _SYS_PIVOT_ROOT[_MACHINE]
    _check(_syscall(ctypes.c_long(number), _bytes(new_root), _bytes(put_old)), new_root)


def prctl(option: int, argument: int = 0, argument3: int = 0) -> None:
    """See prctl(2)."""
    unused = _long(0)
    _check(_prctl(option, _long(argument), _long(argument3), unused, unused))


def has_no_new_privs() -> bool:
    """Tell whether this process can gain no privileges any more."""
    unused = _long(0)
    return bool(_prctl(_PR_GET_NO_NEW_PRIVS, unused, unused, unused, unused))


def reset_signal(number: int) -> None:
    """Give a signal its default action, past Python's own handling: for a process about to execute a program."""
    _signal(number, None)


def set_process_name(name: str) -> None:
    """Set the 15 characters that `ps -c` and `top` show."""
    _prctl(PR_SET_NAME, name.encode()[:15])


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set this process' capability sets, as bit masks; see capset(2)."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    low = 0xFFFFFFFF
    data = struct.pack(
        "IIIIII",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    _check(_syscall(ctypes.c_long(_SYS_CAPSET[_MACHINE]), header, data))


def set_seccomp_filter(program: bytes) -> None:
    """Install a seccomp filter given as the kernel's `struct sock_filter` array."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(fprog, len(fprog))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(holder))


def write_process_title(title: str) -> None:
    """Overwrite the memory that /proc/self/cmdline shows; a longer title is cut to the room that there is."""
    start, size = title_place()
    text = title.encode()[: size - 1]
    _memmove(_long(start), text + b"\0" * (size - len(text)), _long(size))


def title_place() -> tuple[int, int]:
    """Return where that memory is, and its size."""
    fields = read_small("/proc/self/stat").rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    return start, end - start


RESOLVE_IN_ROOT: Final = 0x10
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_BENEATH: Final = 0x08


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open a path below a directory with limits on how it is resolved; see openat2(2)."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _check(
        _syscall(ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(directory), _bytes(path), how, ctypes.c_size_t(len(how))),
        path,
    )


AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429


def clone_tree(descriptor: int, *, recursive: bool) -> int:
    """Return a detached copy of the mounts at a descriptor (open_tree(2)); `move_tree` attaches it."""
    point("libc.open_tree")
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    return _check(_syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(descriptor), b"", ctypes.c_uint(flags)))


def move_tree(tree: int, target: int) -> None:
    """Attach a detached mount at the file or directory that `target` is open on (move_mount(2))."""
    point("libc.move_mount")
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _check(
        _syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_int(tree), b"", ctypes.c_int(target), b"", ctypes.c_uint(flags)
        )
    )


def map_tree_ids(tree: int, user_namespace: int) -> None:
    """Show a detached mount's owners as a user namespace maps them (MOUNT_ATTR_IDMAP, Linux 5.12)."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    _check(
        _syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(tree),
            b"",
            ctypes.c_uint(AT_EMPTY_PATH),
            attributes,
            ctypes.c_size_t(len(attributes)),
        )
    )


def close_on_exec_from(first: int) -> None:
    """Mark all descriptors from `first` on to be closed by exec; no error on kernels before 5.11, which cannot."""
    _syscall(
        ctypes.c_long(_SYS_CLOSE_RANGE),
        ctypes.c_uint(first),
        ctypes.c_uint(0xFFFFFFFF),
        ctypes.c_uint(_CLOSE_RANGE_CLOEXEC),
    )


def set_tree_attributes(
    tree: int, *, read_only: bool, propagation: int, recursive: bool, no_devices: bool = False
) -> None:
    """Set read-only, nodev and propagation of a mount by descriptor; propagation 0 leaves it as it is."""
    wanted = (_MOUNT_ATTR_RDONLY if read_only else 0) | (_MOUNT_ATTR_NODEV if no_devices else 0)
    attributes = struct.pack("QQQQ", wanted, 0, propagation, 0)
    flags = AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _check(
        _syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(tree),
            b"",
            ctypes.c_uint(flags),
            attributes,
            ctypes.c_size_t(len(attributes)),
        )
    )
