"""The rules for references to fields and resources of a Pod, in environments and volumes.

Source: kubernetes pkg/apis/core/validation/validation.go `validateObjectFieldSelector`,
`validateContainerResourceFieldSelector`; pkg/apis/core/pods/helpers.go `ConvertDownwardAPIFieldLabel` (v1.36).
"""

from __future__ import annotations

import re
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, invalid, required, unsupported
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import ObjectFieldSelector, ResourceFieldSelector

_VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KNOWN_FIELDS: Final = frozenset(
    {*_VOLUME_FIELDS, *_ENV_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"}
)
_SUBSCRIPT: Final = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)
_RESOURCES: Final = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_CPU_DIVISORS: Final[tuple[str, ...]] = ("1m", "1")
_SIZE_DIVISORS: Final[tuple[str, ...]] = tuple("1 1k 1M 1G 1T 1P 1E 1Ki 1Mi 1Gi 1Ti 1Pi 1Ei".split())


def validate_env_field(selector: ObjectFieldSelector, path: str) -> list[FieldError]:
    """Check a fieldRef of an environment variable."""
    return _validate_field(selector, path, _ENV_FIELDS)


def validate_volume_field(selector: ObjectFieldSelector, path: str) -> list[FieldError]:
    """Check a fieldRef of a downward API volume."""
    return _validate_field(selector, path, _VOLUME_FIELDS)


def _validate_field(selector: ObjectFieldSelector, path: str, supported: tuple[str, ...]) -> list[FieldError]:
    if not selector.api_version:
        return [required(f"{path}.apiVersion")]
    if not selector.field_path:
        return [required(f"{path}.fieldPath")]
    field = selector.field_path
    where = f"{path}.fieldPath"

    def refused(detail: str) -> list[FieldError]:
        return [invalid(where, field, f"error converting fieldPath: {detail}")]

    if selector.api_version != "v1":
        return refused(f"unsupported pod version: {selector.api_version}")
    subscript = _SUBSCRIPT.fullmatch(field)
    if subscript is not None:
        base, key = subscript.groups()
        if base not in ("metadata.annotations", "metadata.labels"):
            return refused(f"field label does not support subscript: {field}")
        name = key.lower() if base == "metadata.annotations" else key
        return [invalid(path, name, one) for one in syntax.qualified_name(name)]
    if field == "spec.host":  # its name in the first version of the API
        field = "spec.nodeName"
    if field not in _KNOWN_FIELDS:
        return refused(f"field label not supported: {field}")
    if field not in supported:
        return [unsupported(where, field, supported)]
    return []


def validate_volume_resource(selector: ResourceFieldSelector, path: str) -> list[FieldError]:
    """Check a resourceFieldRef of a volume, which must name its container."""
    if not selector.container_name:
        return [required(f"{path}.containerName"), *_divisor(selector, path)]
    return validate_env_resource(selector, path)


def validate_env_resource(selector: ResourceFieldSelector, path: str) -> list[FieldError]:
    """Check a resourceFieldRef of an environment variable."""
    name = selector.resource
    errors: list[FieldError] = []
    if not name:
        errors.append(required(f"{path}.resource"))
    elif name not in _RESOURCES and not name.startswith(_HUGE):
        errors.append(unsupported(f"{path}.resource", name, _RESOURCES))
    return errors + _divisor(selector, path)


_HUGE: Final = ("limits.hugepages-", "requests.hugepages-")
_SIZES: Final = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}


def _divisor(selector: ResourceFieldSelector, path: str) -> list[FieldError]:
    """Check what the amount is divided by; Kubernetes shows the resource where the divisor should stand."""
    name, divisor = selector.resource, selector.divisor or "0"
    if parse_quantity(divisor).nanos == 0:
        return []
    if name in ("limits.cpu", "requests.cpu"):
        what, shown, allowed = "cpu", "1m and 1", _CPU_DIVISORS
    elif name in _RESOURCES or name.startswith(_HUGE):
        what = "hugepages" if name.startswith(_HUGE) else _SIZES[name.partition(".")[2]]
        shown, allowed = ", ".join(_SIZE_DIVISORS), _SIZE_DIVISORS
    else:
        return []
    if divisor in allowed:
        return []
    return [invalid(f"{path}.divisor", name, f"only divisor's values {shown} are supported with the {what} resource")]
