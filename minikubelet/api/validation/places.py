"""Where the containers of a Pod stand: what the rules go over, with the field path of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from minikubelet.api.types import Container, PodSpec

T = TypeVar("T")


def each(items: Iterable[T] | None, path: str) -> Iterator[tuple[str, T]]:
    """Yield the items of a list with their paths."""
    for index, one in enumerate(items or ()):
        yield f"{path}[{index}]", one


def all_containers(spec: PodSpec, path: str) -> Iterator[tuple[str, Container]]:
    """Yield every container with its path, in the order in which Kubernetes visits them."""
    yield from each(spec.init_containers, f"{path}.initContainers")
    yield from each(spec.containers, f"{path}.containers")
    yield from each(spec.ephemeral_containers, f"{path}.ephemeralContainers")
