"""What a probe does next and what its results amount to: the kubelet's probe worker without clock, process and socket.

A probe belongs to one container of one pod. Before each run it looks at its container and waits, runs or ends; after
each run it counts equal results in a row against its thresholds. What it has settled on is about one instance only.
Source: kubelet prober/worker.go `doProbe`, prober_manager.go (v1.36).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from minikubelet.api.types import Probe
from minikubelet.lifecycle.observed import ContainerID, ProbeOutcome


class ProbeKind(Enum):
    """What a probe is for; the value begins its event messages."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


class Step(Enum):
    """What a probe does at its beat: nothing this time, a run, or nothing ever again."""

    WAIT = "wait"
    RUN = "run"
    END = "end"


# What counts before the first result.
INITIAL: Final = {
    ProbeKind.STARTUP: ProbeOutcome.UNKNOWN,
    ProbeKind.LIVENESS: ProbeOutcome.SUCCESS,
    ProbeKind.READINESS: ProbeOutcome.FAILURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a probe sees of its container; times are seconds of the boot clock.

    `started` says that the startup probe has passed (true without one), `restarts` that an end would be followed by
    another instance, `stopping` that the pod ends and this probe no longer matters.
    """

    container_id: ContainerID | None = None
    started_at: float | None = None  # None unless it runs
    exited: bool = False
    started: bool = True
    restarts: bool = True
    pod_ended: bool = False
    stopping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeState:
    """One probe's memory: the instance it is about, what it has settled on, equal results in a row."""

    kind: ProbeKind
    container_id: ContainerID | None = None
    settled: ProbeOutcome | None = None
    last: ProbeOutcome | None = None
    run: int = 0
    on_hold: bool = False


def look(state: ProbeState, probe: Probe, seen: Seen, now: float) -> tuple[ProbeState, Step]:
    """Say what the probe does now, and what it knows after this look.

    Args:
        state: Its memory.
        probe: Its specification, defaults filled in.
        seen: Its container as it is now.
        now: Seconds of the boot clock.
    """
    if seen.pod_ended or seen.stopping:
        return state, Step.END
    if seen.container_id is None:
        return state, Step.WAIT
    if seen.container_id != state.container_id:
        state = replace(state, container_id=seen.container_id, settled=INITIAL[state.kind], on_hold=False)
    if state.on_hold:
        return state, Step.WAIT
    if seen.started_at is None:
        state = replace(state, settled=ProbeOutcome.FAILURE)
        return state, Step.END if seen.exited and not seen.restarts else Step.WAIT
    if now < seen.started_at + probe.initial_delay_seconds:
        return state, Step.WAIT
    # Startup ends where the others begin.
    return state, Step.WAIT if seen.started is (state.kind is ProbeKind.STARTUP) else Step.RUN


def count(state: ProbeState, probe: Probe, outcome: ProbeOutcome | None) -> ProbeState:
    """Return the memory after one run; None, a failure of the probing itself, counts for nothing."""
    if outcome is None:
        return state
    run = state.run + 1 if outcome is state.last else 1
    threshold = probe.failure_threshold if outcome is ProbeOutcome.FAILURE else probe.success_threshold
    if run < threshold:
        return replace(state, last=outcome, run=run)
    if outcome is ProbeOutcome.FAILURE and state.kind is not ProbeKind.READINESS:
        # The container is to be killed: asking it further says nothing about the next instance.
        return replace(state, last=outcome, run=0, settled=outcome, on_hold=True)
    # No further than the threshold: a probe that runs for a year keeps small numbers, and an unchanged state.
    if state.run == threshold and state.last is outcome and state.settled is outcome:
        return state
    return replace(state, last=outcome, run=threshold, settled=outcome)


def next_beat(due: float, period: float, now: float) -> float:
    """Return the next time of a probe's grid after now: missed beats are left out, lateness is not carried on."""
    return due + period * (max(0, int((now - due) // period)) + 1)
