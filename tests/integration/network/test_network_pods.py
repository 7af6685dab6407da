"""Addresses, links and reachability of pods, in namespaces that play host, outside client and pods."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable
from typing import Any

import pytest

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network import names, wiring
from minikubelet.runtime.network.errors import AddressesExhausted, NetworkConflict, NetworkError
from minikubelet.runtime.network.inspection import inspect_network
from minikubelet.runtime.network.rtnetlink import Netlink, set_link

pytestmark = [
    pytest.mark.root,
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None, reason="nft is not installed"),
]


def uid(number: int) -> PodUID:
    return PodUID(f"00000000-0000-0000-0000-{number:012d}")


async def test_pods_reach_each_other_the_host_and_the_outside_masqueraded(lab: Any) -> None:
    network = lab.network()
    await network.start(())
    one, two = lab.netns(), lab.netns()
    assert await network.attach(uid(1), pod="default/one", netns_fd=one) == ("10.88.0.2",)
    assert await network.attach(uid(2), pod="default/two", netns_fd=two) == ("10.88.0.3",)
    async with await lab.serve(one, 80), await lab.serve(None, 81), await lab.serve(lab.outside, 82):
        assert await lab.ask(two, "10.88.0.2", 80) == "10.88.0.3"
        assert await lab.ask(None, "10.88.0.2", 80) == "10.88.0.1"
        assert await lab.ask(two, "10.88.0.1", 81) == "10.88.0.3"
        assert await lab.ask(two, lab.host_ip, 81) == "10.88.0.3"
        assert await lab.ask(two, lab.outside_ip, 82) == lab.host_ip
    await network.stop(remove=True)


async def test_dual_stack(lab: Any) -> None:
    network = lab.network(pod_cidrs=("fd01::/64", "10.88.0.0/24"))
    await network.start(())
    one, two = lab.netns(), lab.netns()
    assert await network.attach(uid(1), pod="default/one", netns_fd=one) == ("10.88.0.2", "fd01::2")
    assert await network.attach(uid(2), pod="default/two", netns_fd=two) == ("10.88.0.3", "fd01::3")
    async with (
        await lab.serve(one, 80, "fd01::2", family=socket.AF_INET6),
        await lab.serve(lab.outside, 82, "2001:db8::1", family=socket.AF_INET6),
    ):
        assert await lab.ask(two, "fd01::2", 80) == "fd01::3"
        assert await lab.ask(None, "fd01::2", 80) == "fd01::1"
        assert await lab.ask(two, "2001:db8::1", 82) == "2001:db8::2"
    assert network.host_ips() == (lab.host_ip, "2001:db8::2")
    await network.stop(remove=True)


async def test_mtu_follows_the_uplink(lab: Any) -> None:
    network = lab.network()
    await network.start(())
    pod = lab.netns()
    await network.attach(uid(1), pod="default/one", netns_fd=pod)
    assert json.loads(lab.run("ip", "-j", "link", "show", "eth0", netns=pod))[0]["mtu"] == 1400
    assert json.loads(lab.run("ip", "-j", "link", "show", lab.bridge))[0]["mtu"] == 1400
    await network.stop(remove=True)


async def test_detach_releases_everything_and_the_address_rests(lab: Any) -> None:
    network = lab.network()
    await network.start(())
    before = lab.links()
    pod = lab.netns()
    first = await network.attach(uid(1), pod="default/one", netns_fd=pod)
    assert lab.links() != before
    await network.detach(uid(1))
    await network.detach(uid(1))
    assert lab.links() == before
    assert "eth0" not in lab.links(pod)
    assert network.addresses(uid(1)) == ()
    assert [name for name in os.listdir(f"{lab.state_dir}/network") if name.endswith(".json")] == []
    assert await network.attach(uid(2), pod="default/two", netns_fd=lab.netns()) != first
    await network.stop(remove=True)


async def test_attaching_again_changes_nothing_and_a_new_sandbox_keeps_the_address(lab: Any) -> None:
    network = lab.network()
    await network.start(())
    old = lab.netns()
    ips = await network.attach(uid(1), pod="default/one", netns_fd=old)
    index = lab.run("ip", "-o", "link", "show", "eth0", netns=old).split(":")[0]
    assert await network.attach(uid(1), pod="default/one", netns_fd=old) == ips
    assert lab.run("ip", "-o", "link", "show", "eth0", netns=old).split(":")[0] == index
    new = lab.netns()
    assert await network.attach(uid(1), pod="default/one", netns_fd=new) == ips
    assert "eth0" not in lab.links(old)
    async with await lab.serve(new, 80):
        await lab.ask(None, ips[0], 80)
    await network.stop(remove=True)


async def test_a_new_daemon_keeps_known_pods_and_removes_the_rest(lab: Any) -> None:
    old = lab.network()
    await old.start(())
    kept, lost = lab.netns(), lab.netns()
    ips = await old.attach(uid(1), pod="default/kept", netns_fd=kept)
    await old.attach(uid(2), pod="default/lost", netns_fd=lost)
    for number, name in ((1, "kept"), (2, "lost")):
        lab.pin(old.netns_name(uid(number), f"default/{name}"), kept)
    lab.pin("somebody-elses", kept)

    new = lab.network()
    await new.start([uid(1)])
    assert new.addresses(uid(1)) == ips
    assert new.addresses(uid(2)) == ()
    assert names.link_name(lab.bridge, uid(1)) in lab.links()
    assert names.link_name(lab.bridge, uid(2)) not in lab.links()
    assert sorted(os.listdir(lab.netns_directory)) == sorted([new.netns_name(uid(1), "default/kept"), "somebody-elses"])
    async with await lab.serve(kept, 80):
        await lab.ask(None, ips[0], 80)
    # The next address is neither the kept pod's nor the one just released.
    assert await new.attach(uid(3), pod="default/next", netns_fd=lab.netns()) == ("10.88.0.4",)
    await new.stop(remove=True)


async def test_links_without_a_record_are_removed_and_other_software_is_left_alone(lab: Any) -> None:
    old = lab.network()
    await old.start(())
    await old.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    await old.stop(remove=False)
    os.unlink(f"{lab.state_dir}/network/{uid(1)}.json")
    mine = names.link_name(lab.bridge, uid(2))
    lab.run("ip", "link", "add", mine, "type", "bridge")
    lab.run("ip", "link", "add", "vethabc", "type", "veth", "peer", "name", "vethdef")
    new = lab.network()
    await new.start([uid(1)])
    assert names.link_name(lab.bridge, uid(1)) not in lab.links()
    assert {mine, "vethabc", "vethdef"} <= set(lab.links()), "not a pod's link, whatever the name"
    await new.stop(remove=True)


async def test_after_a_reboot_the_address_is_kept_but_the_pod_counts_as_unconnected(lab: Any) -> None:
    old = lab.network()
    await old.start(())
    ips = await old.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    await old.stop(remove=False)
    lab.run("ip", "link", "delete", lab.bridge)
    lab.run("ip", "link", "delete", names.link_name(lab.bridge, uid(1)))
    new = lab.network()
    await new.start([uid(1)])
    assert new.addresses(uid(1)) == ()
    assert await new.attach(uid(2), pod="default/two", netns_fd=lab.netns()) != ips
    assert await new.attach(uid(1), pod="default/one", netns_fd=lab.netns()) == ips
    await new.stop(remove=True)


async def test_a_bridge_deleted_while_the_daemon_was_down_is_made_again_under_running_pods(lab: Any) -> None:
    old = lab.network()
    await old.start(())
    pod = lab.netns()
    ips = await old.attach(uid(1), pod="default/one", netns_fd=pod)
    await old.stop(remove=False)
    lab.run("ip", "link", "delete", lab.bridge)
    new = lab.network()
    await new.start([uid(1)])
    async with await lab.serve(pod, 80):
        await lab.ask(None, ips[0], 80)
    await new.stop(remove=True)


async def test_a_bridge_deleted_under_running_pods_is_made_again_at_once(lab: Any) -> None:
    network = lab.network()
    await network.start(())
    pod = lab.netns()
    ips = await network.attach(uid(1), pod="default/one", netns_fd=pod)
    lab.run("ip", "link", "delete", lab.bridge)
    await lab.until(lambda: f"master {lab.bridge}" in lab.run("ip", "link"))
    async with await lab.serve(pod, 80), await lab.serve(lab.outside, 82):
        await lab.ask(None, ips[0], 80)
        await lab.ask(pod, lab.outside_ip, 82)
    await network.stop(remove=True)


async def test_the_uplinks_mtu_and_address_are_followed_while_pods_run(lab: Any) -> None:
    changes: list[tuple[str, ...]] = []
    network = lab.network(on_host_change=lambda: changes.append(network.host_ips()))
    await network.start(())
    pod = lab.netns()
    await network.attach(uid(1), pod="default/one", netns_fd=pod)
    assert network.host_ips()[0] == lab.host_ip
    lab.run("ip", "link", "set", "up0", "mtu", "1300")
    lab.run("ip", "address", "delete", "192.0.2.2/24", "dev", "up0")
    lab.run("ip", "address", "add", "192.0.2.9/24", "dev", "up0")
    lab.run("ip", "route", "add", "default", "via", lab.outside_ip)
    await lab.until(lambda: changes and changes[-1][0] == "192.0.2.9")
    assert json.loads(lab.run("ip", "-j", "link", "show", lab.bridge))[0]["mtu"] == 1300
    await network.stop(remove=True)


async def test_the_range_can_be_exhausted_and_used_again(lab: Any) -> None:
    network = lab.network(pod_cidrs=("10.88.0.0/30",))
    await network.start(())
    await network.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    with pytest.raises(AddressesExhausted, match=r"cannot give the pod an address: all 1 addresses of 10\.88\.0\.0/30"):
        await network.attach(uid(2), pod="default/two", netns_fd=lab.netns())
    await network.detach(uid(1))
    assert await network.attach(uid(2), pod="default/two", netns_fd=lab.netns()) == ("10.88.0.2",)
    await network.stop(remove=True)


@pytest.mark.parametrize(
    ("before", "options", "line"),
    [
        pytest.param(
            "link add mktest0 type veth peer name vx",
            {},
            "a link of that name that is no bridge",
            id="name-taken-by-a-link",
        ),
        pytest.param("link add mktest0 type bridge", {}, "that minikubelet did not make", id="name-taken-by-a-bridge"),
        pytest.param(
            "route add 10.0.0.0/8 via 192.0.2.1",
            {},
            r"overlaps the route 10\.0\.0\.0/8 \(up0\)",
            id="range-overlaps-a-route",
        ),
        pytest.param(
            "address add 10.88.0.9/32 dev up0", {}, r"overlaps the address 10\.88\.0\.9/32 \(up0\)", id="address"
        ),
        pytest.param("link", {"pod_cidrs": ("10.88.0.0/24", "10.89.0.0/24")}, "one of each IP family", id="two-v4"),
    ],
)
async def test_conflicts_are_told_in_one_line(lab: Any, before: str, options: dict[str, Any], line: str) -> None:
    lab.run("ip", *before.split())
    links = lab.links()
    network = lab.network(**options)
    with pytest.raises(NetworkConflict, match=line) as caught:
        await network.start(())
    assert "\n" not in str(caught.value)
    assert lab.links() == links
    await network.stop(remove=False)


async def test_two_daemons_side_by_side(lab: Any, tmp_path: Any) -> None:
    one = lab.network()
    await one.start(())
    other_dir = str(tmp_path / "other")
    same_bridge = lab.network(state_dir=other_dir)
    with pytest.raises(NetworkConflict, match="belongs to the minikubelet with the state directory"):
        await same_bridge.start(())
    two = lab.network(state_dir=other_dir, bridge="mktest1", pod_cidrs=("10.89.0.0/24",))
    await two.start(())
    here, there = lab.netns(), lab.netns()
    await one.attach(uid(1), pod="default/one", netns_fd=here)
    await two.attach(uid(1), pod="default/one", netns_fd=there)
    async with await lab.serve(here, 80):
        await lab.ask(there, "10.88.0.2", 80)
    await two.stop(remove=True)
    assert lab.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
    async with await lab.serve(here, 80), await lab.serve(lab.outside, 82):
        await lab.ask(None, "10.88.0.2", 80)
        await lab.ask(here, lab.outside_ip, 82)
    await one.stop(remove=True)


async def test_removal_leaves_the_machine_as_it_was(lab: Any) -> None:
    lab.run("nft", "add", "table", "inet", "somebody-elses")
    before = (lab.links(), lab.rules(), lab.run("ip", "route"), lab.run("sysctl", "net.ipv4.ip_forward"))
    network = lab.network()
    await network.start(())
    await network.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    assert lab.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
    await network.stop(remove=True)
    assert (lab.links(), lab.rules(), lab.run("ip", "route"), lab.run("sysctl", "net.ipv4.ip_forward")) == before


async def test_what_an_abandoned_daemon_left_is_found_until_another_takes_it_over(lab: Any, tmp_path: Any) -> None:
    before = (lab.links(), lab.rules())
    gone = lab.network(state_dir=str(tmp_path / "gone"))
    await gone.start(())
    await gone.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    await gone.stop(remove=False)
    shutil.rmtree(tmp_path / "gone")
    (finding,) = await asyncio.to_thread(inspect_network)
    assert (finding.bridge, finding.abandoned, finding.table) == (lab.bridge, True, True)
    assert finding.links == (names.link_name(lab.bridge, uid(1)),)
    again = lab.network(state_dir=str(tmp_path / "again"))
    await again.start(())
    await again.stop(remove=True)
    assert await asyncio.to_thread(inspect_network) == ()
    assert (lab.links(), lab.rules()) == before


async def test_an_abandoned_bridge_may_be_taken_over(lab: Any, tmp_path: Any) -> None:
    gone = lab.network(state_dir=str(tmp_path / "gone"))
    await gone.start(())
    await gone.stop(remove=False)
    shutil.rmtree(tmp_path / "gone")
    heir = lab.network()
    await heir.start(())
    await heir.stop(remove=True)


async def test_a_thread_that_cannot_come_back_from_a_pod_is_replaced(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = lab.network()
    await network.start(())
    real, calls = wiring._enter, []

    def enter(netns: int) -> None:
        calls.append(netns)
        if len(calls) == 2:
            raise OSError(1, "cannot enter")
        real(netns)

    monkeypatch.setattr(wiring, "_enter", enter)
    pod = lab.netns()
    with pytest.raises(NetworkError, match="cannot connect the pod default/one"):
        await network.attach(uid(1), pod="default/one", netns_fd=pod)
    ips = await network.attach(uid(1), pod="default/one", netns_fd=pod)
    async with await lab.serve(pod, 80):
        await lab.ask(None, ips[0], 80)
    await network.stop(remove=True)


async def test_a_cancelled_attach_does_not_touch_another_pods_namespace(lab: Any) -> None:
    network = lab.network()
    await network.start(())
    cancelled, other = os.dup(lab.netns()), lab.netns()
    busy = asyncio.create_task(network.attach(uid(1), pod="default/busy", netns_fd=lab.netns()))
    task = asyncio.create_task(network.attach(uid(2), pod="default/two", netns_fd=cancelled))
    await asyncio.sleep(0)
    task.cancel()
    # The number is free again, and the next descriptor gets it.
    os.dup2(other, cancelled)
    await busy
    with pytest.raises(asyncio.CancelledError):
        await task
    await network.attach(uid(3), pod="default/three", netns_fd=lab.netns())
    assert "eth0" not in lab.links(other)
    os.close(cancelled)
    await network.detach(uid(2))
    await network.stop(remove=True)


async def test_another_firewall_that_drops_what_pods_send_is_told(lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lab.run(
        "nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
    )
    network = lab.network()
    await network.start(())
    assert "ip filter FORWARD" in capsys.readouterr().out
    assert "policy drop" in lab.rules(), "it is not ours to change"
    await network.stop(remove=True)


async def test_pods_ignore_router_advertisements(lab: Any) -> None:
    network = lab.network(pod_cidrs=(lab.cidr, "fd01::/64"))
    await network.start(())
    pod = lab.netns()
    await network.attach(uid(1), pod="default/one", netns_fd=pod)
    assert lab.run("sysctl", "-n", "net.ipv6.conf.eth0.accept_ra", netns=pod).strip() == "0"
    assert lab.run("sysctl", "-n", f"net.ipv6.conf.{lab.bridge}.accept_ra").strip() == "0"
    await network.stop(remove=True)


async def test_the_hosts_loopback_is_closed_to_pods(lab: Any) -> None:
    """CVE-2020-8558: route_localnet must not let the bridge's neighbours reach programs on 127.0.0.1."""
    network = lab.network()
    await network.start(())
    pod = lab.netns()
    await network.attach(uid(1), pod="default/one", netns_fd=pod)
    lab.run("ip", "address", "delete", "127.0.0.1/8", "dev", "lo", netns=pod)
    lab.run("ip", "route", "add", "127.0.0.1", "via", "10.88.0.1", "dev", "eth0", netns=pod)
    lab.run("sysctl", "-w", "net.ipv4.conf.eth0.route_localnet=1", netns=pod)
    async with await lab.serve(None, 81, "127.0.0.1"):
        with pytest.raises(TimeoutError):
            await lab.ask(pod, "127.0.0.1", 81, wait=0.5)
    await network.stop(remove=True)


async def test_a_thousand_changes_are_all_answered(lab: Any) -> None:
    """Their answers together are more than a socket holds."""
    with Netlink() as netlink:
        changes = [set_link("up0", group=7), set_link("nobody", group=7)] * 500
        results = netlink.try_each(changes)
        assert [result and result.errno for result in results] == [None, errno.ENODEV] * 500
        netlink.apply(set_link("up0", group=0))


async def test_fifty_pods_come_and_go_quickly(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By processor time and by removals, each of which makes the kernel wait: a busy machine changes neither."""
    network = lab.network()
    await network.start(())
    pods = [lab.netns() for _ in range(50)]
    remove, removals = wiring.Wiring.remove, []

    def count(self: wiring.Wiring, links: Iterable[str], group: int) -> None:
        removals.append(list(links))
        remove(self, removals[-1], group)

    monkeypatch.setattr(wiring.Wiring, "remove", count)
    start = time.process_time()
    ips = await asyncio.gather(
        *(network.attach(uid(i), pod=f"default/p{i}", netns_fd=netns) for i, netns in enumerate(pods))
    )
    taken = time.process_time() - start
    await asyncio.gather(*(network.detach(uid(i)) for i in range(50)))
    assert len(set(ips)) == 50
    assert taken < 50 * 0.02
    assert sum(map(len, removals)) == 50
    assert len(removals) <= 10
    await network.stop(remove=True)
