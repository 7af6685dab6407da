"""What Kubernetes has no words for, below `/minikubelet/v1/`: verdicts on manifests, facts about a pod.

Also `/configz` and `/pods`, which only the kubelet has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from minikubelet.api.problems import Severity
from minikubelet.lifecycle.observed import ObservedContainer, PodUID
from minikubelet.lifecycle.status import rfc3339
from minikubelet.node.desired import DesiredState
from minikubelet.node.measures import Measures
from minikubelet.node.probe_history import ProbeHistory, Stretch
from minikubelet.node.settings import KEYS, Settings
from minikubelet.node.verdicts import Verdict
from minikubelet.server.context import Context
from minikubelet.server.errors import json_response
from minikubelet.server.objects import send_list
from minikubelet.server.usage import Usage

Json = dict[str, Any]


class Control:
    """Serves what only this node has."""

    def __init__(
        self,
        context: Context,
        *,
        desired: Callable[[], DesiredState],
        measures: Measures,
        usage: Usage,
    ) -> None:
        """Create it.

        Args:
            context: The node.
            desired: What the manifests ask for now.
            measures: What was counted.
            usage: What containers use.
        """
        self._context = context
        self._desired = desired
        self._measures = measures
        self._usage = usage

    async def manifests(self, request: web.Request) -> web.Response:
        """Answer with the verdict on every file."""
        return json_response({"items": [verdict_json(one) for one in self._desired().verdicts]})

    async def facts(self, request: web.Request) -> web.Response:
        """Answer with all that is recorded about one pod."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = self._context.pod(namespace, name)
        uid = pod["metadata"]["uid"]
        origin = self._desired().origin("Pod", namespace, name)
        verdict = next((one for one in self._desired().verdicts if uid in one.uids), None)
        events = (one.object for one in self._context.store.list("events", namespace))
        view = self._context.pauses.view(PodUID(uid))
        peaks = self._usage.memory_peaks(uid)
        return json_response(
            {
                "pod": pod,
                "manifest": {"file": origin[0], "line": origin[1]} if origin is not None else None,
                "verdict": verdict_json(verdict) if verdict is not None else None,
                "events": [one for one in events if one["involvedObject"].get("uid") == uid],
                "instances": [
                    instance_json(one, peaks.get(one.id, 0)) for found in view.containers.values() for one in found
                ],
                "probes": [probe_json(one) for one in self._measures.probe_histories_of(uid)],
            }
        )

    async def configz(self, request: web.Request) -> web.Response:
        """Answer `/configz` with the settings in force."""
        return json_response({"kubeletconfig": configuration(self._context.settings)})

    async def pods(self, request: web.Request) -> web.StreamResponse:
        """Answer `/pods`: all pods in one list, without selectors or versions."""
        head: Json = {"kind": "PodList", "apiVersion": "v1", "metadata": {}}
        return await send_list(request, head, "items", self._context.store.list("pods"), lambda item: item.encoded)


def verdict_json(one: Verdict) -> Json:
    """Return a verdict as JSON."""
    warned = any(problem.severity is Severity.WARNING for problem in one.problems)
    state = "refused" if one.is_refused else "waiting" if one.waiting else "warned" if warned else "accepted"
    names = (text.partition("/")[::2] for text in one.running)
    return {
        "file": one.file,
        "state": state,
        "reason": one.reason if one.is_refused else "",
        "refusals": list(one.refusals),
        "problems": [{**asdict(problem), "severity": problem.severity.value} for problem in one.problems],
        "pods": [
            {"namespace": namespace, "name": name, "uid": uid}
            for (namespace, name), uid in zip(names, one.uids, strict=True)
        ],
        "keepsLastGood": one.keeps_last_good,
        "goodSince": one.good_since,
        "text": one.text(),
    }


def instance_json(one: ObservedContainer, memory_peak: int) -> Json:
    """Return a container's instance as JSON; `memory_peak` is in bytes, 0 for unknown."""
    found: Json = {
        "container": one.name,
        "id": one.id,
        "restartCount": one.restart_count,
        "state": one.state.value,
        "pid": one.pid,
        "createdAt": _exact(one.created_at),
    }
    if one.started_at is not None:
        found["startedAt"] = _exact(one.started_at)
    if memory_peak:
        found["memoryPeakBytes"] = memory_peak
    if one.exit is not None:
        found["exit"] = {
            "exitCode": one.exit.exit_code,
            "signal": one.exit.signal,
            "reason": one.exit.reason,
            "message": one.exit.message,
            "finishedAt": _exact(one.exit.finished_at),
        }
        if one.exit.memory_peak:
            found["exit"]["memoryPeakBytes"] = one.exit.memory_peak
    return found


_RESULTS: Final = {"successful": "success", "failed": "failure"}


def probe_json(history: ProbeHistory) -> Json:
    """Return the newest run of a probe, and its stretches of equal results, as JSON."""
    run = history.last
    return {
        "container": run.container,
        "kind": run.kind.lower(),
        "result": _RESULTS.get(run.result, run.result),
        "output": run.output,
        "time": rfc3339(run.at),
        "durationSeconds": round(run.duration, 6),
        "latenessSeconds": round(run.lateness, 6),
        "history": [_stretch_json(one) for one in history.stretches],
    }


def _stretch_json(one: Stretch) -> Json:
    return {
        "result": _RESULTS.get(one.result, one.result),
        "output": one.output,
        "id": one.container_id,
        "first": _exact(one.first),
        "last": _exact(one.last),
        "count": one.count,
    }


def _exact(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def configuration(settings: Settings) -> Json:
    """Return the settings under KubeletConfiguration's names."""
    plain: Json = msgspec.to_builtins(settings)
    found = {key: plain[name] for key, name in KEYS.items()}
    found["staticPodPath"] = settings.manifest_dir
    for key in ("fileCheckFrequency",):
        found[key] = f"{found[key]:g}s"
    found["crashLoopBackOff"] = {"maxContainerRestartPeriod": f"{settings.max_container_restart_period:g}s"}
    found["containerLogMaxSize"] = str(settings.container_log_max_size)
    return {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", **found}
