"""Writes the files in /etc that the containers of one pod share, by what `etc_files` says of their content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from minikubelet.api.types import Pod
from minikubelet.lifecycle.observed import PodUID
from minikubelet.linux.faults import point
from minikubelet.runtime import etc_files
from minikubelet.runtime.network.hosts_files import HostsFiles

_RESOLVED_UPSTREAM: Final = "/run/systemd/resolve/resolv.conf"


class PodEtc:
    """Knows what of the node such files need; keeps nothing of a pod."""

    def __init__(
        self,
        hosts_files: HostsFiles,
        *,
        node_name: str,
        cluster_domain: str,
        cluster_dns: Sequence[str],
        resolv_conf: str,
    ) -> None:
        """Create it.

        Args:
            hosts_files: The names of this node's pods.
            node_name: The host name of pods on the host's network.
            cluster_domain: The domain of subdomains and search lists.
            cluster_dns: Name servers of pods with the policy ClusterFirst.
            resolv_conf: The node's resolver configuration, "" for none.
        """
        self._hosts_files = hosts_files
        self._node_name = node_name
        self._cluster_domain = cluster_domain
        self._cluster_dns = tuple(cluster_dns)
        self._resolv_conf = resolv_conf

    def hostname(self, pod: Pod) -> tuple[str, str]:
        """Return the kernel's host name of a pod and its domain ("" without a subdomain)."""
        return etc_files.pod_hostname(pod, node_name=self._node_name, cluster_domain=self._cluster_domain)

    def write(self, pod: Pod, directory: str, ips: Sequence[str]) -> None:
        """Write the pod's files `etc-*` in its directory anew, in place: running containers have them mounted."""
        point("pod.etc-files")
        hostname, domain = self.hostname(pod)
        aliases = pod.spec.host_aliases or ()
        if pod.spec.host_network:
            hosts = etc_files.host_network_hosts_file(_read("/etc/hosts"), aliases)
        else:
            hosts = etc_files.hosts_file(ips, hostname, domain, aliases)
        if _knows_other_pods(pod):
            hosts += self._hosts_files.block(pod.metadata.namespace)
        resolv = self.dns_config(pod).text()
        for name, text in (("hosts", hosts), ("resolv.conf", resolv), ("hostname", hostname + "\n")):
            path = os.path.join(directory, f"etc-{name}")
            # The container may have made it as large as it liked: no more is read than tells whether it is the same.
            if not os.path.exists(path) or _read(path, len(text) + 1) != text:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                os.chmod(path, 0o644)
        self.keep_hosts(pod, directory)

    def keep_hosts(self, pod: Pod, directory: str) -> None:
        """Keep the names of other pods in a pod's hosts file up to date, if it knows any."""
        if _knows_other_pods(pod):
            meta = pod.metadata
            self._hosts_files.keep(PodUID(meta.uid), meta.namespace, os.path.join(directory, "etc-hosts"))

    def dns_config(self, pod: Pod) -> etc_files.DNSConfig:
        """Return what a pod's resolver is told, with the events about that."""
        node_file = _read(self._resolv_conf) if self._resolv_conf else None
        if node_file is not None and not pod.spec.host_network and etc_files.asks_local_resolver(node_file):
            # That address is this machine's loopback, which a pod with a network of its own does not reach.
            node_file = _read(_RESOLVED_UPSTREAM) or node_file
        return etc_files.dns_config(pod, node_file, cluster_dns=self._cluster_dns, cluster_domain=self._cluster_domain)


def _knows_other_pods(pod: Pod) -> bool:
    """Tell whether a pod resolves the names of others: the policies under which it would ask a cluster's DNS."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network)


def _read(path: str, limit: int = -1) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError:
        return ""
