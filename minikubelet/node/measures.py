"""What is counted while the node works: starts, restarts, how long they took, and what each run of a probe said.

Plain numbers only: the metrics endpoint puts them into its format when it is asked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from minikubelet.lifecycle.observed import ObservedContainer
from minikubelet.node.probe_history import ProbeHistory, ProbeRun
from minikubelet.node.store import Change

Json = dict[str, Any]

FAST_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


# Prometheus' own, which the kubelet uses for its workers.
USUAL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Counts of values by upper bound, with their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = FAST_BUCKETS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Measures:
    """Owner of the counters of one daemon's life."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args: clock: Unix time; what began before now is not this daemon's doing."""
        self._clock = clock
        self._started_at = clock()
        self.started_containers: Counter[str] = Counter()  # by container_type
        self.restarted_containers = 0
        self.restarted_pods = 0
        self.pod_work: dict[str, Histogram] = {}  # by operation
        self.user_namespaced: Counter[str] = Counter()  # pods with hostUsers false: `started`, `errors`
        self.file_to_start = Histogram()
        self.exit_to_restart = Histogram()
        self.pod_start = Histogram()
        self.probe_lateness = Histogram()
        self.probe_duration: dict[tuple[str, str, str, str], Histogram] = {}
        self.probe_results: Counter[tuple[str, str, str, str, str, str]] = Counter()
        self.probe_histories: dict[tuple[str, str, str], ProbeHistory] = {}  # by uid, container, kind
        self._running: set[str] = set()

    # Probes

    def probe_ran(self, run: ProbeRun) -> None:
        """Note one run of a probe."""
        history = self.probe_histories.get((run.uid, run.container, run.kind))
        if history is None:
            self.probe_histories[(run.uid, run.container, run.kind)] = ProbeHistory(run)
        else:
            history.add(run)
        self.probe_results[(run.kind, run.result, run.container, run.pod, run.namespace, run.uid)] += 1
        key = (run.kind, run.container, run.pod, run.namespace)
        durations = self.probe_duration.get(key)
        if durations is None:
            durations = self.probe_duration[key] = Histogram()
        durations.add(run.duration)
        self.probe_lateness.add(max(0.0, run.lateness))

    def probe_histories_of(self, uid: str) -> list[ProbeHistory]:
        """Return what each of a pod's probes said."""
        return [history for (owner, _, _), history in self.probe_histories.items() if owner == uid]

    # Containers

    def container_started(self, latest: ObservedContainer, before: ObservedContainer | None, *, init: bool) -> None:
        """Note a start, and how long its predecessor had been gone."""
        if latest.started_at is None or latest.started_at < self._started_at:
            return
        self.started_containers["init_container" if init else "container"] += 1
        if before is not None:
            self.restarted_containers += 1
            if before.exit is not None and latest.started_mono is not None:
                self.exit_to_restart.add(max(0.0, latest.started_mono - before.exit.finished_mono))

    def file_started(self, seen: str, started_at: float) -> None:
        """Note the first start of a pod's first container; `seen` is when its file was seen, RFC 3339."""
        if seen and started_at >= self._started_at:
            self.file_to_start.add(max(0.0, started_at - datetime.fromisoformat(seen).timestamp()))

    # Pods

    def worked(self, operation: str, seconds: float) -> None:
        """Note how long a pod's worker took for something."""
        self.pod_work.setdefault(operation, Histogram(USUAL_BUCKETS)).add(seconds)

    def pod_restarted(self) -> None:
        """Note that a pod began anew under its uid."""
        self.restarted_pods += 1

    def on_change(self, change: Change) -> None:
        """Follow the published pods: when one first runs, and when it is gone."""
        if change.kind != "pods":
            return
        pod = change.object
        uid = pod["metadata"].get("uid", "")
        if change.type == "DELETED":
            self._forget(uid)
        elif uid not in self._running and pod.get("status", {}).get("phase") == "Running":
            self._running.add(uid)
            self._pod_runs(pod)

    def _pod_runs(self, pod: Json) -> None:
        seen = (pod["metadata"].get("annotations") or {}).get("kubernetes.io/config.seen", "")
        statuses = pod["status"].get("containerStatuses") or ()
        starts = [one["state"]["running"].get("startedAt") for one in statuses if one.get("state", {}).get("running")]
        if not seen or not starts:
            return
        # Statuses have whole seconds; what is meant is the moment at which it is published, which is now.
        first = min(datetime.fromisoformat(one).timestamp() for one in starts if one)
        if first >= int(self._started_at):
            self.pod_start.add(max(0.0, self._clock() - datetime.fromisoformat(seen).timestamp()))

    def _forget(self, uid: str) -> None:
        self._running.discard(uid)
        for key in [one for one in self.probe_histories if one[0] == uid]:
            run = self.probe_histories.pop(key).last
            self.probe_duration.pop((run.kind, run.container, run.pod, run.namespace), None)
        for label in [one for one in self.probe_results if one[5] == uid]:
            del self.probe_results[label]
