"""Which container of a pod, and which instance of it, a request is about. Pure.

Source: registry/core/pod/strategy.go (validateContainer), kubelet_pods.go (validateContainerLogStatus, v1.36).
"""

from __future__ import annotations

from typing import Any, Final

from minikubelet.server.errors import ApiError

Json = dict[str, Any]

_GROUPS: Final = (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses"))
_PULLS: Final = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def chosen_container(pod: Json, name: str) -> str:
    """Return the name of the container that is meant; "" means the only one.

    Raises:
        ApiError: 400, there are several, or none of that name.
    """
    spec = pod["spec"]
    apps, inits = ([one["name"] for one in spec.get(group) or ()] for group, _ in _GROUPS)
    if name:
        if name not in apps + inits:
            raise ApiError(400, f"container {name} is not valid for pod {pod['metadata']['name']}")
        return name
    if len(apps) == 1:
        return str(apps[0])
    text = f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: [{' '.join(apps)}]"
    if inits:
        text += f" or one of the init containers: [{' '.join(inits)}]"
    raise ApiError(400, text)


def container_status(pod: Json, name: str) -> Json | None:
    """Return a container's status, None when there is none yet."""
    status = pod.get("status", {})
    for _, group in _GROUPS:
        for one in status.get(group) or ():
            if one["name"] == name:
                found: Json = one
                return found
    return None


def container_of(pod: Json, name: str) -> Json:
    """Return a container of the spec by a name that exists."""
    every = [one for group, _ in _GROUPS for one in pod["spec"].get(group) or ()]
    found: Json = next(one for one in every if one["name"] == name)
    return found


def logged_instance(pod: Json, name: str, *, previous: bool) -> str:
    """Return the ID of the instance whose log is asked for.

    Raises:
        ApiError: 400, there is no such instance (yet).
    """
    what = f'container "{name}" in pod "{pod["metadata"]["name"]}"'
    status = container_status(pod, name)
    if status is None:
        raise ApiError(400, f"{what} is not available")
    state = status.get("state") or {}
    ended = state.get("terminated")
    last = ((status.get("lastState") or {}).get("terminated") or {}).get("containerID", "")
    if previous:
        if not last:
            raise ApiError(400, f"previous terminated {what} not found")
        return str(last)
    if state.get("running") is not None:
        return str(status["containerID"])
    if ended is not None and ended.get("containerID"):
        return str(ended["containerID"])
    if last:
        return str(last)
    if ended is not None:
        raise ApiError(400, f"{what} is terminated")
    waiting = state.get("waiting")
    if waiting is None:
        raise ApiError(400, f"{what} is waiting to start - no logs yet")
    reason = waiting.get("reason", "")
    raise ApiError(400, f"{what} is waiting to start: {_PULLS.get(reason, reason)}")


def running_instance(pod: Json, name: str) -> str:
    """Return the ID of the running instance. Raises ApiError 500, as the kubelet answers a runtime's refusal."""
    status = container_status(pod, name)
    if status is None or (status.get("state") or {}).get("running") is None or not status.get("containerID"):
        raise ApiError(500, f'unable to upgrade connection: container not found ("{name}")')
    return str(status["containerID"])
