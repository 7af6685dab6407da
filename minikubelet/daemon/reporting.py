"""Builds what others are told by: the published objects, events, statuses, problems and counters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from minikubelet.lifecycle import columns
from minikubelet.node.afterwards import Afterwards
from minikubelet.node.events import EventRecorder
from minikubelet.node.health import Health, is_pause_problem
from minikubelet.node.measures import Measures
from minikubelet.node.pod_bells import PodBells
from minikubelet.node.published import Namespaces, PublishedObjects
from minikubelet.node.settings import Settings
from minikubelet.node.status_manager import Json, StatusManager
from minikubelet.node.store import Store

# The kubelet's words for node conditions, where it has one.
_PROBLEM_REASONS: Final = {
    "state directory": "NodeHasDiskPressure",
    "run directory": "NodeHasDiskPressure",
    "log directory": "NodeHasDiskPressure",
    "processes": "NodeHasInsufficientPID",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """Who is told what happens, and tells others; knows nobody of the other layers."""

    store: Store
    bells: PodBells
    measures: Measures
    published: PublishedObjects
    afterwards: Afterwards
    events: EventRecorder
    health: Health
    status: StatusManager


def build_reporting(settings: Settings) -> Reporting:
    """Build it; no file is touched."""
    store = Store(first_version=int(time.time() * 1000))
    measures = Measures(time.time)
    store.observe(measures.on_change)
    Namespaces(store, clock=time.time)
    afterwards = Afterwards()
    events = EventRecorder(
        path=os.path.join(settings.state_dir, "events.jsonl"),
        store=store,
        node_name=settings.node_name,
        clock=time.time,
        afterwards=afterwards,
    )
    status = StatusManager(
        status_dir=os.path.join(settings.run_dir, "status"),
        table_path=os.path.join(settings.run_dir, "status.txt"),
        store=store,
        render=_render_pods,
    )
    return Reporting(
        store=store,
        bells=PodBells(),
        measures=measures,
        published=PublishedObjects(store, clock=time.time),
        afterwards=afterwards,
        events=events,
        health=Health(on_change=_problem_events(events)),
        status=status,
    )


def _problem_events(events: EventRecorder) -> Callable[[str, str], None]:
    """Return what says a problem of the node as an event; what concerns one pod's pause is said of that pod."""

    def on_problem(name: str, text: str) -> None:
        if not text:
            events.catch_up()
        elif not is_pause_problem(name):
            events.node_event("Warning", _PROBLEM_REASONS.get(name, "NodeProblem"), f"{name}: {text}")

    return on_problem


def _render_pods(pods: Sequence[Json]) -> str:
    """Return the table of all pods, wide."""
    now = time.time()
    return columns.render_table([columns.HEADERS, *(columns.pod_row(pod, now) for pod in pods)])
