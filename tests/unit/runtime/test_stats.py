"""Usage figures: rates, and what is read from groups of either version."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.runtime import counters
from minikubelet.runtime.cgroups import CgroupPaths
from minikubelet.runtime.counters import Memory
from minikubelet.runtime.stats import Rates


def group(path: Path, version: int, files: dict[str, str]) -> CgroupPaths:
    for name, text in files.items():
        (path / name).write_text(text)
    names = ("cpu", "cpuacct", "memory", "pids")
    return CgroupPaths(directories=(str(path),), by_controller=dict.fromkeys(names, str(path)), version=version)


def test_version_2(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
        "memory.current": "1000000\n",
        "memory.max": "3000000\n",
        "memory.swap.current": "7\n",
        "memory.stat": "anon 600000\nfile 400000\ninactive_file 300000\npgfault 5\npgmajfault 2\n",
        "pids.current": "3\n",
    }
    paths = group(tmp_path, 2, files)
    assert counters.group_cpu_ns(paths) == 1_500_000
    assert counters.group_memory(paths) == Memory(
        usage=1_000_000,
        working_set=700_000,
        rss=600_000,
        swap=7,
        page_faults=5,
        major_page_faults=2,
        available=2_300_000,
    )
    assert counters.group_processes(paths) == 3


def test_version_2_without_limit_or_swap_accounting(tmp_path: Path) -> None:
    files = {"memory.current": "10\n", "memory.max": "max\n", "memory.stat": "anon 4\ninactive_file 20\n"}
    found = counters.group_memory(group(tmp_path, 2, files))
    assert found == Memory(usage=10, working_set=0, rss=4)


def test_version_1_counts_the_groups_below(tmp_path: Path) -> None:
    files = {
        "cpuacct.usage": "77\n",
        "memory.usage_in_bytes": "1000\n",
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.stat": "rss 1\ninactive_file 2\ntotal_rss 600\ntotal_inactive_file 300\ntotal_swap 9\n"
        "total_pgfault 5\ntotal_pgmajfault 2\n",
        "pids.current": "3\n",
    }
    paths = group(tmp_path, 1, files)
    assert counters.group_cpu_ns(paths) == 77
    assert counters.group_memory(paths) == Memory(
        usage=1000, working_set=700, rss=600, swap=9, page_faults=5, major_page_faults=2
    )


@pytest.mark.parametrize(
    ("version", "files", "peak"),
    [
        (2, {"memory.peak": "5000\n"}, 5000),
        (2, {}, None),  # before Linux 5.19
        (1, {"memory.max_usage_in_bytes": "7000\n"}, 7000),
        (1, {"memory.max_usage_in_bytes": "0\n"}, None),
    ],
)
def test_memory_peak(tmp_path: Path, version: int, files: dict[str, str], peak: int | None) -> None:
    assert counters.group_memory_peak(group(tmp_path, version, files)) == peak


def test_no_group_counts_nothing() -> None:
    assert counters.group_memory_peak(CgroupPaths()) is None
    assert counters.group_cpu_ns(CgroupPaths()) is None
    assert counters.group_memory(CgroupPaths()) is None
    assert counters.group_processes(CgroupPaths()) is None


def test_directory_usage_counts_hard_links_once_and_follows_none(tmp_path: Path) -> None:
    inside = tmp_path / "volume"
    (inside / "below").mkdir(parents=True)
    (inside / "below" / "file").write_bytes(b"x" * 100_000)
    os.link(inside / "below" / "file", inside / "again")
    (tmp_path / "outside").write_bytes(b"y" * 1_000_000)
    os.symlink(tmp_path / "outside", inside / "link")
    found = counters.directory_usage(str(inside))
    assert 100_000 <= found.used < 200_000
    assert found.inodes_used == 4
    assert found.capacity > found.available > 0


def test_node_and_own_process() -> None:
    memory = counters.node_memory()
    assert 0 < memory.working_set <= memory.usage
    assert counters.node_cpu_ns() > 0
    nanoseconds, own, count = counters.tree_usage(os.getpid())
    assert nanoseconds > 0
    assert own.rss > 1_000_000
    assert count >= 1
    assert all(one.name != "lo" for one in counters.interfaces("self"))


def test_first_rate_is_the_average_since_the_beginning() -> None:
    rates = Rates()
    assert rates.rate("a", 14.0, 2_000_000_000, begun=10.0) == 500_000_000
    assert rates.rate("a", 14.5, 9_000_000_000, begun=10.0) == 500_000_000  # too soon for a new one
    assert rates.rate("a", 16.0, 2_500_000_000, begun=10.0) == 250_000_000
    rates.keep_only(set(), "a")
    assert rates.rate("a", 20.0, 10, begun=10.0) == 1


@given(st.lists(st.tuples(st.floats(0.001, 100), st.integers(0, 10**12)), min_size=1, max_size=20))
def test_rates_are_never_negative(steps: list[tuple[float, int]]) -> None:
    rates = Rates()
    now, counter = 0.0, 0
    for pause, more in steps:
        now += pause
        counter += more
        assert rates.rate("k", now, counter, begun=0.0) >= 0
    assert rates.rate("k", now + 2.0, 0, begun=0.0) == 0  # a counter that began anew


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_that_has_gone_is_an_error(tmp_path: Path, version: int) -> None:
    paths = group(tmp_path, version, {})
    with pytest.raises(FileNotFoundError):
        counters.group_memory(paths)
