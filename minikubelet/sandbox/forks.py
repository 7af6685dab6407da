"""Where the processes of a pod begin: forks in the right PID namespace and control groups."""

from __future__ import annotations

import os

from minikubelet.linux import libc
from minikubelet.linux.forking import fork_in_group
from minikubelet.linux.lean import Callable, suppress
from minikubelet.sandbox.family import kill_group
from minikubelet.sandbox.spec import SandboxSpec


class Forker:
    """Forks of this process, which has one thread."""

    __slots__ = (
        "_astray",
        "_pidns",
    )

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pidns = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._astray = False  # whether children still go to the PID namespace of the last fork

    def fork(self, pidfd: int | None, cgroup_dirs: list[str]) -> tuple[int, list[str]]:
        """Fork; the child begins a PID namespace (-1), joins that of a process (pidfd), or neither (None).

        Args:
            pidfd: As said.
            cgroup_dirs: Its control groups. Where the kernel can do that, it begins there.

        Returns:
            What `os.fork` returns, and the control groups that the child still has to join.
        """
        group = version_2_group(cgroup_dirs)
        if group:
            with suppress(OSError):  # a group that takes nobody: the child says so when it tries to join
                return self._fork(pidfd, lambda: fork_in_group(group)), []
        return self._fork(pidfd, os.fork), cgroup_dirs

    def _fork(self, pidfd: int | None, fork: Callable[[], int]) -> int:
        """Fork with a mark that says which PID namespace the child is to be in.

        The mark is taken back on every way out: with it, the kernel would refuse the next one. A fork that failed has
        used it up, so that a second one would fail for want of the namespace's first process.
        """
        if self._astray:
            libc.setns(self._pidns, libc.CLONE_NEWPID)
            self._astray = False
        if pidfd is None:
            return fork()
        if pidfd < 0:
            libc.unshare(libc.CLONE_NEWPID)
        else:
            libc.setns(pidfd, libc.CLONE_NEWPID)
        pid = -1
        try:
            pid = fork()
        finally:
            if pid != 0:
                try:
                    libc.setns(self._pidns, libc.CLONE_NEWPID)
                except OSError:  # the child is there and may not be forgotten; the next fork finds the way back
                    self._astray = True
        return pid

    def close(self) -> None:
        """Close what it holds."""
        os.close(self._pidns)


class Forks(Forker):
    """Forks of a pause, and what all processes of its pod begin with."""

    __slots__ = (
        "mount_base",
        "pause_pid",
        "shares_pids",
        "spec",
        "user_namespace",
    )

    def __init__(self, spec: SandboxSpec, *, user_namespace: int, mount_base: int) -> None:
        """Args: user_namespace, mount_base: Descriptors of namespaces; -1 without a user namespace."""
        self._begin()  # not by way of `super` or the class, which are looked up in the order of classes
        self.spec = spec
        self.mount_base = mount_base
        self.user_namespace = user_namespace
        self.pause_pid = int(os.readlink("/proc/self"))  # as the host's /proc numbers it
        self.shares_pids = spec.share_pid or spec.host_pid

    def kill_rest(self, cgroup_dirs: list[str]) -> None:
        """Kill what a container's main process leaves where the kernel does not: in a PID namespace of others too."""
        if self.shares_pids:
            kill_group(cgroup_dirs)


def version_2_group(cgroup_dirs: list[str]) -> str:
    """Return the control group among these in which a process can begin, "" when there is none."""
    return cgroup_dirs[0] if len(cgroup_dirs) == 1 and os.access(f"{cgroup_dirs[0]}/cgroup.type", os.F_OK) else ""
