"""Which kernel parameters a pod may set: those that are its namespaces' own, whatever the node's admission allows.

Admission decides what is safe; this is the last guard before the host's root writes: a parameter without a namespace
would change the whole machine. Source: opencontainers/runc libcontainer/configs/validate (the set of parameters).
"""

from __future__ import annotations

from typing import Final

from minikubelet.api.types import Pod
from minikubelet.runtime.port import SandboxFailure

# What containerd sets in a pod's network of its own (since 2.0): low ports and ping need no capability there. Groups
# that a user namespace does not have cannot be named.
_DEFAULTS: Final = {"net/ipv4/ip_unprivileged_port_start": "0"}
_PING_GROUPS: Final = {"net/ipv4/ping_group_range": "0 2147483647"}

_IPC: Final = frozenset("msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split())


def sysctl_path(name: str) -> str:
    """Return a parameter's path below /proc/sys; with a slash as its first separator its dots belong to names."""
    first = next((character for character in name if character in "./"), ".")
    return name if first == "/" else name.translate(str.maketrans("./", "/."))


def pod_sysctls(pod: Pod) -> dict[str, str]:
    """Return the parameters that a Pod sets, and those that every pod has, by path below /proc/sys.

    Raises:
        SandboxFailure: One is not of the pod's own namespaces.
    """
    context = pod.spec.security_context
    found = {} if pod.spec.host_network else _DEFAULTS | (_PING_GROUPS if pod.spec.host_users is not False else {})
    for one in (context.sysctls if context else None) or ():
        path = sysctl_path(one.name)
        group, _, rest = path.partition("/")
        is_ipc = (group == "kernel" and rest in _IPC) or path.startswith("fs/mqueue/")
        if is_ipc and pod.spec.host_ipc:
            raise SandboxFailure(f"sysctl {one.name!r} is not allowed in the hosts ipc namespace")
        if group == "net" and pod.spec.host_network:
            raise SandboxFailure(f"sysctl {one.name!r} not allowed in host network namespace")
        if (not is_ipc and group != "net") or ".." in path.split("/"):
            raise SandboxFailure(f"sysctl {one.name!r} is not in a separate kernel namespace")
        found[path] = one.value
    return found
