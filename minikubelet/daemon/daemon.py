"""Builds the daemon's parts, wires them to each other, brings them up and down.

The only place where objects are made. On the way down the order of the way up is reversed; pods go on running unless
the daemon is told to take them along.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import time
from collections.abc import Callable, Sequence

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle import columns, preemption
from minikubelet.lifecycle.observed import ObservedContainer, PodUID
from minikubelet.lifecycle.resources import oom_score_adj, qos_class
from minikubelet.lifecycle.status import PodEnd, rfc3339
from minikubelet.linux.features import can_lower_oom_score
from minikubelet.linux.kernel import boot_time
from minikubelet.node import cordon, left_behind, shutdown
from minikubelet.node.admission import NodeAdmission, node_facts, resource_list
from minikubelet.node.afterwards import Afterwards
from minikubelet.node.desired import DesiredState
from minikubelet.node.events import EventRecorder
from minikubelet.node.health import Health
from minikubelet.node.kept_results import KeptResults
from minikubelet.node.leftovers import Leftovers
from minikubelet.node.machine import Machine, NodePublisher
from minikubelet.node.measures import Measures
from minikubelet.node.objects import NodeObjects
from minikubelet.node.pod_bells import PodBells
from minikubelet.node.pod_manager import PodManager
from minikubelet.node.pod_records import PodRecords
from minikubelet.node.pressure import PressureWatch
from minikubelet.node.prober import NodeProber
from minikubelet.node.published import Namespaces, PublishedObjects
from minikubelet.node.services import WorkerServices
from minikubelet.node.settings import Settings, write_record
from minikubelet.node.source import ManifestSource
from minikubelet.node.status_manager import StatusManager, to_json
from minikubelet.node.store import Store
from minikubelet.node.systemd import ServiceManager
from minikubelet.node.verdicts import Verdict, VerdictFiles
from minikubelet.node.volume_refresher import VolumeRefresher
from minikubelet.runtime.cgroups import Cgroups
from minikubelet.runtime.hooks import HookRunner
from minikubelet.runtime.id_ranges import IdRanges
from minikubelet.runtime.launch import container_hash
from minikubelet.runtime.limits import apply_limits, unenforced
from minikubelet.runtime.network.hosts_files import HostsFiles
from minikubelet.runtime.network.network import Network
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.pods import PodRuntime, RuntimeSettings, host_port_mappings
from minikubelet.runtime.probes.ask import Asker
from minikubelet.runtime.stats import Stats
from minikubelet.runtime.termination_messages import TerminationMessages
from minikubelet.runtime.variables import Variables
from minikubelet.runtime.volumes.manager import Volumes
from minikubelet.version import VERSION

log = structlog.get_logger(__name__)

# Of the kubelet that this one follows: servers know it by `kube-probe/<major>.<minor>`.
KUBELET_VERSION = "1.36"
# A node that goes with its terminal does not keep the user waiting for a program that is deaf to SIGTERM.
STANDALONE_GRACE_S = 2.0
# How often events that have grown old are looked for while none is recorded.
EVENT_EXPIRY_S = 60.0
# The kubelet's words for node conditions, where it has one.
_PROBLEM_REASONS = {
    "state directory": "NodeHasDiskPressure",
    "run directory": "NodeHasDiskPressure",
    "log directory": "NodeHasDiskPressure",
    "processes": "NodeHasInsufficientPID",
}


class StartupError(Exception):
    """The daemon cannot run here; the text is one clear line."""


class Daemon:
    """All parts of one node, wired."""

    def __init__(self, settings: Settings) -> None:
        """Build everything; nothing is started and no file is touched."""
        self.settings = settings
        self.store = Store(first_version=int(time.time() * 1000))
        self.bells = PodBells()
        self.measures = Measures(time.time)
        self.store.observe(self.measures.on_change)
        self.namespaces = Namespaces(self.store, clock=time.time)
        self.published = PublishedObjects(self.store, clock=time.time)
        self.objects = NodeObjects()
        self._lock = -1
        self._manager = ServiceManager(os.environ)
        self._draining = False
        self._expiry: asyncio.TimerHandle | None = None
        self._cordoned = False
        self._shutting_down = False
        self._refresher: asyncio.Task[None] | None = None
        self._removal: asyncio.Task[None] | None = None
        self.afterwards = Afterwards()
        self.health = Health(on_change=self._on_problem)
        self.pressure = PressureWatch(
            self.health,
            {"state": settings.state_dir, "run": settings.run_dir, "log": os.path.join(settings.log_dir, "pods")},
        )
        self.pauses = Pauses(
            state_dir=settings.state_dir,
            run_dir=settings.run_dir,
            on_change=self._on_pod_change,
            on_trouble=self._on_pause_trouble,
            on_problem=lambda text: self.health.set("fork server", text),
        )
        self.network = Network(
            state_dir=settings.state_dir,
            bridge=settings.bridge,
            pod_cidrs=tuple(settings.pod_cidr.split(",")),
            cni_conf_dir=settings.cni_conf_dir,
            cni_bin_dirs=settings.cni_bin_dirs,
            on_host_change=self._on_host_change,
        )
        self.hosts_files = HostsFiles(cluster_domain=settings.cluster_domain)
        suffix = "" if settings.bridge == "minikubelet0" else f"-{settings.bridge}"
        self.cgroups = Cgroups(f"kubepods{suffix}")
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        capacity = {
            "cpu": str(os.cpu_count() or 1),
            "memory": str(memory),
            "ephemeral-storage": str(_disk_size(settings.state_dir)),
        }
        facts = node_facts(settings, capacity)
        self.variables = Variables(
            self.objects,
            pod_ips=self.pod_ips,
            host_ips=self.network.host_ips,
            allocatable=resource_list(facts.allocatable),
            volume_path=self._volume_path,
        )
        self.volumes = Volumes(
            pods_dir=os.path.join(settings.state_dir, "pods"),
            objects=self.objects,
            downward=self.variables.downward,
            wall_clock=time.time,
            node_memory=memory,
        )
        self.runtime = PodRuntime(
            settings=RuntimeSettings(
                state_dir=settings.state_dir,
                run_dir=settings.run_dir,
                log_dir=settings.log_dir,
                node_name=settings.node_name,
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
            ),
            pauses=self.pauses,
            network=self.network,
            hosts_files=self.hosts_files,
            cgroups=self.cgroups,
            id_ranges=IdRanges(pods_dir=os.path.join(settings.state_dir, "pods"), max_pods=settings.max_pods),
            volumes=self.volumes,
            variables=self.variables.environment,
            qos=qos_class,
            apply_limits=lambda pod, container, paths: apply_limits(
                pod,
                container,
                paths,
                pids_limit=settings.pod_pids_limit,
                kill_group=not settings.single_process_oom_kill,
            ),
            unenforced=lambda pod, paths: unenforced(pod, paths, pids_limit=settings.pod_pids_limit),
            oom_score=lambda pod, container: oom_score_adj(pod, container, memory),
            warn=lambda pod, reason, message: self.events.event(pod, "Warning", reason, message),
            count_user_namespaced=lambda what: self.measures.user_namespaced.update((what,)),
        )
        self.stats = Stats(
            cgroups=self.cgroups,
            view=self.pauses.view,
            pause_pid=self.pauses.pause_pid,
            log_dir=self.runtime.logs.directory,
            volume_path=self.volumes.source_path,
            state_dir=settings.state_dir,
            wall_clock=time.time,
            boot_clock=boot_time,
        )
        self.events = EventRecorder(
            path=os.path.join(settings.state_dir, "events.jsonl"),
            store=self.store,
            node_name=settings.node_name,
            clock=time.time,
            afterwards=self.afterwards,
        )
        self.records = PodRecords(
            pods_dir=os.path.join(settings.state_dir, "pods"), recorder=self.events, health=self.health
        )
        self.status = StatusManager(
            status_dir=os.path.join(settings.run_dir, "status"),
            table_path=os.path.join(settings.run_dir, "status.txt"),
            store=self.store,
            render=render_pods,
        )
        self.hooks = HookRunner(
            self.runtime, version=KUBELET_VERSION, pod_ips=self.pod_ips, on_http_fallback=self._on_http_fallback
        )
        self.prober = NodeProber(
            Asker(self.runtime, version=KUBELET_VERSION, pod_ips=self.pod_ips),
            self.events,
            kept=KeptResults(os.path.join(settings.state_dir, "pods")),
            on_change=self._on_pod_change,
            clock=boot_time,
            started_at=boot_time(),
            wall_clock=time.time,
            observe=self.measures.probe_ran,
        )
        messages = TerminationMessages(file_of=self.runtime.termination_message_file, log_of=self.runtime.logs.path)
        self.shutdown = shutdown.NodeShutdown(
            shutdown.periods(
                settings.shutdown_grace_period,
                settings.shutdown_grace_period_critical_pods,
                [
                    shutdown.PriorityPeriod(one["priority"], float(one["shutdownGracePeriodSeconds"]))
                    for one in settings.shutdown_grace_period_by_pod_priority
                ],
            ),
            pods=lambda: self.pods.pods(),
            end_group=self._end_group,
            on_shutdown=self._on_shutdown,
            health=self.health,
        )
        self._pods_memory = facts.allocatable["memory"] // 10**9  # nano units
        self.admission = NodeAdmission(
            facts,
            port_holder=self._port_holder,
            preempt=self._preempt,
            is_shutting_down=lambda: self._shutting_down,
        )
        self.pods = PodManager(
            WorkerServices(
                runtime=self.runtime,
                recorder=self.events,
                hooks=self.hooks,
                prober=self.prober,
                publish=self.status.publish,
                previous_status=lambda pod: self.status.previous(
                    pod.metadata.namespace, pod.metadata.name, pod.metadata.uid
                ),
                admission=self.admission,
                host_ips=self.network.host_ips,
                remember=self.records.keep,
                message_of=messages.of,
                wanted_hash=container_hash,
                wall_clock=time.time,
                boot_clock=boot_time,
                max_back_off_s=settings.max_container_restart_period,
                afterwards=self.afterwards,
                on_started=self._on_started,
                worked=self.measures.worked,
            ),
            on_update=self._on_update,
            on_gone=self._on_gone,
            on_restarted=lambda pod: self.measures.pod_restarted(),
        )
        self.refresher = VolumeRefresher(
            self.volumes, self.events, pods=lambda: self.pods.pods(), wake=lambda uid: self.pods.wake(uid)
        )
        self.leftovers = Leftovers(self.runtime, self.cgroups, alive=self._alive, on_removed=self._on_leftover_removed)
        self.source = ManifestSource(
            directory=settings.manifest_dir,
            state_dir=settings.state_dir,
            node_name=settings.node_name,
            period_s=settings.file_check_frequency,
            strict_static=settings.strict_static,
            trusted_uid=settings.trusted_uid,
            on_change=self._on_desired,
            on_scan=lambda: self.afterwards(self.verdicts.flush),
            afterwards=self.afterwards,
        )
        self.node = NodePublisher(
            Machine(
                node=self.admission.node,
                version=VERSION,
                pod_cidrs=tuple(settings.pod_cidr.split(",")),
                started=rfc3339(time.time()),
            ),
            self.store,
            stats=lambda: self.stats.node(network=False),
            problems=self.node_problems,
            addresses=self.network.host_ips,
            unschedulable=lambda: self._cordoned,
            clock=time.time,
        )
        self.verdicts = VerdictFiles(
            os.path.join(settings.run_dir, "manifests"), report=self._on_refusal, clock=time.monotonic
        )

    # Up and down

    async def start(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Bring the node up: first what pods stand on, then the pods that run, then the wanted ones.

        Args:
            meanwhile: Done while the fork server starts.

        Raises:
            StartupError: Another daemon uses these directories.
            NetworkConflict: The bridge or the range is taken.
        """
        settings = self.settings
        for directory, mode in (
            (settings.state_dir, 0o700),
            (settings.run_dir, 0o755),
            (os.path.join(settings.log_dir, "pods"), 0o755),
            (settings.manifest_dir, 0o755),
        ):
            if not os.path.isfile(directory):  # the manifests may be one file
                os.makedirs(directory, mode=mode, exist_ok=True)
        os.chmod(settings.state_dir, 0o700)
        self._take_lock()
        try:
            write_record(settings)
        except OSError as error:
            log.warning("settings not recorded", error=str(error))
        allow_descriptors()
        self.cgroups.start()
        self.cgroups.limit_memory(self._pods_memory)
        if not can_lower_oom_score():
            log.warning("OOM scores are not lowered", missing="CAP_SYS_RESOURCE")
        self.events.start()
        self._expire_events()
        self.status.start()
        self.verdicts.start()
        forking = asyncio.create_task(self.pauses.start(), name="fork server")
        await asyncio.sleep(0)
        meanwhile()  # the fork server has begun, and takes as long
        await forking
        self.runtime.remove_dead_links()
        known = await self.pauses.adopt()
        await self.network.start(known)
        adopted = {uid: pod for uid in known if (pod := self.records.read(uid)) is not None}
        for uid in known:
            if uid in adopted:
                await self.runtime.adopt(adopted[uid])
            else:  # its manifest may still describe it: then it runs on
                self.pauses.set_ips(uid, self.network.addresses(uid))
        self.pods.adopt(list(adopted.values()))
        self._refresher = asyncio.create_task(self.refresher.run(), name="volume refresh")
        await self.source.start()
        self.leftovers.note(set(known) - self._alive())
        self._removal = asyncio.create_task(self.leftovers.run(), name="leftovers")
        self.status.remove_stale(self.pods.pods())
        self.pressure.start()
        self.shutdown.start()
        self.node.start()
        self.afterwards.flush()
        pods = len(self.source.desired.pods)
        log.info("node ready", node=settings.node_name, manifests=settings.manifest_dir, pods=pods)

    def ready(self) -> None:
        """Tell the service manager that the node is up: its pods are taken over and its API answers."""
        self._manager.ready()

    async def reload(self) -> None:
        """Look at all manifests again, and whether the node is cordoned."""
        log.info("reloading")
        await self.source.scan()
        if cordon.is_cordoned(self.settings.run_dir) != self._cordoned:
            self._on_desired(self.source.desired)

    def _take_lock(self) -> None:
        path = os.path.join(self.settings.run_dir, "lock")
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartupError(f"cannot start: another daemon already uses {self.settings.run_dir}") from error

    def _alive(self) -> set[PodUID]:
        return {PodUID(one.metadata.uid) for one in self.pods.pods()}

    @property
    def is_cordoned(self) -> bool:
        """Tell whether the node is drained: no pod runs until it is uncordoned."""
        return self._cordoned

    @property
    def is_ending(self) -> bool:
        """Tell whether the daemon leaves and ends its pods first."""
        return self._draining

    async def stop(self, *, remove_pods: bool, hurried: asyncio.Event | None = None) -> tuple[str, ...]:
        """Leave. With `remove_pods` every pod is ended first and nothing of this daemon is left on the machine.

        Args:
            remove_pods: Take the pods along.
            hurried: Set when nobody waits for them to end any more: what then does not die at once is left.

        Returns:
            A line for each pod that could not be ended and is left behind.
        """
        self._manager.stopping()
        await self.source.stop()
        self.pressure.stop()
        await self.shutdown.stop()
        self.node.stop()
        for task in (self._refresher, self._removal):
            if task is not None:
                task.cancel()
        left = await self._take_pods_along(hurried or asyncio.Event()) if remove_pods else ()
        remove = remove_pods and not left
        await self.pods.stop()
        self.prober.stop()
        self.afterwards.flush()
        self.status.stop()
        if self._expiry is not None:
            self._expiry.cancel()
        self.events.stop()
        self.pauses.close()
        self.runtime.close()
        self.hosts_files.close()
        try:
            await self.network.stop(remove=remove)
        finally:  # what the network does not let go of keeps nothing else
            await self.cgroups.stop(remove=remove)
            self._manager.close()
            if self._lock >= 0:
                os.close(self._lock)
        return left

    async def _take_pods_along(self, hurried: asyncio.Event) -> tuple[str, ...]:
        self._draining = True
        drain = asyncio.create_task(
            self.pods.drain(grace_s=STANDALONE_GRACE_S, patience_s=left_behind.PATIENCE_S), name="drain"
        )
        hurry = asyncio.create_task(hurried.wait(), name="hurry")
        await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            self.pauses.kill_all()
            await asyncio.wait({drain}, timeout=left_behind.HURRIED_PATIENCE_S)
        drain.cancel()
        hurry.cancel()
        await asyncio.gather(drain, hurry, return_exceptions=True)
        left = tuple(self._describe_left(pod) for pod in self.pods.pods())
        for line in left:
            log.error(line, advice=left_behind.ADVICE)
        return left

    def _describe_left(self, pod: Pod) -> str:
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        return left_behind.describe_left(name, self.pauses.alive(PodUID(pod.metadata.uid)))

    # What happens

    def _on_desired(self, desired: DesiredState) -> None:
        """Take up a new desired state."""
        if self._draining:
            return
        changed = self.objects.set(desired.config_maps, desired.secrets)
        if changed:
            self.published.set(desired.config_maps, desired.secrets)
        pods = [one.pod for one in desired.pods if one.pod.metadata.uid not in self.leftovers]
        cordoned, self._cordoned = self._cordoned, cordon.is_cordoned(self.settings.run_dir)
        if cordoned is not self._cordoned:
            self.node.publish()
        if self._cordoned:
            log.warning("node is cordoned, no pod runs", until="minikubelet uncordon")
            # Those that run are ended with their own grace, not as what no manifest describes.
            self.pods.set_pods([pod for pod in pods if self.runtime.view(PodUID(pod.metadata.uid)).sandboxes])
            self.pods.terminate_all(grace_s=cordon.grace_s(self.settings.run_dir))
        else:
            self.pods.set_pods(pods)
        self.afterwards(lambda: self.verdicts.write(desired.verdicts))
        if changed:
            self.refresher.note_change()

    def _on_leftover_removed(self, uid: PodUID) -> None:
        """Take up a pod that has waited until nothing was left of an earlier one under its UID."""
        if any(one.pod.metadata.uid == uid for one in self.source.desired.pods):
            self._on_desired(self.source.desired)

    def _on_refusal(self, verdict: Verdict) -> None:
        """Say a refusal as an event: of the pods that the file keeps running, or else of the node."""
        message = "; ".join(verdict.errors())
        pods = [pod for pod in self.pods.pods() if pod.metadata.uid in verdict.uids]
        for pod in pods:
            self.events.event(pod, "Warning", verdict.reason, message)
        if not pods:
            self.events.node_event("Warning", verdict.reason, message)

    def _on_update(self, pod: Pod) -> None:
        self.refresher.note_change()  # files of the downward API show labels and annotations

    async def _end_group(self, group: shutdown.Group) -> None:
        end = PodEnd(reason=shutdown.REASON, message=shutdown.MESSAGE, disruption=shutdown.MESSAGE)
        await self.pods.end(group.pods, end, lambda pod: shutdown.grace_of(pod, group.period_s))

    def _on_shutdown(self, begins: bool) -> None:
        self._shutting_down = begins

    def _on_problem(self, name: str, text: str) -> None:
        """Say a problem of the node as an event; what concerns one pod has been said of that pod."""
        if text and not name.startswith("pause "):
            reason = _PROBLEM_REASONS.get(name, "NodeProblem")
            self.events.node_event("Warning", reason, f"{name}: {text}")

    def _on_pause_trouble(self, uid: PodUID, text: str) -> None:
        pod = next((one for one in self.pods.pods() if one.metadata.uid == uid), None)
        self.health.set(f"pause {pod.metadata.namespace}/{pod.metadata.name}" if pod else f"pause of {uid}", text)
        if pod is not None and text:
            self.events.event(pod, "Warning", "FailedSync", f"error determining status: {text}")

    def _expire_events(self) -> None:
        self.events.expire()
        self._expiry = asyncio.get_running_loop().call_later(EVENT_EXPIRY_S, self._expire_events)

    def _on_started(self, pod: Pod, started: ObservedContainer) -> None:
        """Count a start."""
        instances = self.pauses.view(PodUID(pod.metadata.uid)).containers
        before = next((one for one in instances.get(started.name, ()) if one.id != started.id), None)
        init = any(one.name == started.name for one in pod.spec.init_containers or ())
        self.measures.container_started(started, before, init=init)
        if started.started_at is not None and sum(map(len, instances.values())) == 1:
            seen = (pod.metadata.annotations or {}).get("kubernetes.io/config.seen", "")
            self.measures.file_started(seen, started.started_at)

    def _on_pod_change(self, uid: PodUID) -> None:
        self.pods.wake(uid)
        self.bells.ring(uid)

    def _on_host_change(self) -> None:
        """Take up new addresses of the node: pods on its network, and every pod's hostIP."""
        self.runtime.follow_host_addresses(self.pods.pods())
        self.pods.wake_all()

    def _on_gone(self, pod: Pod) -> None:
        meta = pod.metadata
        self.prober.remove(PodUID(meta.uid))
        self.stats.forget(PodUID(meta.uid))
        self.status.remove(meta.namespace, meta.name, meta.uid)
        self.bells.ring(PodUID(meta.uid))

    def _on_http_fallback(self, pod: Pod, host: str) -> None:
        message = f"request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
        self.events.event(pod, "Warning", "LifecycleHTTPFallback", message)

    # What others ask

    def node_problems(self) -> dict[str, str]:
        """Return what is wrong with the node itself, not with one of its pods."""
        found = self.health.problems().items()
        return {name: text for name, text in found if not name.startswith(("pause ", "record of "))}

    def pod_ips(self, pod: Pod) -> tuple[str, ...]:
        """Return a pod's addresses: its own, or the node's."""
        if pod.spec.host_network:
            return self.network.host_ips()
        return self.network.addresses(PodUID(pod.metadata.uid))

    def _volume_path(self, pod: Pod, name: str) -> str:
        volume = next(one for one in pod.spec.volumes or () if one.name == name)
        return self.volumes.source_path(pod, volume)

    async def _port_holder(self, pod: Pod) -> str | None:
        return await self.network.port_conflict(host_port_mappings(pod))

    async def _preempt(self, pods: tuple[Pod, ...]) -> None:
        """End pods so that one of higher priority has room."""
        for pod in pods:
            self.events.event(pod, "Warning", "Preempting", preemption.MESSAGE)
        end = PodEnd(reason="Preempting", message=preemption.MESSAGE, disruption=preemption.DISRUPTION)
        await self.pods.end(pods, end, lambda pod: float(pod.spec.termination_grace_period_seconds or 0))


def allow_descriptors() -> None:
    """Let this process open as many files as it may; the fork server keeps containers at what programs expect."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _disk_size(directory: str) -> int:
    """Return the size in bytes of the file system that a directory lies, or will lie, on."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize


def render_pods(pods: Sequence[Pod]) -> str:
    """Return the table of all pods, wide."""
    now = time.time()
    return columns.render_table([columns.HEADERS, *(columns.pod_row(to_json(pod), now) for pod in pods)])
