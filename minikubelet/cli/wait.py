"""`minikubelet wait`: returns when pods are as wanted. A pod that is not there yet is waited for too, unlike kubectl:
its manifest may just have been written."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any, Final, NamedTuple

from minikubelet.cli import client, facts, lookup
from minikubelet.cli.arguments import add_namespace, duration, namespace_of, split_kind
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.progress import Progress
from minikubelet.lifecycle import columns

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet wait --for=condition=Ready pod/web --timeout=60s
  minikubelet wait --for=delete pod/web
  minikubelet wait --for=jsonpath='{.status.phase}'=Succeeded pod/job
  minikubelet wait --for=condition=Ready -l app=web --timeout=0    look once

exit codes: 0 it is so; 1 the time is over, or it can no longer become so; 2 wrong usage
"""

_WEEK_S: Final = 7 * 24 * 3600.0
_RETRY_S: Final = 0.2
# How often to see whether a manifest has been refused meanwhile.
_LOOK_S: Final = 1.0


class Goal(NamedTuple):
    """What is waited for: `delete`, `create`, a condition's status, or a value at a path (None: any)."""

    kind: str
    name: str = ""
    value: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pods", nargs="*", metavar="POD", help="pod/NAME or NAME; 'pod NAME' works too")
    add_namespace(parser, all_too=True)
    parser.add_argument("-l", "--selector", default="", help="all pods with these labels")
    parser.add_argument("--all", action="store_true", help="all pods of the namespace, or with -A of all namespaces")
    parser.add_argument(
        "--for", dest="goal", required=True, type=parse_goal, metavar="GOAL",
        help="condition=NAME[=VALUE], delete, create or jsonpath={PATH}[=VALUE]",
    )  # fmt: skip
    parser.add_argument("--timeout", type=duration, default=30.0, help="default 30s; 0 looks once, -1s waits a week")


def parse_goal(text: str) -> Goal:
    """Return the goal of --for. Raises ArgumentTypeError."""
    if text in ("delete", "create"):
        return Goal(text)
    kind, equals, rest = text.partition("=")
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        return Goal("condition", name.lower(), value or "True")
    if kind == "jsonpath" and equals:
        found = re.fullmatch(r"(\{.*\}|[^=]+)(?:=(.*))?", rest, re.DOTALL)
        if found is not None:
            from minikubelet.cli.jsonpath import Template, relaxed

            Template(relaxed(found[1]))
            return Goal("jsonpath", found[1], found[2])
    raise argparse.ArgumentTypeError(
        f'"{text}" is not one of condition=NAME[=VALUE], delete, create, jsonpath={{PATH}}[=VALUE]'
    )


def is_met(goal: Goal, pod: Json | None) -> bool:
    """Tell whether a pod, None for one that is not there, is as wanted."""
    if goal.kind == "delete":
        return pod is None
    if pod is None:
        return False
    if goal.kind == "create":
        return True
    if goal.kind == "condition":
        for one in pod.get("status", {}).get("conditions") or ():
            if one["type"].lower() == goal.name:
                return bool(str(one["status"]).lower() == str(goal.value).lower())
        return False
    from minikubelet.cli.jsonpath import as_text, find

    found = [as_text(one) for one in find(goal.name, pod)]
    return bool(found) if goal.value is None else goal.value in found


def is_hopeless(goal: Goal, pod: Json | None) -> bool:
    """Tell whether a pod has ended, so that it will never be ready."""
    phase = (pod or {}).get("status", {}).get("phase")
    wanted = (goal.kind, goal.name, str(goal.value).lower())
    return phase in ("Succeeded", "Failed") and wanted == ("condition", "ready", "true")


def execute(options: argparse.Namespace) -> int:
    """Wait."""
    names = [split_kind(one) for one in options.pods if one not in ("pod", "pods", "po")]
    if not names and not options.selector and not options.all:
        raise CommandFailed("say which pods: by name, with -l by label, or with --all", 2)
    if names and (options.selector or options.all):
        raise CommandFailed("cannot take names together with -l or --all: leave one out", 2)
    timeout = options.timeout if options.timeout >= 0 else _WEEK_S
    waiting = _Waiting(options, names, time.monotonic() + timeout)
    with waiting.progress:
        return waiting.run(once=timeout == 0)


class _Waiting:
    """What is still waited for; pods are known by their uid once they have been seen."""

    def __init__(self, options: argparse.Namespace, names: list[str], until: float) -> None:
        self._options = options
        self._names = names
        self._until = until
        self._namespace = namespace_of(options)
        self._met: set[str] = set()
        self._seen: dict[str, str] = {}  # name asked for -> uid
        self.progress = Progress(after_s=0.0)

    def run(self, *, once: bool) -> int:
        """Return the exit code."""
        path = client.scope("pods", self._namespace)
        while True:
            try:
                answer = client.fetch(self._options, path, labelSelector=self._options.selector)
                pods = {one["metadata"]["uid"]: one for one in answer["items"]}
                if self._is_done(pods):
                    return 0
                if once or time.monotonic() >= self._until:
                    return self._time_is_over(pods)
                version = answer["metadata"].get("resourceVersion", "")
                look = min(self._until, time.monotonic() + _LOOK_S) if self._is_missing(pods) else self._until
                query = {"labelSelector": self._options.selector, "resourceVersion": version}
                for change in client.stream(self._options, path, until=look, **query):
                    self._apply(pods, change)
                    if self._is_done(pods):
                        return 0
            except client.DaemonDown:
                if once or time.monotonic() + _RETRY_S >= self._until:
                    raise
                time.sleep(_RETRY_S)  # it may be restarting: nothing announces its socket

    def _apply(self, pods: dict[str, Json], change: Json) -> None:
        one = change["object"]
        uid = one["metadata"]["uid"]
        if change["type"] == "DELETED":
            pods.pop(uid, None)
        else:
            pods[uid] = one

    def _targets(self, pods: dict[str, Json]) -> dict[str, Json | None]:
        """Return the pods waited for by what they are called in messages, None for those that are not there."""
        found: dict[str, Json | None] = {}
        if not self._names:
            for uid, one in pods.items():
                self._seen[one["metadata"]["name"]] = uid
            return {name: pods.get(uid) for name, uid in self._seen.items()}
        for name in self._names:
            if self._options.goal.kind == "delete" and name in self._seen:
                found[name] = pods.get(self._seen[name])
                continue
            try:
                one = lookup.choose(list(pods.values()), name, self._namespace)
            except CommandFailed:
                found[name] = None
                continue
            self._seen[name] = one["metadata"]["uid"]
            found[name] = one
        return found

    def _is_missing(self, pods: dict[str, Json]) -> bool:
        return self._options.goal.kind != "delete" and None in self._targets(pods).values()

    def _is_done(self, pods: dict[str, Json]) -> bool:
        targets = self._targets(pods)
        goal = self._options.goal
        for name, pod in targets.items():
            if is_met(goal, pod):
                if name not in self._met:
                    self._met.add(name)
                    self.progress.clear()
                    print(f"pod/{pod['metadata']['name'] if pod else name} condition met", flush=True)
            elif is_hopeless(goal, pod):
                self.progress.clear()
                raise CommandFailed(f"pod {name} has ended and will not be ready; 'minikubelet why {name}' says how")
            elif pod is None and goal.kind != "delete":
                self._tell_missing(name)
        done = bool(targets) and all(name in self._met for name in targets)
        if not done:
            left = ", ".join(_progress(name, pod) for name, pod in targets.items() if name not in self._met)
            self.progress.show(f"waiting for {left}" if left else "")
        return done

    def _tell_missing(self, name: str) -> None:
        refused = facts.refused_without_pod(self._options.run_dir, name)
        if refused:
            from minikubelet.cli.diagnosis import explain_refused

            raise CommandFailed(explain_refused(name, refused))
        client.tell_once(f'there is no pod "{name}" yet; waiting for it')

    def _time_is_over(self, pods: dict[str, Json]) -> int:
        self.progress.clear()
        left = [name for name, pod in self._targets(pods).items() if name not in self._met]
        for name in left:
            print(f"error: timed out waiting for the condition on pods/{name}", file=sys.stderr)
        if left and self._targets(pods)[left[0]] is None:
            print("minikubelet: there is no such pod; 'minikubelet status' says which manifests count", file=sys.stderr)
        elif left:
            print(f"minikubelet: 'minikubelet why {left[0]}' says what it waits for", file=sys.stderr)
        elif not self._names:
            print("error: no matching resources found", file=sys.stderr)
        return 1


def _progress(name: str, pod: Json | None) -> str:
    if pod is None:
        return f"{name} (not there yet)"
    return f"{name} ({columns.status_column(pod)}, {columns.ready_column(pod)} ready)"
