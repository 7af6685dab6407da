"""The daemon is killed again and again while pods come and go; nothing may be left, nor anything be given twice.

What is there is read by pyroute2, not by our own netlink: a witness that cannot share its mistakes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network.errors import NetworkError
from minikubelet.runtime.network.network import Network
from minikubelet.runtime.network.records import HostPort

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None, reason="nft is not installed"),
]

ROUNDS = 12
PODS = 25


def uid(number: int) -> PodUID:
    return PodUID(f"00000000-0000-0000-0000-{number:012d}")


def snapshot(lab: Any) -> dict[str, Any]:
    """Everything of the host's network that a pod could leave behind."""
    with IPRoute() as route:
        links = sorted((link.get("ifname"), link.get("master")) for link in route.get_links())
        addresses = sorted((a["index"], a.get("address"), a["prefixlen"]) for a in route.get_addr())
        # The kernel makes link-local and multicast entries of its own, when it likes.
        routes = sorted(
            (str(r.get("dst")), r["dst_len"], r.get("oif"), r.get("table"))
            for r in route.get_routes()
            if not str(r.get("dst")).startswith(("fe80", "ff", "224"))
        )
        neighbours = sorted(
            str(n.get("dst")) for n in route.get_neighbours() if not str(n.get("dst")).startswith(("fe80", "ff", "224"))
        )
    pins = sorted(os.listdir(lab.netns_directory)) if os.path.isdir(lab.netns_directory) else []
    directory = Path(lab.state_dir) / "network"
    records = sorted(path.name for path in directory.glob("*.json*")) if directory.is_dir() else []
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if lab.netns_directory in line]
    return {
        "links": links,
        "addresses": addresses,
        "routes": routes,
        "neighbours": neighbours,
        "rules": lab.rules(),
        "pins": pins,
        "records": records,
        "mounts": mounts,
    }


async def churn(lab: Any, network: Network, dice: random.Random, known: list[int]) -> None:
    """Start pods and end them, many at a time, until killed."""
    await network.start([uid(number) for number in known])
    numbers = list(range(PODS))

    async def live(number: int) -> None:
        while True:
            netns = lab.fds[number]
            lab.pin(network.netns_name(uid(number), f"default/p{number}"), netns)
            protocol = dice.choice(["TCP", "UDP"])
            port = HostPort(host_port=9000 + number, container_port=80, protocol=protocol)
            try:
                await network.attach(
                    uid(number), pod=f"default/p{number}", netns_fd=netns, host_ports=(port,) if number % 2 else ()
                )
                await asyncio.sleep(dice.random() * 0.05)
                await network.detach(uid(number))
            except NetworkError as error:
                os.write(2, f"{error}\n".encode())
                os._exit(3)
            lab.unpin(network.netns_name(uid(number), f"default/p{number}"))

    await asyncio.gather(*(live(number) for number in dice.sample(numbers, len(numbers))))


def run_and_kill(lab: Any, seed: int, known: list[int], seconds: float) -> None:
    """Run a daemon's network in a process of its own and kill it at a random moment."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(churn(lab, lab.network(), random.Random(seed), known))
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        os._exit(4)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the daemon failed with code {os.waitstatus_to_exitcode(status)}"


def check_records(lab: Any) -> None:
    """No address is recorded for two pods, and every record can be read."""
    seen: set[str] = set()
    for path in (Path(lab.state_dir) / "network").glob("*.json"):
        for ip in json.loads(path.read_text())["ips"]:
            assert ip not in seen
            seen.add(ip)


def test_nothing_is_left_after_many_kills(lab: Any) -> None:
    seed = int(os.environ.get("MINIKUBELET_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    print(f"MINIKUBELET_TEST_SEED={seed}")
    dice = random.Random(seed)
    lab.run("nft", "add", "table", "inet", "somebody-elses")
    lab.run("ip", "link", "add", "other0", "type", "bridge")
    lab.pin("somebody-elses", lab.outside)
    lab.fds = [lab.netns() for _ in range(PODS)]
    before = snapshot(lab)

    async def start_and_stop(known: list[int], remove: bool) -> dict[str, Any]:
        network = lab.network()
        await network.start([uid(number) for number in known])
        there = await asyncio.to_thread(snapshot, lab)
        await network.stop(remove=remove)
        return there

    fresh = asyncio.run(start_and_stop([], remove=False))
    for _ in range(ROUNDS):
        known = dice.sample(range(PODS), dice.randrange(PODS // 2))
        run_and_kill(lab, dice.randrange(1 << 30), known, dice.uniform(0.05, 0.6))
        check_records(lab)
    assert asyncio.run(start_and_stop([], remove=True)) == fresh
    assert snapshot(lab) == before
    assert all(lab.links(netns) == ["lo"] for netns in lab.fds)
