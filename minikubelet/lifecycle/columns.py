"""What `kubectl get pods` prints of a Pod, from the object as JSON.

Works on plain dicts, so that a command line which reads status files need not load the API types.
Source: kubernetes pkg/printers/internalversion/printers.go `printPod`, apimachinery duration.HumanDuration (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

Json = Mapping[str, Any]

HEADERS = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES")

_NONE: Final = "<none>"
_EMPTY: Final[Json] = {}
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY


class _Summary(NamedTuple):  # no dataclass: its import would be a third of the time that `get pods` takes
    """What is read from the containers' statuses in one go; `last_restart` is RFC 3339 text, "" for never."""

    ready: int
    reason: str
    restarts: int
    last_restart: str


def pod_row(pod: Json, now: float) -> tuple[str, ...]:
    """Return the cells under `HEADERS`; `now` is Unix time."""
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    summary = _summarize(pod)
    return (
        meta.get("namespace", ""),
        meta.get("name", ""),
        _ready_text(pod, summary),
        _status_text(pod, summary),
        _restarts_text(summary, now),
        age_column(meta.get("creationTimestamp") or status.get("startTime"), now),
        ip_column(pod),
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        gates_column(pod),
    )


def ready_column(pod: Json) -> str:
    """Return `x/y`: ready containers of all, sidecars included."""
    return _ready_text(pod, _summarize(pod))


def status_column(pod: Json) -> str:
    """Return the STATUS column."""
    return _status_text(pod, _summarize(pod))


def _ready_text(pod: Json, summary: _Summary) -> str:
    total = len(pod.get("spec", {}).get("containers", ())) + len(_sidecars(pod))
    return f"{summary.ready}/{total}"


def _status_text(pod: Json, summary: _Summary) -> str:
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp") is not None:
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in ("Succeeded", "Failed"):
            return "Terminating"
    return summary.reason


def _restarts_text(summary: _Summary, now: float) -> str:
    if summary.restarts and summary.last_restart:
        return f"{summary.restarts} ({age_column(summary.last_restart, now)} ago)"
    return str(summary.restarts)


def ip_column(pod: Json) -> str:
    """Return the first of the pod's addresses."""
    status = pod.get("status", {})
    first = next((one.get("ip") for one in status.get("podIPs", ())), None)
    return first or status.get("podIP") or _NONE


def gates_column(pod: Json) -> str:
    """Return `x/y` readiness gates, or `<none>`."""
    gates = pod.get("spec", {}).get("readinessGates", ())
    if not gates:
        return _NONE
    return f"{sum(_is_true(pod, one['conditionType']) for one in gates)}/{len(gates)}"


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
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two_units(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two_units(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two_units(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two_units(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns with three spaces between, as kubectl prints them."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _two_units(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large}{large_name}" + (f"{rest}{small_name}" if rest else "")


def _summarize(pod: Json) -> _Summary:
    status = pod.get("status", {})
    reason = status.get("reason") or status.get("phase", "")
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    seen, initializing = _init_progress(pod)
    reason = initializing or reason
    sidecars = _sidecars(pod)
    ready = sum(1 for one in seen if one["name"] in sidecars and one.get("started") and one.get("ready"))
    # A sidecar that restarts after initialization still gives the reason, as kubectl has it.
    if initializing and not _is_true(pod, "Initialized"):
        return _Summary(ready=ready, reason=reason, restarts=_restarts(seen), last_restart=_last_restart(seen))
    apps = status.get("containerStatuses", ())
    counted = [*(one for one in seen if one["name"] in sidecars), *apps]
    return _Summary(
        ready=ready + sum(1 for one in apps if _runs_ready(one)),
        reason=_reason_of_apps(pod, apps, reason),
        restarts=_restarts(counted),
        last_restart=_last_restart(counted),
    )


def _init_progress(pod: Json) -> tuple[list[Json], str]:
    """Return the init statuses up to the first unfinished one, and what that one says ("" when all are done)."""
    sidecars = _sidecars(pod)
    total = len(pod.get("spec", {}).get("initContainers", ()))
    seen: list[Json] = []
    for index, one in enumerate(pod.get("status", {}).get("initContainerStatuses", ())):
        seen.append(one)
        state = one.get("state", {})
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if one["name"] in sidecars and one.get("started"):
            continue
        if ended is not None:
            return seen, f"Init:{_end_reason(ended)}"
        if waiting is not None and waiting.get("reason", "") not in ("", "PodInitializing"):
            return seen, f"Init:{waiting['reason']}"
        return seen, f"Init:{index}/{total}"
    return seen, ""


def _reason_of_apps(pod: Json, apps: Sequence[Json], reason: str) -> str:
    failed = ""
    for one in reversed(apps):
        waiting, ended = one.get("state", {}).get("waiting"), one.get("state", {}).get("terminated")
        if waiting is not None and waiting.get("reason"):
            reason = waiting["reason"]
        elif ended is not None:
            reason = _end_reason(ended)
            failed = reason if ended.get("exitCode", 0) != 0 else failed
    if reason != "Completed":
        return reason
    runs = any(_runs_ready(one) for one in apps)
    if runs and _is_true(pod, "Ready"):
        return "Running"
    return failed or ("NotReady" if runs else reason)


def _end_reason(ended: Json) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _runs_ready(one: Json) -> bool:
    return bool(one.get("ready")) and one.get("state", {}).get("running") is not None


def _restarts(statuses: Sequence[Json]) -> int:
    return sum(one.get("restartCount", 0) for one in statuses)


def _last_restart(statuses: Sequence[Json]) -> str:
    ends: list[Json] = [(one.get("lastState") or _EMPTY).get("terminated") or _EMPTY for one in statuses]
    return max((one.get("finishedAt") or "" for one in ends), default="")


def _sidecars(pod: Json) -> set[str]:
    inits = pod.get("spec", {}).get("initContainers", ())
    return {one["name"] for one in inits if one.get("restartPolicy") == "Always"}


def _conditions(pod: Json) -> Iterator[Json]:
    yield from pod.get("status", {}).get("conditions", ())


def _condition(pod: Json, kind: str) -> Json:
    return next((one for one in _conditions(pod) if one["type"] == kind), _EMPTY)


def _is_true(pod: Json, kind: str) -> bool:
    return _condition(pod, kind).get("status") == "True"
