"""A systemd scope that holds the pods' control groups, so that the daemon's own unit can be restarted below them.

On the unified hierarchy systemd cannot start a unit's main process while controllers are handed on from the unit's
group ("no internal processes"), and pods that outlive the daemon keep them handed on. So the pods get a scope of their
own with `Delegate=yes`, next to the daemon's unit. systemd ends a scope with its last process: a keeper, a `cat` that
reads a pipe of ours, holds it while no pod does, and ends with the daemon.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_BOOTED_BY_SYSTEMD: Final = "/run/systemd/system"  # as sd_booted(3) has it
_MOUNT_POINT: Final = "/sys/fs/cgroup"
_KEEPER_LEAF: Final = "keeper"
_WAIT_S: Final = 10.0
# Says a line once it runs, so that we need not guess when the scope is there.
_KEEPER: Final = ("/bin/sh", "-c", "echo; exec cat >/dev/null")


class Scope:
    """Owner of one scope unit; `close` gives it back to systemd, which removes it when it is empty."""

    def __init__(self, unit: str) -> None:
        """Args: unit: The unit's name, ending in `.scope`; the same for every daemon that comes after this one."""
        self._unit = unit
        self._keeper: subprocess.Popen[bytes] | None = None

    def hold(self) -> str | None:
        """Make the scope, or enter the one that pods of an earlier daemon hold; return its group's directory.

        None says that there is no systemd here, or that it refused; the reason is logged.
        """
        runner = shutil.which("systemd-run")
        if runner is None or not os.path.isdir(_BOOTED_BY_SYSTEMD):
            return None
        options = ["--scope", "--quiet", "--collect", f"--unit={self._unit}", "--slice=system.slice"]
        properties = ("Delegate=yes", "TasksMax=infinity", "TimeoutStopSec=30", "Before=minikubelet.service")
        made = [runner, *options, *(f"--property={one}" for one in properties), "--description=Pods of minikubelet"]
        # An existing scope is refused; then the keeper is started here and moved there.
        for command in ([*made, "--", *_KEEPER], list(_KEEPER)):
            self._keeper = _start(command)
            if self._keeper is None:
                continue
            directory = self._enter(self._keeper.pid)
            if directory is not None:
                return directory
            self.close()
        log.warning("no scope for the pods' control groups", unit=self._unit)
        return None

    def _enter(self, pid: int) -> str | None:
        """Put the keeper into a leaf, as processes may not lie where controllers are handed on from."""
        directory = _MOUNT_POINT + _control_group(self._unit)
        if directory == _MOUNT_POINT:
            return None
        leaf = os.path.join(directory, _KEEPER_LEAF)
        try:
            os.makedirs(leaf, exist_ok=True)
            with open(os.path.join(leaf, "cgroup.procs"), "w") as file:
                file.write(str(pid))
        except OSError as error:
            log.warning("cannot enter scope", unit=self._unit, error=str(error))
            return None
        return directory

    def close(self) -> None:
        """End the keeper."""
        if self._keeper is None:
            return
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(_WAIT_S)
        self._keeper = None


def _start(command: list[str]) -> subprocess.Popen[bytes] | None:
    """Start a keeper and wait for its line; None when it ended instead."""
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert keeper.stdout is not None and keeper.stdin is not None
    readable, _, _ = select.select([keeper.stdout], [], [], _WAIT_S)
    if readable and os.read(keeper.stdout.fileno(), 1):
        return keeper
    keeper.stdin.close()
    keeper.stdout.close()
    keeper.kill()
    keeper.wait()
    return None


def _control_group(unit: str) -> str:
    """Return the path of a unit's group below the hierarchy's root, "" when it has none."""
    show = ["systemctl", "show", "--property=ControlGroup", "--value", unit]
    return subprocess.run(show, check=False, capture_output=True, text=True).stdout.strip()
