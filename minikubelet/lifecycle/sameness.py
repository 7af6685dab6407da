"""Whether an edit under the same uid changes a Pod. Pure.

Source: kubelet config.go `podsDifferSemantically` (v1.36).
"""

from __future__ import annotations

from typing import Final

from minikubelet.api.types import Pod

# What the node itself notes about where a pod comes from.
_LOCAL: Final = frozenset(f"kubernetes.io/config.{name}" for name in ("source", "seen", "hash", "mirror"))


def is_same_pod(one: Pod, other: Pod) -> bool:
    """Tell whether two versions of a Pod ask for the same: spec, labels, and annotations but for the node's own."""
    return (
        one.spec == other.spec
        and (one.metadata.labels or {}) == (other.metadata.labels or {})
        and _annotations(one) == _annotations(other)
    )


def _annotations(pod: Pod) -> dict[str, str]:
    return {name: text for name, text in (pod.metadata.annotations or {}).items() if name not in _LOCAL}
