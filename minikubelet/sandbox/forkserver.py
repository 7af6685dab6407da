"""The fork server: a small, warm process whose copies become pauses.

It holds the modules that a pause needs and nothing else, so a pause costs a fork, not the start of an interpreter, and
shares its memory with all others. It lives and dies with the daemon: end of file on its socket is its end. Its children
are orphaned at once, so that they belong to init.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

from minikubelet.linux import libc
from minikubelet.sandbox import pause
from minikubelet.sandbox.protocol import Decoder, Message, ProtocolError, send


def serve(control: socket.socket) -> None:
    """Fork a pause for each request until the daemon is gone."""
    decoder = Decoder()
    while True:
        try:
            messages = decoder.read(control)
        except (OSError, ProtocolError):
            return
        if messages is None:
            return
        for message, descriptors in messages:
            fork_pause(control, message, descriptors)


def fork_pause(control: socket.socket, message: Message, descriptors: list[int]) -> None:
    """Fork twice: the middle process ends, so that init adopts the pause."""
    middle = os.fork()
    if middle == 0:
        try:
            if message["spec"].get("share_pid"):
                libc.unshare(libc.CLONE_NEWPID)
            if os.fork() != 0:
                os._exit(0)
            become_pause(message, descriptors[0])
        finally:
            os._exit(1)
    os.waitpid(middle, 0)
    for descriptor in descriptors:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        send(control, {"re": message.get("id", 0)})


def become_pause(message: Message, connection: int) -> None:
    """Run in the grandchild: keep only the connection to the daemon, then be the pause."""
    os.setsid()
    kept = os.dup2(connection, 3) if connection != 3 else 3
    os.closerange(4, 4096)
    os.set_inheritable(3, False)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    os.umask(0o022)
    spec = message["spec"]
    libc.write_process_title(f"minikubelet: pause {spec['namespace']}/{spec['name']}")
    libc.set_process_name("mk:pause")
    pause.run(spec, socket.socket(fileno=kept))


def main() -> None:
    """Serve on the descriptor named by the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    libc.write_process_title("minikubelet: forkserver")
    libc.set_process_name("mk:forkserver")
    gc.collect()
    gc.freeze()
    gc.disable()
    send(control, {"event": "ready"})
    serve(control)


if __name__ == "__main__":
    main()
