"""CNI configurations and results as values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minikubelet.runtime.network import cni_config
from minikubelet.runtime.network.errors import CNIError
from minikubelet.runtime.network.records import HostPort

LIST = {
    "cniVersion": "1.0.0",
    "name": "net",
    "plugins": [{"type": "a"}, {"type": "b", "capabilities": {"x": True, "y": False}}],
}


def network(**changes: Any) -> cni_config.NetworkList:
    return cni_config.network_of({**LIST, **changes})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": ""}, "no name"),
        ({"name": 3}, "no name"),
        ({"plugins": []}, "no plugins"),
        ({"plugins": {}}, "no plugins"),
        ({"plugins": [{}]}, "no type"),
        ({"plugins": ["a"]}, "no type"),
        ({"plugins": [{"type": "../../bin/sh"}]}, "no type"),
        ({"cniVersion": "7.0.0"}, "'7.0.0' is not known"),
    ],
)
def test_what_is_no_network_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        network(**changes)


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({}, "1.0.0"),
        ({"cniVersion": ""}, "0.2.0"),
        ({"cniVersions": ["0.4.0", "1.1.0", "2.0.0"]}, "1.1.0"),
        ({"cniVersion": "9.9.9", "cniVersions": ["0.3.1"]}, "0.3.1"),
    ],
)
def test_the_newest_version_that_we_speak_counts(changes: dict[str, Any], version: str) -> None:
    assert network(**changes).version == version


def test_versions_compare_by_number() -> None:
    assert network(cniVersion="1.0.0").at_least("0.4.0")
    assert not network(cniVersion="0.3.1").at_least("0.4.0")


def test_a_single_configuration_is_a_list_of_one() -> None:
    data = json.dumps({"cniVersion": "0.4.0", "name": "one", "type": "ptp"}).encode()
    found = cni_config.parse_network(data, single=True)
    assert (found.name, found.version, [plugin["type"] for plugin in found.plugins]) == ("one", "0.4.0", ["ptp"])


def test_a_plugin_is_told_only_what_it_asked_for() -> None:
    found = network()
    told = {"x": [1], "y": [2], "z": [3]}
    first = json.loads(cni_config.plugin_input(found, found.plugins[0], runtime_config=told, previous=None))
    second = json.loads(cni_config.plugin_input(found, found.plugins[1], runtime_config=told, previous={"ips": []}))
    assert first == {"type": "a", "name": "net", "cniVersion": "1.0.0"}
    assert second["runtimeConfig"] == {"x": [1]}
    assert second["prevResult"] == {"ips": []}


def test_port_mappings() -> None:
    ports = [
        HostPort(host_port=80, container_port=8080),
        HostPort(host_port=53, container_port=53, protocol="UDP", host_ip="127.0.0.1"),
    ]
    assert cni_config.runtime_config(ports) == {
        "portMappings": [
            {"hostPort": 80, "containerPort": 8080, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
        ]
    }
    assert cni_config.runtime_config([]) == {}


@pytest.mark.parametrize(
    ("result", "ips"),
    [
        pytest.param(
            {"ips": [{"address": "fd00::5/64"}, {"address": "10.0.0.5/24"}]}, ("10.0.0.5", "fd00::5"), id="IPv4-first"
        ),
        pytest.param(
            {
                "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
                "ips": [{"address": "10.0.0.1/24", "interface": 0}, {"address": "10.0.0.5/24", "interface": 1}],
            },
            ("10.0.0.5",),
            id="the-hosts-side-does-not-count",
        ),
        pytest.param({"ip4": {"ip": "10.0.0.5/24"}, "ip6": {"ip": "fd00::5/64"}}, ("10.0.0.5", "fd00::5"), id="0.2.0"),
        pytest.param({}, (), id="none"),
    ],
)
def test_addresses_of_a_result(result: dict[str, Any], ips: tuple[str, ...]) -> None:
    assert cni_config.result_addresses(result) == ips


def test_the_first_good_file_by_name_counts(tmp_path: Path) -> None:
    assert cni_config.load_network(str(tmp_path / "missing")) is None
    assert cni_config.load_network(str(tmp_path)) is None
    (tmp_path / "05-readme.txt").write_text("hello")
    (tmp_path / ".hidden.conflist").write_text(json.dumps({**LIST, "name": "hidden"}))
    assert cni_config.load_network(str(tmp_path)) is None
    (tmp_path / "10-bad.conflist").write_text("{")
    with pytest.raises(CNIError, match=r"10-bad\.conflist"):
        cni_config.load_network(str(tmp_path))
    (tmp_path / "30-late.conflist").write_text(json.dumps({**LIST, "name": "late"}))
    (tmp_path / "20-good.conf").write_text(json.dumps({"name": "good", "cniVersion": "0.3.1", "type": "ptp"}))
    found = cni_config.load_network(str(tmp_path))
    assert found is not None
    assert found.name == "good"
