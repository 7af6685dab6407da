"""The first module of the fork server: in which order it loads things decides what a pause costs.

What pauses work with shall lie together: so first the standard library, and only then our own modules.
"""

from __future__ import annotations

import _json  # noqa: F401
import _socket  # noqa: F401
import binascii  # noqa: F401
import ctypes  # noqa: F401
import errno  # noqa: F401
import fcntl  # noqa: F401
import resource  # noqa: F401
import select  # noqa: F401
import stat  # noqa: F401
import termios  # noqa: F401


def main() -> None:
    """Load the fork server and be it."""
    from minikubelet.sandbox import forkserver

    forkserver.main()
