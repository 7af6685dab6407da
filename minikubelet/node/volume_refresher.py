"""Shows changed objects in the volumes of pods that run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.pods import pod_key
from minikubelet.node.services import Recorder
from minikubelet.runtime.port import VolumeFailure
from minikubelet.runtime.volumes.apart import run_apart
from minikubelet.runtime.volumes.manager import Volumes

log = structlog.get_logger(__name__)

# When volumes whose objects are missing, or that could not be written, are looked at again without being asked to.
_RETRY_S: Final = 60.0


class VolumeRefresher:
    """One task that goes over all pods whenever an object has changed."""

    def __init__(
        self,
        volumes: Volumes,
        recorder: Recorder,
        *,
        pods: Callable[[], Sequence[Pod]],
        wake: Callable[[PodUID], None],
    ) -> None:
        """Create it; `wake` is told of each pod that may have waited for an object."""
        self._volumes = volumes
        self._recorder = recorder
        self._pods = pods
        self._wake = wake
        self._changed = asyncio.Event()

    def note_change(self) -> None:
        """Have all volumes looked at soon."""
        self._changed.set()

    async def run(self) -> None:
        """Show changed objects in the volumes of pods that run, and wake the pods that wait for one."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            whole = True
            for pod in self._pods():
                whole = await self._refresh(pod) and whole
                self._wake(PodUID(pod.metadata.uid))
            if not whole:
                asyncio.get_running_loop().call_later(_RETRY_S, self._changed.set)

    async def _refresh(self, pod: Pod) -> bool:
        try:
            await run_apart(self._volumes.refresh, pod)
        except VolumeFailure as failure:
            for message in failure.messages:
                self._recorder.event(pod, "Warning", "FailedMount", message)
            return False
        except Exception:  # one pod's volumes are not another's, and those of all are refreshed by one task
            log.exception("volumes not refreshed", pod=pod_key(pod))
            return False
        return True
