"""The rules for limits, requests and claims, of containers and of Pods.

Source: kubernetes pkg/apis/core/validation/validation.go `validateResourceRequirements` (v1.36), pkg/apis/core/helper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, duplicate, forbidden, invalid, not_found, required
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import PodResourceClaim, ResourceClaim

HUGE: Final = "hugepages-"
_CPU_AND_MEMORY: Final = ("cpu", "memory")
_COUNTED: Final = frozenset(
    (
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    )
)
_MEASURED: Final = ("cpu", "memory", "ephemeral-storage")
_STANDARD: Final = frozenset(
    (
        *_COUNTED,
        *_MEASURED,
        *(f"requests.{one}" for one in _MEASURED),
        *(f"limits.{one}" for one in _MEASURED),
        "storage",
        "requests.storage",
    )
)

NameRule = Callable[[str, str], list[FieldError]]


def validate_container_name(name: str, path: str) -> list[FieldError]:
    """Check a resource that a container may ask for."""
    errors = validate_name(name, path)
    if "/" not in name:
        if name not in _MEASURED and not name.startswith(HUGE):
            errors.append(invalid(path, name, "must be a standard resource for containers"))
    elif not _is_native(name) and not _is_extended(name):
        errors.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return errors


def validate_name(name: str, path: str) -> list[FieldError]:
    """Check a resource's name: a standard one, or one with a domain."""
    errors = [invalid(path, name, one) for one in syntax.qualified_name(name)]
    standard = name in _STANDARD or name.startswith((HUGE, f"requests.{HUGE}"))
    if not errors and "/" not in name and not standard:
        errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))
    return errors


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _is_extended(name: str) -> bool:
    if _is_native(name) or name.startswith("requests."):
        return False
    return not syntax.qualified_name(f"requests.{name}")


def is_overcommit_allowed(name: str) -> bool:
    """Tell whether a request may be below its limit."""
    return _is_native(name) and not name.startswith(HUGE)


def validate_resources(
    limits: Mapping[str, str] | None,
    requests: Mapping[str, str] | None,
    path: str,
    name_rule: NameRule = validate_container_name,
) -> list[FieldError]:
    """Return what is wrong with limits and requests, resources in alphabetical order."""
    errors: list[FieldError] = []
    limits, requests = limits or {}, requests or {}
    for name, text in sorted(limits.items()):
        errors += name_rule(name, f"{path}.limits[{name}]")
        errors += validate_quantity(name, text, f"{path}.limits[{name}]")
        errors += _huge(name, text, f"{path}.limits[{name}]")
    for name, text in sorted(requests.items()):
        errors += name_rule(name, f"{path}.requests[{name}]")
        errors += validate_quantity(name, text, f"{path}.requests[{name}]")
        errors += _against_limit(name, text, limits, path)
        errors += _huge(name, text, f"{path}.requests[{name}]")
    names = {*limits, *requests}
    if any(one.startswith(HUGE) for one in names) and not names & set(_CPU_AND_MEMORY):
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    return errors


def validate_quantity(name: str, text: str, path: str) -> list[FieldError]:
    """Check an amount of a resource."""
    quantity = parse_quantity(text)
    errors: list[FieldError] = []
    if quantity.nanos < 0:
        errors.append(invalid(path, text, "must be greater than or equal to 0"))
    if (name in _COUNTED or _is_extended(name)) and quantity.milli_value() % 1000:
        errors.append(invalid(path, text, "must be an integer"))
    return errors


def _against_limit(name: str, text: str, limits: Mapping[str, str], path: str) -> list[FieldError]:
    overcommit = is_overcommit_allowed(name)
    if name not in limits:
        detail = "Limit must be set for non overcommitable resources"
        return [] if overcommit else [required(f"{path}.limits", detail)]
    own, limit = parse_quantity(text).nanos, parse_quantity(limits[name]).nanos
    if own != limit and not overcommit:
        return [invalid(f"{path}.requests", text, f"must be equal to {name} limit of {limits[name]}")]
    if own > limit:
        return [invalid(f"{path}.requests", text, f"must be less than or equal to {name} limit of {limits[name]}")]
    return []


def _huge(name: str, text: str, path: str) -> list[FieldError]:
    if not name.startswith(HUGE) or _is_page_multiple(text, name):
        return []
    return [invalid(path, text, f"{text} is not positive integer multiple of {name}")]


def _is_page_multiple(text: str, name: str) -> bool:
    """Tell whether an amount of huge pages is a whole number of pages."""
    try:
        page = parse_quantity(name.removeprefix(HUGE))
    except ValueError:
        return False
    if page.nanos <= 0 or page.milli_value() % 1000:
        return False
    return parse_quantity(text).value() % page.value() == 0


def validate_claim_names(
    claims: Sequence[ResourceClaim] | None, of_pod: Sequence[PodResourceClaim] | None, path: str
) -> list[FieldError]:
    """Check that what a container claims is among the Pod's claims, and nothing twice."""
    known = sorted({one.name for one in of_pod or () if one.name})
    seen: set[str] = set()
    errors: list[FieldError] = []
    for index, one in enumerate(claims or ()):
        here = f"{path}[{index}]"
        if not one.name:
            errors.append(required(here))
            continue
        if one.name in seen:
            errors.append(duplicate(here, one.name))
        else:
            errors += _claim_request(one, seen, here)
        if one.name not in known:
            among = f": {', '.join(known)}" if known else " which is empty"
            errors.append(not_found(here, one.name, f"must be one of the names in pod.spec.resourceClaims{among}"))
    return errors


def _claim_request(claim: ResourceClaim, seen: set[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    key = f"{claim.name}/{claim.request}" if claim.request else claim.name
    if claim.request:
        errors += [invalid(f"{path}.request", claim.request, one) for one in syntax.dns_label(claim.request)]
    if key in seen:
        errors.append(duplicate(path, key))
    elif not claim.request:
        errors += [duplicate(path, claim.name) for one in seen if one.partition("/")[0] == claim.name]
    seen.add(key)
    return errors
