"""Volumes on real file systems: types, sizes, owners, what a hostile container tries, and removal that harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikubelet.api.types import (
    Container,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    ObjectMeta,
    Pod,
    PodSecurityContext,
    PodSpec,
    ResourceRequirements,
    Secret,
    SecretVolumeSource,
    Volume,
)
from minikubelet.linux import libc, mounts
from minikubelet.runtime.port import VolumeFailure
from minikubelet.runtime.volumes.apart import run_apart
from minikubelet.runtime.volumes.atomic_writer import FilePayload, write_payload
from minikubelet.runtime.volumes.empty_dir import MediumError, huge_page_size, memory_size
from minikubelet.runtime.volumes.host_path import HostPathError, check_host_path
from minikubelet.runtime.volumes.manager import Volumes
from minikubelet.sandbox.rootfs import open_sub_path

pytestmark = pytest.mark.root

NODE_MEMORY = 1 << 30


class Objects:
    def __init__(self) -> None:
        self.secrets: dict[str, Secret] = {}

    def config_map(self, namespace: str, name: str) -> None:
        return None

    def secret(self, namespace: str, name: str) -> Secret | None:
        return self.secrets.get(name)


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def volumes(tmp_path: Path, objects: Objects) -> Any:
    one = Volumes(
        pods_dir=str(tmp_path / "pods"),
        objects=objects,
        downward=lambda pod, item: "",
        wall_clock=lambda: 0.0,
        node_memory=NODE_MEMORY,
    )
    yield one
    for point in mounts.mount_points_below(str(tmp_path)):
        mounts.unmount(point, detach=True)


def pod_of(*found: Volume, fs_group: int | None = None, limit: str = "") -> Pod:
    resources = ResourceRequirements(limits={"memory": limit}, requests={"memory": limit} if limit else None)
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(
            containers=[Container(name="c", image="i", resources=resources if limit else ResourceRequirements())],
            volumes=list(found),
            security_context=PodSecurityContext(fs_group=fs_group),
        ),
    )


def empty(medium: str = "", size: str | None = None) -> Volume:
    return Volume(name="v", empty_dir=EmptyDirVolumeSource(medium=medium, size_limit=size))


# emptyDir


def test_empty_dir_keeps_what_its_containers_made_of_it(volumes: Volumes) -> None:
    pod = pod_of(empty())
    volumes.set_up(pod)
    path = volumes.source_path(pod, empty())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o777
    os.chmod(path, 0o700)
    os.chown(path, 101, 104)
    volumes.set_up(pod)  # as after a new sandbox
    found = os.stat(path)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o700, 101, 104)


def test_empty_dir_left_half_made_is_finished(volumes: Volumes) -> None:
    pod = pod_of(empty(), fs_group=1234)
    os.makedirs(volumes.source_path(pod, empty()), mode=0o755)
    volumes.set_up(pod)
    found = os.stat(volumes.source_path(pod, empty()))
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o2777, 1234)


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        (None, "", NODE_MEMORY),
        ("10Mi", "", 10 << 20),
        ("10Mi", "5Mi", 5 << 20),
        ("1Mi", "5Mi", 1 << 20),
        ("2Gi", "", NODE_MEMORY),
        ("0", "", NODE_MEMORY),
    ],
)
def test_size_of_memory_volumes(volumes: Volumes, size: str | None, limit: str, expected: int) -> None:
    volume = empty("Memory", size)
    pod = pod_of(volume, limit=limit)
    assert memory_size(pod, EmptyDirVolumeSource(medium="Memory", size_limit=size), NODE_MEMORY) == expected
    volumes.set_up(pod)
    found = os.statvfs(volumes.source_path(pod, volume))
    assert found.f_blocks * found.f_frsize == expected


def options_of(path: str) -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next(line.rsplit(" - ", 1)[1] for line in lines if line.split(" ")[4] == path)


def test_memory_volumes_and_secrets_are_never_swapped_out(volumes: Volumes, objects: Objects) -> None:
    objects.secrets["s"] = Secret(api_version="v1", kind="Secret", string_data={"k": "hunter2"})
    secret = Volume(name="s", secret=SecretVolumeSource(secret_name="s"))
    pod = pod_of(empty("Memory"), secret)
    volumes.set_up(pod)
    for volume in (empty("Memory"), secret):
        options = options_of(volumes.source_path(pod, volume))
        assert options.startswith("tmpfs ")
        assert "noswap" in options or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 4)


def test_media_that_are_not_there(volumes: Volumes) -> None:
    with pytest.raises(VolumeFailure, match=r'MountVolume\.SetUp failed for volume "v" : unknown storage medium "Foo"'):
        volumes.set_up(pod_of(empty("Foo")))
    with pytest.raises(VolumeFailure, match="medium HugePages: hugePages storage requested, but there is no resource"):
        volumes.set_up(pod_of(empty("HugePages")))


def test_page_size_of_huge_page_volumes() -> None:
    def pod(*sizes: str) -> Pod:
        requests = {f"hugepages-{size}": "4Mi" for size in sizes}
        container = Container(name="c", image="i", resources=ResourceRequirements(requests=requests))
        return Pod(api_version="v1", kind="Pod", metadata=ObjectMeta(), spec=PodSpec(containers=[container]))

    assert huge_page_size(pod("2Mi"), "HugePages") == 2 << 20
    assert huge_page_size(pod("2Mi", "1Gi"), "HugePages-1Gi") == 1 << 30
    with pytest.raises(MediumError, match="can't be used if container requests multiple huge page sizes"):
        huge_page_size(pod("2Mi", "1Gi"), "HugePages")
    with pytest.raises(MediumError, match="medium HugePages-1Gi: hugePages storage requested"):
        huge_page_size(pod("2Mi"), "HugePages-1Gi")


@pytest.mark.skipif("hugetlbfs" not in Path("/proc/filesystems").read_text(), reason="the kernel has no huge pages")
def test_huge_pages_are_mounted_with_the_size_asked_for(volumes: Volumes) -> None:
    volume = empty("HugePages-2Mi")
    amounts = {"hugepages-2Mi": "4Mi", "memory": "8Mi"}
    pod = pod_of(volume)
    container = Container(name="c", image="i", resources=ResourceRequirements(limits=amounts, requests=amounts))
    pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=[container]))
    volumes.set_up(pod)
    path = volumes.source_path(pod, volume)
    assert options_of(path).startswith("hugetlbfs ")
    assert "pagesize=2M" in options_of(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o777
    volumes.tear_down("u")
    assert not os.path.exists(path)


# hostPath


@pytest.fixture
def places(tmp_path: Path) -> Any:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        os.mknod(tmp_path / "block", 0o600 | stat.S_IFBLK, os.makedev(7, 200))
        os.mknod(tmp_path / "char", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        yield tmp_path


IS_NOT = {
    "Directory": "a directory",
    "DirectoryOrCreate": "a directory",
    "File": "a file",
    "FileOrCreate": "a file",
    "Socket": "a socket file",
    "CharDevice": "a character device",
    "BlockDevice": "a block device",
}
FITS = {
    "dir": {"", "Directory", "DirectoryOrCreate"},
    "link": {"", "Directory", "DirectoryOrCreate"},
    "file": {"", "File", "FileOrCreate"},
    "socket": {"", "Socket"},
    "char": {"", "CharDevice"},
    "block": {"", "BlockDevice"},
    "missing": {"", "DirectoryOrCreate", "FileOrCreate"},
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("kind", ["", *IS_NOT])
def test_host_path_types(places: Path, name: str, kind: str) -> None:
    path = str(places / name)
    if kind in FITS[name]:
        check_host_path(path, kind)
        return
    with pytest.raises(HostPathError) as caught:
        check_host_path(path, kind)
    assert str(caught.value) == f"hostPath type check failed: {path} is not {IS_NOT[kind]}"


def test_host_paths_that_are_made(places: Path) -> None:
    mask = os.umask(0o077)
    try:
        check_host_path(str(places / "new" / "deep"), "DirectoryOrCreate")
        check_host_path(str(places / "new-file"), "FileOrCreate")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(os.stat(places / "new").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(places / "new" / "deep").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(places / "new-file").st_mode) == 0o644
    with pytest.raises(HostPathError, match=r"open .*/none/file: no such file or directory"):
        check_host_path(str(places / "none" / "file"), "FileOrCreate")
    with pytest.raises(HostPathError, match=r"mkdir .*/file: not a directory"):
        check_host_path(str(places / "file" / "below"), "DirectoryOrCreate")


# Written files


def test_a_reader_never_sees_half_an_update(tmp_path: Path) -> None:
    """Two files always tell the same, for whoever opens them through one look at `..data`."""
    write_payload(str(tmp_path), {"a": FilePayload(b"0", 0o644), "b": FilePayload(b"0", 0o644)}, now=0)
    done = threading.Event()
    seen: list[tuple[bytes, bytes]] = []

    def read() -> None:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):  # replaced between two looks
                data = os.open(tmp_path / "..data", os.O_PATH | os.O_DIRECTORY)
                try:
                    one, two = (open(os.open(name, os.O_RDONLY, dir_fd=data), "rb").read() for name in "ab")
                    seen.append((one, two))
                finally:
                    os.close(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(300):
            text = str(number).encode()
            write_payload(str(tmp_path), {"a": FilePayload(text, 0o644), "b": FilePayload(text, 0o644)}, now=number)
    finally:
        done.set()
        reader.join()
    assert len(seen) > 20
    assert all(a == b for a, b in seen)


NAMES = st.sampled_from(["a", "b", ".hidden", "dir/a", "dir/b", "dir/deep/a", "other/a"])
PAYLOADS = st.dictionaries(
    NAMES, st.builds(FilePayload, st.binary(max_size=8), st.sampled_from([0o400, 0o440, 0o644, 0o777]))
)


@given(st.lists(PAYLOADS, min_size=1, max_size=5), st.sampled_from([None, 1234]))
@settings(max_examples=50, deadline=None)
def test_what_is_visible_is_always_exactly_the_last_payload(
    updates: list[dict[str, FilePayload]], gid: int | None
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for number, payload in enumerate(updates):
            write_payload(directory, payload, now=number, gid=gid)
            assert not write_payload(directory, payload, now=number, gid=gid)
            visible = {
                str(found.relative_to(directory)): found
                for top in Path(directory).iterdir()
                if not top.name.startswith("..")
                for found in ([top] if top.is_file() else top.rglob("*"))
                if found.is_file()
            }
            assert {name: found.read_bytes() for name, found in visible.items()} == {
                name: file.data for name, file in payload.items()
            }
            for name, file in payload.items():
                status = os.stat(visible[name])
                assert stat.S_IMODE(status.st_mode) == (file.mode if gid is None else file.mode | 0o440)
                if gid is not None:
                    assert status.st_gid == gid
            assert len([one for one in os.listdir(directory) if one.startswith("..")]) == 2


def test_an_update_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    payload = {"a": FilePayload(b"1", 0o644), "dir/b": FilePayload(b"2", 0o600)}
    write_payload(str(tmp_path), payload, now=0)
    (tmp_path / "a").unlink()
    (tmp_path / "old").symlink_to("..data/old")
    (tmp_path / "..data_tmp").symlink_to("x")
    (tmp_path / "..2020_01_01_00_00_00.1").mkdir()
    assert not write_payload(str(tmp_path), payload, now=1)
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names[1:] == ["..data", "a", "dir"]
    assert (tmp_path / "a").read_bytes() == b"1"
    assert stat.S_IMODE(os.stat(tmp_path / "dir" / "b").st_mode) == 0o600


def test_a_full_disk_leaves_the_old_files(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    mounts.mount_tmpfs(str(volume), size=64 << 10, mode=0o755)
    try:
        write_payload(str(volume), {"a": FilePayload(b"old", 0o644)}, now=0)
        with pytest.raises(OSError, match="No space left on device"):
            write_payload(str(volume), {"a": FilePayload(b"x" * (1 << 20), 0o644)}, now=1)
        assert (volume / "a").read_bytes() == b"old"
        assert sorted(one.name for one in volume.iterdir() if not one.name.startswith("..1970")) == ["..data", "a"]
    finally:
        mounts.unmount(str(volume))


# Sub-paths


def beneath(descriptor: int, top: Path) -> bool:
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    return path == str(top) or path.startswith(f"{top}/")


@pytest.mark.parametrize("path", ["out", "up", "out/etc", "nested/up", "new/../../x"])
def test_sub_paths_cannot_leave_their_volume(tmp_path: Path, path: str) -> None:
    volume = tmp_path / "v"
    (volume / "nested").mkdir(parents=True)
    (volume / "out").symlink_to("/")
    (volume / "up").symlink_to("..")
    (volume / "nested" / "up").symlink_to("../..")
    top = os.open(volume, os.O_PATH)
    with pytest.raises(OSError, match="'"):
        os.close(open_sub_path(top, path))
    os.close(top)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["v"]


def test_links_inside_a_volume_are_followed_and_missing_directories_made(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    (volume / "real").mkdir(parents=True)
    os.chmod(volume, 0o2770)
    (volume / "link").symlink_to("real")
    top = os.open(volume, os.O_PATH)
    os.close(open_sub_path(top, "link/one/two"))
    os.close(top)
    for made in ("real/one", "real/one/two"):
        assert stat.S_IMODE(os.stat(volume / made).st_mode) == 0o2770


_EXCHANGE = """
import ctypes, os, sys
one, two = map(os.fsencode, sys.argv[1:])
while ctypes.CDLL(None).renameat2(-100, one, -100, two, 2) == 0: pass
"""


def test_sub_path_race(tmp_path: Path) -> None:
    """A container that exchanges a directory for a link out of the volume, all the time, gains nothing."""
    volume, outside = tmp_path / "v", tmp_path / "outside"
    for directory in (volume, outside, volume / "a", volume / "trap"):
        directory.mkdir()
    os.chmod(volume, 0o777)
    os.chmod(outside, 0o700)
    (volume / "trap" / "d").symlink_to(outside)
    attacker = subprocess.Popen([sys.executable, "-c", _EXCHANGE, volume / "a", volume / "trap"])
    held = len(os.listdir("/proc/self/fd"))
    top = os.open(volume, os.O_PATH)
    opened = refused = 0
    deadline = time.monotonic() + 30
    try:
        while (opened < 200 or refused < 200) and time.monotonic() < deadline:
            try:
                found = open_sub_path(top, f"a/d/{opened + refused}")
            except OSError:
                refused += 1
                continue
            assert beneath(found, volume)
            os.close(found)
            opened += 1
    finally:
        attacker.kill()
        attacker.wait()
        os.close(top)
    assert opened >= 200
    assert refused >= 200
    assert len(os.listdir("/proc/self/fd")) == held
    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(os.stat(outside).st_mode) == 0o700


# Removal


def test_removal_follows_no_link_and_harms_no_other_name_of_a_file(volumes: Volumes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    pod = pod_of(empty())
    volumes.set_up(pod)
    path = Path(volumes.source_path(pod, empty()))
    (path / "link").symlink_to(outside)
    (path / "file-link").symlink_to(outside / "precious")
    os.link(outside / "precious", path / "hard")
    volumes.tear_down("u")
    assert not path.exists()
    assert (outside / "precious").read_text() == "kept"


@pytest.mark.parametrize("level", ["volume", "kind", "volumes"])
def test_a_directory_replaced_by_a_link_is_not_followed(volumes: Volumes, tmp_path: Path, level: str) -> None:
    outside = tmp_path / "outside"
    (outside / "v").mkdir(parents=True)
    (outside / "v" / "precious").write_text("kept")
    (outside / "precious").write_text("kept")
    pod = pod_of(empty())
    volumes.set_up(pod)
    path = Path(volumes.source_path(pod, empty()))
    replaced = {"volume": path, "kind": path.parent, "volumes": path.parent.parent}[level]
    replaced.rename(tmp_path / "moved")
    replaced.symlink_to(outside)
    volumes.tear_down("u")
    assert (outside / "precious").read_text() == "kept"
    assert (outside / "v" / "precious").read_text() == "kept"
    assert not os.path.lexists(replaced)


@pytest.mark.conformance("ST-05")
def test_a_volume_in_use_stays_whole_and_goes_when_it_is_free(volumes: Volumes) -> None:
    volume = empty("Memory")
    pod = pod_of(volume)
    volumes.set_up(pod)
    path = Path(volumes.source_path(pod, volume))
    (path / "file").write_text("kept")
    with open(path / "file"):
        with pytest.raises(OSError, match="Device or resource busy"):
            volumes.tear_down("u")
        assert (path / "file").read_text() == "kept"
    volumes.tear_down("u")
    assert not path.exists()


def test_mounts_inside_a_volume_go_before_anything_is_deleted(volumes: Volumes, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "precious").write_text("kept")
    pod = pod_of(empty())
    volumes.set_up(pod)
    path = Path(volumes.source_path(pod, empty()))
    for name in ("one", "two words"):
        (path / name).mkdir()
        mounts.bind(str(shown), str(path / name))
    mounts.bind(str(shown), str(path / "one"))  # twice on one point
    volumes.tear_down("u")
    assert not path.exists()
    assert (shown / "precious").read_text() == "kept"


def test_a_mount_that_stays_keeps_everything(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = pod_of(empty())
    volumes.set_up(pod)
    path = Path(volumes.source_path(pod, empty()))
    (path / "file").write_text("kept")
    (path / "below").mkdir()
    mounts.mount_tmpfs(str(path / "below"), size=1 << 20, mode=0o755)
    (path / "below" / "file").write_text("kept")
    with monkeypatch.context() as patch:
        patch.setattr(libc, "umount", lambda target, flags=0: None)  # a kernel that does nothing
        with pytest.raises(OSError, match="is still mounted"):
            volumes.tear_down("u")
    assert (path / "file").read_text() == "kept"
    assert (path / "below" / "file").read_text() == "kept"
    volumes.tear_down("u")
    assert not path.exists()


def test_a_host_path_that_hangs_holds_up_nobody(
    volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network file system does whose server has gone: neither the loop, nor a refresh, nor the pod's removal."""
    released, arrived = threading.Event(), threading.Semaphore(0)

    def hang(path: str, kind: str) -> None:
        arrived.release()
        released.wait(60)

    monkeypatch.setattr("minikubelet.runtime.volumes.manager.check_host_path", hang)
    hanging = Volume(name="h", host_path=HostPathVolumeSource(path=str(tmp_path)))
    pod = pod_of(hanging, empty())

    async def scenario() -> None:
        tasks = [run_apart(volumes.set_up, pod) for _ in range(64)]
        for _ in tasks:  # one that begins after the removal is no late one
            await asyncio.to_thread(arrived.acquire)
        assert await asyncio.wait_for(run_apart(volumes.refresh, pod), 10) is False
        await asyncio.wait_for(run_apart(volumes.tear_down, "u"), 10)
        released.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert not os.path.exists(volumes.source_path(pod, empty()))  # what came too late makes nothing

    asyncio.run(scenario())


def test_failures_come_back_from_apart(volumes: Volumes) -> None:
    async def scenario() -> None:
        await run_apart(volumes.set_up, pod_of(empty("Foo")))

    with pytest.raises(VolumeFailure, match="unknown storage medium"):
        asyncio.run(scenario())
