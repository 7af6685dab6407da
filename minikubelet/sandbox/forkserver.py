"""The fork server: a small, warm process whose copies become pauses.

It holds the modules that a pause needs and nothing else, so a pause costs a fork, not the start of an interpreter, and
shares its memory with all others. It lives and dies with the daemon: end of file on its socket is its end. Pauses stay;
init adopts them then.
"""

from __future__ import annotations

import _socket as socket
import gc
import os
import resource
import sys

from minikubelet.linux import libc
from minikubelet.linux.faults import point, rest
from minikubelet.linux.heap import Used, fill_holes
from minikubelet.linux.lean import Final, signal, suppress
from minikubelet.sandbox import mount_base, pause, spawn
from minikubelet.sandbox.forks import Forker
from minikubelet.sandbox.protocol import Decoder, Message, ProtocolError, send
from minikubelet.sandbox.rehearsal import nobody, nothing, rehearse

_MOST_DESCRIPTORS: Final = 4096
# What programs have long been given; those that want more raise it themselves, up to the hard limit.
_SOFT_DESCRIPTORS: Final = 1024
_MOUNT_BASE: Final = 4  # the number of its descriptor in the fork server and in all pauses
_OOM_SCORE: Final = -998  # which pauses inherit; source: containerd `defaultSandboxOOMAdj`
_REHEARSALS: Final = 8  # a function's code has taken its final form after as many calls


def serve(control: socket.socket) -> None:
    """Fork a pause for each request until the daemon is gone."""
    decoder = Decoder()
    forker = Forker()
    while True:
        try:
            messages = decoder.read(control)
        except (OSError, ProtocolError):
            return
        if messages is None:
            return
        for message, descriptors in messages:
            fork_pause(forker, control, message, descriptors)


def fork_pause(forker: Forker, control: socket.socket, message: Message, descriptors: list[int]) -> None:
    """Fork a pause, and say whether that could be done."""
    answer: Message = {"re": message.get("id", 0)}
    try:
        point("forkserver.fork")
        spec = message["spec"]
        pid, groups = forker.fork(-1 if spec.get("share_pid") else None, spec.get("cgroup_dirs", []))
        if pid == 0:
            try:
                point("forkserver.forked")
                become_pause(message, descriptors[0], groups)
            finally:
                os._exit(1)
    except OSError as error:
        answer["error"] = f"the fork server could not fork: {error.strerror}"
    except (KeyError, TypeError, AttributeError):
        answer["error"] = "the fork server could not fork: request not understood"
    for descriptor in descriptors:
        os.close(descriptor)
    with suppress(OSError):
        send(control, answer)


def become_pause(message: Message, connection: int, groups: list[str]) -> None:
    """Run in the child: keep only the connection to the daemon and the mount namespace, then be the pause."""
    signal.signal(signal.SIGCHLD, wake)  # its children are its own to reap
    os.setsid()
    kept = os.dup2(connection, 3, inheritable=False)
    os.closerange(_MOUNT_BASE + 1, _MOST_DESCRIPTORS)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
    spec = message["spec"]
    show_as("pause", f"pause {spec['namespace']}/{spec['name']}")
    pause.run(spec, socket.SocketType(fileno=kept), groups, mount_base=_MOUNT_BASE)


def show_as(name: str, title: str) -> None:
    """Say in lists of processes what this one is."""
    libc.write_process_title(f"minikubelet: {title}")
    libc.set_process_name(f"mk:{name}")


def wake(number: int, frame: object) -> None:
    """Handle a signal, so that the wake-up descriptor tells of it."""


def reap(number: int, frame: object) -> None:
    """Handle a pause's end."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def warm_up(directory: str) -> list[object]:
    """Rehearse a pause's work in a directory that is removed afterwards, and close everything but 0 to 3.

    Returns:
        What is to be kept.
    """
    kept: list[object] = []
    used = Used()
    gc.collect()
    gc.freeze()  # what is there already is not looked at again each time
    with suppress(OSError):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with used:
            rehearse_once(directory)
        kept = used.make_anew("minikubelet.")
        for _ in range(_REHEARSALS):
            rehearse_once(directory)
    gc.unfreeze()
    gc.collect()
    os.closerange(4, _MOST_DESCRIPTORS)
    for top, _, names in os.walk(directory, topdown=False):
        for name in names:
            os.unlink(os.path.join(top, name))
        os.rmdir(top)
    return kept


def rehearse_once(directory: str) -> None:
    """Rehearse a pause's whole work."""
    rehearse_parting()
    rehearse(directory)
    gc.collect()  # before its descriptors are closed under it
    os.closerange(4, _MOST_DESCRIPTORS)


def rehearse_parting() -> None:
    """Do what a new pause does to leave its parent, but what cannot be undone, and undo it."""
    kept = [os.dup(number) for number in range(4)]
    reap(0, None)
    real = os.setsid, os.closerange, os._exit, pause.begin
    os.setsid = os.closerange = os._exit = nothing
    pause.begin = nobody
    try:
        become_pause({"spec": {"namespace": "", "name": ""}}, os.dup(3), [])
    finally:
        os.setsid, os.closerange, os._exit, pause.begin = real
        for number, one in enumerate(kept):
            os.dup2(one, number, inheritable=number < 3)
        show_as("forkserver", "forkserver")


def main() -> None:
    """Serve on the descriptor named by the first argument; the second is a directory that it may make and remove."""
    # The pauses inherit these. A handler, even one that does nothing, is what makes the wake-up descriptor speak.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, wake)
    number = int(sys.argv[1])
    control = socket.socket(fileno=os.dup2(number, 3, inheritable=False) if number != 3 else 3)
    os.set_inheritable(3, False)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_SOFT_DESCRIPTORS, hard), hard))
    os.umask(0o022)
    spawn.set_oom_score(_OOM_SCORE)
    show_as("forkserver", "forkserver")
    rest(True)
    kept = warm_up(sys.argv[2])
    rest(False)
    spawn.look_up()
    try:
        base = mount_base.make(sys.argv[2])
    except OSError as error:
        send(control, {"event": "failed", "message": error.strerror})
        return
    if base != _MOUNT_BASE:
        os.dup2(base, _MOUNT_BASE, inheritable=False)
        os.close(base)
    signal.signal(signal.SIGCHLD, reap)
    gc.collect()  # also empties the lists of free tuples and the like, which lie anywhere
    kept += fill_holes()
    gc.freeze()
    gc.disable()
    send(control, {"event": "ready"})
    serve(control)
    del kept


if __name__ == "__main__":
    main()
