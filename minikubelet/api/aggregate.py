"""What the containers of a Pod need together.

App containers and sidecars run side by side; init containers run one after the other, beside the sidecars before them.
Source: k8s.io/component-helpers/resource `AggregateContainerRequests`, `AggregateContainerLimits` (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minikubelet.api.quantity import Quantity, parse_quantity
from minikubelet.api.types import Container, PodSpec


def aggregate_requests(spec: PodSpec) -> dict[str, Quantity]:
    """Return what the containers request together, of each resource that any of them requests."""
    return _aggregate(spec, lambda one: one.resources.requests)


def aggregate_limits(spec: PodSpec) -> dict[str, Quantity]:
    """Return what the containers may use together, of each resource that any of them is limited in."""
    return _aggregate(spec, lambda one: one.resources.limits)


def _aggregate(spec: PodSpec, entries: Callable[[Container], Mapping[str, str] | None]) -> dict[str, Quantity]:
    total: dict[str, Quantity] = {}
    sidecars: dict[str, Quantity] = {}
    largest: dict[str, Quantity] = {}
    for container in spec.containers:
        _add(total, entries(container))
    for container in spec.init_containers or ():
        own = entries(container)
        if container.restart_policy == "Always":
            _add(total, own)
            _add(sidecars, own)
            _raise(largest, sidecars)
        else:
            together: dict[str, Quantity] = {}
            _add(together, own)
            for name, amount in sidecars.items():
                together[name] = together[name] + amount if name in together else amount
            _raise(largest, together)
    _raise(total, largest)
    return total


def _add(into: dict[str, Quantity], entries: Mapping[str, str] | None) -> None:
    for name, text in (entries or {}).items():
        own = parse_quantity(text)
        into[name] = into[name] + own if name in into else own


def _raise(into: dict[str, Quantity], by: Mapping[str, Quantity]) -> None:
    for name, own in by.items():
        if name not in into or into[name].nanos < own.nanos:
            into[name] = own
