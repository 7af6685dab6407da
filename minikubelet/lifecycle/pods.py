"""What a Pod is called in messages, and which containers it has.

Source: kubelet util/format/pod.go, pkg/api/v1/pod/util.go (v1.36).
"""

from __future__ import annotations

from minikubelet.api.types import Container, Pod


def pod_key(pod: Pod) -> str:
    """Return `<namespace>/<name>`."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def full_name(pod: Pod) -> str:
    """Return `<name>_<namespace>(<uid>)`, as the kubelet formats a pod in messages."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def all_containers(pod: Pod) -> tuple[Container, ...]:
    """Return the init containers, in order, then the app containers."""
    return (*(pod.spec.init_containers or ()), *pod.spec.containers)


def sidecars(pod: Pod) -> list[Container]:
    """Return the init containers that run on beside the app containers, in order."""
    return [one for one in pod.spec.init_containers or () if one.restart_policy == "Always"]


def is_init_container(pod: Pod, name: str) -> bool:
    """Tell whether the container of this name is an init container."""
    return any(one.name == name for one in pod.spec.init_containers or ())
