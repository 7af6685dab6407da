"""Builds what carries out: the runtime with its pauses, network, control groups and volumes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from minikubelet.api.quantity import NANO
from minikubelet.api.types import Pod
from minikubelet.daemon.reporting import Reporting
from minikubelet.lifecycle.admission import Node
from minikubelet.lifecycle.observed import PodUID
from minikubelet.linux.kernel import boot_time
from minikubelet.node.facts import resource_list
from minikubelet.node.objects import NodeObjects
from minikubelet.node.settings import Settings
from minikubelet.runtime.cgroups import Cgroups, group_name
from minikubelet.runtime.id_ranges import IdRanges
from minikubelet.runtime.network.hosts_files import HostsFiles
from minikubelet.runtime.network.network import Network
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.pod_groups import PodGroups
from minikubelet.runtime.pods import PodRuntime
from minikubelet.runtime.settings import RuntimeSettings
from minikubelet.runtime.stats import Stats
from minikubelet.runtime.variables import Variables
from minikubelet.runtime.volumes.manager import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Who makes and ends what pods consist of, and sees what they use."""

    objects: NodeObjects
    pauses: Pauses
    network: Network
    hosts_files: HostsFiles
    cgroups: Cgroups
    volumes: Volumes
    runtime: PodRuntime
    stats: Stats
    pod_ips: Callable[[Pod], tuple[str, ...]]  # a pod's addresses: its own, or the node's


def build_execution(
    settings: Settings,
    machine: Node,
    reporting: Reporting,
    *,
    on_pause_trouble: Callable[[PodUID, str], None],
    on_host_change: Callable[[], None],
) -> Execution:
    """Build it; no process is started and no file touched.

    Args:
        settings: The node's configuration.
        machine: What the machine has.
        reporting: Who is told.
        on_pause_trouble: Told what is wrong with a pod's pause; "" when it is well again.
        on_host_change: Told when the machine's addresses have changed.
    """
    pods_dir = os.path.join(settings.state_dir, "pods")
    objects = NodeObjects()
    pauses = Pauses(
        state_dir=settings.state_dir,
        run_dir=settings.run_dir,
        on_change=reporting.bells.ring,
        on_trouble=on_pause_trouble,
        on_problem=lambda text: reporting.health.set("fork server", text),
    )
    network = _build_network(settings, on_host_change)
    hosts_files = HostsFiles(cluster_domain=settings.cluster_domain)
    cgroups = Cgroups(group_name(settings.bridge))

    def pod_ips(pod: Pod) -> tuple[str, ...]:
        if pod.spec.host_network:
            return network.host_ips()
        return network.addresses(PodUID(pod.metadata.uid))

    variables, volumes = _build_variables_and_volumes(settings, machine, objects, network, pod_ips)
    runtime = PodRuntime(
        _runtime_settings(settings, machine),
        pauses=pauses,
        network=network,
        hosts_files=hosts_files,
        groups=PodGroups(cgroups, pids_limit=settings.pod_pids_limit, kill_group=not settings.single_process_oom_kill),
        id_ranges=IdRanges(pods_dir=pods_dir, max_pods=settings.max_pods),
        volumes=volumes,
        variables=variables.environment,
        warn=lambda pod, reason, message: reporting.events.event(pod, "Warning", reason, message),
        count_user_namespaced=lambda what: reporting.measures.user_namespaced.update((what,)),
    )
    stats = Stats(
        cgroups=cgroups,
        view=pauses.view,
        pause_pid=pauses.pause_pid,
        log_dir=runtime.logs.directory,
        volume_path=volumes.source_path,
        state_dir=settings.state_dir,
        wall_clock=time.time,
        boot_clock=boot_time,
    )
    return Execution(
        objects=objects,
        pauses=pauses,
        network=network,
        hosts_files=hosts_files,
        cgroups=cgroups,
        volumes=volumes,
        runtime=runtime,
        stats=stats,
        pod_ips=pod_ips,
    )


def _build_network(settings: Settings, on_host_change: Callable[[], None]) -> Network:
    return Network(
        state_dir=settings.state_dir,
        bridge=settings.bridge,
        pod_cidrs=tuple(settings.pod_cidr.split(",")),
        cni_conf_dir=settings.cni_conf_dir,
        cni_bin_dirs=settings.cni_bin_dirs,
        on_host_change=on_host_change,
    )


def _build_variables_and_volumes(
    settings: Settings, machine: Node, objects: NodeObjects, network: Network, pod_ips: Callable[[Pod], tuple[str, ...]]
) -> tuple[Variables, Volumes]:
    """Build both at once: variables may lie in a file of a volume, and a volume may hold what variables are made of."""
    volumes: Volumes

    def volume_path(pod: Pod, name: str) -> str:
        return volumes.source_path(pod, next(one for one in pod.spec.volumes or () if one.name == name))

    variables = Variables(
        objects,
        pod_ips=pod_ips,
        host_ips=network.host_ips,
        allocatable=resource_list(machine.allocatable),
        volume_path=volume_path,
    )
    volumes = Volumes(
        pods_dir=os.path.join(settings.state_dir, "pods"),
        objects=objects,
        downward=variables.downward,
        wall_clock=time.time,
        node_memory=_memory(machine),
    )
    return variables, volumes


def _memory(machine: Node) -> int:
    """Return the machine's memory in bytes."""
    return machine.capacity["memory"] // NANO


def _runtime_settings(settings: Settings, machine: Node) -> RuntimeSettings:
    return RuntimeSettings(
        state_dir=settings.state_dir,
        run_dir=settings.run_dir,
        log_dir=settings.log_dir,
        node_name=settings.node_name,
        node_memory=_memory(machine),
        cluster_domain=settings.cluster_domain,
        cluster_dns=settings.cluster_dns,
        resolv_conf=settings.resolv_conf,
        log_max_size=settings.container_log_max_size,
        log_max_files=settings.container_log_max_files,
        seccomp_profiles_dir=os.path.join(settings.state_dir, "seccomp"),
        hidden_paths=(
            settings.state_dir,
            settings.run_dir,
            settings.manifest_dir,  # Secrets lie in it
            os.path.join(settings.log_dir, "pods"),
            os.path.join(settings.log_dir, "containers"),
        ),
    )
