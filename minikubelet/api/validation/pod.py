"""The rules for Pods, in Kubernetes' order and wording.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidatePodCreate` (v1.36), pkg/api/pod
`HasAPIObjectReference`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, duplicate, forbidden, invalid, unsupported
from minikubelet.api.types import Container, Pod, PodSpec
from minikubelet.api.validation import node_fields
from minikubelet.api.validation.affinity import validate_affinity, validate_tolerations
from minikubelet.api.validation.containers import validate_containers, validate_init_containers
from minikubelet.api.validation.metadata import validate_metadata
from minikubelet.api.validation.pod_resources import validate_pod_resources
from minikubelet.api.validation.security import validate_pod_security
from minikubelet.api.validation.volumes import validate_volumes

_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_MAX_ID: Final = 2**31 - 1


def validate_pod(pod: Pod) -> list[FieldError]:
    """Return everything that is wrong with a defaulted static Pod."""
    return [*validate_metadata(pod.metadata, "metadata", name=syntax.dns_subdomain), *_validate_spec(pod.spec, "spec")]


def _validate_spec(spec: PodSpec, path: str) -> list[FieldError]:
    errors, volumes = validate_volumes(spec.volumes or (), f"{path}.volumes")
    errors += validate_containers(spec, volumes, f"{path}.containers")
    errors += validate_init_containers(spec, volumes, f"{path}.initContainers")
    if spec.ephemeral_containers:
        errors.append(forbidden(f"{path}.ephemeralContainers", "cannot be set on create"))
    errors += _host_port_conflicts(spec.containers, f"{path}.containers")
    if spec.restart_policy not in _RESTART_POLICIES:
        errors.append(unsupported(f"{path}.restartPolicy", spec.restart_policy, _RESTART_POLICIES))
    if spec.dns_policy not in _DNS_POLICIES:
        errors.append(unsupported(f"{path}.dnsPolicy", spec.dns_policy, _DNS_POLICIES))
    errors += node_fields.validate_selectors(spec, path)
    errors += validate_pod_security(spec, f"{path}.securityContext")
    errors += _validate_host_fields(spec, path)
    errors += node_fields.validate_names(spec, path)
    errors += node_fields.validate_gates(spec, path)
    errors += validate_affinity(spec.affinity, f"{path}.affinity")
    errors += node_fields.validate_dns(spec, f"{path}.dnsConfig")
    errors += node_fields.validate_spread(spec, f"{path}.topologySpreadConstraints")
    errors += node_fields.validate_host_name(spec, path)
    errors += validate_tolerations(spec.tolerations or (), f"{path}.tolerations")
    errors += node_fields.validate_host_aliases(spec, f"{path}.hostAliases")
    errors += node_fields.validate_priority(spec, path)
    errors += node_fields.validate_claims(spec, f"{path}.resourceClaims")
    errors += validate_pod_resources(spec, f"{path}.resources")
    errors += node_fields.validate_os(spec, path)
    errors += node_fields.validate_host_name_override(spec, f"{path}.hostnameOverride")
    if spec.active_deadline_seconds is not None and not 1 <= spec.active_deadline_seconds <= _MAX_ID:
        detail = syntax.between(1, _MAX_ID)
        errors.append(invalid(f"{path}.activeDeadlineSeconds", spec.active_deadline_seconds, detail))
    return errors


def _validate_host_fields(spec: PodSpec, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.host_network:
        for index, container in enumerate(spec.containers):
            for number, port in enumerate(container.ports or ()):
                if port.host_port != port.container_port:
                    where = f"{path}.containers[{index}].ports[{number}].hostPort"
                    detail = "must match `containerPort` when `hostNetwork` is true"
                    errors.append(invalid(where, port.host_port, detail))
    if spec.share_process_namespace and spec.host_pid:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.securityContext.shareProcessNamespace", True, detail))
    if spec.host_users is False:
        for name, value in (
            ("hostNetwork", spec.host_network),
            ("HostPID", spec.host_pid),
            ("HostIPC", spec.host_ipc),
        ):
            if value:
                errors.append(forbidden(f"{path}.{name}", "when `hostUsers` is false"))
    return errors


def _host_port_conflicts(containers: Sequence[Container], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    taken: set[str] = set()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.ports or ()):
            if not port.host_port:
                continue
            key = f"{port.protocol}/{port.host_ip}/{port.host_port}"
            if key in taken:
                errors.append(duplicate(f"{path}[{index}].ports[{number}].hostPort", key))
            taken.add(key)
    return errors


def reference_error(pod: Pod) -> str | None:
    """Return the kubelet's refusal of a static Pod that refers to other API objects, None when it does not."""
    spec = pod.spec
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("serviceaccounts", lambda: bool(spec.service_account_name)),
        ("secrets", lambda: _names_objects(spec, "secret")),
        ("configmaps", lambda: _names_objects(spec, "config_map")),
        ("resourceclaims", lambda: bool(spec.resource_claims)),
        ("persistentvolumeclaims", lambda: any(one.persistent_volume_claim for one in spec.volumes or ())),
    )
    for what, holds in checks:
        if holds():
            return f"static pods may not reference {what}"
    return None


def _names_objects(spec: PodSpec, kind: str) -> bool:
    for container in (*spec.containers, *(spec.init_containers or ())):
        if any(getattr(one, f"{kind}_ref") for one in container.env_from or ()):
            return True
        for variable in container.env or ():
            if variable.value_from is not None and getattr(variable.value_from, f"{kind}_key_ref"):
                return True
    if kind == "secret" and spec.image_pull_secrets:
        return True
    for volume in spec.volumes or ():
        if getattr(volume, kind) is not None:
            return True
        if volume.projected is not None and any(getattr(one, kind) for one in volume.projected.sources or ()):
            return True
    return False
