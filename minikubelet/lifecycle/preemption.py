"""Which pods make room for one of higher priority: as few as suffice, BestEffort ones first.

Source: kubelet preemption/preemption.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from minikubelet.api.quantity import NANO
from minikubelet.api.types import Pod
from minikubelet.lifecycle.resources import pod_total, qos_class

MESSAGE: Final = "Preempted in order to admit critical pod"
DISRUPTION: Final = "Pod was preempted by Kubelet to accommodate a critical pod."
_NONE_FOUND: Final = "no set of running pods found to reclaim resources: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A resource that does not suffice, in the kubelet's units: thousandths for cpu, whole ones for the others."""

    name: str
    requested: int
    used: int
    capacity: int

    @property
    def missing(self) -> int:
        """Return how much too little there is."""
        return self.requested - (self.capacity - self.used)

    def describe(self) -> str:
        """Return the kubelet's words."""
        numbers = f"requested: {self.requested}, used: {self.used}, capacity: {self.capacity}"
        return f"Node didn't have enough resource: {self.name}, {numbers}"


@dataclass(frozen=True, slots=True)
class _Need:
    name: str
    quantity: int


_Needs = tuple[_Need, ...]


def pods_to_preempt(pod: Pod, others: Sequence[Pod], shortages: Sequence[Shortage]) -> tuple[Pod, ...] | str:
    """Return the pods that must end, or the kubelet's words when all together do not suffice."""
    needs = tuple(_Need(one.name, one.missing) for one in shortages)
    by_class: dict[str, list[Pod]] = {"BestEffort": [], "Burstable": [], "Guaranteed": []}
    for other in others:
        if _is_preemptable(pod, other):
            by_class[qos_class(other)].append(other)
    best, burstable, guaranteed = by_class.values()
    left = _subtract(needs, [*best, *burstable, *guaranteed])
    if left:
        return _NONE_FOUND + _text(left)
    # What the lower classes cannot give; then each class gives what those above it have not.
    of_guaranteed = _nearest(guaranteed, _subtract(needs, [*best, *burstable]))
    of_burstable = _nearest(burstable, _subtract(needs, [*best, *of_guaranteed]))
    of_best = _nearest(best, _subtract(needs, [*of_burstable, *of_guaranteed]))
    return (*of_best, *of_burstable, *of_guaranteed)


def _is_preemptable(pod: Pod, other: Pod) -> bool:
    """Tell whether one critical pod may end another: only if both say a priority."""
    own, theirs = pod.spec.priority, other.spec.priority
    return own is not None and theirs is not None and own > theirs


def _nearest(pods: Sequence[Pod], needs: _Needs) -> list[Pod]:
    """Choose pods one by one, each the one that comes nearest to what is still needed, the smaller of two equals."""
    found: list[Pod] = []
    left = list(pods)
    while needs and left:
        chosen = min(left, key=lambda one: (_distance(needs, one), _request(one, "memory"), _request(one, "cpu")))
        left.remove(chosen)
        found.append(chosen)
        needs = _subtract(needs, [chosen])
    return found


def _distance(needs: _Needs, pod: Pod) -> float:
    rest = [max(0, one.quantity - _request(pod, one.name)) / one.quantity for one in needs]
    return sum(one**2 for one in rest)


def _subtract(needs: _Needs, pods: Sequence[Pod]) -> _Needs:
    left = [replace(one, quantity=one.quantity - sum(_request(pod, one.name) for pod in pods)) for one in needs]
    return tuple(one for one in left if one.quantity > 0)


def _request(pod: Pod, name: str) -> int:
    if name == "pods":
        return 1
    return -(-pod_total(pod, name) // (NANO // 1000 if name == "cpu" else NANO))


def _text(needs: _Needs) -> str:
    return "[" + "".join(f"(res: {one.name}, q: {one.quantity}), " for one in needs) + "]"
