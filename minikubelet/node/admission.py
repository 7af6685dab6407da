"""Admits pods to this node and remembers which were; what decides is `lifecycle.admission`.

A pod holds its requests, its host ports and its place from its admission until all of it has ended, also while it
terminates. A rejection is final until the pod's file changes or the daemon starts anew. What an earlier daemon started
runs on, whatever the configuration says now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from minikubelet.api.types import Pod
from minikubelet.lifecycle import preemption
from minikubelet.lifecycle.admission import Node, Rejection, decide, host_ports, ports_rejection
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.status import PodEnd
from minikubelet.node.services import EndPods, Recorder


class NodeAdmission:
    """Owner of the admitted pods."""

    def __init__(
        self,
        node: Node,
        *,
        port_holder: Callable[[Pod], Awaitable[str | None]],
        recorder: Recorder,
        end_pods: EndPods,
        is_shutting_down: Callable[[], bool],
    ) -> None:
        """Create it.

        Args:
            node: The node.
            port_holder: Says which of a pod's host ports a program outside our pods holds, and its name.
            recorder: Takes the events of pods that make room.
            end_pods: Ends them.
            is_shutting_down: Whether the machine goes down: nothing new begins.
        """
        self._node = node
        self._port_holder = port_holder
        self._recorder = recorder
        self._end_pods = end_pods
        self._is_shutting_down = is_shutting_down
        self._admitted: dict[PodUID, Pod] = {}

    @property
    def node(self) -> Node:
        """Return what admission knows of the node."""
        return self._node

    async def admit(self, pod: Pod) -> Rejection | None:
        """Decide on a pod; from then on it counts, unless it is rejected."""
        uid = PodUID(pod.metadata.uid)
        others = [one for one in self._admitted.values() if one.metadata.uid != uid]
        decision = decide(pod, others, self._node)
        if decision.rejection is not None:
            return decision.rejection
        if self._is_shutting_down():
            return Rejection(reason="NodeShutdown", message="Pod was rejected as the node is shutting down.")
        self._admitted[uid] = pod
        if host_ports(pod):
            held = await self._port_holder(pod)
            if held is not None:
                self.release(uid)
                return ports_rejection(held)
        if decision.preempt:
            await self._preempt(decision.preempt)
        return None

    def adopt(self, pod: Pod) -> None:
        """Count a pod that an earlier daemon admitted."""
        self._admitted[PodUID(pod.metadata.uid)] = pod

    def release(self, uid: PodUID) -> None:
        """Note that nothing of a pod runs any more."""
        self._admitted.pop(uid, None)

    async def _preempt(self, pods: Sequence[Pod]) -> None:
        """End pods so that one of higher priority has room."""
        for pod in pods:
            self._recorder.event(pod, "Warning", "Preempting", preemption.MESSAGE)
        end = PodEnd(reason="Preempting", message=preemption.MESSAGE, disruption=preemption.DISRUPTION)
        await self._end_pods(pods, end, lambda pod: float(pod.spec.termination_grace_period_seconds or 0))
