"""Kernel parameters: a pod sets its own namespaces' only."""

from __future__ import annotations

from typing import Any

import pytest

from minikubelet.api.types import ObjectMeta, Pod, PodSecurityContext, PodSpec, Sysctl
from minikubelet.runtime.port import SandboxFailure
from minikubelet.runtime.sysctls import pod_sysctls, sysctl_path

DEFAULTS = {"net/ipv4/ip_unprivileged_port_start": "0", "net/ipv4/ping_group_range": "0 2147483647"}


def pod(*names: str, **spec: Any) -> Pod:
    context = PodSecurityContext(sysctls=[Sysctl(name=name, value="1") for name in names])
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="p", namespace="n", uid="u"),
        spec=PodSpec(containers=[], security_context=context, **spec),
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("net/ipv4/tcp_syncookies", "net/ipv4/tcp_syncookies"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_separators(name: str, path: str) -> None:
    assert sysctl_path(name) == path


def test_parameters_of_namespaces() -> None:
    found = pod_sysctls(pod("kernel.msgmax", "fs.mqueue.msg_max", "net.core.somaxconn"))
    assert found == DEFAULTS | {"kernel/msgmax": "1", "fs/mqueue/msg_max": "1", "net/core/somaxconn": "1"}


def test_what_containerd_sets_in_a_network_of_the_pods_own() -> None:
    plain = Pod(api_version="v1", kind="Pod", metadata=ObjectMeta(), spec=PodSpec(containers=[]))
    assert pod_sysctls(plain) == DEFAULTS
    assert pod_sysctls(pod(host_network=True)) == {}
    assert pod_sysctls(pod(host_users=False)) == {"net/ipv4/ip_unprivileged_port_start": "0"}
    assert pod_sysctls(pod("net.ipv4.ip_unprivileged_port_start"))["net/ipv4/ip_unprivileged_port_start"] == "1"


@pytest.mark.parametrize(
    "name", ["kernel.panic", "vm.swappiness", "kernel.core_pattern", "net/../kernel/panic", "fs.file-max"]
)
def test_parameters_of_the_machine_are_refused(name: str) -> None:
    with pytest.raises(SandboxFailure, match="is not in a separate kernel namespace"):
        pod_sysctls(pod(name))


def test_parameters_of_shared_namespaces_are_refused() -> None:
    with pytest.raises(SandboxFailure, match="hosts ipc namespace"):
        pod_sysctls(pod("kernel.msgmax", host_ipc=True))
    with pytest.raises(SandboxFailure, match="host network namespace"):
        pod_sysctls(pod("net.core.somaxconn", host_network=True))
