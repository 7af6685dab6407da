"""The network as a user of the daemon has it: names, host ports, the host's network, plugins, a full range."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Json = dict[str, Any]


def pod(name: str, command: list[str], *, spec: str = "", container: str = "", namespace: str = "default") -> str:
    """Return a pod of one container."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 1
  {spec}
  containers:
  - name: main
    image: host
    command: {json.dumps(command)}
    {container}
"""


def serving(port: int, text: str) -> list[str]:
    """Return a command that answers each TCP connection with a line."""
    code = (
        "import socket\n"
        f"s = socket.create_server(('0.0.0.0', {port}))\n"
        "while True:\n"
        "    c, peer = s.accept()\n"
        f"    c.sendall(f'{text} {{peer[0]}}\\n'.encode()); c.close()\n"
    )
    return [sys.executable, "-c", code]


def ask(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=20) as connection:
        return connection.makefile().readline().strip()


def answers(address: str, port: int) -> bool:
    try:
        return bool(ask(address, port))
    except OSError:
        return False


def is_running(pod: Json) -> bool:
    return bool(pod["status"]["phase"] == "Running" and pod["status"].get("podIP"))


def hosts_of(node: Any, found: Json) -> str:
    path = node.state_dir / "pods" / found["metadata"]["uid"] / "etc-hosts"
    return str(path.read_text()) if path.exists() else ""


def test_pods_resolve_each_other_while_they_come_and_go(node: Any) -> None:
    """The names hold for static binaries too: they stand in the hosts file, which is kept up to date while pods run."""
    lookup = "until getent hosts db.shop && getent hosts db.default; do sleep 0.05; done; echo found; sleep 60"
    node.write("web.yaml", pod("web", ["sh", "-c", lookup]))
    web = node.wait_pod("web", is_running, "the first pod")
    assert hosts_of(node, web).endswith(f"{web['status']['podIP']}\tweb-n1\n"), "alone, it is the kubelet's file"
    node.write("db.yaml", pod("db", ["sleep", "60"], spec="hostname: db0\n  subdomain: dbs"))
    node.write("shop.yaml", pod("db", ["sleep", "60"], namespace="shop"))
    db = node.wait_pod("db", is_running, "the second pod")
    node.wait(lambda: "found" in node.output(web), "the running container to resolve both")
    dashed = db["status"]["podIP"].replace(".", "-")
    expected = (
        f"{db['status']['podIP']}\tdb0.dbs.default.svc.cluster.local db0.dbs.default.svc db0.dbs.default db0.dbs"
        f" {dashed}.default.pod.cluster.local db.default db-n1.default db db-n1\n"
    )
    assert expected in hosts_of(node, web)
    (node.manifests / "db.yaml").unlink()
    (node.manifests / "shop.yaml").unlink()
    own = f"{web['status']['podIP']}\tweb-n1\n"
    node.wait(lambda: hosts_of(node, web).endswith(own), "the names to go with their pods")


def test_a_pod_that_asks_for_no_cluster_dns_gets_no_names(node: Any) -> None:
    node.write("a.yaml", pod("a", ["sleep", "60"]))
    node.write("b.yaml", pod("b", ["sleep", "60"], spec="dnsPolicy: Default"))
    one = node.wait_pod("a", is_running, "a")
    other = node.wait_pod("b", is_running, "b")
    node.wait(lambda: "b.default" in hosts_of(node, one), "the name of b")
    assert "a.default" not in hosts_of(node, other)


def test_host_ports_reach_the_pod_also_from_itself_and_go_with_it(node: Any) -> None:
    port = 20000 + int(node.bridge.removeprefix("mkt"))
    ports = f"ports: [{{containerPort: 80, hostPort: {port}}}]"
    node.write("web.yaml", pod("web", serving(80, "hello"), container=ports))
    web = node.wait_pod("web", is_running, "web")
    node.wait(lambda: answers("127.0.0.1", port), "the host port on the loopback address")
    assert ask(web["status"]["hostIP"], port).startswith("hello")
    assert ask(web["status"]["podIP"], 80).startswith("hello")
    client = f"import socket; print(socket.create_connection(('{web['status']['hostIP']}', {port})).recv(99).decode())"
    node.write("self.yaml", pod("ask", [sys.executable, "-c", client], spec="restartPolicy: Never"))
    asked = node.wait_pod("ask", lambda one: one["status"]["phase"] == "Succeeded", "another pod's answer")
    assert "hello" in node.log(asked, "main")
    (node.manifests / "web.yaml").unlink()
    node.wait(lambda: node.pod("web") is None, "web to be gone")
    assert not answers("127.0.0.1", port)


def test_a_pod_on_the_hosts_network_has_the_nodes_address_and_no_link(node: Any) -> None:
    node.write("plain.yaml", pod("plain", ["sleep", "60"], spec="hostNetwork: true"))
    plain = node.wait_pod("plain", is_running, "plain")
    assert plain["status"]["podIP"] == plain["status"]["hostIP"]
    links = subprocess.run(["ip", "-o", "link", "show", "type", "veth"], capture_output=True, text=True, check=True)
    assert node.bridge not in links.stdout
    assert hosts_of(node, plain).startswith("# Kubernetes-managed hosts file (host network).\n")
    node.write("other.yaml", pod("other", ["sleep", "60"]))
    other = node.wait_pod("other", is_running, "other")
    node.wait(lambda: f"{plain['status']['hostIP']}\t" in hosts_of(node, other), "the name of the pod on the host")


def test_a_full_range_is_an_event_and_the_pod_starts_when_an_address_is_free(make_node: Any) -> None:
    small = make_node(pod_cidr="{network}/29")
    names = [f"p{number}" for number in range(5)]  # a /29 has six addresses, and the bridge takes one
    for name in names:
        small.write(f"{name}.yaml", pod(name, ["sleep", "60"]))
    for name in names:
        small.wait_pod(name, is_running, name)
    small.write("late.yaml", pod("late", ["sleep", "60"]))
    failed: list[str] = []

    def has_failed() -> bool:
        events = json.loads(small.cli("get", "events", "-A", "-o", "json").stdout)["items"]
        failed[:] = [one["message"] for one in events if one["reason"] == "FailedCreatePodSandBox"]
        return bool(failed)

    small.wait(has_failed, "an event")
    assert "cannot give the pod an address: all 5 addresses of" in failed[0]
    (small.manifests / "p3.yaml").unlink()
    small.wait_pod("late", is_running, "the late pod to get the address")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="the kernel has no IPv6")
def test_dual_stack_from_manifest_to_status(make_node: Any) -> None:
    dual = make_node(pod_cidr="{network}/24,fd77:{number}::/64")
    dual.write("web.yaml", pod("web", ["sleep", "60"]))
    web = dual.wait_pod("web", is_running, "web")
    first, second = (one["ip"] for one in web["status"]["podIPs"])
    assert first == web["status"]["podIP"]
    assert second.startswith("fd77:")
    own = [line for line in hosts_of(dual, web).splitlines() if line.endswith("\tweb-n1")]
    assert own == [f"{first}\tweb-n1", f"{second}\tweb-n1"]


PLUGINS = next((one for one in ("/usr/lib/cni", "/opt/cni/bin") if Path(one, "bridge").exists()), None)


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[str]:
    """Write a configuration list as an operator would; the bridge that the plugins make is removed afterwards."""
    bridge, conf = f"mkc{os.getpid()}", tmp_path / "node" / "net.d"
    ipam = {
        "type": "host-local",
        "dataDir": str(tmp_path / "ipam"),
        "ranges": [[{"subnet": f"10.198.{os.getpid() % 250}.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    chain = [
        {"type": "bridge", "bridge": bridge, "isGateway": True, "ipMasq": True, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    conf.mkdir(parents=True)
    text = json.dumps({"cniVersion": "1.0.0", "name": bridge, "plugins": chain})
    (conf / "10-pods.conflist").write_text(text)
    yield json.dumps({"cniBinDir": [PLUGINS]})
    subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)


@pytest.mark.skipif(PLUGINS is None, reason="no CNI plugins are installed")
@pytest.mark.skipif(shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin") is None, reason="portmap needs iptables")
def test_plugins_connect_pods_when_they_are_configured(tmp_path: Path, plugins: str, make_node: Any) -> None:
    node = make_node(config=plugins)
    port = 20000 + int(node.bridge.removeprefix("mkt"))
    ports = f"ports: [{{containerPort: 80, hostPort: {port}}}]"
    node.write("web.yaml", pod("web", serving(80, "hello"), container=ports))
    web = node.wait_pod("web", is_running, "web")
    assert web["status"]["podIP"].startswith("10.198.")
    node.wait(lambda: answers(web["status"]["podIP"], 80), "the pod by its address")
    assert ask(web["status"]["hostIP"], port).startswith("hello")
    node.kill()
    node.start()
    again = node.wait_pod("web", is_running, "web after the daemon was killed")
    assert again["status"]["podIP"] == web["status"]["podIP"]
    assert again["status"]["containerStatuses"][0]["restartCount"] == 0
    (node.manifests / "web.yaml").unlink()
    node.wait(lambda: node.pod("web") is None, "web to be gone")
    assert list((tmp_path / "ipam").glob("*/*.*.*.*")) == [], "DEL was called: the address is free again"
