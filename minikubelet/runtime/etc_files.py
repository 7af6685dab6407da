"""The files in /etc that every container of a pod is given: hosts, resolv.conf, hostname.

Source: kubelet `managedHostsFileContent`, `nodeHostsFileContent`, network/dns (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
# Limits of resolvers, as the kubelet has them.
_MAX_SERVERS: Final = 3
_MAX_SEARCHES: Final = 32
_MAX_SEARCH_LENGTH: Final = 253
_MAX_SEARCH_LINE: Final = 2048


def pod_hostname(pod: Pod, *, node_name: str, cluster_domain: str) -> tuple[str, str]:
    """Return the kernel's host name of a pod and its domain ("" without a subdomain)."""
    if pod.spec.hostname_override:
        return _cut(pod.spec.hostname_override), ""
    if pod.spec.host_network:
        return node_name, ""
    name = _cut(pod.spec.hostname or pod.metadata.name)
    domain = ""
    if pod.spec.subdomain:
        domain = f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}"
    if pod.spec.set_hostname_as_fqdn and domain:
        return f"{name}.{domain}", domain
    return name, domain


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_HOSTNAME else name[:_MAX_HOSTNAME].rstrip("-.")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DNSConfig:
    """What a pod's resolver is told. `events` are (reason, message) of what the user is to know about it."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    events: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """Return it as the lines of /etc/resolv.conf, as containerd writes them."""
        lines = [f"search {' '.join(self.searches)}\n"] if self.searches else []
        lines.extend(f"nameserver {server}\n" for server in self.servers)
        if self.options:
            lines.append(f"options {' '.join(self.options)}\n")
        return "".join(lines)


def dns_config(pod: Pod, node_file: str | None, *, cluster_dns: Sequence[str], cluster_domain: str) -> DNSConfig:
    """Return a pod's DNS by its dnsPolicy and dnsConfig.

    Args:
        pod: The Pod.
        node_file: Content of the node's resolv.conf; None when the node is configured to have none.
        cluster_dns: Addresses of the cluster's DNS service, if this node has one.
        cluster_domain: The cluster's domain.
    """
    servers, searches, options = parse_resolv_conf(node_file or "")
    policy = pod.spec.dns_policy or "ClusterFirst"
    cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network)
    events: list[tuple[str, str]] = []
    if policy == "None":
        servers, searches, options = [], [], []
    elif cluster and cluster_dns:
        namespace = pod.metadata.namespace
        own = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain] if cluster_domain else []
        servers, searches, options = list(cluster_dns), list(dict.fromkeys(own + searches)), ["ndots:5"]
    else:
        if cluster:
            events.append(("MissingClusterDNS", _missing_cluster_dns(pod)))
        if node_file is None:
            # No name server at all would mean one on this machine to the resolver; so it is said.
            servers, searches = ["127.0.0.1"], ["."]
    if pod.spec.dns_config is not None:
        servers, searches, options = _with_config(servers, searches, options, pod.spec.dns_config)
    return _within_limits(servers, searches, options, events)


def _missing_cluster_dns(pod: Pod) -> str:
    meta = pod.metadata
    return (
        f'pod: "{meta.name}_{meta.namespace}({meta.uid})". kubelet does not have ClusterDNS IP configured and cannot '
        'create Pod using "ClusterFirst" policy. Falling back to "Default" policy.'
    )


def asks_local_resolver(node_file: str) -> bool:
    """Tell whether a resolv.conf names systemd-resolved's stub only."""
    return set(parse_resolv_conf(node_file)[0]) == {"127.0.0.53"}


def parse_resolv_conf(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return name servers, search list and options; the last `search` line counts, and of an option its last value."""
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
            options = list({one.partition(":")[0]: one for one in (*options, *words[1:])}.values())
    return servers, searches, options


def _with_config(
    servers: list[str], searches: list[str], options: list[str], config: PodDNSConfig
) -> tuple[list[str], list[str], list[str]]:
    merged = {option.split(":", 1)[0]: option for option in options}
    for option in config.options or ():
        merged[option.name] = f"{option.name}:{option.value}" if option.value else option.name
    servers = list(dict.fromkeys([*servers, *(config.nameservers or ())]))
    searches = list(dict.fromkeys([*searches, *(config.searches or ())]))
    return servers, searches, list(merged.values())


def _within_limits(
    servers: list[str], searches: list[str], options: list[str], events: list[tuple[str, str]]
) -> DNSConfig:
    """Cut what a resolver could not take, and say so."""
    kept_servers = servers[:_MAX_SERVERS]
    if kept_servers != servers:
        text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        events.append(("DNSConfigForming", text + " ".join(kept_servers)))
    kept = [one for one in searches[:_MAX_SEARCHES] if len(one) <= _MAX_SEARCH_LENGTH]
    while len(" ".join(kept)) > _MAX_SEARCH_LINE:
        kept.pop()
    if kept != searches:
        text = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
        events.append(("DNSConfigForming", text + " ".join(kept)))
    return DNSConfig(servers=tuple(kept_servers), searches=tuple(kept), options=tuple(options), events=tuple(events))
