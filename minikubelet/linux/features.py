"""Tries what pods need of the kernel, in children that leave nothing behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Final

from minikubelet.linux import libc

_NAMESPACES: Final = {
    "mount": libc.CLONE_NEWNS,
    "pid": libc.CLONE_NEWPID,
    "network": libc.CLONE_NEWNET,
    "ipc": libc.CLONE_NEWIPC,
    "uts": libc.CLONE_NEWUTS,
}

_CAP_SYS_RESOURCE: Final = 24


def attempt(step: Callable[[], None]) -> str:
    """Run a step in a child process; return "" when it succeeded, else the error."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        text = ""
        try:
            step()
        except OSError as error:
            text = os.strerror(error.errno) if error.errno else str(error)
        except BaseException as error:
            text = str(error)
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return text if status == 0 else f"ended with status {status}"


def missing_namespaces() -> dict[str, str]:
    """Return the kinds of namespaces that cannot be made, each with the error."""
    found = {name: attempt(partial(libc.unshare, flag)) for name, flag in _NAMESPACES.items()}
    return {name: error for name, error in found.items() if error}


def user_namespaces() -> str:
    """Return "" when user namespaces can be made, else the error."""
    return attempt(lambda: libc.unshare(libc.CLONE_NEWUSER))


def overlay() -> str:
    """Return "" when the host's root can be the lower layer of an overlay with its upper one in memory."""

    def step() -> None:
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
        base = tempfile.gettempdir()
        libc.mount("tmpfs", base, "tmpfs", 0, "size=1m")
        for name in ("upper", "work", "root"):
            os.mkdir(f"{base}/{name}")
        options = f"lowerdir=/,upperdir={base}/upper,workdir={base}/work"
        libc.mount("overlay", f"{base}/root", "overlay", 0, options)

    return attempt(step)


def system_calls() -> dict[str, str]:
    """Return the newer system calls that fail, each with the error."""
    found: dict[str, str] = {}
    for name, step in {
        "pidfd_open": lambda: os.close(os.pidfd_open(os.getpid())),
        "openat2": _openat2,
        "open_tree": _open_tree,
        "mount_setattr": _mount_setattr,
    }.items():
        if error := attempt(step):
            found[name] = error
    return found


def _openat2() -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.close(libc.openat2(root, "proc", os.O_PATH, libc.RESOLVE_IN_ROOT))


def _open_tree() -> None:
    libc.unshare(libc.CLONE_NEWNS)
    os.close(libc.clone_tree(os.open("/proc", os.O_PATH | os.O_DIRECTORY), recursive=False))


def _mount_setattr() -> None:
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
    libc.set_read_only("/proc", recursive=False)


def missing_capabilities(wanted: dict[str, int]) -> list[str]:
    """Return the names of capabilities that this process does not have."""
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return [name for name, number in wanted.items() if not effective >> number & 1]


def inside_network_namespace(command: list[str], text: str = "") -> str:
    """Run a command in a new network namespace; return "" when it succeeded, else what it said."""
    return attempt(lambda: _run(command, text))


def _run(command: list[str], text: str) -> None:
    import subprocess

    libc.unshare(libc.CLONE_NEWNET)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"exit {done.returncode}")


def can_lower_oom_score() -> bool:
    """Tell whether this process may make the kernel spare others when memory runs out (CAP_SYS_RESOURCE)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        held = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(held, 16) >> _CAP_SYS_RESOURCE & 1)
