"""Pseudo-terminals of a container's own: made in its mount namespace, so that /dev/pts there knows them.

The side that controls the terminal travels over a socket to whoever asked, as runc's console socket has it.
"""

from __future__ import annotations

import _socket as socket
import fcntl
import os
import stat
import struct
import termios

from minikubelet.linux import libc
from minikubelet.linux.lean import Final, suppress
from minikubelet.sandbox.protocol import receive_descriptor, send_descriptor

_MULTIPLEXER: Final = "/dev/pts/ptmx"
_MULTIPLEXER_DEVICE: Final = os.makedev(5, 2)
_CONSOLE: Final = "/dev/console"
_UNLOCK: Final = 0x40045431  # TIOCSPTLCK
_GET_PEER: Final = 0x5441  # TIOCGPTPEER: by descriptor, so no path in the container is trusted


def connect_terminal(console: int, uid: int, *, is_console: bool) -> None:
    """Make a terminal, send its controlling side over a socket, and make the other side this process' own.

    Args:
        console: The socket.
        uid: Who owns the terminal.
        is_console: It becomes the container's /dev/console, too, as that of its main process.

    Raises:
        OSError: There is no terminal to be had.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    master = os.open(_MULTIPLEXER, flags)
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _MULTIPLEXER_DEVICE:
        raise OSError(25, "Not a terminal", _MULTIPLEXER)
    fcntl.ioctl(master, _UNLOCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _GET_PEER, os.O_RDWR | os.O_NOCTTY)
    os.fchown(slave, uid, -1)
    if is_console:
        _mount_console(slave)
    # Ours before anybody can press a key: a Ctrl-C on a terminal that is nobody's yet is lost.
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    connection = socket.socket(fileno=os.dup(console))
    send_descriptor(connection, master)
    connection.close()
    for number in range(3):
        os.dup2(slave, number)
    if slave > 2:
        os.close(slave)
    os.close(master)


def _mount_console(slave: int) -> None:
    with suppress(FileExistsError):  # a privileged container has the machine's
        os.close(os.open(_CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    libc.mount(f"/proc/self/fd/{slave}", _CONSOLE, None, libc.MS_BIND)


def receive_terminal(console: int) -> int:
    """Return the controlling side that was sent over a socket, -1 when there is none."""
    connection = socket.socket(fileno=os.dup(console))
    try:
        return receive_descriptor(connection, socket.MSG_DONTWAIT)
    except OSError:
        return -1
    finally:
        connection.close()


def set_size(master: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; its foreground program gets SIGWINCH. Raises OSError."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
