"""Runs the probes of all pods and holds their settled results.

One task for each probe of each running container instance. A probe's times are multiples of its period from the moment
its delay was over, so a slow run makes no drift; many probes are spread over the period at the daemon's start.
Source: kubelet prober/worker.go, prober.go, prober_manager.go (v1.36).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from minikubelet.api.types import Container, Pod, Probe
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID, ProbeOutcome
from minikubelet.node.pod_worker import ProbeResults, Recorder
from minikubelet.runtime.hooks import HookError, resolve_port
from minikubelet.runtime.port import Runtime, RuntimeFailure
from minikubelet.runtime.probes.dial import host_port
from minikubelet.runtime.probes.http import probe_http, request_headers
from minikubelet.runtime.probes.result import ProbeReply, Verdict
from minikubelet.runtime.probes.tcp import probe_tcp

log = structlog.get_logger(__name__)

_KINDS: Final = ("startup", "liveness", "readiness")
_INITIAL: Final = {
    "startup": ProbeOutcome.UNKNOWN,
    "liveness": ProbeOutcome.SUCCESS,
    "readiness": ProbeOutcome.FAILURE,
}
_EXEC_LIMIT: Final = 10 * 1024
_TRIES: Final = 3


class _Clock(Protocol):
    def __call__(self) -> float: ...


@dataclass(slots=True)
class _PodProbes:
    """The running probes of one pod, by (kind, container id), and what they have settled on."""

    pod: Pod
    tasks: dict[tuple[str, ContainerID], asyncio.Task[None]] = field(default_factory=dict)
    results: dict[str, dict[ContainerID, ProbeOutcome]] = field(default_factory=lambda: {kind: {} for kind in _KINDS})


class NodeProber:
    """Owner of all probe tasks and results of the node."""

    def __init__(
        self,
        runtime: Runtime,
        recorder: Recorder,
        *,
        version: str,
        pod_ips: Callable[[Pod], Sequence[str]],
        on_change: Callable[[PodUID], None],
        clock: _Clock,
        started_at: float,
    ) -> None:
        """Create it.

        Args:
            runtime: Runs exec probes.
            recorder: Takes the events of failed runs.
            version: Of the daemon, for the User-Agent.
            pod_ips: A pod's addresses now.
            on_change: Told when a settled result changes.
            clock: Boot time in seconds.
            started_at: When the daemon started, on that clock: probes found running then are spread.
        """
        self._runtime = runtime
        self._recorder = recorder
        self._user_agent = f"kube-probe/{version}"
        self._pod_ips = pod_ips
        self._on_change = on_change
        self._clock = clock
        self._started_at = started_at
        self._pods: dict[PodUID, _PodProbes] = {}

    def update(self, pod: Pod, running: Mapping[str, ObservedContainer], *, terminating: bool) -> None:
        """Make the running probes fit what runs now."""
        uid = PodUID(pod.metadata.uid)
        state = self._pods.setdefault(uid, _PodProbes(pod))
        wanted: dict[tuple[str, ContainerID], tuple[Container, Probe, ObservedContainer]] = {}
        for container in _probed_containers(pod):
            found = running.get(container.name)
            if found is None or found.started_mono is None:
                continue
            for kind, probe in _probes(container):
                if terminating and kind != "readiness":
                    continue
                if self._is_due(state, kind, container, found):
                    wanted[(kind, found.id)] = (container, probe, found)
        for key in state.tasks.keys() - wanted.keys():
            state.tasks.pop(key).cancel()
        for key, (container, probe, found) in wanted.items():
            if key not in state.tasks and not self._is_over(state, key):
                worker = self._run(uid, key[0], container, probe, found)
                state.tasks[key] = asyncio.create_task(worker, name=f"{key[0]} probe {container.name}")
        alive = {found.id for found in running.values()}
        for results in state.results.values():
            for gone in results.keys() - alive:
                del results[gone]

    def _is_due(self, state: _PodProbes, kind: str, container: Container, found: ObservedContainer) -> bool:
        """Tell whether this kind may run now: liveness and readiness wait until the container counts as started."""
        if kind == "startup" or container.startup_probe is None:
            return True
        return state.results["startup"].get(found.id) is ProbeOutcome.SUCCESS

    def _is_over(self, state: _PodProbes, key: tuple[str, ContainerID]) -> bool:
        """Tell whether this probe has said its last word about this instance."""
        kind, container_id = key
        settled = state.results[kind].get(container_id)
        if kind == "startup":
            return settled in (ProbeOutcome.SUCCESS, ProbeOutcome.FAILURE)
        return kind == "liveness" and settled is ProbeOutcome.FAILURE

    def results(self, uid: PodUID) -> ProbeResults:
        """Return the settled outcomes of one pod."""
        state = self._pods.get(uid)
        results = state.results if state is not None else {kind: {} for kind in _KINDS}
        return ProbeResults(liveness=results["liveness"], readiness=results["readiness"], startup=results["startup"])

    def remove(self, uid: PodUID) -> None:
        """Stop all probes of one pod."""
        state = self._pods.pop(uid, None)
        if state is not None:
            for task in state.tasks.values():
                task.cancel()

    def stop(self) -> None:
        """Stop everything."""
        for uid in list(self._pods):
            self.remove(uid)

    async def _run(self, uid: PodUID, kind: str, container: Container, probe: Probe, found: ObservedContainer) -> None:
        """Probe one instance until it settles for good or is gone."""
        state = self._pods[uid]
        period = float(probe.period_seconds)
        started = found.started_mono if found.started_mono is not None else self._clock()
        due = max(started + probe.initial_delay_seconds, self._clock())
        if self._clock() - self._started_at < period and started < self._started_at:
            due += random.uniform(0, period)
        last: ProbeOutcome | None = None
        in_a_row = 0
        while True:
            await asyncio.sleep(max(0.0, due - self._clock()))
            outcome = await self._once(state.pod, kind, container, probe, found)
            if outcome is not None:
                in_a_row = in_a_row + 1 if outcome is last else 1
                last = outcome
                threshold = probe.failure_threshold if outcome is ProbeOutcome.FAILURE else probe.success_threshold
                if in_a_row >= threshold and self._settle(uid, kind, found.id, outcome):
                    return
            # Missed beats are left out, not made up for.
            due += period * max(1, int((self._clock() - due) // period) + 1)

    def _settle(self, uid: PodUID, kind: str, container_id: ContainerID, outcome: ProbeOutcome) -> bool:
        """Note a settled result; True when this probe has nothing more to say about this instance."""
        state = self._pods.get(uid)
        if state is None:
            return True
        before = state.results[kind].get(container_id, _INITIAL[kind])
        state.results[kind][container_id] = outcome
        over = self._is_over(state, (kind, container_id))
        if over:
            state.tasks.pop((kind, container_id), None)
        if before is not outcome:
            asyncio.get_running_loop().call_soon(self._on_change, uid)
        return over

    async def _once(
        self, pod: Pod, kind: str, container: Container, probe: Probe, found: ObservedContainer
    ) -> ProbeOutcome | None:
        """Run a probe once; None when the probing itself failed, which counts for nothing."""
        title = kind.capitalize()
        error = ""
        for _ in range(_TRIES):
            try:
                reply = await self._ask(pod, container, probe, found)
            except (RuntimeFailure, OSError) as failure:
                error = str(failure)
                continue
            if reply.verdict is Verdict.FAILURE:
                self._event(pod, container, "Unhealthy", f"{title} probe failed: {reply.output}")
                return ProbeOutcome.FAILURE
            if reply.verdict is Verdict.WARNING:
                self._event(pod, container, "ProbeWarning", f"{title} probe warning: {reply.output}")
            return ProbeOutcome.SUCCESS
        text = f"{title} probe errored and resulted in unknown state: {error}"
        self._event(pod, container, "Unhealthy", text)
        return None

    async def _ask(self, pod: Pod, container: Container, probe: Probe, found: ObservedContainer) -> ProbeReply:
        timeout = float(probe.timeout_seconds)
        if probe.exec is not None:
            return await self._ask_exec(pod, found, tuple(probe.exec.command or ()), timeout)
        ips = self._pod_ips(pod)
        own = ips[0] if ips else ""
        if probe.http_get is not None:
            action = probe.http_get
            port = resolve_port(action.port, container)
            headers = request_headers(
                [(one.name, one.value) for one in action.http_headers or ()], user_agent=self._user_agent
            )
            path = action.path if action.path.startswith(("/", "?")) or not action.path else "/" + action.path
            url = f"{(action.scheme or 'HTTP').lower()}://{host_port(action.host or own, port)}{path}"
            return await probe_http(url, headers, timeout_s=timeout)
        if probe.tcp_socket is not None:
            port = resolve_port(probe.tcp_socket.port, container)
            return await probe_tcp(probe.tcp_socket.host or own, port, timeout_s=timeout)
        if probe.grpc is not None:
            from minikubelet.runtime.probes.grpc import probe_grpc

            service = probe.grpc.service or ""
            return await probe_grpc(own, probe.grpc.port, service, timeout_s=timeout, user_agent=self._user_agent)
        raise HookError(f"missing probe handler for {pod.metadata.name}:{container.name}")

    async def _ask_exec(
        self, pod: Pod, found: ObservedContainer, command: tuple[str, ...], limit_s: float
    ) -> ProbeReply:
        result = await self._runtime.exec(pod, found.id, command, timeout_s=limit_s, limit=_EXEC_LIMIT)
        output = result.output.decode("utf-8", "replace")
        if result.timed_out:
            what = f'command timed out: "{" ".join(command)}" timed out after {limit_s:g}s'
            return ProbeReply(Verdict.FAILURE, what)
        if result.exit_code != 0:
            return ProbeReply(Verdict.FAILURE, output)
        return ProbeReply(Verdict.SUCCESS, output)

    def _event(self, pod: Pod, container: Container, reason: str, message: str) -> None:
        init = any(one.name == container.name for one in pod.spec.init_containers or ())
        self._recorder.event(pod, "Warning", reason, message, container=container.name, init=init)


def _probed_containers(pod: Pod) -> list[Container]:
    sidecars = [one for one in pod.spec.init_containers or () if one.restart_policy == "Always"]
    return [*sidecars, *pod.spec.containers]


def _probes(container: Container) -> list[tuple[str, Probe]]:
    found = (container.startup_probe, container.liveness_probe, container.readiness_probe)
    return [(kind, probe) for kind, probe in zip(_KINDS, found, strict=True) if probe is not None]
