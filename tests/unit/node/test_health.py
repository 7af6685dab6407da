"""The node's problems: said once, cleared once, with advice; what counts as used up."""

from __future__ import annotations

import errno
import os

import pytest

from minikubelet.node.health import Health, describe
from minikubelet.node.pressure import (
    Disk,
    PressureWatch,
    Usage,
    descriptor_problem,
    disk_problem,
    pids_directory,
    process_problem,
)
from minikubelet.runtime.cgroups import find_trees


def test_a_problem_is_told_when_it_comes_changes_and_goes() -> None:
    told: list[tuple[str, str]] = []
    health = Health(on_change=lambda name, text: told.append((name, text)))
    for text in ("", "full", "full", "fuller", "", ""):
        health.set("state directory", text)
    assert told == [("state directory", "full"), ("state directory", "fuller"), ("state directory", "")]
    assert health.problems() == {}


def test_watch_turns_errors_into_a_problem_and_success_into_its_end() -> None:
    health = Health()
    with pytest.raises(OSError), health.watch("log directory"):
        raise OSError(errno.ENOSPC, "No space left on device", "/var/log")
    assert health.problems() == {
        "log directory": "/var/log: no space left: make room on that file system (also check inodes: df -i)"
    }
    with health.watch("log directory"):
        pass
    assert health.problems() == {}


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EMFILE, "LimitNOFILE"),
        (errno.EAGAIN, "TasksMax"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_usual_causes_come_with_what_to_do(number: int, advice: str) -> None:

    assert advice in describe(OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (Disk(free_bytes=10**9, free_inodes=1000, inodes=2000), ""),
        (Disk(free_bytes=10**9, free_inodes=0, inodes=0), ""),  # btrfs counts no inodes
        (Disk(free_bytes=4096, free_inodes=1000, inodes=2000), "no space left"),
        (Disk(free_bytes=10**9, free_inodes=3, inodes=2000), "no inodes left"),
        (Disk(free_bytes=10**9, free_inodes=1000, inodes=2000, read_only=True), "read-only"),
    ],
)
def test_disks(disk: Disk, said: str) -> None:
    found = disk_problem("/x", disk)
    assert said in found and bool(said) == bool(found)


def test_descriptors_and_processes() -> None:
    assert descriptor_problem(Usage(used=949, limit=1000)) == ""
    assert "LimitNOFILE" in descriptor_problem(Usage(used=950, limit=1000))
    assert process_problem(Usage(used=10, limit=1000), {}) == ""
    assert "pid_max" in process_problem(Usage(used=1000, limit=1000), {})
    room = Usage(used=10, limit=1000)
    assert process_problem(room, {"/unit": Usage(used=10, limit=100), "/": Usage(used=500, limit=1000)}) == ""
    for used, limit in ((95, 100), (7, 10)):
        found = process_problem(room, {"/unit": Usage(used=used, limit=limit)})
        assert (
            found
            == f"{used} of {limit} processes and threads of /unit exist: raise its pids.max (TasksMax of the unit)"
        )


def test_a_directory_that_is_gone_is_a_problem() -> None:
    health = Health()
    PressureWatch(health, {"state": "/nowhere/at/all"}).check()
    assert "No such file" in health.problems()["state directory"]


def test_the_group_that_counts_processes_is_found_in_either_version() -> None:
    own = "/system.slice/minikubelet.service"
    unified = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    assert pids_directory(find_trees(unified, f"0::{own}")) == f"/sys/fs/cgroup{own}"
    mounts = [
        f"3{n} 20 0:2{n} / /sys/fs/cgroup/{name} rw - cgroup c rw,{name}" for n, name in enumerate(("cpu", "pids"))
    ]
    assert pids_directory(find_trees("\n".join(mounts), "5:pids:/a\n4:cpu:/b\n0::/")) == "/sys/fs/cgroup/pids/a"
    assert pids_directory([]) == ""
