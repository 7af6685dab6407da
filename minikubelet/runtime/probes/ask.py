"""Asks a container once how it is, by the one way that its probe names.

What does not change from run to run (URL, headers, command) is made once for each instance of a container.
Source: kubelet prober/prober.go `runProbe` (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from minikubelet.api.expansion import expand
from minikubelet.api.field_errors import quote
from minikubelet.api.types import Container, Pod, Probe
from minikubelet.lifecycle.observed import ContainerID
from minikubelet.lifecycle.restart import go_duration
from minikubelet.runtime.port import Runtime, RuntimeFailure
from minikubelet.runtime.probes.http import HttpProbe, request_headers
from minikubelet.runtime.probes.result import Ask, ProbeReply, Verdict
from minikubelet.runtime.probes.target import probe_url, resolve_port
from minikubelet.runtime.probes.tcp import ask_tcp

OUTPUT_LIMIT: Final = 10 * 1024


class Asker:
    """Makes the questions of all probes of a node."""

    def __init__(self, runtime: Runtime, *, version: str, pod_ips: Callable[[Pod], Sequence[str]]) -> None:
        """Create it.

        Args:
            runtime: Runs exec probes.
            version: `<major>.<minor>`, for the User-Agent.
            pod_ips: A pod's addresses now.
        """
        self._runtime = runtime
        self._user_agent = f"kube-probe/{version}"
        self._pod_ips = pod_ips

    def prepare(self, pod: Pod, container: Container, probe: Probe, container_id: ContainerID) -> Ask:
        """Return what asks this instance once; the wait raises RuntimeFailure or OSError when the asking fails."""
        if pod.spec.host_network and probe.exec is None:
            # The node's address may become another one while the container runs.
            return lambda: self._prepare(pod, container, probe, container_id)()
        return self._prepare(pod, container, probe, container_id)

    def _prepare(self, pod: Pod, container: Container, probe: Probe, container_id: ContainerID) -> Ask:
        timeout = float(probe.timeout_seconds)
        if probe.exec is not None:
            # Values that are written down alone: what comes from elsewhere is empty here, as in the kubelet.
            static = {one.name: one.value for one in container.env or ()}
            command = tuple(expand(word, static) for word in probe.exec.command or ())
            return lambda: partial(self._exec, pod, container_id, command, timeout)
        ips = self._pod_ips(pod)
        own = ips[0] if ips else ""
        try:
            if probe.http_get is not None:
                given = [(one.name, one.value) for one in probe.http_get.http_headers or ()]
                headers = request_headers(given, user_agent=self._user_agent)
                return HttpProbe(probe_url(probe.http_get, container, own), headers, timeout_s=timeout)
            if probe.tcp_socket is not None:
                port = resolve_port(probe.tcp_socket.port, container)
                host = probe.tcp_socket.host or own
                return partial(ask_tcp, host, port, timeout)
        except RuntimeFailure as failure:
            return _fail(str(failure))
        if probe.grpc is not None:
            number, service = probe.grpc.port, probe.grpc.service or ""
            return lambda: partial(self._grpc, own, number, service, timeout)
        return _fail(f"missing probe handler for {pod.metadata.name}_{pod.metadata.namespace}:{container.name}")

    async def _exec(self, pod: Pod, container_id: ContainerID, command: tuple[str, ...], limit_s: float) -> ProbeReply:
        result = await self._runtime.exec(pod, container_id, command, timeout_s=limit_s, limit=OUTPUT_LIMIT)
        if result.timed_out:
            text = f"command timed out: {quote(' '.join(command))} timed out after {go_duration(limit_s)}"
            return ProbeReply(Verdict.FAILURE, text)
        verdict = Verdict.SUCCESS if result.exit_code == 0 else Verdict.FAILURE
        return ProbeReply(verdict, result.output.decode("utf-8", "replace"))

    async def _grpc(self, host: str, port: int, service: str, limit_s: float) -> ProbeReply:
        # Imported here: HTTP/2 costs memory that a node without gRPC probes need not pay.
        from minikubelet.runtime.probes.grpc import probe_grpc

        return await probe_grpc(host, port, service, timeout_s=limit_s, user_agent=self._user_agent)


def _fail(why: str) -> Ask:
    async def ask() -> ProbeReply:
        raise RuntimeFailure(why)

    return lambda: ask
