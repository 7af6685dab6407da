"""Takes up each desired state: objects for volumes and variables, pods for their workers, verdicts for people.

Owner of whether the node is cordoned, as this daemon has taken it up: then no pod runs, whatever the manifests say.
"""

from __future__ import annotations

from collections.abc import Callable, Container

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.node import cordon
from minikubelet.node.afterwards import Afterwards
from minikubelet.node.desired import DesiredState
from minikubelet.node.objects import NodeObjects
from minikubelet.node.pod_manager import PodManager
from minikubelet.node.published import PublishedObjects
from minikubelet.node.verdicts import VerdictFiles
from minikubelet.node.volume_refresher import VolumeRefresher
from minikubelet.runtime.port import RuntimeView

log = structlog.get_logger(__name__)


class Reconciler:
    """Hands on what the manifests ask for."""

    def __init__(
        self,
        *,
        run_dir: str,
        objects: NodeObjects,
        published: PublishedObjects,
        pods: PodManager,
        refresher: VolumeRefresher,
        verdicts: VerdictFiles,
        afterwards: Afterwards,
        view: Callable[[PodUID], RuntimeView],
        leftovers: Container[PodUID],
        on_cordon: Callable[[], None],
    ) -> None:
        """Create it.

        Args:
            run_dir: `<run>`; a file in it says whether the node is cordoned.
            objects: The ConfigMaps and Secrets that pods use.
            published: Those that the API shows.
            pods: The workers.
            refresher: Told when an object has changed.
            verdicts: Written for each file.
            afterwards: Does something a moment later, in order.
            view: What runs of a pod.
            leftovers: Pods of which something is still to be removed: their successors wait.
            on_cordon: Told when the node has been cordoned or uncordoned.
        """
        self._run_dir = run_dir
        self._objects = objects
        self._published = published
        self._pods = pods
        self._refresher = refresher
        self._verdicts = verdicts
        self._afterwards = afterwards
        self._view = view
        self._leftovers = leftovers
        self._on_cordon = on_cordon
        self._desired = DesiredState()
        self._is_cordoned = False
        self._is_ended = False

    @property
    def desired(self) -> DesiredState:
        """Return what was taken up last."""
        return self._desired

    @property
    def is_cordoned(self) -> bool:
        """Tell whether the node is drained: no pod runs until it is uncordoned."""
        return self._is_cordoned

    def take_up(self, desired: DesiredState) -> None:
        """Make this the state that the node goes towards."""
        if self._is_ended:
            return
        self._desired = desired
        changed = self._objects.set(desired.config_maps, desired.secrets)
        if changed:
            self._published.set(desired.config_maps, desired.secrets)
        self._set_pods(desired)
        self._afterwards(lambda: self._verdicts.write(desired.verdicts))
        if changed:
            self._refresher.note_change()

    def _set_pods(self, desired: DesiredState) -> None:
        pods = [one.pod for one in desired.pods if PodUID(one.pod.metadata.uid) not in self._leftovers]
        before, self._is_cordoned = self._is_cordoned, cordon.is_cordoned(self._run_dir)
        if self._is_cordoned is not before:
            self._on_cordon()
        if not self._is_cordoned:
            self._pods.set_pods(pods)
            return
        log.warning("node is cordoned, no pod runs", until="minikubelet uncordon")
        # Those that run are ended with their own grace, not as what no manifest describes.
        self._pods.set_pods([pod for pod in pods if self._view(PodUID(pod.metadata.uid)).sandboxes])
        self._pods.terminate_all(grace_s=cordon.grace_s(self._run_dir))

    def look_for_cordon(self) -> None:
        """Take up that the node has been cordoned or uncordoned meanwhile."""
        if cordon.is_cordoned(self._run_dir) is not self._is_cordoned:
            self.take_up(self._desired)

    def retry(self, uid: PodUID) -> None:
        """Take up a pod that has waited until nothing was left of an earlier one under its uid."""
        if any(one.pod.metadata.uid == uid for one in self._desired.pods):
            self.take_up(self._desired)

    def end(self) -> None:
        """Take up nothing any more: all pods are ended."""
        self._is_ended = True
