"""CNI: Debian's plugins in a chain, and plugins of our own that fail in every way."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network.errors import CNIError
from minikubelet.runtime.network.records import HostPort

pytestmark = [pytest.mark.root, pytest.mark.anyio]

PLUGINS = "/usr/lib/cni"
REAL = pytest.mark.skipif(
    not os.path.exists(f"{PLUGINS}/portmap") or shutil.which("iptables", path="/usr/sbin:/sbin") is None,
    reason="containernetworking-plugins or iptables is not installed",
)
PORT = HostPort(host_port=8080, container_port=80)

# A plugin that notes each call and obeys what its configuration says.
FAKE = """\
#!/usr/bin/env python3
import json, os, sys
config = json.load(sys.stdin)
command = os.environ["CNI_COMMAND"]
with open(config["notes"], "a") as notes:
    told = {key: value for key, value in os.environ.items() if key.startswith("CNI_")}
    json.dump({"command": command, "plugin": config["mark"], "env": told, "config": config}, notes)
    notes.write("\\n")
obey = config.get("obey", {}).get(command)
if obey == "fail":
    print(json.dumps({"cniVersion": config["cniVersion"], "code": 7, "msg": "no more addresses", "details": "really"}))
    sys.exit(1)
if obey == "crash":
    sys.exit("it went wrong")
if obey == "garbage":
    print("{")
elif command == "ADD":
    print(json.dumps(config.get("prevResult") or {"cniVersion": config["cniVersion"],
        "interfaces": [{"name": "host0"}, {"name": "eth0", "sandbox": os.environ["CNI_NETNS"]}],
        "ips": [{"address": "fd09::5/64", "interface": 1}, {"address": "10.9.0.5/24", "interface": 1},
                {"address": "10.9.0.1/24", "interface": 0}]}))
"""


def uid(number: int) -> PodUID:
    return PodUID(f"00000000-0000-0000-0000-{number:012d}")


def write_real(directory: Path, data_dir: Path) -> None:
    directory.mkdir(exist_ok=True)
    bridge = {
        "type": "bridge",
        "bridge": "cnitest0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(data_dir),
            "ranges": [[{"subnet": "10.77.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    network = {
        "cniVersion": "1.0.0",
        "name": "test",
        "plugins": [{"type": "loopback"}, bridge, portmap],
    }
    (directory / "10-test.conflist").write_text(json.dumps(network))


class Fakes:
    """A directory of configurations with fake plugins."""

    def __init__(self, directory: Path) -> None:
        self.conf = directory / "conf"
        self.bin = directory / "bin"
        self.notes = directory / "notes"
        self.conf.mkdir()
        self.bin.mkdir()
        program = self.bin / "fake"
        program.write_text(FAKE)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def write(self, *obeys: dict[str, str], version: str = "1.0.0", **more: Any) -> None:
        plugins = [
            {
                "type": "fake",
                "mark": i,
                "obey": obey,
                "notes": str(self.notes),
                "capabilities": {"portMappings": i == 1},
            }
            for i, obey in enumerate(obeys)
        ]
        network = {"cniVersion": version, "name": "fakes", "plugins": plugins, **more}
        (self.conf / "10-fakes.conflist").write_text(json.dumps(network))

    def calls(self) -> list[Any]:
        return [json.loads(line) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def order(self) -> list[str]:
        return [f"{call['command']} {call['plugin']}" for call in self.calls()]

    def options(self) -> dict[str, Any]:
        return {"cni_conf_dir": str(self.conf), "cni_bin_dirs": (str(self.bin),)}


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    directory = tmp_path / "cni"
    directory.mkdir()
    return Fakes(directory)


@REAL
async def test_bridge_host_local_portmap_and_loopback(lab: Any, tmp_path: Path) -> None:
    lab.run("sysctl", "-w", "net.ipv4.ip_forward=1")
    write_real(tmp_path / "net.d", tmp_path / "ipam")
    options = {"cni_conf_dir": str(tmp_path / "net.d"), "cni_bin_dirs": (PLUGINS,)}
    network = lab.network(**options)
    await network.start(())
    assert lab.bridge not in lab.links()
    pod, other = lab.netns(), lab.netns()
    ips = await network.attach(uid(1), pod="default/one", netns_fd=pod, host_ports=(PORT,))
    assert ips == ("10.77.0.2",)
    assert await network.attach(uid(2), pod="default/two", netns_fd=other) == ("10.77.0.3",)
    # Asked again for the same sandbox, CHECK says that all is well (portmap's own fails when a pod has no IPv6).
    assert await network.attach(uid(2), pod="default/two", netns_fd=other) == ("10.77.0.3",)
    assert network.host_ips()[0] == lab.host_ip
    async with await lab.serve(pod, 80), await lab.serve(lab.outside, 82):
        assert await lab.ask(other, "10.77.0.2", 80) == "10.77.0.3"
        assert await lab.ask(lab.outside, lab.host_ip, 8080) == lab.outside_ip
        await lab.ask(None, "127.0.0.1", 8080)
        await lab.ask(pod, lab.host_ip, 8080)
        assert await lab.ask(other, lab.outside_ip, 82) == lab.host_ip
    await network.stop(remove=False)

    # The next daemon knows one of them, and the configuration is gone meanwhile.
    (tmp_path / "net.d" / "10-test.conflist").rename(tmp_path / "gone")
    write_real(tmp_path / "net.d", tmp_path / "elsewhere")
    new = lab.network(**options)
    await new.start([uid(1)])
    assert new.addresses(uid(1)) == ips
    assert not (tmp_path / "ipam" / "test" / "10.77.0.3").exists()
    await new.detach(uid(1))
    await new.detach(uid(1))
    assert not (tmp_path / "ipam" / "test" / "10.77.0.2").exists()
    assert "8080" not in lab.run("iptables-save")
    assert "eth0" not in lab.links(pod)
    await new.stop(remove=True)


async def test_the_chain_is_told_what_the_specification_says(lab: Any, fakes: Fakes) -> None:
    fakes.write({}, {})
    network = lab.network(**fakes.options())
    await network.start(())
    netns = lab.netns()
    lab.pin(network.netns_name(uid(1), "shop/web"), netns)
    ips = await network.attach(uid(1), pod="shop/web", netns_fd=netns, host_ports=(PORT,))
    assert ips == ("10.9.0.5", "fd09::5")
    await network.detach(uid(1))
    assert fakes.order() == ["ADD 0", "ADD 1", "DEL 1", "DEL 0"]
    first, second, delete, _ = fakes.calls()
    assert first["env"]["CNI_CONTAINERID"] == uid(1)
    assert first["env"]["CNI_NETNS"] == f"{lab.netns_directory}/{network.netns_name(uid(1), 'shop/web')}"
    assert first["env"]["CNI_IFNAME"] == "eth0"
    assert "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web" in first["env"]["CNI_ARGS"]
    assert first["config"]["name"] == "fakes"
    assert "prevResult" not in first["config"]
    assert "runtimeConfig" not in first["config"]
    assert second["config"]["prevResult"]["ips"]
    assert second["config"]["runtimeConfig"] == {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    }
    assert delete["config"]["prevResult"]["ips"]
    assert delete["config"]["runtimeConfig"] == second["config"]["runtimeConfig"]
    await network.stop(remove=True)


@pytest.mark.parametrize(
    ("obey", "said"),
    [
        ("fail", r"plugin fake failed \(add\): no more addresses; really"),
        ("crash", r"plugin fake failed \(add\): it went wrong"),
        ("garbage", "a plugin's answer is no JSON"),
    ],
)
async def test_a_failing_plugin_is_undone_and_told(lab: Any, fakes: Fakes, obey: str, said: str) -> None:
    fakes.write({}, {"ADD": obey})
    network = lab.network(**fakes.options())
    await network.start(())
    netns = lab.netns()
    with pytest.raises(CNIError, match=r"cannot connect the pod default/one: " + said) as caught:
        await network.attach(uid(1), pod="default/one", netns_fd=netns)
    assert caught.value.code == (7 if obey == "fail" else 0)
    assert fakes.order() == ["ADD 0", "ADD 1", "DEL 1", "DEL 0"]
    assert network.addresses(uid(1)) == ()
    fakes.write({}, {})
    assert await network.attach(uid(1), pod="default/one", netns_fd=netns) == ("10.9.0.5", "fd09::5")
    await network.stop(remove=True)


async def test_a_failed_delete_is_tried_again(lab: Any, fakes: Fakes) -> None:
    fakes.write({}, {"DEL": "fail"})
    network = lab.network(**fakes.options())
    await network.start(())
    await network.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    with pytest.raises(CNIError, match="cannot disconnect the pod default/one"):
        await network.detach(uid(1))
    assert fakes.order()[-1] == "DEL 0", "the other plugins clean up all the same"
    record = Path(lab.state_dir) / "network" / f"{uid(1)}.json"
    saved = json.loads(record.read_text())
    saved["cni"]["config"]["plugins"][1]["obey"] = {}
    record.write_text(json.dumps(saved))
    await network.stop(remove=False)
    new = lab.network(**fakes.options())
    await new.start(())
    assert not record.exists()
    await new.stop(remove=True)


async def test_an_attachment_cut_short_by_a_crash_is_deleted(lab: Any, fakes: Fakes) -> None:
    fakes.write({})
    network = lab.network(**fakes.options())
    await network.start(())
    await network.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    record = Path(lab.state_dir) / "network" / f"{uid(1)}.json"
    saved = json.loads(record.read_text())
    saved["cni"]["result"] = None
    record.write_text(json.dumps(saved))
    await network.stop(remove=False)
    new = lab.network(**fakes.options())
    await new.start([uid(1)])
    assert new.addresses(uid(1)) == (), "known, but not connected: to be attached anew"
    await new.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    assert fakes.order() == ["ADD 0", "DEL 0", "ADD 0"]
    await new.stop(remove=True)


async def test_garbage_collection_and_newest_version(lab: Any, fakes: Fakes) -> None:
    fakes.write({}, version="0.4.0", cniVersions=["1.0.0", "1.1.0", "9.0.0"])
    network = lab.network(**fakes.options())
    await network.start(())
    await network.attach(uid(1), pod="default/one", netns_fd=lab.netns())
    await network.stop(remove=False)
    new = lab.network(**fakes.options())
    await new.start([uid(1)])
    last = fakes.calls()[-1]
    assert last["command"] == "GC"
    assert last["config"]["cniVersion"] == "1.1.0"
    assert last["config"]["cni.dev/valid-attachments"] == [{"containerID": uid(1), "ifname": "eth0"}]
    await new.stop(remove=True)


async def test_host_ports_without_a_plugin_for_them_are_carried(lab: Any, fakes: Fakes) -> None:
    fakes.write({})
    network = lab.network(**fakes.options())
    await network.start(())
    netns = lab.netns()
    await network.attach(uid(1), pod="default/one", netns_fd=netns, host_ports=(PORT,))
    lab.run("ip", "address", "add", "10.9.0.5/32", "dev", "lo")
    async with await lab.serve(None, 80, "10.9.0.5"):
        await lab.ask(None, "127.0.0.1", 8080)
    await network.stop(remove=True)


async def test_a_bad_file_is_passed_over_and_none_at_all_is_told(lab: Any, fakes: Fakes) -> None:
    (fakes.conf / "00-bad.conflist").write_text('{"name": "x"}')
    network = lab.network(**fakes.options())
    with pytest.raises(CNIError, match=r"cannot use the CNI configuration .*00-bad\.conflist: it has no plugins"):
        await network.start(())
    await network.stop(remove=False)
    fakes.write({})
    good = lab.network(**fakes.options())
    await good.start(())
    assert await good.attach(uid(1), pod="default/one", netns_fd=lab.netns()) == ("10.9.0.5", "fd09::5")
    await good.stop(remove=True)
