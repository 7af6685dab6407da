"""What an earlier daemon left of pods that are not any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.cgroups import Cgroups
from minikubelet.runtime.network.errors import NetworkError
from minikubelet.runtime.pods import PodRuntime
from minikubelet.runtime.port import RuntimeFailure

log = structlog.get_logger(__name__)


class Leftovers:
    """Removes state and control groups that belong to no pod."""

    def __init__(
        self,
        runtime: PodRuntime,
        cgroups: Cgroups,
        *,
        alive: Callable[[], set[PodUID]],
        on_removed: Callable[[PodUID], None],
    ) -> None:
        """Create it; `alive` tells who has a worker, `on_removed` is told whose uid is free again."""
        self._runtime = runtime
        self._cgroups = cgroups
        self._alive = alive
        self._on_removed = on_removed
        self._uids: set[PodUID] = set()

    def __contains__(self, uid: object) -> bool:
        """Tell whether something of this pod is still to be removed."""
        return uid in self._uids

    def note(self, uids: Iterable[PodUID]) -> None:
        """Note of whom there is state: who has no worker is nobody's."""
        self._uids = set(uids) - self._alive()

    async def run(self) -> None:
        """Remove what belongs to no pod: state that neither its own record nor a manifest explains, stray groups.

        Nobody waits for that, as it may be much; a pod that is written meanwhile and has the same UID waits.
        """
        for uid in sorted(self._uids):
            try:
                await self._runtime.remove_leftover(uid)
            except (OSError, RuntimeFailure, NetworkError) as error:
                log.warning("leftover not removed, tried again at the next start", uid=uid, error=str(error))
            self._uids.discard(uid)
            self._on_removed(uid)
        for leftover in self._cgroups.known_pods():
            if leftover not in self._alive():
                await self._cgroups.remove_pod(leftover)
