"""Says in one paragraph why a pod is in the state it is in: a pure function of what is recorded about it.

The first thing that keeps a pod from being well is told: rejected, ended, terminating, waiting for its volumes or
sandbox, in its init containers, a container that waits, crashes or is not ready. What went wrong earlier, and a
manifest that is refused while an older version runs, are told behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from minikubelet.cli.facts import Facts, Verdict
from minikubelet.cli.findings import Case, how_it_ended, listed, probe_text, remedy, seconds, sentence, span, times
from minikubelet.lifecycle.columns import human_duration

Json = Mapping[str, Any]

_NONE: Final[Json] = {}
_BACK_OFF: Final = re.compile(r"back-off ((?:\d+h)?(?:\d+m)?(?:[\d.]+s)?) ")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0}
_UNSTEADY_S: Final = 60.0
_PROMPT_S: Final = 3.0  # who handles SIGTERM has mostly ended by then
_NOT_WORTH_TELLING: Final = ("BackOff", "MissingClusterDNS", "DNSConfigForming")
# Reasons of a waiting container whose message says it all, with what the reader can do.
_WAITING: Final = {
    "CreateContainerConfigError": "its configuration cannot be resolved",
    "CreateContainerError": "it cannot be created",
    "RunContainerError": "it cannot be started",
    "PreCreateHookError": "it cannot be created",
    "PreStartHookError": "it cannot be started",
    "InvalidImageName": "its image name is not valid",
    "ErrImagePull": "its image cannot be had",
    "ImagePullBackOff": "its image cannot be had",
    "ErrImageNeverPull": "its image is not here and its pull policy is Never",
    "ImageInspectError": "its image cannot be read",
    "PostStartHookError": "its postStart hook failed, so it was killed",
}
_CREATING: Final = ("ContainerCreating", "PodInitializing", None)
_SETUP_EVENTS: Final = ("FailedMount", "FailedCreatePodSandBox", "FailedCreatePodContainer", "Failed", "FailedSync")


def explain(facts: Facts, now: float) -> str:
    """Return the paragraph.

    Args:
        facts: The pod with its events, its manifest's verdict and its probes.
        now: Unix time.
    """
    case = Case(facts, now)
    parts = [_state(case), *_manifest(case)]
    return " ".join(one for one in parts if one)


def explain_refused(name: str, verdicts: Sequence[Verdict]) -> str:
    """Return the paragraph for a pod that is not there because its manifest is refused."""
    first = verdicts[0]
    errors = _errors(first)
    return f"There is no pod {name}: its manifest {first.file} is refused{errors}. Mend the file and it starts at once."


def _state(case: Case) -> str:
    phase = case.status.get("phase", "")
    if case.pod["metadata"].get("deletionTimestamp") and phase not in ("Succeeded", "Failed"):
        return _terminating(case)
    message = str(case.status.get("message", ""))
    if phase == "Failed" and message.startswith("Pod was rejected"):
        return (
            f"{case.name} was rejected before anything ran: {sentence(message.removeprefix('Pod was rejected: '))} "
            f"({case.status.get('reason', '')}).{remedy(message)} It is not tried again until its manifest changes or "
            "the daemon restarts."
        )
    if phase == "Failed" and case.status.get("reason"):
        return f"{case.name} was ended by the node ({case.status['reason']}): {sentence(message)}.{_ends(case)}"
    if phase == "Succeeded":
        return _succeeded(case)
    if phase == "Failed":
        return f"{case.name} has failed.{_ends(case)} {_stays(case)}"
    return _setting_up(case) or _initializing(case) or _apps(case)


def _stays(case: Case) -> str:
    return "It stays listed, with its logs, until its manifest goes or changes."


def _succeeded(case: Case) -> str:
    ends = [one.get("state", _NONE).get("terminated") or _NONE for _, one in case.containers()]
    last = max((str(one.get("finishedAt", "")) for one in ends), default="")
    what = "its container has" if len(ends) == 1 else f"all {len(ends)} containers have"
    policy = case.spec.get("restartPolicy", "Always")
    return (
        f"{case.name} has done its work: {what} ended with exit code 0, {case.ago(last)}, and its restart policy "
        f"{policy} starts nothing again. {_stays(case)}"
    )


def _ends(case: Case) -> str:
    """Say how containers ended that did not end well."""
    texts: list[str] = []
    for group in ("initContainers", "containers"):
        for spec, status in case.containers(group):
            ended = status.get("state", _NONE).get("terminated") or _NONE
            if ended and ended.get("exitCode", 0) != 0:
                init = "init container" if group == "initContainers" else "container"
                texts.append(f" Its {init} {spec['name']} {how_it_ended(case, spec, ended)}.")
    policy = case.spec.get("restartPolicy", "Always")
    return "".join(texts) + (f" With the restart policy {policy} it is not started again." if texts else "")


# Terminating


def _terminating(case: Case) -> str:
    meta = case.pod["metadata"]
    grace = float(meta.get("deletionGracePeriodSeconds") or case.spec.get("terminationGracePeriodSeconds") or 30)
    deadline = seconds(meta["deletionTimestamp"])
    left = deadline - case.now
    running = [
        spec["name"]
        for group in ("containers", "initContainers")
        for spec, status in case.containers(group)
        if status.get("state", _NONE).get("running") is not None
    ]
    began = human_duration(max(0.0, case.now - (deadline - grace)))
    text = f"{case.name} is being ended since {began}, as its manifest was removed or changed."
    if not running:
        return f"{text} Its containers have ended; its volumes and network are being removed."
    hooks = [
        spec["name"]
        for spec, _ in case.containers()
        if spec["name"] in running and (spec.get("lifecycle") or _NONE).get("preStop")
    ]
    waits = f" It waits for {listed(running)}, which {'was' if len(running) == 1 else 'were'} asked to stop"
    waits += f" (the preStop hook of {listed(hooks)} runs first)" if hooks else " with SIGTERM"
    if left > 0:
        text = f"{text}{waits}; what is still there in {span(left)} is killed (grace period {grace:g}s)."
        return text if hooks or case.now - (deadline - grace) < _PROMPT_S else f"{text}{_of_first_process(case)}"
    return f"{text}{waits}; the grace period of {grace:g}s is over, so it is killed now."


def _of_first_process(case: Case) -> str:
    if case.spec.get("shareProcessNamespace") or case.spec.get("hostPID"):
        return ""
    return " A program that is process 1 of its container ends at SIGTERM only if it handles it."


# Before any container


def _setting_up(case: Case) -> str:
    started = any(
        status.get("containerID") or status.get("restartCount")
        for group in ("containers", "initContainers")
        for _, status in case.containers(group)
    )
    waits_for_creation = any(
        (status.get("state", _NONE).get("waiting") or _NONE).get("reason") in _CREATING
        for group in ("containers", "initContainers")
        for _, status in case.containers(group)
    )
    if started or not waits_for_creation or case.status.get("phase") != "Pending":
        return ""
    trouble = case.events_of("", *_SETUP_EVENTS)
    if not trouble:
        if case.condition("PodReadyToStartContainers").get("status") == "True":
            return ""
        return f"{case.name} is being set up: its volumes, namespaces and network come before its first container."
    event, message = trouble[0], str(trouble[0]["message"])
    what = "its volumes cannot be set up" if event["reason"] == "FailedMount" else "its sandbox cannot be made"
    return (
        f"{case.name} waits, as {what}: {sentence(message)} ({times(case, event).strip()}).{remedy(message)} "
        "It is tried again until it works."
    )


def _initializing(case: Case) -> str:
    if case.condition("Initialized").get("status") == "True":
        return ""
    inits = case.containers("initContainers")
    for number, (spec, status) in enumerate(inits, 1):
        state = status.get("state", _NONE)
        ended, running = state.get("terminated"), state.get("running")
        sidecar = spec.get("restartPolicy") == "Always"
        if ended is not None and ended.get("exitCode", 0) == 0 and not sidecar:
            continue
        if sidecar and status.get("started"):
            continue
        title = f"{'sidecar' if sidecar else 'init container'} {spec['name']} ({number} of {len(inits)})"
        begin = f"{case.name} is still initializing: its {title}"
        if running is not None and sidecar:
            probe = spec.get("startupProbe")
            waits = probe_text(case, spec, "startup", probe) if probe else "it is about to count as started"
            return f"{begin} runs, but has not started yet: {waits}. The next containers wait for it."
        if running is not None:
            since = human_duration(max(0.0, case.now - seconds(running.get("startedAt"))))
            before = _before(case, spec, status)
            return f"{begin} has been running for {since}; what is behind it waits for its exit code 0.{before}"
        return f"{begin} {_not_running(case, spec, status)}"
    return ""


# Containers


def _apps(case: Case) -> str:
    sidecars = [one for one in case.containers("initContainers") if one[0].get("restartPolicy") == "Always"]
    everyone = [*sidecars, *case.containers()]
    texts: list[str] = []
    for spec, status in everyone:
        state = status.get("state", _NONE)
        if state.get("running") is None:
            if state.get("terminated", _NONE).get("exitCode", 1) == 0 and case.spec.get("restartPolicy") != "Always":
                continue
            texts.append(f"its container {spec['name']} {_not_running(case, spec, status)}")
        elif not status.get("started", True):
            probe = spec.get("startupProbe") or _NONE
            waits = probe_text(case, spec, "startup", probe)
            texts.append(f"its container {spec['name']} runs but has not started yet: {waits}")
        elif not status.get("ready"):
            why = f"{_not_ready(case, spec)}{_before(case, spec, status)}"
            texts.append(f"its container {spec['name']} runs but is not ready: {why}")
    if texts:
        first, *others = texts
        more = "".join(f" Also, {one}{'' if one.endswith('.') else '.'}" for one in others)
        return f"{case.name} is not well: {first}{'' if first.endswith('.') else '.'}{more}"
    gates = case.condition("Ready")
    if gates.get("reason") == "ReadinessGatesNotReady":
        gate = sentence(gates.get("message", ""))
        return f"{case.name} runs and its containers are ready, but a readiness gate is not: {gate}."
    if case.status.get("phase") == "Pending":
        return f"{case.name} is about to start: its containers are being created."
    return _healthy(case, everyone)


def _healthy(case: Case, everyone: Sequence[tuple[Json, Json]]) -> str:
    ready = case.condition("Ready")
    count = sum(bool(status.get("ready")) for _, status in everyone)
    since = human_duration(max(0.0, case.now - seconds(ready.get("lastTransitionTime")))) if ready else "?"
    restarts = [
        (spec, status) for spec, status in everyone if status.get("restartCount", 0) and status.get("lastState", _NONE)
    ]
    ends = [seconds((status["lastState"].get("terminated") or _NONE).get("finishedAt")) for _, status in restarts]
    # Shortly after a restart nobody knows whether it will last.
    state = "is ready, but has restarted lately" if any(case.now - end < _UNSTEADY_S for end in ends) else "is well"
    text = f"{case.name} {state}: {count} of {len(everyone)} containers ready, for {since}"
    if not restarts:
        return f"{text}, without a restart." + _warnings(case)
    return text + "." + "".join(_before(case, spec, status) for spec, status in restarts) + _warnings(case)


def _warnings(case: Case) -> str:
    """Mention what was warned of in the last five minutes of a pod that is well otherwise."""
    for one in reversed(case.facts.events):
        if (
            one["type"] == "Warning"
            and case.now - seconds(one.get("lastTimestamp")) < 300
            and one["reason"] not in _NOT_WORTH_TELLING
        ):
            return f" The last warning came {case.ago(one.get('lastTimestamp'))}: {sentence(one['message'])}."
    return ""


def _not_running(case: Case, spec: Json, status: Json) -> str:
    state = status.get("state", _NONE)
    ended, waiting = state.get("terminated"), state.get("waiting") or _NONE
    last = status.get("lastState", _NONE).get("terminated")
    if ended is not None:
        return f"{how_it_ended(case, spec, ended)}.{_looks(case, spec)}"
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason == "CrashLoopBackOff":
        return _crash_loop(case, spec, status, last or _NONE, message)
    if reason in _WAITING:
        text = f"waits, as {_WAITING[reason]}: {sentence(message)} ({reason}).{remedy(message)}"
        return f"{text} It is tried again until it works."
    if last is not None:
        return f"{how_it_ended(case, spec, last)}, and is about to be started again."
    if reason in ("ContainerCreating", "PodInitializing", ""):
        return "is about to be created."
    return f"waits: {reason}{f': {sentence(message)}' if message else ''}."


def _crash_loop(case: Case, spec: Json, status: Json, last: Json, message: str) -> str:
    found = _BACK_OFF.search(message)
    delay = sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"([\d.]+)([hms])", found[1])) if found else 0.0
    restarts = status.get("restartCount", 0)
    often = "once" if restarts == 0 else f"{restarts + 1} times"
    text = f"keeps ending ({often} so far): {_lived(last)}it {how_it_ended(case, spec, last)}."
    left = seconds(last.get("finishedAt")) + delay - case.now if last else 0.0
    wait = " It is started again now."
    if left > 0:
        wait = f" The next start comes in {span(left)} (back-off {span(delay)} after the exit)."
    # What could not be started has printed nothing.
    return text + wait + ("" if last.get("reason") in ("StartError", "ContainerCannotRun") else _looks(case, spec))


def _looks(case: Case, spec: Json | None = None) -> str:
    name = case.name.removesuffix(f"-{str(case.spec.get('nodeName', '')).lower()}")
    several = len(case.spec.get("containers") or ()) > 1
    flags = ""
    if spec is not None and (several or spec["name"] != _default_container(case)):
        flags = f" -c {spec['name']}"
    namespace = case.pod["metadata"].get("namespace", "default")
    flags += f" -n {namespace}" if namespace != "default" else ""
    return f" 'minikubelet logs {name}{flags}' shows what it printed."


def _default_container(case: Case) -> str:
    """Return the container that `logs` takes when none is named."""
    annotations = case.pod["metadata"].get("annotations") or _NONE
    containers = case.spec.get("containers") or ({"name": ""},)
    return str(annotations.get("kubectl.kubernetes.io/default-container") or containers[0]["name"])


def _lived(ended: Json) -> str:
    if not ended.get("finishedAt") or not seconds(ended.get("startedAt")):  # 0: it has never started
        return ""
    lived = seconds(ended["finishedAt"]) - seconds(ended["startedAt"])
    return f"after {human_duration(lived)} " if lived >= 1 else "within a second "


def _before(case: Case, spec: Json, status: Json) -> str:
    """Say why the last instance of a running container ended."""
    last = status.get("lastState", _NONE).get("terminated")
    if last is None:
        return ""
    when, count = case.ago(last.get("finishedAt")), status.get("restartCount", 0)
    return f" Container {spec['name']} was restarted {when} (restart {count}), as it {how_it_ended(case, spec, last)}."


# Probes


def _not_ready(case: Case, spec: Json) -> str:
    probe = spec.get("readinessProbe")
    if not probe:
        return "its readiness is not known yet"
    return probe_text(case, spec, "readiness", probe)


# Manifest, and words


def _manifest(case: Case) -> Iterable[str]:
    verdict = case.facts.verdict
    if not verdict.is_refused:
        yield from _misspelt(verdict)
        return
    since = f" of {verdict.good_since}" if verdict.good_since else ""
    refused = f"the file {verdict.file} as it is now is refused{_errors(verdict)}."
    if not case.pod["metadata"].get("deletionTimestamp"):
        yield f"What runs is the last good version{since}: {refused}"
    elif since:
        yield f"What starts in its place is the last good version{since}: {refused}"
    else:
        yield f"Nothing starts in its place until its manifest is mended: {refused}"


def _errors(verdict: Verdict) -> str:
    more = len(verdict.errors) - 1
    return _first(verdict.file, verdict.errors, "error") + (f", and {more} more" if more > 0 else "")


def _misspelt(verdict: Verdict) -> Iterable[str]:
    if verdict.misspelt:
        yield f"Its manifest {verdict.file} has a warning{_first(verdict.file, verdict.misspelt, 'warning')}"
    if (more := len(verdict.misspelt) - 1) > 0:
        yield f"'minikubelet validate {verdict.file}' shows {more} more of that kind."


def _first(file: str, lines: Sequence[str], severity: str) -> str:
    """Return the first of a verdict's lines of one severity for a sentence's middle, "" without one."""
    if not lines:
        return ""
    place, _, message = lines[0].partition(f": {severity}: ")
    line = place.removeprefix(file).strip(":").partition(":")[0]
    return f"{f' at line {line}' if line else ''}: {sentence(message)}"
