"""Kernel parameters: a pod sets its own namespaces' only."""

from __future__ import annotations

from typing import Any

import pytest

from minikubelet.api.types import ObjectMeta, Pod, PodSecurityContext, PodSpec, Sysctl
from minikubelet.runtime.port import SandboxFailure
from minikubelet.runtime.sysctls import pod_sysctls, sysctl_path


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
    assert found == {"kernel/msgmax": "1", "fs/mqueue/msg_max": "1", "net/core/somaxconn": "1"}
    assert pod_sysctls(Pod(api_version="v1", kind="Pod", metadata=ObjectMeta(), spec=PodSpec(containers=[]))) == {}


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
