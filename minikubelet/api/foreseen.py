"""What a Pod says that is accepted and cannot work, told when its manifest is read. Pure.

Kubernetes accepts such a pod and tells of it when a container has come so far, on a cluster as here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from minikubelet.api.image_name import image_problem
from minikubelet.api.types import Container, Pod


class Foreseen(NamedTuple):
    """A field, what will come of it, and the names of which one was probably meant."""

    path: str
    text: str
    names: tuple[str, ...] = ()


def foreseen_failures(pod: Pod) -> Iterator[Foreseen]:
    """Yield what will fail whenever it is tried."""
    for group, containers in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        for index, one in enumerate(containers or ()):
            path = f"spec.{group}[{index}]"
            if problem := image_problem(one.image):
                yield Foreseen(f"{path}.image", f"{problem}: the container waits with InvalidImageName")
            yield from _probes(one, path)
            yield from _hooks(one, path)


def _probes(container: Container, path: str) -> Iterator[Foreseen]:
    every = (
        ("startupProbe", container.startup_probe, "the container never counts as started"),
        ("livenessProbe", container.liveness_probe, "the container is never restarted for it"),
        ("readinessProbe", container.readiness_probe, "the container never becomes ready"),
    )
    for name, probe, outcome in every:
        if probe is not None and probe.http_get is not None:
            yield from _port(container, probe.http_get.port, f"{path}.{name}.httpGet.port", outcome)
        if probe is not None and probe.tcp_socket is not None:
            yield from _port(container, probe.tcp_socket.port, f"{path}.{name}.tcpSocket.port", outcome)


def _hooks(container: Container, path: str) -> Iterator[Foreseen]:
    if container.lifecycle is None:
        return
    for name, hook in (("postStart", container.lifecycle.post_start), ("preStop", container.lifecycle.pre_stop)):
        here = f"{path}.lifecycle.{name}"
        if hook is not None and hook.http_get is not None:
            yield from _port(container, hook.http_get.port, f"{here}.httpGet.port", "the hook fails")
        if hook is not None and hook.tcp_socket is not None:
            yield Foreseen(f"{here}.tcpSocket", "a hook by tcpSocket is not implemented in Kubernetes and always fails")


def _port(container: Container, port: int | str, path: str, outcome: str) -> Iterator[Foreseen]:
    names = tuple(one.name for one in container.ports or () if one.name)
    if isinstance(port, str) and port not in names:
        yield Foreseen(path, f'no port of this container is named "{port}": {outcome}', names)
