"""A flood of output: complete, quick, without harm to others."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def manifest(name: str, *commands: str) -> str:
    """Return a pod with one container for each shell command."""
    containers = "".join(
        f"  - {{name: c{number}, image: host, command: [sh, -c, {command!r}]}}\n"
        for number, command in enumerate(commands)
    )
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
{containers}"""


def logs(node, pod, container: str) -> list[Path]:
    """Return the files of a container's log that are not compressed."""
    meta = pod["metadata"]
    directory = node.log_dir / "pods" / f"{meta['namespace']}_{meta['name']}_{meta['uid']}" / container
    return sorted(one for one in directory.iterdir() if not one.name.endswith((".gz", ".tmp")))


def pause_of(uid: str) -> int:
    """Return the pid of a pod's pause, known by the socket that it opened for this pod."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"minikubelet: pause default/"):
                if any(uid in os.readlink(one) for one in (entry / "fd").iterdir()):
                    return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no pause")


def test_every_line_of_a_flood_is_there_after_the_exit(node):
    # Under the size of one file, so that all of it stays: written as fast as the program can, then a sudden end.
    node.write("flood.yaml", manifest("flood", "seq -w 1 200000; echo oops >&2; exit 3"))
    pod = node.wait_pod("flood", lambda p: p["status"]["phase"] == "Failed", "Failed")
    lines = node.log(pod, "c0").splitlines()
    assert [line.split(" ", 3)[3] for line in lines if " stdout F " in line] == [f"{n:06d}" for n in range(1, 200001)]
    assert [line for line in lines if " stderr F oops" in line]


def test_a_flood_delays_no_neighbour_and_takes_no_memory(node):
    # The neighbour prints the time; the log's own time stamp tells when the line was written.
    tick = "while :; do date +%s.%N; sleep 0.05; done"
    node.write("both.yaml", manifest("both", "yes no end of it", tick))
    node.write("other.yaml", manifest("other", tick))
    both = node.wait_pod("both", lambda p: p["status"]["phase"] == "Running", "Running")
    other = node.wait_pod("other", lambda p: p["status"]["phase"] == "Running", "Running")

    def ticks(pod, container: str) -> list[str]:
        return node.log(pod, container).splitlines() if logs(node, pod, container) else []

    node.wait(lambda: len(ticks(both, "c1")) > 40 and len(ticks(other, "c0")) > 40, "ticks")
    medians = []
    for lines in (ticks(both, "c1"), ticks(other, "c0")):
        late = []
        for line in lines:
            match = re.match(r"\S+T\d\d:\d\d:(\d\d\.\d{9})\S+ stdout F (\d+)\.(\d+)$", line)
            assert match, line
            late.append((float(match[1]) - (int(match[2]) % 60 + int(match[3]) / 1e9)) % 60)
        medians.append(sorted(late)[len(late) // 2])
    # How late any line is on a machine that has much else to do, the other pod tells.
    assert medians[0] < 0.1 + 3 * medians[1] < 2, medians
    written = logs(node, both, "c0")
    assert len(written) >= 2, "it was rotated"
    sizes = [one.stat().st_size for one in written if one.exists()]
    assert all(10 * 2**20 <= size < 12 * 2**20 for size in sizes[1:]), sizes
    status = Path(f"/proc/{pause_of(both['metadata']['uid'])}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    quiet = Path(f"/proc/{pause_of(other['metadata']['uid'])}/status").read_text()
    assert peak < int(re.search(r"VmHWM:\s+(\d+) kB", quiet)[1]) + 6000


def test_restarts_leave_a_few_logs_and_two_links(make_node):
    node = make_node(config="crashLoopBackOff: {maxContainerRestartPeriod: 1s}\n")
    name = "long-" + "n" * 190  # the link's name is cut
    text = manifest(name, "echo here; exit 1").replace("restartPolicy: Never", "restartPolicy: Always")
    node.write("crash.yaml", text)
    pod = node.wait_pod(name, lambda p: p["status"]["containerStatuses"][0]["restartCount"] >= 7, "restarts", 60)
    count = pod["status"]["containerStatuses"][0]["restartCount"]
    numbers = [int(one.name.removesuffix(".log")) for one in logs(node, pod, "c0")]
    assert len(numbers) in (5, 6), numbers  # the sixth is of an instance that just begins
    assert max(numbers) >= count
    links = node.log_dir / "containers"
    assert 1 <= len(list(links.iterdir())) <= 2
    node.remove("crash.yaml")
    node.wait(lambda: node.pod(name) is None, "gone")
    assert list(links.iterdir()) == []
    node.kill()
    dead, foreign = links / "dead_default_c0-1.log", links / "alive_default_c0-2.log"
    dead.symlink_to(node.log_dir / "pods" / "never" / "0.log")
    foreign.symlink_to(node.log_dir)
    node.start()
    node.wait(lambda: not dead.is_symlink(), "the dead link to go")
    assert foreign.is_symlink()
    foreign.unlink()
