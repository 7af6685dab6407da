"""The first module of the fork server: in which order it loads things decides what a pause costs.

What pauses work with shall lie together: so first the words of what they keep and say, which the interpreter has once
for all modules, then the standard library, and only then our own modules.
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

# Keys of messages and records, names of handlers and arguments: what is looked up or passed by name. Being the first
# module's constants they are made first, in the same few pages. One that is missing here costs a page, no more.
# fmt: off
WORDS = (
    "_let_go", "_on_connect", "_on_message", "_on_output", "_on_report", "attempt", "boot_id", "Completed",
    "container", "containers", "created", "created_at", "created_mono", "do", "do_", "Error", "event", "exit",
    "exit_code", "exited", "failed", "false", "finished_at", "finished_mono", "gid", "groups", "handle", "hello",
    "host_network", "let_go", "max_files", "max_size", "message", "mount_base", "mounts", "netns_path", "note",
    "null", "on_drop", "on_request", "on_signal", "propagation", "read_only", "reason", "recursive_read_only",
    "restart_count", "running", "sandbox", "sandbox_id", "serve", "signal", "spec_hash", "start_ticks",
    "started_at", "started_mono", "surrogateescape", "trouble", "uid", "user_namespace", "warn_on_full_buffer",
)
# fmt: on


def main() -> None:
    """Load the fork server and be it."""
    from minikubelet.sandbox import forkserver

    forkserver.main()
