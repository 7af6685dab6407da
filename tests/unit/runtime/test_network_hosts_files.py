"""Names of pods for each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network.hosts_files import HostsFiles, NamedPod, hosts_block, pod_names, replace_block

WEB = NamedPod(uid=PodUID("1"), namespace="shop", names=("web-node1", "web"), ips=("10.88.0.2",))
DB = NamedPod(
    uid=PodUID("2"),
    namespace="data",
    names=("db-node1", "db"),
    ips=("10.88.0.3", "fd01::3"),
    hostname="db0",
    subdomain="dbs",
)
BASE = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n10.88.0.2\tweb\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("pod", "ip", "namespace", "expected"),
    [
        pytest.param(
            WEB,
            "10.88.0.2",
            "shop",
            ("10-88-0-2.shop.pod.cluster.local", "web-node1.shop", "web.shop", "web-node1", "web"),
            id="same-namespace",
        ),
        pytest.param(
            WEB,
            "10.88.0.2",
            "data",
            ("10-88-0-2.shop.pod.cluster.local", "web-node1.shop", "web.shop"),
            id="other-namespace",
        ),
        pytest.param(
            DB,
            "fd01::3",
            "shop",
            (
                "db0.dbs.data.svc.cluster.local",
                "db0.dbs.data.svc",
                "db0.dbs.data",
                "fd01--3.data.pod.cluster.local",
                "db-node1.data",
                "db.data",
            ),
            id="subdomain-and-IPv6",
        ),
    ],
)
def test_what_a_pod_is_called(pod: NamedPod, ip: str, namespace: str, expected: tuple[str, ...]) -> None:
    assert pod_names(pod, ip=ip, namespace=namespace, cluster_domain="cluster.local") == expected


def test_the_block_has_a_line_for_each_address_in_stable_order() -> None:
    one = hosts_block([WEB, DB], namespace="shop", cluster_domain="cluster.local")
    assert one == hosts_block([DB, WEB], namespace="shop", cluster_domain="cluster.local")
    assert [line.split("\t")[0] for line in one.splitlines()[1:-1]] == ["10.88.0.3", "fd01::3", "10.88.0.2"]
    assert hosts_block([], namespace="shop", cluster_domain="cluster.local") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(BASE, BASE + "{new}", id="appended"),
        pytest.param(BASE.rstrip("\n"), BASE + "{new}", id="no-newline-at-the-end"),
        pytest.param(BASE + "{old}", BASE + "{new}", id="replaced"),
        pytest.param(BASE + "{old}10.0.0.1\tmine\n", BASE + "{new}10.0.0.1\tmine\n", id="a-containers-own-line-stays"),
        pytest.param(BASE + "{cut}", BASE + "{new}", id="a-torn-block-is-mended"),
        pytest.param("", "{new}", id="empty"),
    ],
)
def test_the_block_is_replaced_and_the_rest_stays(text: str, expected: str) -> None:
    old = hosts_block([WEB], namespace="shop", cluster_domain="cluster.local")
    new = hosts_block([WEB, DB], namespace="shop", cluster_domain="cluster.local")
    cut = old[: len(old) // 2]
    result = replace_block(text.format(old=old, new=new, cut=cut), new)
    assert result == expected.format(old=old, new=new)
    assert replace_block(result, new) == result
    assert replace_block(result, "") == expected.format(old="", new="")


@pytest.mark.anyio
async def test_files_follow_the_pods_in_place(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(BASE)
    inode = path.stat().st_ino
    files = HostsFiles()
    files.add(WEB)
    files.keep(WEB.uid, WEB.namespace, str(path))
    files.keep(PodUID("gone"), "shop", str(tmp_path / "missing"))
    files.add(DB)
    await files.settle()
    assert path.read_text() == BASE + files.block("shop")
    assert "db.data" in path.read_text()
    files.remove(DB.uid)
    await files.settle()
    assert path.read_text() == BASE, "a pod that is alone has the kubelet's own file"
    assert path.stat().st_ino == inode
    files.close()


@pytest.mark.anyio
async def test_a_container_that_starts_anew_looks_at_no_other_pods_file(tmp_path: Path) -> None:
    paths = {pod.uid: tmp_path / pod.uid for pod in (WEB, DB)}
    files = HostsFiles()
    for pod in (WEB, DB):
        paths[pod.uid].write_text(BASE)
        files.add(pod)
        files.keep(pod.uid, pod.namespace, str(paths[pod.uid]))
    await files.settle()
    assert "web.shop" in paths[DB.uid].read_text()
    paths[DB.uid].write_text("its own\n")
    files.keep(WEB.uid, WEB.namespace, str(paths[WEB.uid]))
    await files.settle()
    assert paths[DB.uid].read_text() == "its own\n"
    moved = tmp_path / "moved"
    moved.write_text(BASE)
    files.keep(WEB.uid, WEB.namespace, str(moved))
    await files.settle()
    assert "db.data" in moved.read_text()


@pytest.mark.anyio
async def test_a_file_that_a_container_has_blown_up_is_not_read(tmp_path: Path) -> None:
    """A sparse file of a tebibyte costs its owner nothing, and would cost us all our memory."""
    files = HostsFiles()
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_text("")
    os.truncate(large, 1 << 40)
    small.write_text("mine\n")
    for number, path in enumerate((large, small)):
        files.keep(PodUID(str(number)), "default", str(path))
        name = f"pod{number}"
        files.add(NamedPod(uid=PodUID(str(number)), namespace="default", names=(name,), ips=(f"10.0.0.{number}",)))
    await files.settle()
    assert large.stat().st_size == 1 << 40
    assert "10.0.0.0" in small.read_text()
