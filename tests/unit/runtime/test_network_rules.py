"""Host ports to translations, listeners and nftables text; names; records; conflicts. All pure."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec
import pytest

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network import names, nft
from minikubelet.runtime.network.conflicts import find_conflict
from minikubelet.runtime.network.forwards import Forward, compute_forwards, compute_listeners
from minikubelet.runtime.network.inspection import compute_findings
from minikubelet.runtime.network.records import HostPort, PodNetwork, Records, parse_record
from minikubelet.runtime.network.rtnetlink import Address, Link, Route
from minikubelet.runtime.network.sysctls import Sysctls
from minikubelet.runtime.network.wiring import HostView, link_local, node_addresses

UID = PodUID("6a0b1f6e-0000-4000-8000-000000000001")
V4 = ("10.88.0.2",)
DUAL = ("10.88.0.2", "fd01::2")


@pytest.mark.parametrize(
    ("host_ip", "ips", "expected"),
    [
        pytest.param("", V4, [(4, "", "10.88.0.2")], id="any"),
        pytest.param("", DUAL, [(4, "", "10.88.0.2"), (6, "", "fd01::2")], id="any-dual-stack"),
        pytest.param("0.0.0.0", DUAL, [(4, "", "10.88.0.2")], id="any-IPv4"),
        pytest.param("::", DUAL, [(6, "", "fd01::2")], id="any-IPv6"),
        pytest.param("127.0.0.1", DUAL, [(4, "127.0.0.1", "10.88.0.2")], id="one-IPv4"),
        pytest.param("2001:DB8::1", DUAL, [(6, "2001:db8::1", "fd01::2")], id="one-IPv6"),
        pytest.param("2001:db8::1", V4, [], id="a-family-that-the-pod-lacks"),
    ],
)
def test_translations(host_ip: str, ips: tuple[str, ...], expected: list[tuple[int, str, str]]) -> None:
    forwards = compute_forwards([HostPort(host_port=80, container_port=8080, host_ip=host_ip)], ips)
    assert [(f.family, f.host_ip, f.pod_ip) for f in forwards] == expected
    assert all((f.protocol, f.host_port, f.pod_port) == ("tcp", 80, 8080) for f in forwards)


@pytest.mark.parametrize(
    ("host_ip", "ips", "expected"),
    [
        pytest.param("", V4, [("0.0.0.0", "10.88.0.2"), ("::", "10.88.0.2")], id="both-families-to-the-one-there-is"),
        pytest.param("", DUAL, [("0.0.0.0", "10.88.0.2"), ("::", "fd01::2")], id="each-to-its-own"),
        pytest.param("::1", V4, [("::1", "10.88.0.2")], id="one-address"),
    ],
)
def test_listeners(host_ip: str, ips: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    listeners = compute_listeners([HostPort(host_port=80, container_port=8080, host_ip=host_ip)], ips)
    assert [(x.host_ip, x.pod_ip) for x in listeners] == expected


def forward(**changes: object) -> Forward:
    whole = {"protocol": "tcp", "family": 4, "host_ip": "", "host_port": 80, "pod_ip": "10.88.0.2", "pod_port": 8080}
    return Forward(**{**whole, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (forward(), "add element inet minikubelet-mk0 any4 { tcp . 80 : 10.88.0.2 . 8080 }\n"),
        (
            forward(protocol="udp", host_ip="127.0.0.1"),
            "add element inet minikubelet-mk0 one4 { 127.0.0.1 . udp . 80 : 10.88.0.2 . 8080 }\n",
        ),
        (
            forward(family=6, pod_ip="fd01::2", protocol="sctp"),
            "add element inet minikubelet-mk0 any6 { sctp . 80 : fd01::2 . 8080 }\n",
        ),
    ],
)
def test_elements(given: Forward, text: str) -> None:
    assert nft.change_elements("add", "mk0", [given]) == text


def test_a_replacement_deletes_for_sure_and_adds_last() -> None:
    lines = nft.replace_elements("mk0", [forward()], [forward(pod_ip="10.88.0.3")]).splitlines()
    assert [line.split()[0] for line in lines] == ["add", "delete", "add"]
    assert "10.88.0.3" in lines[2]
    assert "10.88.0.3" not in lines[0] + lines[1]


def test_the_whole_table_replaces_itself_in_one_transaction() -> None:
    ranges = [ipaddress.ip_network("10.88.0.0/16"), ipaddress.ip_network("fd01::/64")]
    text = nft.whole_table("mk0", ranges, [forward()])
    assert text.startswith("add table inet minikubelet-mk0\ndelete table inet minikubelet-mk0\n")
    assert 'ip saddr 10.88.0.0/16 ip daddr != 10.88.0.0/16 oifname != "mk0" masquerade' in text
    assert 'ip6 saddr fd01::/64 ip6 daddr != fd01::/64 oifname != "mk0" masquerade' in text
    assert text.endswith("any4 { tcp . 80 : 10.88.0.2 . 8080 }\n")


def test_names_are_short_ours_and_apart() -> None:
    other = PodUID("6a0b1f6e-0000-4000-8000-000000000002")
    found = {names.link_name(bridge, uid) for bridge in ("mk0", "mk1") for uid in (UID, other)}
    assert len(found) == 4
    assert all(len(name) <= 15 for name in found)
    assert names.link_name("mk0", UID).startswith(names.link_prefix("mk0"))
    assert not names.link_name("mk1", UID).startswith(names.link_prefix("mk0"))
    assert names.link_group("mk0") != names.link_group("mk1") != 0


def test_a_pinned_namespace_is_known_by_its_pod() -> None:
    name = names.netns_name("mk0", "shop/web-node1", UID)
    assert name.startswith(names.netns_prefix("mk0"))
    assert "shop-web-node1" in name
    assert names.netns_belongs_to(name, UID)
    assert not names.netns_belongs_to(name, PodUID("6a0b1f6e-0000-4000-8000-000000000002"))
    assert len(names.netns_name("mk0", "n" * 63 + "/" + "p" * 253, UID)) <= 255


@pytest.mark.parametrize("state_dir", ["/var/lib/minikubelet", "/" + "x" * 400])
def test_a_bridges_alias_tells_its_owner(state_dir: str) -> None:
    alias = names.bridge_alias(state_dir)
    assert len(alias) <= 255
    assert names.bridge_owner(alias) is not None
    assert names.bridge_owner("some other bridge") is None


def test_a_record_survives_the_round_trip(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "network"))
    network = PodNetwork(
        uid=UID,
        pod="default/web",
        ips=DUAL,
        link="mk0",
        boot_id="b",
        host_ports=(HostPort(host_port=80, container_port=8080, protocol="UDP", host_ip="127.0.0.1"),),
        cni={"result": {"ips": []}},
    )
    records.write(network)
    assert records.read_all() == {UID: network}
    records.remove(UID)
    records.remove(UID)
    assert records.read_all() == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff\x00", b'{"uid":"a","pod":"b","ips":["no"]}', b'{"uid":1,"pod":"b","ips":[]}'],
)
def test_a_damaged_record_is_set_aside(tmp_path: Path, content: bytes) -> None:
    records = Records(str(tmp_path))
    (tmp_path / "a.json").write_bytes(content)
    (tmp_path / "b.json.tmp").write_bytes(b"half")
    assert records.read_all() == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json.bad"]


def test_a_record_of_another_version_is_refused() -> None:
    data = msgspec.json.encode(PodNetwork(uid=UID, pod="a/b", ips=(), version=2))
    with pytest.raises(ValueError, match="version 2"):
        parse_record(data)


def link(index: int, name: str, kind: str = "", alias: str = "") -> Link:
    return Link(index=index, name=name, kind=kind, flags=1, mtu=1500, address="", master=0, peer=0, alias=alias)


def address(index: int, interface: str, scope: int = 0, temporary: bool = False) -> Address:
    return Address(index=index, interface=ipaddress.ip_interface(interface), scope=scope, temporary=temporary)


def route(destination: str, index: int, metric: int = 0) -> Route:
    return Route(destination=ipaddress.ip_network(destination), links=(index,), metric=metric, table=254)


HOST = HostView(
    links=(link(1, "lo"), link(2, "wifi"), link(3, "lan"), link(4, "docker0", "bridge"), link(5, "mk0", "bridge")),
    addresses=(
        address(1, "127.0.0.1/8", 254),
        address(2, "192.168.1.7/24"),
        address(3, "192.0.2.2/24"),
        address(3, "2001:db8::99/64", temporary=True),
        address(3, "2001:db8::2/64"),
        address(3, "fe80::1/64", 253),
        address(4, "172.17.0.1/16"),
        address(5, "10.88.0.1/16"),
    ),
    routes=(
        route("0.0.0.0/0", 2, metric=600),
        route("0.0.0.0/0", 3, metric=100),
        route("192.168.1.0/24", 2),
        route("192.0.2.0/24", 3),
        route("172.17.0.0/16", 4),
        route("10.88.0.0/16", 5),
    ),
)


def test_node_addresses_begin_with_the_uplink() -> None:
    assert node_addresses(HOST, without="mk0") == ("192.0.2.2", "2001:db8::2")


def test_without_a_default_route_the_first_link_with_an_address_counts() -> None:
    view = HostView(links=HOST.links, addresses=HOST.addresses, routes=())
    assert node_addresses(view, without="mk0") == ("192.168.1.7", "2001:db8::2")


def test_a_bridge_that_is_the_uplink_counts() -> None:
    view = HostView(links=HOST.links, addresses=HOST.addresses, routes=(route("0.0.0.0/0", 4),))
    assert node_addresses(view, without="mk0") == ("172.17.0.1", "2001:db8::2")


def test_a_node_without_any_address_has_its_loopback() -> None:
    assert node_addresses(HostView(links=(), addresses=(), routes=()), without="mk0") == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("alias", "bridge", "cidrs", "expected"),
    [
        pytest.param("minikubelet: /s", "mk0", ["10.88.0.0/16"], None, id="ours"),
        pytest.param("minikubelet: /gone", "mk0", ["10.88.0.0/16"], None, id="of-a-daemon-that-is-gone"),
        pytest.param("minikubelet: /used", "mk0", ["10.88.0.0/16"], "state directory /used", id="of-another-daemon"),
        pytest.param("", "mk0", ["10.88.0.0/16"], "that minikubelet did not make", id="of-something-else"),
        pytest.param("", "lan", ["10.99.0.0/16"], "that is no bridge", id="no-bridge"),
        pytest.param("", "mk1", ["10.88.0.0/16"], "overlaps the route 10.88.0.0/16 (mk0)", id="range-of-other-bridge"),
        pytest.param("", "mk1", ["192.0.0.0/8"], "overlaps the route 192.168.1.0/24 (wifi)", id="wider-range"),
        pytest.param("", "mk1", ["10.99.0.0/16", "2001:db8::/60"], "overlaps the address 2001:db8::99/64", id="IPv6"),
        pytest.param("", "mk1", [], "give one range", id="no-range"),
        pytest.param("", "a-name-too-long-for-a-link", ["10.99.0.0/16"], "1 to 15 characters", id="name-too-long"),
        pytest.param("", "", ["10.99.0.0/16"], "1 to 15 characters", id="no-name"),
    ],
)
def test_conflicts(alias: str, bridge: str, cidrs: list[str], expected: str | None) -> None:
    links = tuple(link(5, "mk0", "bridge", alias) if x.name == "mk0" else x for x in HOST.links)
    found = find_conflict(
        HostView(links=links, addresses=HOST.addresses, routes=HOST.routes),
        bridge=bridge,
        state_dir="/s",
        ranges=[ipaddress.ip_network(cidr) for cidr in cidrs],
        in_use=lambda path: path == "/used",
    )
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert expected in found
        assert found.startswith("cannot use ")


def test_link_local_is_made_from_the_hardware_address() -> None:
    assert str(link_local("0a:58:0a:58:00:01")) == "fe80::858:aff:fe58:1/64"


def test_sysctls_are_changed_once_and_put_back(tmp_path: Path) -> None:
    root = tmp_path / "sys"
    (root / "net").mkdir(parents=True)
    for name, value in (("forward", "0\n"), ("same", "1\n"), ("touched", "0\n")):
        (root / "net" / name).write_text(value)
    kept = str(tmp_path / "kept")
    assert Sysctls(kept, root=str(root)).ensure("net/forward", "1", reason="test")
    # The next daemon finds it changed already and must not take that for the former value.
    again = Sysctls(kept, root=str(root))
    assert again.ensure("net/forward", "1", reason="test")
    assert again.ensure("net/same", "1", reason="test")
    assert again.ensure("net/touched", "1", reason="test")
    assert not again.ensure("net/missing", "1", reason="test")
    (root / "net" / "touched").write_text("2\n")
    again.restore()
    values = {path.name: path.read_text().strip() for path in (root / "net").iterdir()}
    assert values == {"forward": "0", "same": "1", "touched": "2"}
    assert not Path(kept).exists()


def test_a_daemon_that_comes_while_sysctls_are_put_back_has_them(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    setting = tmp_path / "sys" / "forward"
    setting.write_text("0\n")
    own = Sysctls(str(tmp_path / "kept"), root=str(tmp_path / "sys"))
    own.ensure("forward", "1", reason="test")
    seen: list[str] = []

    def is_needed() -> bool:
        seen.append(setting.read_text().strip())
        return seen[-1] == "0"  # it came, and found what it needs, just before

    own.restore(is_needed)
    assert (seen, setting.read_text().strip()) == (["1", "0"], "1")


def test_findings_put_bridges_links_and_tables_together() -> None:
    one, two = names.link_name("mk0", UID), names.link_name("mk1", UID)
    links = [
        ("lo", "", ""),
        ("mk0", "bridge", names.bridge_alias("/var/lib/minikubelet")),
        ("docker0", "bridge", ""),
        (one, "veth", "minikubelet: pod default/web"),
        (two, "veth", ""),
        ("veth0", "veth", ""),
    ]
    tables = ["minikubelet-mk0", "minikubelet-mk1", "filter"]
    whole, remains = compute_findings(links, tables, lambda path: path == "/var/lib/minikubelet")
    assert whole.describe() == "bridge mk0 of /var/lib/minikubelet: 1 pod links, nftables table"
    assert (remains.bridge, remains.links, remains.abandoned, remains.table) == ("mk1", (two,), True, True)
