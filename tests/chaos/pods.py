"""The pods that chaos runs: each watches a law from inside and says `VIOLATION` in its log when it is broken.

Every app numbers its lines, so that a lost or doubled log line is seen; holds a lock by its pod's name and its own, so
that a second instance beside it is seen; and looks for what its init containers left, so that their order is seen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

KINDS: Final = ("steady", "deaf", "crashy", "job", "retried", "ordered", "sidecar", "ported")
_ENDS: Final = {
    "crashy": "exit 3",
    "job": "exit 0",
    "retried": "case $(cat /shared/tries) in xxx*) exit 0;; esac; exit 1",
}
_POLICY: Final = {"job": "Never", "retried": "OnFailure"}


@dataclass(frozen=True, slots=True)
class ChaosPod:
    """One wanted pod; `edition` changes with each edit, so that an edit makes a new UID."""

    name: str
    kind: str
    lines: int
    edition: int = 0

    @property
    def host_port(self) -> int:
        """Return the port of the host that it publishes, 0 for none."""
        return 30000 + int(self.name[1:]) if self.kind == "ported" else 0

    @property
    def ends(self) -> bool:
        """Tell whether the pod is finished some day."""
        return self.kind in ("job", "retried")

    def edited(self) -> ChaosPod:
        """Return the next edition."""
        return replace(self, edition=self.edition + 1)


def random_pod(name: str, chance: random.Random) -> ChaosPod:
    """Return a pod of a random kind."""
    return ChaosPod(name=name, kind=chance.choice(KINDS), lines=chance.randint(3, 30))


def manifest(pod: ChaosPod, locks: str, address: str) -> str:
    """Return the pod's manifest.

    Args:
        pod: What it shall do.
        locks: A directory of the host for the locks of all pods.
        address: Which of the host's addresses has the pods' ports.
    """
    prepared = pod.kind in ("ordered", "sidecar", "ported")
    inits = ""
    if prepared:
        inits += _init("first", "echo 1 > /shared/first")
        inits += _init("second", "[ -e /shared/first ] || echo VIOLATION no first; echo 2 > /shared/second")
    if pod.kind == "sidecar":
        inits += _container(pod, "helper", "[ -e /shared/second ] || echo VIOLATION no second", "", sidecar=True)
    check = "[ -e /shared/second ] || echo VIOLATION init order" if prepared else ":"
    check += "; echo -n x >> /shared/tries" if pod.kind == "retried" else ""
    port = f"{{containerPort: 80, hostIP: {address}, hostPort: {pod.host_port}}}" if pod.host_port else ""
    apps = _container(pod, "main", check, _ENDS.get(pod.kind, ""), ports=port)
    if pod.kind in ("steady", "ordered"):
        apps += _container(pod, "other", check, "")
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: {pod.name}
  annotations: {{edition: "{pod.edition}"}}
spec:
  restartPolicy: {_POLICY.get(pod.kind, "Always")}
  terminationGracePeriodSeconds: 1
  volumes:
  - {{name: shared, emptyDir: {{}}}}
  - {{name: locks, hostPath: {{path: {locks}, type: Directory}}}}
  initContainers: [{inits}]
  containers: [{apps}]
"""


def _init(name: str, script: str) -> str:
    return f"""
  {{name: {name}, image: host, command: [sh, -c, {_quoted(script)}],
    volumeMounts: [{{name: shared, mountPath: /shared}}]}},"""


def _container(pod: ChaosPod, name: str, check: str, end: str, *, sidecar: bool = False, ports: str = "") -> str:
    loop = "while :" if not end else f"while [ $i -lt {pod.lines} ]"
    trap = "trap '' TERM; " if pod.kind == "deaf" else "trap 'exit 0' TERM; "
    body = f"{trap}{check}; i=0; {loop}; do i=$((i+1)); echo line $i; sleep 0.05; done; {end or ':'}"
    held = f"exec 9>/locks/{pod.name}.{name}; flock -n 9 || echo VIOLATION two instances; {body}"
    policy = "restartPolicy: Always, " if sidecar else ""
    return f"""
  {{name: {name}, image: host, {policy}command: [sh, -c, {_quoted(held)}],
    volumeMounts: [{{name: shared, mountPath: /shared}}, {{name: locks, mountPath: /locks}}], ports: [{ports}]}},"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
