"""What is recorded about a pod, and how single facts are put into words: ends, probes, times. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from minikubelet.cli.facts import Facts
from minikubelet.lifecycle.columns import human_duration

Json = Mapping[str, Any]

_NONE: Final[Json] = {}
_SIGNALS: Final = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
    10: "SIGUSR1", 11: "SIGSEGV, a bad memory access", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS, a system call that is not allowed",
}  # fmt: skip
_LONGEST_WORDS: Final = 300


class Case(NamedTuple):
    """A pod with what is looked at again and again."""

    facts: Facts
    now: float

    @property
    def pod(self) -> Json:
        """Return the pod."""
        return self.facts.pod

    @property
    def spec(self) -> Json:
        """Return its spec."""
        found: Json = self.pod.get("spec", _NONE)
        return found

    @property
    def status(self) -> Json:
        """Return its status."""
        found: Json = self.pod.get("status", _NONE)
        return found

    @property
    def name(self) -> str:
        """Return its name."""
        return str(self.pod["metadata"]["name"])

    def condition(self, kind: str) -> Json:
        """Return a condition, empty when it is not there."""
        return next((one for one in self.status.get("conditions") or () if one["type"] == kind), _NONE)

    def containers(self, group: str = "containers") -> list[tuple[Json, Json]]:
        """Return the specs of a group with their statuses, empty where there is none yet."""
        key = "initContainerStatuses" if group == "initContainers" else "containerStatuses"
        statuses = {one["name"]: one for one in self.status.get(key) or ()}
        return [(one, statuses.get(one["name"], _NONE)) for one in self.spec.get(group) or ()]

    def events_of(self, container: str, *reasons: str) -> list[Json]:
        """Return events with these reasons about a container ("" for the pod itself), the newest first."""
        found: list[Json] = []
        for one in reversed(self.facts.events):
            path = one.get("involvedObject", {}).get("fieldPath", "")
            about = path.partition("{")[2].rstrip("}")
            if about == container and one["reason"] in reasons:
                found.append(one)
        return found

    def ago(self, stamp: str | None) -> str:
        """Return `5s ago`."""
        return f"{human_duration(max(0.0, self.now - seconds(stamp)))} ago" if stamp else "some time ago"


def seconds(stamp: str | None) -> float:
    """Return an RFC 3339 time as Unix time."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def how_it_ended(case: Case, spec: Json, ended: Json) -> str:
    """Say how an instance ended: `ended with exit code 3`, and why, if that is recorded."""
    code, reason = int(ended.get("exitCode", 0)), str(ended.get("reason", ""))
    message = str(ended.get("message") or "")
    if reason == "OOMKilled":
        return f"was killed by the kernel for want of memory ({_memory(case, spec, ended)})"
    if reason in ("StartError", "ContainerCannotRun"):
        advice = remedy(message)
        return f"could not be started: {sentence(message)}{f'.{advice}'.removesuffix('.') if advice else ''}"
    if reason == "ContainerStatusUnknown":
        return "was lost: its process was gone without a trace, as after a reboot or a kill from outside"
    text = f"ended with exit code {code}{_meaning(code)}"
    why = _killed_for(case, spec, ended)
    words = _last_words(message)
    return text + (f", {why}" if why else "") + (f', and said "{words}"' if words else "")


def _meaning(code: int) -> str:
    if code == 126:
        return " (a shell found the command but could not execute it)"
    if code == 127:
        return " (a shell did not find the command)"
    if code > 128 and code - 128 in _SIGNALS:
        return f" (killed by {_SIGNALS[code - 128]})"
    return f" (killed by signal {code - 128})" if 128 < code < 193 else ""


def _memory(case: Case, spec: Json, ended: Json) -> str:
    limit = ((spec.get("resources") or _NONE).get("limits") or _NONE).get("memory")
    texts = [f"its limit is {limit}" if limit else "it has no limit of its own; the pod or the machine ran out"]
    for one in case.facts.instances:
        if str(ended.get("containerID", "")).endswith(str(one.get("id") or "?")):
            peak = (one.get("exit") or _NONE).get("memoryPeakBytes") or one.get("memoryPeakBytes")
            if peak:
                texts.append(f"it had used up to {mebibytes(int(peak))}")
    return ", ".join(texts)


def mebibytes(count: int) -> str:
    """Return bytes as people read them."""
    return f"{count / (1 << 20):.0f}Mi" if count >= 1 << 20 else f"{count / 1024:.0f}Ki"


def _killed_for(case: Case, spec: Json, ended: Json) -> str:
    """Say which probe or hook had it killed, if one had."""
    end = seconds(ended.get("finishedAt"))
    for event in case.events_of(spec["name"], "Killing"):
        if not seconds(event.get("firstTimestamp")) - 1 <= end:
            continue
        for kind in ("liveness", "startup"):
            if f"failed {kind} probe" in event["message"]:
                answers = [
                    one["message"]
                    for one in case.events_of(spec["name"], "Unhealthy")
                    if one["message"].startswith(f"{kind.capitalize()} probe")
                ]
                answer = f": {sentence(answers[0].partition(': ')[2])}" if answers else ""
                probe = describe_probe(spec.get(f"{kind}Probe") or _NONE)
                return f"ended by the node because its {kind} probe ({probe}) failed{answer}"
        if event["message"] == "FailedPostStartHook":
            return "ended by the node because its postStart hook failed"
        break
    return ""


def probe_text(case: Case, spec: Json, kind: str, probe: Json) -> str:
    """Say what a probe that has not succeeded does, with its last answer."""
    about = f"its {kind} probe ({describe_probe(probe)})"
    last = _last_run(case, spec["name"], kind)
    if last.get("result") == "success":
        wanted = probe.get("successThreshold", 1)
        return f"{about} succeeded {case.ago(last.get('time'))}, and counts after {wanted} successes in a row"
    for event in case.events_of(spec["name"], "Unhealthy"):
        if event["message"].startswith(f"{kind.capitalize()} probe"):
            answer = event["message"].partition(": ")[2]
            text = f"{about} failed{times(case, event)}: {sentence(answer) or 'without saying anything'}"
            return text + _limit(kind, probe)
    if last.get("result") == "failure":
        answer = sentence(last.get("output", "")) or "without saying anything"
        return f"{about} failed {case.ago(last.get('time'))}: {answer}{_limit(kind, probe)}"
    delay = probe.get("initialDelaySeconds", 0)
    waits = f", the first run comes {delay}s after the start" if delay else ""
    return f"{about} has not succeeded yet{waits}"


def _last_run(case: Case, container: str, kind: str) -> Json:
    for one in case.facts.probes:
        if (one.get("container"), one.get("kind")) == (container, kind):
            return one
    return _NONE


def _limit(kind: str, probe: Json) -> str:
    if kind != "startup":
        return ""
    return f"; after {probe.get('failureThreshold', 3)} failures in a row the container is restarted"


def describe_probe(probe: Json) -> str:
    """Return what a probe asks, and how often."""
    every = f" every {probe.get('periodSeconds', 10)}s"
    if "httpGet" in probe:
        action = probe["httpGet"]
        scheme = str(action.get("scheme") or "HTTP").lower()
        return f"GET {scheme}://{action.get('host', '')}:{action.get('port')}{action.get('path') or '/'}{every}"
    if "tcpSocket" in probe:
        return f"TCP connection to port {probe['tcpSocket'].get('port')}{every}"
    if "grpc" in probe:
        return f"gRPC health check on port {probe['grpc'].get('port')}{every}"
    command = (probe.get("exec") or _NONE).get("command") or ()
    return f"command {' '.join(command)}{every}" if command else every.strip()


def times(case: Case, event: Json) -> str:
    """Return how often an event came, and when last."""
    count = int(event.get("count") or 1)
    last = case.ago(event.get("lastTimestamp"))
    return f" {count} times, last {last}" if count > 1 else f" {last}"


def remedy(message: str) -> str:
    """Return a sentence on what to do about a message, with a space before it, where that is known."""
    found = re.search(r'(configmap|secret) "?([^"\s]+)"? not found', message, re.IGNORECASE)
    if found:
        kind = {"configmap": "ConfigMap", "secret": "Secret"}[found[1].lower()]
        return f" Put a {kind} named {found[2]} into a file of the manifest directory."
    if "executable file not found" in message:
        return " Name the program by its path, or install it."
    if "no command specified" in message:
        return " Give the container a command: every image's name stands for this machine's own root."
    if "enough resource: pods," in message:
        return " A node runs so many pods as maxPods in its configuration says."
    if "hostPath type check failed" in message:
        return " Make that path on the machine, or change the volume's type."
    return ""


def _last_words(message: str) -> str:
    lines = [one.strip() for one in message.strip().splitlines() if one.strip()]
    return lines[-1][:_LONGEST_WORDS] if lines else ""


def sentence(text: str) -> str:
    """Return a message fit for the middle of a paragraph: one line, no full stop, not endless."""
    line = " ".join(str(text).split()).rstrip(".")
    return line if len(line) <= _LONGEST_WORDS else f"{line[:_LONGEST_WORDS]}…"


def span(left: float) -> str:
    """Return a stretch of time in words."""
    return human_duration(round(left)) if left >= 1 else "less than a second"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
