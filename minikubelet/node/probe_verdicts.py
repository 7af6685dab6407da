"""What an answer to a probe means, and who is told of it: events for people, runs for those who count.

Source: kubelet prober/prober.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from minikubelet.lifecycle.observed import ProbeOutcome
from minikubelet.node.pod_probes import ContainerProbe
from minikubelet.node.probe_history import ProbeRun
from minikubelet.node.services import Recorder
from minikubelet.runtime.port import RuntimeFailure
from minikubelet.runtime.probes.http import BodyError
from minikubelet.runtime.probes.result import ProbeReply, Verdict, Wait

_TRIES: Final = 3


class ProbeVerdicts:
    """Judges the answers of all probes."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        observe: Callable[[ProbeRun], None],
    ) -> None:
        """Create it.

        Args:
            recorder: Takes the events of failed runs.
            clock: Boot time in seconds.
            wall_clock: Unix time.
            observe: Told of every run.
        """
        self._recorder = recorder
        self._clock = clock
        self._wall_clock = wall_clock
        self._observe = observe

    async def wait(self, probe: ContainerProbe, wait: Wait) -> ProbeOutcome | None:
        """Wait for an answer and judge it; None when asking failed three times, which counts for nothing."""
        assert probe.ask is not None
        error, state = "", "unknown"
        for attempt in range(_TRIES):
            try:
                answer = wait if attempt == 0 else probe.ask()
                return self.judge(probe, answer if isinstance(answer, ProbeReply) else await answer())
            except (RuntimeFailure, OSError) as failure:
                error = str(failure)
                # The kubelet's word for it, though it counts as little as the other.
                state = "failure" if isinstance(failure, BodyError) else "unknown"
        self._note(probe, "unknown", error)
        self._event(probe, "Unhealthy", f"errored and resulted in {state} state: {error}")
        return None

    def judge(self, probe: ContainerProbe, reply: ProbeReply) -> ProbeOutcome:
        """Return what an answer means."""
        if reply.verdict is Verdict.WARNING:
            self._event(probe, "ProbeWarning", f"warning: {reply.output}")
        elif reply.verdict is not Verdict.SUCCESS:
            self._event(probe, "Unhealthy", f"failed: {reply.output}")
            self._note(probe, "failed", reply.output)
            return ProbeOutcome.FAILURE
        self._note(probe, "successful", reply.output)
        return ProbeOutcome.SUCCESS

    def _note(self, probe: ContainerProbe, result: str, output: str) -> None:
        """Tell those who count runs of this one."""
        meta = probe.probes.pod.metadata
        self._observe(
            ProbeRun(
                uid=meta.uid,
                namespace=meta.namespace,
                pod=meta.name,
                container=probe.container.name,
                kind=probe.kind.value,
                result=result,
                output=output,
                at=self._wall_clock(),
                duration=self._clock() - probe.begun,
                lateness=probe.late,
                container_id=probe.state.container_id or "",
            )
        )

    def _event(self, probe: ContainerProbe, reason: str, text: str) -> None:
        message = f"{probe.kind.value} probe {text}"
        container_id = probe.state.container_id
        if container_id is not None:
            message = message.replace(container_id, probe.container.name)  # equal messages are counted, not listed
        pod, container = probe.probes.pod, probe.container.name
        self._recorder.event(pod, "Warning", reason, message, container=container, init=probe.init)
