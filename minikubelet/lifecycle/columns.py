"""What `kubectl get pods` prints of a Pod, from the object as JSON.

Works on plain dicts, so that a command line which reads status files need not load the API types.
Source: kubernetes pkg/printers/internalversion/printers.go `printPod`, apimachinery duration.HumanDuration (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]

HEADERS = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES")


def pod_row(pod: Json, now: float) -> tuple[str, ...]:
    """Return the cells under `HEADERS`; `now` is Unix time."""
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    return (
        meta.get("namespace", ""),
        meta.get("name", ""),
        ready_column(pod),
        status_column(pod),
        restarts_column(pod, now),
        age_column(meta.get("creationTimestamp") or status.get("startTime"), now),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        gates_column(pod),
    )


def ready_column(pod: Json) -> str:
    """Return `x/y`: ready containers of all, sidecars included."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    sidecars = _sidecars(pod)
    total = len(spec.get("containers", ())) + len(sidecars)
    ready = sum(1 for one in status.get("initContainerStatuses", ()) if one["name"] in sidecars and one.get("ready"))
    ready += sum(1 for one in status.get("containerStatuses", ()) if one.get("ready") and "running" in one["state"])
    return f"{ready}/{total}"


def _sidecars(pod: Json) -> set[str]:
    return {
        one["name"] for one in pod.get("spec", {}).get("initContainers", ()) if one.get("restartPolicy") == "Always"
    }


def status_column(pod: Json) -> str:
    """Return the STATUS column."""
    status = pod.get("status", {})
    reason = status.get("reason") or status.get("phase", "")
    initializing = _initializing(pod)
    reason = initializing if initializing is not None else _of_containers(pod, reason)
    if pod["metadata"].get("deletionTimestamp") is not None:
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in ("Succeeded", "Failed"):
            return "Terminating"
    return str(reason)


def _initializing(pod: Json) -> str | None:
    """Return what the first unfinished init container says, None when all are done."""
    sidecars = _sidecars(pod)
    total = len(pod.get("spec", {}).get("initContainers", ()))
    for index, one in enumerate(pod.get("status", {}).get("initContainerStatuses", ())):
        state = one.get("state", {})
        ended = state.get("terminated")
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if one["name"] in sidecars and one.get("started"):
            continue
        if ended is not None:
            if ended.get("reason"):
                return f"Init:{ended['reason']}"
            if ended.get("signal"):
                return f"Init:Signal:{ended['signal']}"
            return f"Init:ExitCode:{ended.get('exitCode')}"
        waiting = state.get("waiting")
        if waiting is not None and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{total}"
    return None


def _of_containers(pod: Json, reason: str) -> str:
    status = pod.get("status", {})
    has_running = False
    for one in reversed(status.get("containerStatuses", ())):
        state = one.get("state", {})
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting is not None and waiting.get("reason"):
            reason = waiting["reason"]
        elif ended is not None and ended.get("reason"):
            reason = ended["reason"]
        elif ended is not None:
            reason = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode')}"
        elif one.get("ready") and "running" in state:
            has_running = True
    if reason == "Completed" and has_running:
        reason = "Running" if _is_ready(pod) else "NotReady"
    return reason


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def restarts_column(pod: Json, now: float) -> str:
    """Return the restarts, with how long ago the last one was."""
    status = pod.get("status", {})
    sidecars = _sidecars(pod)
    inits = status.get("initContainerStatuses", ())
    if _initializing(pod) is not None:
        counted = list(inits)
    else:
        counted = [one for one in inits if one["name"] in sidecars] + list(status.get("containerStatuses", ()))
    restarts = sum(one.get("restartCount", 0) for one in counted)
    ended = [
        (one.get("lastState", {}).get("terminated") or {}).get("finishedAt") for one in counted if one.get("lastState")
    ]
    last = max((text for text in ended if text), default=None)
    if restarts and last:
        return f"{restarts} ({age_column(last, now)} ago)"
    return str(restarts)


def gates_column(pod: Json) -> str:
    """Return `x/y` readiness gates, or `<none>`."""
    gates = pod.get("spec", {}).get("readinessGates", ())
    if not gates:
        return "<none>"
    conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", ())}
    return f"{sum(conditions.get(one['conditionType']) == 'True' for one in gates)}/{len(gates)}"


def age_column(since: str | None, now: float) -> str:
    """Return how long ago an RFC 3339 time was."""
    if not since:
        return "<unknown>"
    return human_duration(now - datetime.fromisoformat(since).timestamp())


def human_duration(seconds: float) -> str:
    """Return a duration in two or three characters' worth: 5s, 2m30s, 10m, 3h5m, 2d3h, 1y20d."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        rest = whole % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = whole // 3600
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    rest = days % 365
    return f"{years}y{rest}d" if years < 8 and rest else f"{years}y"


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns with three spaces between, as kubectl prints them."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"
