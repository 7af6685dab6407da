"""The rules for resources of a Pod as a whole.

Source: kubernetes pkg/apis/core/validation/validation.go `validatePodResources` (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minikubelet.api.field_errors import FieldError, forbidden, invalid, required, unsupported
from minikubelet.api.quantity import Quantity, parse_quantity
from minikubelet.api.types import Container, PodSpec
from minikubelet.api.validation.containers import is_page_multiple

_SUPPORTED: Final = ("cpu", "hugepages-", "memory")
_ZERO: Final = parse_quantity("0")


def validate_pod_resources(spec: PodSpec, path: str) -> list[FieldError]:
    """Return what is wrong with `spec.resources`."""
    resources = spec.resources
    if resources is None:
        return []
    errors: list[FieldError] = []
    if resources.claims is not None:
        errors.append(forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    limits, requests = resources.limits or {}, resources.requests or {}
    for group, entries in (("limits", limits), ("requests", requests)):
        for name, text in sorted(entries.items()):
            errors += _entry(name, text, f"{path}.{group}[{name}]")
    errors += _aggregates(spec, requests, limits, path)
    errors += _container_limits(spec, limits, path)
    return errors + _requests_below_limits(requests, limits, path)


def _entry(name: str, text: str, path: str) -> list[FieldError]:
    if not _is_supported(name):
        if "/" not in name and name not in ("ephemeral-storage", "storage", "pods"):
            return [invalid(path, name, "must be a standard resource type or fully qualified")]
        return [unsupported(path, name, _SUPPORTED)]
    if parse_quantity(text).nanos < 0:
        return [invalid(path, text, "must be greater than or equal to 0")]
    if name.startswith("hugepages-") and not is_page_multiple(text, name):
        return [invalid(path, text, f"{text} is not positive integer multiple of {name}")]
    return []


def _is_supported(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def _of(container: Container, name: str, *, limits: bool) -> Quantity:
    entries = container.resources.limits if limits else container.resources.requests
    text = (entries or {}).get(name)
    return parse_quantity(text) if text else _ZERO


def aggregate(spec: PodSpec, name: str, *, limits: bool) -> Quantity:
    """Return what the containers need together: apps and sidecars, or the largest init container on its way."""
    total, sidecars, largest = _ZERO, _ZERO, _ZERO
    for container in spec.containers:
        total = total + _of(container, name, limits=limits)
    for container in spec.init_containers or ():
        own = _of(container, name, limits=limits)
        if container.restart_policy == "Always":
            sidecars = sidecars + own
            largest = max(largest, sidecars, key=lambda one: one.nanos)
        else:
            largest = max(largest, sidecars + own, key=lambda one: one.nanos)
    return max(total + sidecars, largest, key=lambda one: one.nanos)


def _aggregates(spec: PodSpec, requests: Mapping[str, str], limits: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, text in sorted(requests.items()):
        needed = aggregate(spec, name, limits=False)
        if _is_supported(name) and parse_quantity(text).nanos < needed.nanos:
            detail = f"must be greater than or equal to aggregate container requests of {needed.canonical()}"
            errors.append(invalid(f"{path}.requests[{name}]", text, detail))
    for name, text in sorted(limits.items()):
        needed = aggregate(spec, name, limits=True)
        if name.startswith("hugepages-") and parse_quantity(text).nanos < needed.nanos:
            detail = f"must be greater than or equal to aggregate container limits of {needed.canonical()}"
            errors.append(invalid(f"{path}.limits[{name}]", text, detail))
    return errors


def _container_limits(spec: PodSpec, limits: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for group, containers in (("containers", spec.containers), ("initContainers", spec.init_containers or [])):
        for index, container in enumerate(containers):
            for name, text in sorted((container.resources.limits or {}).items()):
                if name in limits and parse_quantity(text).nanos > parse_quantity(limits[name]).nanos:
                    detail = f"must be less than or equal to pod limits of {limits[name]}"
                    errors.append(invalid(f"{path}.{group}[{index}][{name}].limits", text, detail))
    return errors


def _requests_below_limits(requests: Mapping[str, str], limits: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, text in sorted(requests.items()):
        own = parse_quantity(text).nanos
        if name not in limits:
            if name.startswith("hugepages-"):
                errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
            continue
        limit = parse_quantity(limits[name]).nanos
        if name.startswith("hugepages-") and own != limit:
            errors.append(invalid(f"{path}.requests", text, f"must be equal to {name} limit of {limits[name]}"))
        elif own > limit:
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            errors.append(invalid(f"{path}.requests", text, detail))
    names = {*requests, *limits}
    if any(name.startswith("hugepages-") for name in names) and not names & {"cpu", "memory"}:
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    return errors
