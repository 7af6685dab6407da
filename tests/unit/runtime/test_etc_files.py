"""U-HST: the hosts file, the rows of Kubernetes' own test restated; resolv.conf and host names."""

from __future__ import annotations

import pytest

from minikubelet.api.types import Container, HostAlias, ObjectMeta, Pod, PodDNSConfig, PodDNSConfigOption, PodSpec
from minikubelet.runtime.etc_files import (
    asks_local_resolver,
    dns_config,
    host_network_hosts_file,
    hosts_file,
    parse_resolv_conf,
    pod_hostname,
)

HEADER = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
HOST_HEADER = "# Kubernetes-managed hosts file (host network).\n"
ALIAS_1 = HostAlias(ip="123.45.67.89", hostnames=["foo", "bar", "baz"])
ALIAS_2 = HostAlias(ip="456.78.90.123", hostnames=["park", "doo", "boo"])
ENTRIES = "\n# Entries added by HostAliases.\n"
ENTRY_1 = "123.45.67.89\tfoo\tbar\tbaz\n"
ENTRY_2 = "456.78.90.123\tpark\tdoo\tboo\n"
NODE_1 = "# hosts file for testing.\n127.0.0.1\tlocalhost\n123.45.67.89\tsome.domain\n"
NODE_2 = "# another hosts file for testing.\n127.0.0.1\tlocalhost\n12.34.56.78\tanother.domain\n"

ROWS = [
    (1, hosts_file(["203.0.113.1"], "podFoo", "", ()), HEADER + "203.0.113.1\tpodFoo\n"),
    (
        2,
        hosts_file(["203.0.113.1"], "podFoo", "domainFoo", ()),
        HEADER + "203.0.113.1\tpodFoo.domainFoo\tpodFoo\n",
    ),
    (
        3,
        hosts_file(["203.0.113.1"], "podFoo", "domainFoo", [ALIAS_1]),
        HEADER + "203.0.113.1\tpodFoo.domainFoo\tpodFoo\n" + ENTRIES + ENTRY_1,
    ),
    (
        4,
        hosts_file(["203.0.113.1"], "podFoo", "domainFoo", [ALIAS_1, ALIAS_2]),
        HEADER + "203.0.113.1\tpodFoo.domainFoo\tpodFoo\n" + ENTRIES + ENTRY_1 + ENTRY_2,
    ),
    (
        5,
        hosts_file(["203.0.113.1", "fd00::6"], "podFoo", "", ()),
        HEADER + "203.0.113.1\tpodFoo\nfd00::6\tpodFoo\n",
    ),
    (6, host_network_hosts_file(NODE_1, ()), HOST_HEADER + NODE_1),
    (6, host_network_hosts_file(NODE_2, ()), HOST_HEADER + NODE_2),
    (7, host_network_hosts_file(NODE_1, [ALIAS_1]), HOST_HEADER + NODE_1 + ENTRIES + ENTRY_1),
    (8, host_network_hosts_file(NODE_2, [ALIAS_1, ALIAS_2]), HOST_HEADER + NODE_2 + ENTRIES + ENTRY_1 + ENTRY_2),
]


@pytest.mark.conformance("U-HST")
@pytest.mark.parametrize(("number", "found", "expected"), ROWS, ids=[f"U-HST-{row[0]}" for row in ROWS])
def test_hosts_file(number: int, found: str, expected: str) -> None:
    assert found == expected


def pod_of(name: str = "p", **spec: object) -> Pod:
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name=name, namespace="ns", uid="u"),
        spec=PodSpec(containers=[Container(name="c", image="i")], **spec),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (pod_of(), ("p", "")),
        (pod_of(hostname="h"), ("h", "")),
        (pod_of(hostname="h", subdomain="s"), ("h", "s.ns.svc.cluster.local")),
        (pod_of(subdomain="s", set_hostname_as_fqdn=True), ("p.s.ns.svc.cluster.local", "s.ns.svc.cluster.local")),
        (pod_of(set_hostname_as_fqdn=True), ("p", "")),
        (pod_of("a" * 62 + ".b"), ("a" * 62, "")),
        (pod_of("a" * 70), ("a" * 63, "")),
        (pod_of(host_network=True), ("node", "")),
        (pod_of(hostname="h", subdomain="s", hostname_override="own.name"), ("own.name", "")),
        (pod_of(hostname_override="a" * 62 + ".b"), ("a" * 62, "")),
    ],
)
def test_hostname(pod: Pod, expected: tuple[str, str]) -> None:
    assert pod_hostname(pod, node_name="node", cluster_domain="cluster.local") == expected


HOST = "search corp.example\nnameserver 9.9.9.9\noptions timeout:2\n"
CLUSTER = (
    "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.0.0.10\noptions ndots:5\n"
)
CONFIG = PodDNSConfig(
    nameservers=["1.1.1.1", "9.9.9.9"],
    searches=["corp.example", "more"],
    options=[PodDNSConfigOption(name="timeout", value="5"), PodDNSConfigOption(name="edns0")],
)


@pytest.mark.parametrize(
    ("pod", "servers", "expected"),
    [
        (pod_of(dns_policy="ClusterFirst"), ("10.0.0.10",), CLUSTER),
        (pod_of(dns_policy="ClusterFirst"), (), HOST),
        (pod_of(dns_policy="ClusterFirst", host_network=True), ("10.0.0.10",), HOST),
        (pod_of(dns_policy="ClusterFirstWithHostNet", host_network=True), ("10.0.0.10",), CLUSTER),
        (pod_of(dns_policy="Default"), ("10.0.0.10",), HOST),
        (
            pod_of(dns_policy="None", dns_config=CONFIG),
            ("10.0.0.10",),
            "search corp.example more\nnameserver 1.1.1.1\nnameserver 9.9.9.9\noptions timeout:5 edns0\n",
        ),
        (
            pod_of(dns_policy="Default", dns_config=CONFIG),
            (),
            "search corp.example more\nnameserver 9.9.9.9\nnameserver 1.1.1.1\noptions timeout:5 edns0\n",
        ),
    ],
)
def test_resolv_conf(pod: Pod, servers: tuple[str, ...], expected: str) -> None:
    found = dns_config(pod, HOST, cluster_dns=servers, cluster_domain="cluster.local")
    assert found.text() == expected


def events_of(pod: Pod, host: str = HOST, servers: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return list(dns_config(pod, host, cluster_dns=servers, cluster_domain="cluster.local").events)


def test_missing_cluster_dns_is_said_of_pods_that_would_use_it() -> None:
    text = (
        'pod: "p_ns(u)". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" '
        'policy. Falling back to "Default" policy.'
    )
    assert events_of(pod_of(dns_policy="ClusterFirst")) == [("MissingClusterDNS", text)]
    assert events_of(pod_of(dns_policy="ClusterFirstWithHostNet", host_network=True)) == [("MissingClusterDNS", text)]
    assert events_of(pod_of(dns_policy="ClusterFirst", host_network=True)) == []
    assert events_of(pod_of(dns_policy="ClusterFirst"), servers=("10.0.0.10",)) == []
    assert events_of(pod_of(dns_policy="Default")) == []


def test_lists_that_resolvers_cannot_take_are_cut_and_it_is_said() -> None:
    config = PodDNSConfig(
        nameservers=["10.0.0.1", "10.0.0.2", "10.0.0.3"], searches=[f"d{number}.example" for number in range(32)]
    )
    pod = pod_of(dns_policy="Default", dns_config=config)
    found = dns_config(pod, HOST, cluster_dns=(), cluster_domain="cluster.local")
    assert found.servers == ("9.9.9.9", "10.0.0.1", "10.0.0.2")
    assert found.searches == ("corp.example", *(f"d{number}.example" for number in range(31)))
    assert [reason for reason, _ in found.events] == ["DNSConfigForming", "DNSConfigForming"]
    assert found.events[0][1].endswith("the applied nameserver line is: 9.9.9.9 10.0.0.1 10.0.0.2")


def test_search_line_has_at_most_2048_characters_and_no_overlong_path() -> None:
    host = f"search {'x' * 254} " + " ".join("y" * 200 for _ in range(1)) + "\n"
    config = PodDNSConfig(searches=["z" * 200 + str(number) for number in range(12)])
    found = dns_config(
        pod_of(dns_policy="Default", dns_config=config), host, cluster_dns=(), cluster_domain="cluster.local"
    )
    assert "x" * 254 not in found.searches
    assert len(" ".join(found.searches)) <= 2048
    assert len(found.searches) == 10
    assert [reason for reason, _ in found.events] == ["DNSConfigForming"]


def test_no_resolv_conf_on_the_node_means_no_lookups() -> None:
    found = dns_config(pod_of(dns_policy="Default"), None, cluster_dns=(), cluster_domain="cluster.local")
    assert found.text() == "search .\nnameserver 127.0.0.1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", True),
        ("nameserver 127.0.0.53\nnameserver 9.9.9.9\n", False),
        ("nameserver 9.9.9.9\n", False),
        ("", False),
    ],
)
def test_stub_of_the_local_resolver_is_known(text: str, expected: bool) -> None:
    assert asks_local_resolver(text) is expected


def test_options_of_several_lines_are_put_together() -> None:
    text = "options timeout:1 edns0\noptions attempts:3\noptions timeout:9\n"
    assert parse_resolv_conf(text)[2] == ["timeout:9", "edns0", "attempts:3"]
