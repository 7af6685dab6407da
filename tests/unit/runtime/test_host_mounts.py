"""Which of the host's file systems containers see, and how often the list is read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from minikubelet.linux import libc
from minikubelet.runtime import host_mounts
from minikubelet.runtime.host_mounts import HostMounts, shown_mounts

MOUNTINFO = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw
24 22 0:21 / /proc rw shared:3 - proc proc rw
25 22 0:24 / /run rw shared:4 - tmpfs tmpfs rw
26 25 0:4 net:[4026532200] /run/netns/p rw shared:5 - nsfs nsfs rw
27 22 254:1 / /home rw shared:6 master:1 - ext4 /dev/vdb rw
28 27 254:2 /sub /home/with\\040space\\134\\011 ro - xfs /dev/vdc rw
29 22 0:40 / /srv/node/state/pods/u/volumes/v rw - ext4 /dev/vdd rw
30 22 0:41 / /srv/node/stated rw - fuse.sshfs host: rw
31 22 0:42 / /srv/node/state rw - btrfs /dev/vde rw
32 22 0:43 / /proc/fs/nfsd rw - nfsd nfsd rw
33 22 0:44 / /boot rw - tmpfsish x rw
"""


def test_real_file_systems_are_shown_and_what_is_hidden_is_not() -> None:
    expected = ["/home", "/home/with space\\\t", "/srv/node/stated", "/boot"]
    assert shown_mounts(MOUNTINFO, ["/srv/node/state"]) == expected


def test_nothing_is_shown_of_an_empty_list() -> None:
    assert shown_mounts(b"", ()) == []


@pytest.mark.root
def test_a_change_is_seen_and_many_changes_cost_a_small_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, reads = [100.0], 0

    def count(mountinfo: bytes, hidden: object) -> list[str]:
        nonlocal reads
        reads += 1
        now[0] += 0.010  # what the reading takes
        return shown_mounts(mountinfo, ())

    monkeypatch.setattr(host_mounts, "shown_mounts", count)
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    merged = str(tmp_path / "merged")
    mounts = HostMounts((), clock=lambda: now[0])
    try:
        assert merged not in mounts.points()
        now[0] += 1
        mounts.points()
        assert reads == 1, "read again without a change"
        subprocess.run(["mount", "-t", "tmpfs", "none", merged], check=True)
        subprocess.run(["umount", merged], check=True)
        assert merged not in mounts.points()
        assert reads == 2
        options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
        libc.mount("overlay", merged, "overlay", 0, options)
        assert merged not in mounts.points(), "the list was read again within the time that it may not"
        now[0] += 0.21  # twenty times what the last reading took
        assert merged in mounts.points()
        assert reads == 3
    finally:
        mounts.close()
        if os.path.ismount(merged):
            libc.umount(merged, libc.MNT_DETACH)
