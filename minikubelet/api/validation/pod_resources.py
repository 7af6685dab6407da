"""The rules for resources of a Pod as a whole.

Source: kubernetes pkg/apis/core/validation/validation.go `validatePodResources` (v1.36), component-helpers/resource.
"""

from __future__ import annotations

from typing import Final

from minikubelet.api.aggregate import aggregate_limits, aggregate_requests
from minikubelet.api.field_errors import FieldError, forbidden, invalid, unsupported
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import PodSpec
from minikubelet.api.validation.resources import HUGE, validate_claim_names, validate_name, validate_resources

_SUPPORTED: Final = ("cpu", "hugepages-", "memory")


def validate_pod_resources(spec: PodSpec, path: str) -> list[FieldError]:
    """Return what is wrong with `spec.resources`."""
    resources = spec.resources
    if resources is None:
        return []
    if spec.os is not None and spec.os.name == "windows":
        return [forbidden(path, "may not be set for a windows pod")]
    errors: list[FieldError] = []
    if resources.claims is not None:
        errors.append(forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    errors += validate_resources(resources.limits, resources.requests, path, _validate_name)
    errors += validate_claim_names(resources.claims, spec.resource_claims, f"{path}.claims")
    return errors + _aggregates(spec, path) + _container_limits(spec, path)


def _validate_name(name: str, path: str) -> list[FieldError]:
    errors = validate_name(name, path)
    if not errors and name not in ("cpu", "memory") and not name.startswith(HUGE):
        errors.append(unsupported(path, name, _SUPPORTED))
    return errors


def _aggregates(spec: PodSpec, path: str) -> list[FieldError]:
    """Check that the Pod has what its containers need together."""
    resources = spec.resources
    requests = (resources.requests if resources is not None else None) or {}
    limits = (resources.limits if resources is not None else None) or {}
    errors: list[FieldError] = []
    for name, needed in sorted(aggregate_requests(spec).items()):
        if name in requests and needed.nanos > parse_quantity(requests[name]).nanos:
            detail = f"must be greater than or equal to aggregate container requests of {needed.canonical()}"
            errors.append(invalid(f"{path}.requests[{name}]", requests[name], detail))
    for name, needed in sorted(aggregate_limits(spec).items()):
        if name.startswith(HUGE) and name in limits and needed.nanos > parse_quantity(limits[name]).nanos:
            detail = f"must be greater than or equal to aggregate container limits of {needed.canonical()}"
            errors.append(invalid(f"{path}.limits[{name}]", limits[name], detail))
    return errors


def _container_limits(spec: PodSpec, path: str) -> list[FieldError]:
    limits = (spec.resources.limits if spec.resources is not None else None) or {}
    errors: list[FieldError] = []
    for index, container in enumerate(spec.containers):
        for name, text in sorted((container.resources.limits or {}).items()):
            if name in limits and parse_quantity(text).nanos > parse_quantity(limits[name]).nanos:
                detail = f"must be less than or equal to pod limits of {limits[name]}"
                errors.append(invalid(f"{path}.containers[{index}][{name}].limits", text, detail))
    return errors
