"""`minikubelet debug POD`: a shell of the host, with all its tools, inside a pod's namespaces.

Works without the daemon: the pause's journal says which processes hold the namespaces. A process is taken only when its
start time is the recorded one, so a pid that has been given anew is never entered.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
from typing import Any, Final

from minikubelet.cli import journals, lookup
from minikubelet.cli.arguments import add_container, add_namespace, namespace_of
from minikubelet.cli.main import CommandFailed

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet debug web                        a shell: the pod's network, ipc and host name, the host's files
  minikubelet debug web -- ss -tlnp            one command: who listens in the pod?
  minikubelet debug web -- tcpdump -ni eth0
  minikubelet debug web -c server              the container's files and processes too

exit code: the command's own
"""

_FLAGS: Final = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000, "pid": 0x20000000, "mnt": 0x00020000}
_OF_POD: Final = ("ipc", "uts", "net")
_OF_CONTAINER: Final = ("ipc", "uts", "net", "pid", "mnt")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod", metavar="POD")
    add_namespace(parser)
    add_container(parser)


def execute(options: argparse.Namespace) -> int:
    """Run a shell or the given command in there."""
    if os.geteuid() != 0:
        raise CommandFailed("only root may enter a pod's namespaces; try again with sudo")
    pod = lookup.find_pod(options, namespace_of(options), options.pod)
    container = lookup.choose_container(pod, options.container) if options.container else ""
    pid = find_process(options.state_dir, pod, container)
    shell = os.environ.get("SHELL", "/bin/bash") if not container else "/bin/sh"
    command = options.command or [shell if os.path.exists(shell) else "/bin/sh"]
    return _run(pid, _OF_CONTAINER if container else _OF_POD, command)


def find_process(state_dir: str, pod: Json, container: str) -> int:
    """Return the pid of the pod's pause, or of a container's first process. Raises CommandFailed."""
    name = lookup.manifest_name(pod)
    found: Json = {}
    try:
        sandbox, containers = journals.read(state_dir, pod["metadata"]["uid"])
    except PermissionError as error:
        raise CommandFailed(f"only root may read {error.filename}; try again with sudo") from error
    except OSError as error:
        raise CommandFailed(f"the pod {name} has no sandbox; 'minikubelet why {name}' says why") from error
    if container:
        found = next((one for one in reversed(containers.values()) if one.get("name") == container), {})
    else:
        found = sandbox
    what = f"its container {container}" if container else "its pause process"
    if not _is_same(int(found.get("pid") or 0), int(found.get("start_ticks") or 0)):
        raise CommandFailed(f"cannot step into the pod {name}: {what} does not run; 'minikubelet why {name}' says why")
    return int(found["pid"])


def _is_same(pid: int, start_ticks: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19]) == start_ticks
    except (OSError, ValueError, IndexError):
        return False


def _run(pid: int, namespaces: tuple[str, ...], command: list[str]) -> int:
    """Enter the namespaces in a child, and return how the command ended there."""
    libc = ctypes.CDLL(None, use_errno=True)
    # All are opened before any is entered: another mount namespace has another /proc.
    handles = [(name, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)) for name in namespaces]
    child = os.fork()
    if child == 0:
        _become(libc, handles, command)
    for _, handle in handles:
        os.close(handle)
    # The terminal's signals are the command's.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    return _exit_code(child)


def _exit_code(child: int) -> int:
    """Wait for a child; death by signal n is 128 + n, as shells have it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _become(libc: ctypes.CDLL, handles: list[tuple[str, int]], command: list[str]) -> None:
    """Never returns."""
    code = 1
    try:
        for name, handle in handles:
            if libc.setns(handle, _FLAGS[name]) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter the {name} namespace")
        if any(name == "mnt" for name, _ in handles):
            os.chdir("/")
        if any(name == "pid" for name, _ in handles):
            # Entering a PID namespace concerns children only.
            child = os.fork()
            if child:
                os._exit(_exit_code(child))
        os.execvp(command[0], command)
    except FileNotFoundError:
        os.write(2, f"minikubelet: {command[0]}: command not found\n".encode())
        code = 127
    except OSError as error:
        os.write(2, f"minikubelet: {command[0]}: {error.strerror}\n".encode())
        code = 126
    finally:
        os._exit(code)
