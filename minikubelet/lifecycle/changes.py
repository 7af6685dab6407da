"""What a plan changes, while it is worked out: kubelet `podActions`."""

from __future__ import annotations

from dataclasses import dataclass, field

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import termination
from minikubelet.lifecycle.observed import ObservedContainer, ObservedPod
from minikubelet.lifecycle.plan import KillContainer
from minikubelet.lifecycle.termination import Cause


@dataclass(slots=True)
class Changes:
    """Places of the containers to start, and kills by container name."""

    kill_pod: bool = False
    create_sandbox: bool = False
    attempt: int = 0
    start_init: set[int] = field(default_factory=set)
    start: list[int] = field(default_factory=list)
    kill: dict[str, KillContainer] = field(default_factory=dict)

    def end(
        self, pod: Pod, container: Container, latest: ObservedContainer, message: str, cause: Cause = Cause.OTHER
    ) -> None:
        """Have the running instance of a container ended."""
        self.kill[container.name] = KillContainer(
            name=container.name,
            id=latest.id,
            message=message,
            grace_s=termination.kill_grace_s(pod, container, cause),
        )

    def end_unknown(self, pod: Pod, container: Container, latest: ObservedContainer, kind: str) -> None:
        """Have an instance ended of which nobody knows what it does; `kind` is what it is called in messages."""
        self.end(pod, container, latest, f'{kind} is in "unknown" state, try killing it before restart')


def definition_changed(latest: ObservedContainer, seen: ObservedPod) -> bool:
    """Tell whether a running container is another than the one that is wanted: its image differs."""
    return bool(latest.spec_hash) and latest.spec_hash != seen.wanted_hashes.get(latest.name, latest.spec_hash)
