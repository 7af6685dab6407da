"""Control groups on a version 2 tree that is a plain directory: names, order of writes, what is given back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from minikubelet.runtime import cgroups
from minikubelet.runtime.cgroups import Cgroups, CgroupTree, find_trees

V2_MOUNTINFO = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
UID = "a1"


class FakeTree:
    """A directory with the kernel's rule: a group that holds processes hands on no controllers."""

    def __init__(self, base: Path, controllers: str) -> None:
        self.base = base
        self.writes: list[tuple[str, str]] = []
        base.mkdir(parents=True, exist_ok=True)
        (base / "cgroup.controllers").write_text(controllers)
        (base / "cgroup.procs").write_text("")

    def write(self, path: str, text: str) -> None:
        self.writes.append((os.path.relpath(path, self.base), text))
        directory = Path(path).parent
        if path.endswith("cgroup.subtree_control") and self.members(directory):
            raise OSError(16, "Device or resource busy")
        if path.endswith("cgroup.procs"):
            for other in self.base.rglob("cgroup.procs"):
                other.write_text(" ".join(word for word in other.read_text().split() if word != text))
        Path(path).write_text(text)

    def members(self, directory: Path) -> list[str]:
        procs = directory / "cgroup.procs"
        return procs.read_text().split() if procs.exists() else []


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], tuple[Cgroups, FakeTree]]:
    def made(controllers: str) -> tuple[Cgroups, FakeTree]:
        fake = FakeTree(tmp_path / "scope", controllers)
        monkeypatch.setattr(cgroups, "_write", fake.write)
        groups = Cgroups("kubepods")
        tree = CgroupTree(version=2, base=str(fake.base), controllers=())
        groups._trees = [groups._prepare(tree)]
        return groups, fake

    return made


def test_the_one_tree_is_found() -> None:
    found = find_trees(V2_MOUNTINFO, "0::/system.slice/minikubelet.service\n")
    assert found == [CgroupTree(version=2, base="/sys/fs/cgroup/system.slice/minikubelet.service", controllers=())]


def test_tree_seen_from_a_cgroup_namespace() -> None:
    line = V2_MOUNTINFO.replace(" / /sys", " /system.slice/x /sys")
    (found,) = find_trees(line, "0::/system.slice/x/below\n")
    assert found.base == "/sys/fs/cgroup/below"


def test_hybrid_machine_uses_the_controllers_where_they_are() -> None:
    lines = (
        "33 25 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "34 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "35 25 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    found = find_trees(lines, "4:memory:/a\n3:cpu,cpuacct:/\n0::/\n")
    assert [(one.version, one.base, one.controllers) for one in found] == [
        (1, "/sys/fs/cgroup/memory/a", ("memory",)),
        (1, "/sys/fs/cgroup/cpu,cpuacct", ("cpu", "cpuacct")),
    ]


def test_controllers_are_handed_on_level_by_level(make: Callable[[str], tuple[Cgroups, FakeTree]]) -> None:
    groups, fake = make("cpuset cpu io memory pids hugetlb")
    paths = groups.make_pod(UID, "Burstable")
    groups.make_child(UID, "Burstable", "c1")
    handed = [path for path, text in fake.writes if path.endswith("subtree_control")]
    assert handed == [
        "cgroup.subtree_control",
        "kubepods/cgroup.subtree_control",
        "kubepods/burstable/cgroup.subtree_control",
        f"kubepods/burstable/pod{UID}/cgroup.subtree_control",
    ]
    assert {text for path, text in fake.writes if path.endswith("subtree_control")} == {"+cpu +memory +pids +hugetlb"}
    assert paths.controller("memory") == str(fake.base / "kubepods/burstable" / f"pod{UID}")
    assert (fake.base / "kubepods/burstable" / f"pod{UID}" / "c1").is_dir()


def test_group_that_a_daemon_left_half_made_hands_on_controllers(
    make: Callable[[str], tuple[Cgroups, FakeTree]],
) -> None:
    groups, fake = make("cpu memory pids")
    (fake.base / "kubepods" / "burstable" / f"pod{UID}").mkdir(parents=True)
    groups.make_pod(UID, "Burstable")
    for one in ("burstable", f"burstable/pod{UID}"):
        assert (fake.base / "kubepods" / one / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_daemon_steps_aside_where_it_is_in_the_way(make: Callable[[str], tuple[Cgroups, FakeTree]]) -> None:
    groups, fake = make("cpu memory pids")
    (fake.base / "cgroup.procs").write_text(str(os.getpid()))
    fake.writes.clear()
    tree = groups._prepare(CgroupTree(version=2, base=str(fake.base), controllers=()))
    assert tree.controllers == ("cpu", "memory", "pids")
    assert [path for path, _ in fake.writes] == [
        "cgroup.subtree_control",  # refused: a process of ours is here
        "kubepods.daemon/cgroup.procs",
        "cgroup.subtree_control",
        "kubepods/cgroup.subtree_control",
    ]
    assert (fake.base / "kubepods.daemon/cgroup.procs").read_text() == str(os.getpid())


def test_tree_that_somebody_else_holds_carries_no_controllers(
    make: Callable[[str], tuple[Cgroups, FakeTree]],
) -> None:
    groups, fake = make("cpu memory pids")
    (fake.base / "cgroup.procs").write_text("1")
    tree = groups._prepare(CgroupTree(version=2, base=str(fake.base), controllers=()))
    assert tree.controllers == ()


def test_classes_share_the_processors(make: Callable[[str], tuple[Cgroups, FakeTree]]) -> None:
    groups, fake = make("cpu memory pids")
    groups.make_pod("b1", "Burstable")
    groups.make_pod("e1", "BestEffort")
    for directory in ("burstable", "besteffort"):
        (fake.base / "kubepods" / directory / "cpu.weight").write_text("100")
    groups.share("b1", "Burstable", 1024)
    groups.share("b2", "Burstable", 1024)
    groups.share("e1", "BestEffort", 2)
    read = {one: (fake.base / "kubepods" / one / "cpu.weight").read_text() for one in ("burstable", "besteffort")}
    assert read == {"burstable": "79", "besteffort": "1"}  # 2048 shares


def test_killing_asks_the_kernel_once(make: Callable[[str], tuple[Cgroups, FakeTree]]) -> None:
    groups, fake = make("cpu memory pids")
    paths = groups.make_pod(UID, "Burstable")
    fake.writes.clear()
    cgroups.kill_processes(paths)
    assert fake.writes == [(f"kubepods/burstable/pod{UID}/cgroup.kill", "1")]


def test_nothing_is_left(make: Callable[[str], tuple[Cgroups, FakeTree]]) -> None:
    groups, fake = make("")

    async def work() -> None:
        groups.make_pod(UID, "Guaranteed")
        groups.make_child(UID, "Guaranteed", "pause")
        await groups.remove_pod(UID)
        assert groups.known_pods() == set()

    asyncio.run(work())
    assert not (fake.base / "kubepods" / f"pod{UID}").exists()


def test_a_group_that_somebody_else_removes_at_the_same_time_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "top" / "besteffort" / "pod1").mkdir(parents=True)
    real, removed = os.rmdir, []

    def rmdir(path: str) -> None:
        removed.append(os.path.basename(path))
        real(path)
        if removed == ["pod1"]:
            real(path)  # it has gone just before

    monkeypatch.setattr(os, "rmdir", rmdir)
    asyncio.run(cgroups._remove_tree(str(tmp_path / "top")))
    assert removed == ["pod1", "besteffort", "top"]
    assert not (tmp_path / "top").exists()


def test_pause_of_version_1_lies_in_its_pods_own_group(make: Callable[[str], tuple[Cgroups, FakeTree]]) -> None:
    groups, fake = make("cpu memory pids")
    group = groups.make_pod(UID, "Guaranteed")
    assert groups.make_pause(UID, "Guaranteed").directories == (f"{group.directories[0]}/pause",)
    groups._trees = [CgroupTree(version=1, base=str(fake.base / "kubepods"), controllers=("cpu", "memory"))]
    assert groups.make_pause(UID, "Guaranteed").directories == group.directories
