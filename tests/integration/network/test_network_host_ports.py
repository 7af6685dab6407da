"""hostPort from everywhere, by nftables and by the proxy."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
from typing import Any

import pytest

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network import conntrack, nft
from minikubelet.runtime.network.errors import HostPortInUse, NetworkError
from minikubelet.runtime.network.records import HostPort

pytestmark = [pytest.mark.root, pytest.mark.anyio]

NO_NFT = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None
NFTABLES = pytest.param("nftables", marks=pytest.mark.skipif(NO_NFT, reason="nft is not installed"))
BACKENDS = pytest.mark.parametrize("backend", [NFTABLES, "proxy"])


def uid(number: int) -> PodUID:
    return PodUID(f"00000000-0000-0000-0000-{number:012d}")


async def attach(lab: Any, network: Any, number: int, *ports: HostPort) -> int:
    netns: int = lab.netns()
    await network.attach(uid(number), pod=f"default/p{number}", netns_fd=netns, host_ports=ports)
    return netns


@BACKENDS
async def test_reachable_from_everywhere(lab: Any, backend: str) -> None:
    network = lab.network(host_ports=backend)
    await network.start(())
    pod = await attach(lab, network, 1, HostPort(host_port=8080, container_port=80))
    other = await attach(lab, network, 2)
    async with await lab.serve(pod, 80):
        seen = await lab.ask(lab.outside, lab.host_ip, 8080)
        assert seen == (lab.outside_ip if backend == "nftables" else "10.88.0.1")
        await lab.ask(None, lab.host_ip, 8080)
        await lab.ask(None, "127.0.0.1", 8080)
        await lab.ask(None, "::1", 8080)
        await lab.ask(other, lab.host_ip, 8080)
        await lab.ask(other, "10.88.0.1", 8080)
        await lab.ask(pod, lab.host_ip, 8080)
        await lab.ask(lab.outside, "2001:db8::2", 8080)
        big = bytes(range(256)) * 20_000
        await lab.ask(None, "127.0.0.1", 8080, big)
        await lab.ask(lab.outside, lab.host_ip, 8080, big)
    await network.detach(uid(1))
    with pytest.raises(ConnectionRefusedError):
        await lab.ask(lab.outside, lab.host_ip, 8080)
    await network.stop(remove=True)


@BACKENDS
async def test_dual_stack_host_port(lab: Any, backend: str) -> None:
    network = lab.network(host_ports=backend, pod_cidrs=(lab.cidr, "fd01::/64"))
    await network.start(())
    pod = await attach(lab, network, 1, HostPort(host_port=8080, container_port=80))
    async with await lab.serve(pod, 80), await lab.serve(pod, 80, "fd01::2", family=socket.AF_INET6):
        seen = await lab.ask(lab.outside, "2001:db8::2", 8080)
        assert seen == ("2001:db8::1" if backend == "nftables" else "fd01::1")
        await lab.ask(lab.outside, lab.host_ip, 8080)
        await lab.ask(pod, "2001:db8::2", 8080)
        await lab.ask(None, "::1", 8080)
    await network.stop(remove=True)


@BACKENDS
async def test_udp(lab: Any, backend: str) -> None:
    network = lab.network(host_ports=backend)
    await network.start(())
    pod = await attach(lab, network, 1, HostPort(host_port=5353, container_port=53, protocol="UDP"))
    other = await attach(lab, network, 2)
    lab.serve_udp(pod, 53)
    seen = await lab.ask_udp(lab.outside, lab.host_ip, 5353)
    assert seen == (lab.outside_ip if backend == "nftables" else "10.88.0.1")
    await lab.ask_udp(None, "127.0.0.1", 5353)
    await lab.ask_udp(None, lab.host_ip, 5353)
    await lab.ask_udp(other, lab.host_ip, 5353)
    # The answer comes from the address that was asked, though the host has another one on that link.
    await lab.ask_udp(pod, lab.host_ip, 5353)
    await network.stop(remove=True)


@pytest.mark.skipif(NO_NFT, reason="nft is not installed")
@pytest.mark.parametrize("kernel", ["this", "before 6.3"])
async def test_a_udp_client_that_never_pauses_finds_the_port_when_it_comes_and_when_it_moves(
    lab: Any, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "before 6.3":
        forget, by_filter = conntrack._is_refused, struct.pack("=H", 25 | 0x8000)
        monkeypatch.setattr(conntrack, "_is_refused", lambda made, one: by_filter in one or forget(made, one))
    network = lab.network()
    await network.start(())
    client = lab.socket(lab.outside, socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("", 7777))

    async def until_translated() -> None:
        end = asyncio.get_running_loop().time() + 20
        seen = ""
        # The holding socket answers too, but hides the client's address.
        while seen != lab.outside_ip:
            assert asyncio.get_running_loop().time() < end
            try:
                seen = await asyncio.wait_for(lab.ask_udp(None, lab.host_ip, 5353, client), 0.1)
            except (TimeoutError, OSError):
                continue

    # Connections are remembered while they are not translated yet ...
    with pytest.raises((TimeoutError, ConnectionRefusedError)):
        await asyncio.wait_for(lab.ask_udp(None, lab.host_ip, 5353, client), 0.1)
    port = HostPort(host_port=5353, container_port=53, protocol="UDP")
    lab.serve_udp(await attach(lab, network, 1, port), 53)
    await until_translated()
    # ... and while they still lead to the former pod.
    await network.detach(uid(1))
    lab.serve_udp(await attach(lab, network, 2, port), 53)
    await until_translated()
    client.close()
    await network.stop(remove=True)


@BACKENDS
async def test_host_ip_binds_to_one_address(lab: Any, backend: str) -> None:
    lab.run("ip", "address", "add", "192.0.2.3/24", "dev", "up0")
    network = lab.network(host_ports=backend)
    await network.start(())
    one = await attach(lab, network, 1, HostPort(host_port=8080, container_port=80, host_ip=lab.host_ip))
    two = await attach(lab, network, 2, HostPort(host_port=8080, container_port=80, host_ip="192.0.2.3"))
    local = await attach(lab, network, 3, HostPort(host_port=8081, container_port=80, host_ip="127.0.0.1"))
    async with await lab.serve(one, 80), await lab.serve(local, 80):
        await lab.ask(lab.outside, lab.host_ip, 8080)
        with pytest.raises(ConnectionRefusedError if backend == "nftables" else (OSError, AssertionError)):
            await lab.ask(lab.outside, "192.0.2.3", 8080)
        async with await lab.serve(two, 80):
            await lab.ask(lab.outside, "192.0.2.3", 8080)
        with pytest.raises(ConnectionRefusedError):
            await lab.ask(None, "127.0.0.1", 8080)
        await lab.ask(None, "127.0.0.1", 8081)
        with pytest.raises(ConnectionRefusedError):
            await lab.ask(lab.outside, lab.host_ip, 8081)
    await network.stop(remove=True)


@BACKENDS
async def test_a_port_in_use_is_refused_with_the_holders_name(lab: Any, backend: str) -> None:
    network = lab.network(host_ports=backend)
    await network.start(())
    port = HostPort(host_port=8080, container_port=80)
    async with await lab.serve(None, 8080, "127.0.0.1"):
        conflict = await network.port_conflict([port])
        assert conflict is not None
        assert conflict.startswith("host port TCP *:8080 is held by python")
        with pytest.raises(
            HostPortInUse, match=r"cannot use host port TCP \*:8080: it is held by python.* \(pid \d+\)"
        ):
            await attach(lab, network, 1, port)
    assert await network.port_conflict([port]) is None
    await attach(lab, network, 1, port)
    assert await network.port_conflict([port]) is None, "pods of ours are for the scheduler's predicate to judge"
    with pytest.raises(HostPortInUse, match="held by pod default/p1"):
        await attach(lab, network, 2, port)
    # Nor can another program take it unnoticed.
    with socket.socket() as taker, pytest.raises(OSError, match="in use"):
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("", 8080))
        taker.listen()
    await network.stop(remove=True)


@BACKENDS
async def test_a_new_daemon_serves_on(lab: Any, backend: str) -> None:
    old = lab.network(host_ports=backend)
    await old.start(())
    kept = await attach(lab, old, 1, HostPort(host_port=8080, container_port=80))
    await attach(lab, old, 2, HostPort(host_port=8081, container_port=80))
    await old.stop(remove=False)
    if backend == "nftables":
        async with await lab.serve(kept, 80):
            await lab.ask(lab.outside, lab.host_ip, 8080)
    new = lab.network(host_ports=backend)
    await new.start([uid(1)])
    async with await lab.serve(kept, 80):
        await lab.ask(lab.outside, lab.host_ip, 8080)
        with pytest.raises(ConnectionRefusedError):
            await lab.ask(lab.outside, lab.host_ip, 8081)
    await new.stop(remove=True)


@pytest.mark.skipif(NO_NFT, reason="nft is not installed")
@pytest.mark.parametrize("command", ["flush ruleset", "delete table inet minikubelet-mktest0", "flush chain"])
async def test_a_firewall_reload_is_repaired(lab: Any, command: str) -> None:
    network = lab.network()
    await network.start(())
    pod = await attach(lab, network, 1, HostPort(host_port=8080, container_port=80))
    before = lab.rules()
    words = command.split()
    lab.run(
        "nft", *(words if len(words) > 2 or "ruleset" in words else [*words, "inet", "minikubelet-mktest0", "leaving"])
    )
    assert lab.rules() != before
    await lab.until(lambda: lab.rules() == before)
    async with await lab.serve(pod, 80), await lab.serve(lab.outside, 82):
        await lab.ask(lab.outside, lab.host_ip, 8080)
        assert await lab.ask(pod, lab.outside_ip, 82) == lab.host_ip
    await network.stop(remove=True)


@pytest.mark.skipif(NO_NFT, reason="nft is not installed")
async def test_changes_while_the_table_is_missing_are_not_lost(lab: Any) -> None:
    network = lab.network()
    await network.start(())
    await attach(lab, network, 1, HostPort(host_port=8080, container_port=80))
    lab.run("nft", "flush", "ruleset")
    await attach(lab, network, 2, HostPort(host_port=8082, container_port=80))
    await network.detach(uid(1))
    rules = lab.rules()
    assert "8082" in rules
    assert "8080" not in rules
    await network.stop(remove=True)


@pytest.mark.skipif(NO_NFT, reason="nft is not installed")
async def test_fifty_pods_with_host_ports_take_few_transactions(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = lab.network()
    await network.start(())
    ports = [HostPort(host_port=9000 + i, container_port=80) for i in range(50)]
    run, transactions, hold = nft.Nft.run, [], [True]

    async def count(self: nft.Nft, transaction: str) -> None:
        transactions.append(transaction)
        if hold:  # the first takes as long as all others need to come
            hold.clear()
            await lab.until(lambda: len(lab.links()) >= len(ports))
        await run(self, transaction)

    monkeypatch.setattr(nft.Nft, "run", count)
    await asyncio.gather(*(attach(lab, network, i, port) for i, port in enumerate(ports)))
    assert 1 <= len(transactions) <= 10
    assert all(f"tcp . {port.host_port} :" in lab.rules() for port in ports)
    transactions.clear()
    await asyncio.gather(*(network.detach(uid(i)) for i in range(50)))
    assert 1 <= len(transactions) <= 10
    assert "tcp . 90" not in lab.rules()
    await network.stop(remove=True)


async def test_without_nft_but_with_iptables_pods_reach_the_outside(lab: Any) -> None:
    if shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip("iptables is not installed")
    network = lab.network(host_ports="proxy")
    await network.start(())
    pod = await attach(lab, network, 1)
    async with await lab.serve(lab.outside, 82):
        assert await lab.ask(pod, lab.outside_ip, 82) == lab.host_ip
    await network.stop(remove=True)
    assert "minikubelet" not in lab.run("iptables-save")


async def test_auto_falls_back_where_nftables_does_not_work(
    lab: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "nft"
    broken.write_text("#!/bin/sh\necho 'Error: Protocol not supported' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(nft, "find_nft", lambda: str(broken))
    strict = lab.network(host_ports="nftables")
    with pytest.raises(NetworkError, match="cannot change the nftables rules: Error: Protocol not supported"):
        await strict.start(())
    await strict.stop(remove=False)
    network = lab.network(host_ports="auto")
    await network.start(())
    pod = await attach(lab, network, 1, HostPort(host_port=8080, container_port=80))
    async with await lab.serve(pod, 80):
        await lab.ask(lab.outside, lab.host_ip, 8080)
    assert lab.run("sysctl", "-n", f"net.ipv4.conf.{lab.bridge}.route_localnet").strip() == "0"
    await network.stop(remove=True)


@pytest.mark.skipif(NO_NFT, reason="nft is not installed")
async def test_a_withdrawn_udp_port_leaves_no_connection_to_the_pods_address(lab: Any) -> None:
    def remembered() -> list[str]:
        with open("/proc/thread-self/net/nf_conntrack", encoding="ascii") as file:
            return [line for line in file if "dport=5353" in line]

    network = lab.network()
    await network.start(())
    port = HostPort(host_port=5353, container_port=53, protocol="UDP")
    lab.serve_udp(await attach(lab, network, 1, port), 53)
    await lab.ask_udp(lab.outside, lab.host_ip, 5353)
    try:
        assert remembered()
    except FileNotFoundError:
        pytest.skip("the kernel does not list connections")
    await network.detach(uid(1))
    assert not remembered()
    await network.stop(remove=True)


@BACKENDS
async def test_sctp_is_translated_by_the_kernel_and_carried_where_it_has_such_sockets(lab: Any, backend: str) -> None:
    network = lab.network(host_ports=backend)
    await network.start(())
    port = HostPort(host_port=3868, container_port=3868, protocol="SCTP")
    if backend == "nftables":
        await attach(lab, network, 1, port)
        assert "sctp . 3868 : 10.88.0.2 . 3868" in lab.rules()
    else:
        try:
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
        except OSError:
            with pytest.raises(NetworkError, match=r"cannot use host port SCTP \*:3868: the kernel has no SCTP"):
                await attach(lab, network, 1, port)
        else:
            await attach(lab, network, 1, port)
    await network.stop(remove=True)
