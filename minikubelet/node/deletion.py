"""That a pod is to end: since when, with how much time; how that is kept with the pod over a restart of the daemon."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from minikubelet.api.types import ObjectMeta, Pod
from minikubelet.lifecycle.status import parse_rfc3339, rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """`at` is Unix time; `deadline` is when the grace is over, on the boot clock."""

    at: float
    grace_s: float
    deadline: float

    @classmethod
    def begun(cls, wall: float, boot: float, grace_s: float) -> Deletion:
        """Return a deletion that begins now."""
        return cls(at=wall, grace_s=grace_s, deadline=boot + grace_s)

    @classmethod
    def restored(cls, meta: ObjectMeta, wall: float, boot: float) -> Deletion:
        """Return a deletion that an earlier daemon began, from the pod's metadata."""
        try:
            due = parse_rfc3339(meta.deletion_timestamp or "")
        except ValueError:  # the record is damaged: it is not why a pod would stay
            due = wall
        grace = float(meta.deletion_grace_period_seconds or 1)
        return cls(at=due - grace, grace_s=grace, deadline=boot + min(grace, max(0.0, due - wall)))

    def shortened(self, boot: float, grace_s: float) -> Deletion:
        """Return the deletion with this many seconds from now, if that is less than what is left."""
        deadline = min(self.deadline, boot + grace_s)
        return replace(self, deadline=deadline, grace_s=max(1.0, self.grace_s - (self.deadline - deadline)))


def with_deletion(pod: Pod, deletion: Deletion) -> Pod:
    """Return the pod as one that is to end."""
    meta = msgspec.structs.replace(
        pod.metadata,
        deletion_timestamp=rfc3339(deletion.at + deletion.grace_s),
        deletion_grace_period_seconds=int(deletion.grace_s),
    )
    return msgspec.structs.replace(pod, metadata=meta)


def without_deletion(pod: Pod) -> Pod:
    """Return the pod as its manifest has it."""
    meta = msgspec.structs.replace(pod.metadata, deletion_timestamp=None, deletion_grace_period_seconds=None)
    return msgspec.structs.replace(pod, metadata=meta)
