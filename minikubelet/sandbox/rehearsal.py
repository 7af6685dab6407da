"""A pod's whole life, played in the fork server before the first pod comes.

Functions that are bound, code that is specialized, caches that are filled and buffers that are made before the fork are
pages that all pauses share; what a pause does for the first time is copied page by page. So everything is done for
which a process need not change what it is: a sandbox with a container and a command in it, from start to stop.
"""

from __future__ import annotations

import _socket as socket
import os
import time

from minikubelet.linux import libc
from minikubelet.linux.kernel import memory_peak, oom_kills
from minikubelet.linux.lean import Any, Callable, Final, NoReturn, signal
from minikubelet.sandbox import spawn
from minikubelet.sandbox.pause import Pause, begin
from minikubelet.sandbox.protocol import Message, encode, send_descriptor

_LIMIT_S = 5.0
_CONTAINER = "0" * 64
_NAMES: Final = {"uid": "u" * 32, "id": _CONTAINER, "attempt": 0, "namespace": "n", "name": "p", "hostname": "h"}


def rehearse(directory: str) -> None:
    """Play it once, in an empty directory. Descriptors are left open; the caller closes all.

    Raises:
        OSError: Something in it fails, as it will for the pods.
    """
    ours, theirs = socket.socketpair()
    container: Message = {"id": _CONTAINER, "name": "c", "restart_count": 0, "spec_hash": "", "argv": [""]}
    container |= {"env": ["A=b"], "log_path": f"{directory}/c/0.log", "mounts": [{"kind": "tmpfs", "target": "/"}]}
    run: Message = {"do": "exec", "container": _CONTAINER, "command": [""], "timeout": _LIMIT_S, "limit": 1}
    started: list[Message] = [{"do": "ping"}, {"do": "start", "spec": container}]
    killed: Message = {"do": "signal", "container": _CONTAINER, "signal": signal.SIGKILL}
    # The pause is of the real class, for code is specialized to classes; only what its children become is changed.
    real = spawn.run_container, spawn.run_exec
    spawn.run_container, spawn.run_exec = _wait, _end
    try:
        pause = _begin(directory, ours, theirs)
        _play(pause, ours, started, lambda: any(one.start is None for one in pause.containers.running.values()))
        _visit(pause, directory)
        _play(pause, ours, [run], lambda: len(pause.executions) > 0)
        _play(pause, ours, [], lambda: len(pause.executions) == 0)
        _play(pause, ours, [killed], lambda: not pause.containers.running)
        ours.sendall(encode({"id": 1, "do": "stop"}))
        pause.run()
    finally:
        spawn.run_container, spawn.run_exec = real
        signal.set_wakeup_fd(-1)
    oom_kills(directory)
    memory_peak(directory)


def _begin(directory: str, daemon: socket.SocketType, first: socket.SocketType) -> Pause:
    """Begin as a pause does, in namespaces that are left again."""
    group = f"{directory}/group"
    os.makedirs(group, exist_ok=True)
    os.close(os.open(f"{group}/tasks", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    spec: Message = {**_NAMES, "run_dir": directory, "pod_dir": directory, "netns_path": f"{directory}/netns"}
    spec["given_netns"] = True
    before = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("net", "uts", "ipc")]
    send_descriptor(daemon, before[0])
    real = libc._mount
    libc._mount = zero
    try:
        return begin(spec, first, [group, group], mount_base=-1)
    finally:
        libc._mount = real
        try:
            for one in before:
                libc.setns(one)
            libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 0)
        except OSError:
            os._exit(1)  # pods without namespaces of their own would get these


def nothing(*_arguments: Any, **_options: Any) -> Any:
    """Stand for what would be seen outside of this process, or change what it is."""


def zero(*_arguments: Any) -> int:
    """Stand for a function of the C library that succeeds."""
    return 0


class _Nobody:
    """Stands for a pause."""

    def run(self) -> None:
        """End at once."""


def nobody(*_arguments: Any, **_options: Any) -> Any:
    """Make no pause."""
    return _Nobody()


def _play(pause: Pause, client: socket.SocketType, requests: list[Message], until: Callable[[], bool]) -> None:
    """Handle requests and what follows from them. Raises OSError when that takes too long."""
    for request in requests:
        client.sendall(encode({"id": 1, **request}))
    while not until():
        happened = pause.loop.events(_LIMIT_S)
        if not happened:
            raise TimeoutError("the rehearsal takes too long")
        for descriptor, events in happened:
            pause.guard(pause.loop.handle, descriptor, events)


def _visit(pause: Pause, run_dir: str) -> None:
    """Come as a later daemon does, and go."""
    visitor = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM)
    before = len(pause.clients)
    directory = os.open(run_dir, os.O_PATH | os.O_CLOEXEC)
    visitor.connect(f"/proc/self/fd/{directory}/{pause.spec.uid}.sock")
    _play(pause, visitor, [], lambda: len(pause.clients) > before)
    visitor.close()
    _play(pause, visitor, [], lambda: len(pause.clients) == before)


def _wait(*_arguments: Any, **_options: Any) -> NoReturn:
    """Run in the child instead of a container: hold nothing, and wait to be killed."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.closerange(0, 256)
    time.sleep(_LIMIT_S)  # not for ever: the fork server may have died before it could be tied to it
    os._exit(0)


def _end(*_arguments: Any, **_options: Any) -> NoReturn:
    """Run in the child instead of a command."""
    os._exit(0)
