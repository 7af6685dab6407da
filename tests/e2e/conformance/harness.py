"""A container that tells what it does and when, for rows about the order of containers.

h(sd, d, t, x): say Starting, be busy sd seconds, say Started, make `/run/started`, run d seconds, say Exiting, exit x;
on SIGTERM take t seconds, say Exiting, exit x. What is said goes to the container's log, by hooks too, with its time.
"""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import Node, whole_lines

Json = dict[str, Any]

# The trap may run within `say`, whose own arguments then hide the script's: these have names.
_SCRIPT = """
start=$1 run=$2 term=$3 code=$4
say() { echo "$(date +%s.%N) $1"; }
trap 'trap "" TERM; sleep $term & wait $!; say Exiting; exit $code' TERM
say Starting
sleep $start & wait $!
say Started
touch /run/started
sleep $run & wait $!
say Exiting
exit $code
"""
STARTED = {"exec": {"command": ["test", "-f", "/run/started"]}, "periodSeconds": 1, "failureThreshold": 60}
FAILS = {"exec": {"command": ["false"]}, "initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 1}


def h(name: str, sd: float = 0, d: float = 0.2, t: float = 0, x: int = 0, **more: Any) -> Json:
    """Return a container."""
    command = ["sh", "-c", _SCRIPT, "h", *(f"{one:g}" for one in (sd, d, t, x))]
    return {"name": name, "image": "host", "command": command, **more}


def sidecar(name: str, sd: float = 0, d: float = 600, t: float = 0, x: int = 0, **more: Any) -> Json:
    """Return a sidecar."""
    return h(name, sd, d, t, x, restartPolicy="Always", **more)


def says(word: str, seconds: float = 0) -> Json:
    """Return a hook that tells its begin and, after some time, its end in the container's log."""
    script = f'say() {{ echo "$(date +%s.%N) $1" > /proc/1/fd/1; }}; say {word}; sleep {seconds:g}; say {word}-done'
    return {"exec": {"command": ["sh", "-c", script]}}


def pod(name: str, policy: str, inits: list[Json], *apps: Json, grace: int = 1, **more: Any) -> str:
    """Return a manifest."""
    spec: Json = {"restartPolicy": policy, "terminationGracePeriodSeconds": grace, "containers": list(apps), **more}
    if inits:
        spec["initContainers"] = inits
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


class Told:
    """What the containers of a pod have said: times by container and word, over all restarts."""

    def __init__(self, node: Node, found: Json) -> None:
        meta = found["metadata"]
        base = node.log_dir / "pods" / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
        self._times: dict[tuple[str, str], list[float]] = {}
        for path in base.glob("*/*.log"):
            for line in whole_lines(path):
                said = line.split(" ", 3)[3].split()
                assert len(said) == 2, f"{path}: {line!r} is no time and word"
                time, word = said
                self._times.setdefault((path.parent.name, word), []).append(float(time))
        journal = node.state_dir / "pods" / meta["uid"] / "journal.jsonl"
        records = [json.loads(line) for line in (whole_lines(journal) if journal.exists() else ())]
        changes = [(one["id"], one["state"]) for one in records if one["do"] == "container"]
        names = {identity: state["name"] for identity, state in changes if "name" in state}
        self._begun = [(one["name"], one["started_at"]) for _, one in changes if "name" in one and "started_at" in one]
        self._ended = [(names[identity], one["exit"]["finished_at"]) for identity, one in changes if "exit" in one]

    def begun(self, container: str) -> list[float]:
        """Return when a container was started, as its pause noted; what it says of that itself may come much later."""
        return [time for name, time in self._begun if name == container]

    def ended(self, container: str) -> list[float]:
        """Return when a container ended, as its pause noted; one that is ended before it listens says nothing."""
        return [time for name, time in self._ended if name == container]

    def times(self, container: str, word: str) -> list[float]:
        """Return when a container said a word, in order."""
        return sorted(self._times.get((container, word), []))

    def starts(self, container: str) -> list[float]:
        return self.times(container, "Starting")

    def exits(self, container: str) -> list[float]:
        return self.times(container, "Exiting")

    def assert_order(self, first: str, then: str) -> None:
        """The first had ended before the other started."""
        assert self.exits(first)[-1] < self.begun(then)[0]

    def assert_overlap(self, first: str, then: str) -> None:
        """The other started while the first ran."""
        assert self.begun(first)[0] < self.begun(then)[0]
        assert not self.exits(first) or self.begun(then)[0] < self.exits(first)[0]

    def assert_one_at_a_time(self, container: str) -> None:
        """Every start but the first came after the exit before it."""
        for ended, started in zip(self.exits(container), self.starts(container)[1:], strict=False):
            assert ended < started


def phase(*expected: str):
    """Return a check of the phase."""
    return lambda found: found["status"]["phase"] in expected


def status_of(found: Json, name: str) -> Json:
    """Return the status of one container."""
    status = found["status"]
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return next(one for one in every if one["name"] == name)


def restarts(name: str, at_least: int):
    """Return a check of a restart count."""
    return lambda found: status_of(found, name)["restartCount"] >= at_least


def is_running(name: str):
    """Return a check that a container runs."""
    return lambda found: "running" in status_of(found, name)["state"]
