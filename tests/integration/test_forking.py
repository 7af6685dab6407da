"""Forks that begin in a control group, on a version 2 tree that is mounted for the test where the machine has none."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from minikubelet.linux import libc
from minikubelet.linux.forking import fork_in_group
from minikubelet.sandbox import forkserver
from minikubelet.sandbox.forks import Forks
from minikubelet.sandbox.rehearsal import rehearse
from minikubelet.sandbox.spec import sandbox_from_json

pytestmark = pytest.mark.root

_PR_GET_CHILD_SUBREAPER = 37
NAMES = dict.fromkeys(("uid", "id", "namespace", "name", "hostname", "run_dir", "pod_dir"), "")


def in_child(step: Callable[[], None]) -> int:
    """Return with which code a child ends that does something; 1 when it raises."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            step()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return end_of(pid)


def end_of(pid: int) -> int:
    """Return a child's exit code; one that does not end in time is killed."""
    child = os.pidfd_open(pid)
    try:
        if not select.select([child], [], [], 30)[0]:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(child)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def group_of_tree(mount: Path) -> Path:
    """Mount the version 2 tree, which only this process sees, and make a group in it."""
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("none", str(mount), "cgroup2")
    group = mount / f"minikubelet-test-{os.getpid()}"
    group.mkdir()
    return group


def is_in(group: Path) -> bool:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return any(line.startswith("0::") and line.endswith(group.name) for line in lines)


def test_the_child_is_a_process_like_any_other_and_is_in_the_group_from_the_first(tmp_path: Path) -> None:
    def step() -> None:
        group = group_of_tree(tmp_path)
        try:
            parent = os.getpid()
            pid = fork_in_group(str(group))
            if pid == 0:
                # It is itself, and what it forks, awaits and signals is its own.
                assert is_in(group)
                assert (os.getppid(), os.getpid()) == (parent, int(os.readlink("/proc/self")))
                assert in_child(lambda: os.kill(os.getpid(), signal.SIGTERM)) == -signal.SIGTERM
                os._exit(7)
            assert not is_in(group)
            assert os.getpid() == parent
            assert end_of(pid) == 7
            assert rests([str(group)]) == [[], []]
        finally:
            group.rmdir()

    assert in_child(step) == 0


def rests(groups: list[str]) -> list[list[str]]:
    """Fork into a new PID namespace and without one; return the groups that each child has still to join."""
    forks = Forks(sandbox_from_json({**NAMES, "attempt": 0}), user_namespace=-1, mount_base=-1)
    found: list[list[str]] = []
    for pidfd in (-1, None):
        pid, rest = forks.fork(pidfd, groups)
        if pid == 0:
            os._exit(0 if (os.getpid() == 1) == (pidfd == -1) else 1)
        assert end_of(pid) == 0
        found.append(rest)
    forks.close()
    return found


def test_where_it_cannot_be_the_child_joins_its_groups_itself(tmp_path: Path) -> None:
    def step() -> None:
        group = group_of_tree(tmp_path)
        descriptors = os.listdir("/proc/self/fd")
        try:
            for groups in ([str(tmp_path / "missing")], [], ["/a", "/b"], ["/sys"]):
                assert rests(groups) == [groups, groups]
            # A domain beside a threaded group is invalid and takes nobody. The new PID namespace that the attempt has
            # cost is made again.
            threaded, invalid = group / "threaded", group / "invalid"
            threaded.mkdir()
            (threaded / "cgroup.type").write_text("threaded")
            invalid.mkdir()
            with pytest.raises(OSError):
                fork_in_group(str(invalid))
            assert rests([str(invalid)]) == [[str(invalid)]] * 2
            invalid.rmdir()
            threaded.rmdir()
            with pytest.raises(OSError):
                fork_in_group(str(tmp_path / "missing"))
            assert os.listdir("/proc/self/fd") == descriptors
        finally:
            group.rmdir()

    assert in_child(step) == 0


def test_a_rehearsed_life_leaves_a_process_what_it_was(tmp_path: Path) -> None:
    def own() -> object:
        streams = [(os.fstat(number).st_ino, os.get_inheritable(number)) for number in range(4)]
        adopts = ctypes.c_int(-1)
        assert ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts)) == 0
        spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "uts", "ipc")]
        return spaces, os.getsid(0), streams, adopts.value

    def step() -> None:
        signal.signal(signal.SIGCHLD, forkserver.wake)
        ours, _theirs = socket.socketpair()
        os.dup2(ours.fileno(), 3, inheritable=False)
        before = own()
        for name in "ab":
            (tmp_path / name).mkdir()
            forkserver.rehearse_parting()
            rehearse(str(tmp_path / name))
        assert own() == before

    assert in_child(step) == 0
