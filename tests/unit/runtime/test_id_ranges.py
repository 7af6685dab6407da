"""Ids of user namespaces: ranges do not overlap, stay with their pod, and come from where the node's admin says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.runtime.id_ranges import IDS_PER_POD, IdRangeError, IdRanges, lowest_free, node_range
from minikubelet.sandbox.rootfs import shift_owners
from minikubelet.sandbox.spec import IdMap


def test_default_range_begins_after_the_hosts_own_ids() -> None:
    assert node_range("root:1:65536\n", "", 110) == IdMap(first=65536, length=65536 * 110)


def test_range_of_the_user_kubelet() -> None:
    text = "me:100000:65536\nkubelet:131072:262144\n"
    assert node_range(text, text, 110) == IdMap(first=131072, length=262144)


@pytest.mark.parametrize(
    ("users", "groups"),
    [
        ("kubelet:65536:65536\n", ""),
        ("kubelet:65536:65536\n", "kubelet:131072:65536\n"),
        ("kubelet:65536:65536\nkubelet:131072:65536\n", "kubelet:65536:65536\nkubelet:131072:65536\n"),
        ("kubelet:0:65536\n", "kubelet:0:65536\n"),
        ("kubelet:65536:1000\n", "kubelet:65536:1000\n"),
        ("kubelet:100000:65536\n", "kubelet:100000:65536\n"),
    ],
)
def test_unusable_ranges_are_told(users: str, groups: str) -> None:
    with pytest.raises(IdRangeError):
        node_range(users, groups, 110)


@given(st.sets(st.integers(0, 30)), st.integers(1, 30))
def test_a_free_range_is_nobodys_and_inside(taken: set[int], count: int) -> None:
    whole = IdMap(first=IDS_PER_POD * 2, length=IDS_PER_POD * count)
    firsts = {whole.first + IDS_PER_POD * number for number in taken}
    try:
        found = lowest_free(whole, firsts)
    except IdRangeError:
        assert all(number in taken for number in range(count))
        return
    assert found.first not in firsts
    assert whole.first <= found.first
    assert found.first + found.length <= whole.first + whole.length


def test_ranges_stay_over_restarts_and_are_freed_with_the_pod(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    ranges = IdRanges(pods_dir=str(tmp_path), max_pods=2, etc_dir=str(tmp_path / "none"))
    first, second = ranges.take("a"), ranges.take("b")
    assert (first.first, second.first) == (65536, 131072)
    again = IdRanges(pods_dir=str(tmp_path), max_pods=2, etc_dir=str(tmp_path / "none"))
    assert again.take("a") == first
    with pytest.raises(IdRangeError, match="all 2 id ranges"):
        again.take("c")
    shutil.rmtree(tmp_path / "a")
    assert again.take("c") == first


@pytest.mark.root
def test_owners_are_shifted_once(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    (top / "below").mkdir(parents=True)
    (top / "below" / "file").write_text("x")
    os.chown(top / "below" / "file", 5, 200)
    os.symlink("/etc/passwd", top / "link")
    before = os.stat("/etc/passwd").st_uid
    for _ in range(2):
        shift_owners(str(top), 65536)
    found = os.stat(top / "below" / "file")
    assert (found.st_uid, found.st_gid) == (65541, 65736)
    assert os.lstat(top / "link").st_uid == 65536
    assert os.stat(top).st_uid == 65536
    assert os.stat("/etc/passwd").st_uid == before
