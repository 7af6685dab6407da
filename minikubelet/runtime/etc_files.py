"""The files in /etc that every container of a pod is given: hosts, resolv.conf, hostname.

Source: kubelet `managedHostsFileContent`, `nodeHostsFileContent`, network/dns (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from minikubelet.api.types import HostAlias, Pod, PodDNSConfig

_HEADER: Final = "# Kubernetes-managed hosts file.\n"
_HEADER_HOST_NETWORK: Final = "# Kubernetes-managed hosts file (host network).\n"
_STANDARD: Final = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)
_MAX_HOSTNAME: Final = 63


def pod_hostname(pod: Pod, *, node_name: str, cluster_domain: str) -> tuple[str, str]:
    """Return the kernel's host name of a pod and its domain ("" without a subdomain)."""
    if pod.spec.hostname_override:
        return pod.spec.hostname_override, ""
    if pod.spec.host_network:
        return node_name, ""
    name = (pod.spec.hostname or pod.metadata.name)[:_MAX_HOSTNAME].rstrip("-.")
    domain = ""
    if pod.spec.subdomain:
        domain = f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}"
    if pod.spec.set_hostname_as_fqdn and domain:
        return f"{name}.{domain}", domain
    return name, domain


def hosts_file(ips: Sequence[str], hostname: str, domain: str, aliases: Sequence[HostAlias]) -> str:
    """Return /etc/hosts of a pod with its own network."""
    short = hostname.removesuffix("." + domain) if domain else hostname
    own = f"{short}.{domain}\t{short}" if domain else hostname
    lines = [_HEADER, _STANDARD, *(f"{ip}\t{own}\n" for ip in ips)]
    return "".join(lines) + _aliases(aliases)


def host_network_hosts_file(node_file: str, aliases: Sequence[HostAlias]) -> str:
    """Return /etc/hosts of a pod on the host's network: the node's own, with the aliases."""
    return _HEADER_HOST_NETWORK + node_file + _aliases(aliases)


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = ["\n", "# Entries added by HostAliases.\n"]
    lines.extend("\t".join([alias.ip, *(alias.hostnames or ())]) + "\n" for alias in aliases)
    return "".join(lines)


def resolv_conf(pod: Pod, node_file: str, *, cluster_dns: Sequence[str], cluster_domain: str) -> str:
    """Return /etc/resolv.conf by the pod's dnsPolicy and dnsConfig."""
    servers, searches, options = parse_resolv_conf(node_file)
    policy = pod.spec.dns_policy or "ClusterFirst"
    cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network)
    if policy == "None":
        servers, searches, options = [], [], []
    elif cluster and cluster_dns:
        namespace = pod.metadata.namespace
        own = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        servers, searches, options = list(cluster_dns), own + searches, ["ndots:5"]
    servers, searches, options = _with_config(servers, searches, options, pod.spec.dns_config)
    lines = [f"search {' '.join(searches)}\n"] if searches else []
    lines.extend(f"nameserver {server}\n" for server in servers)
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def parse_resolv_conf(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return name servers, search list and options; the last `search` and `options` line counts, as in the resolver."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = [word if word == "." else word.rstrip(".") for word in words[1:]]
        elif words[0] == "options":
            options = words[1:]
    return servers, searches, options


def _with_config(
    servers: list[str], searches: list[str], options: list[str], config: PodDNSConfig | None
) -> tuple[list[str], list[str], list[str]]:
    if config is None:
        return servers[:3], searches, options
    merged = {option.split(":", 1)[0]: option for option in options}
    for option in config.options or ():
        merged[option.name] = f"{option.name}:{option.value}" if option.value else option.name
    servers = list(dict.fromkeys([*servers, *(config.nameservers or ())]))
    searches = list(dict.fromkeys([*searches, *(config.searches or ())]))
    return servers[:3], searches[:32], list(merged.values())
