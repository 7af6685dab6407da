"""The rules for Pods, in Kubernetes' order and wording.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidatePodCreate`, `ValidatePodSpec` (v1.36).
"""

from __future__ import annotations

from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, forbidden, invalid, not_found, required, unsupported
from minikubelet.api.types import Container, Pod, PodSpec, Volume
from minikubelet.api.validation import node_fields, windows
from minikubelet.api.validation.affinity import validate_affinity, validate_tolerations
from minikubelet.api.validation.annotations import validate_annotations, validate_profiles_match
from minikubelet.api.validation.containers import (
    validate_containers,
    validate_ephemeral_containers,
    validate_init_containers,
)
from minikubelet.api.validation.metadata import validate_metadata
from minikubelet.api.validation.places import all_containers, each
from minikubelet.api.validation.pod_resources import validate_pod_resources
from minikubelet.api.validation.resources import validate_resources
from minikubelet.api.validation.security import validate_pod_security
from minikubelet.api.validation.volumes import validate_volumes

_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_MAX_INT32: Final = 2**31 - 1


def validate_pod(pod: Pod) -> list[FieldError]:
    """Return everything that is wrong with a defaulted static Pod."""
    spec = pod.spec
    errors = validate_metadata(pod.metadata, "metadata", name=syntax.dns_subdomain)
    errors += validate_annotations(pod, "metadata.annotations")
    errors += _validate_spec(pod, spec, "spec")
    errors += _service_account_tokens(spec, "spec.volumes")
    for path, container in each(spec.containers, "spec.containers"):
        errors += _image_blanks(container, path)
    for path, container in each(spec.init_containers, "spec.initContainers"):
        errors += _image_blanks(container, path)
    if spec.ephemeral_containers:
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.node_name and spec.scheduling_gates:
        errors.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return errors + validate_profiles_match(pod, "spec")


def _validate_spec(pod: Pod, spec: PodSpec, path: str) -> list[FieldError]:
    errors, volumes = validate_volumes(spec.volumes or (), pod.metadata.name, f"{path}.volumes")
    errors += node_fields.validate_claims(spec, f"{path}.resourceClaims")
    errors += validate_containers(spec, volumes, f"{path}.containers")
    errors += validate_init_containers(spec, volumes, f"{path}.initContainers")
    errors += validate_ephemeral_containers(spec, volumes, f"{path}.ephemeralContainers")
    errors += validate_pod_resources(spec, f"{path}.resources")
    errors += _host_network_ports(spec, f"{path}.containers")
    if spec.restart_policy not in _RESTART_POLICIES:
        errors.append(unsupported(f"{path}.restartPolicy", spec.restart_policy, _RESTART_POLICIES))
    if spec.dns_policy not in _DNS_POLICIES:
        errors.append(unsupported(f"{path}.dnsPolicy", spec.dns_policy, _DNS_POLICIES))
    errors += node_fields.validate_node_selector(spec, f"{path}.nodeSelector")
    errors += validate_pod_security(spec, f"{path}.securityContext")
    errors += validate_affinity(spec.affinity, f"{path}.affinity")
    errors += node_fields.validate_dns(spec, f"{path}.dnsConfig")
    errors += node_fields.validate_gates(spec, path)
    errors += node_fields.validate_spread(spec, f"{path}.topologySpreadConstraints")
    errors += windows.validate_host_process(spec, path)
    errors += _host_users(spec, path)
    errors += node_fields.validate_host_name_override(spec, f"{path}.hostnameOverride")
    errors += _validate_names(spec, path)
    if spec.overhead is not None:
        errors += validate_resources(spec.overhead, None, f"{path}.overhead")
    errors += windows.validate_os(spec, path)
    errors += node_fields.validate_scheduling_group(spec, f"{path}.schedulingGroup")
    return errors + _file_key_volumes(spec, path)


def _validate_names(spec: PodSpec, path: str) -> list[FieldError]:
    """Check the fields of one value each, in their order."""
    errors = _subdomain(spec.service_account_name, f"{path}.serviceAccountName")
    errors += _subdomain(spec.node_name, f"{path}.nodeName")
    if spec.active_deadline_seconds is not None and not 1 <= spec.active_deadline_seconds <= _MAX_INT32:
        detail = syntax.between(1, _MAX_INT32)
        errors.append(invalid(f"{path}.activeDeadlineSeconds", spec.active_deadline_seconds, detail))
    for name, value in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if value:
            errors += [invalid(f"{path}.{name}", value, one) for one in syntax.dns_label(value)]
    errors += validate_tolerations(spec.tolerations or (), f"{path}.tolerations")
    errors += node_fields.validate_host_aliases(spec, f"{path}.hostAliases")
    errors += _subdomain(spec.priority_class_name, f"{path}.priorityClassName")
    if spec.runtime_class_name is not None:
        wrong = syntax.dns_subdomain(spec.runtime_class_name)
        errors += [invalid(f"{path}.runtimeClassName", spec.runtime_class_name, one) for one in wrong]
    allowed = ("PreemptLowerPriority", "Never")
    if spec.preemption_policy == "":
        errors.append(required(f"{path}.preemptionPolicy"))
    elif spec.preemption_policy is not None and spec.preemption_policy not in allowed:
        errors.append(unsupported(f"{path}.preemptionPolicy", spec.preemption_policy, allowed))
    return errors


def _subdomain(value: str, path: str) -> list[FieldError]:
    return [invalid(path, value, one) for one in syntax.dns_subdomain(value)] if value else []


def _image_blanks(container: Container, path: str) -> list[FieldError]:
    if container.image == container.image.strip():
        return []
    return [invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace")]


def _host_network_ports(spec: PodSpec, path: str) -> list[FieldError]:
    if not spec.host_network:
        return []
    detail = "must match `containerPort` when `hostNetwork` is true"
    return [
        invalid(f"{here}.ports[{number}].hostPort", port.host_port, detail)
        for here, container in each(spec.containers, path)
        for number, port in enumerate(container.ports or ())
        if port.host_port != port.container_port
    ]


def _host_users(spec: PodSpec, path: str) -> list[FieldError]:
    if spec.host_users is not False:
        return []
    detail = "when `hostUsers` is false"
    flags = (("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc))
    errors = [forbidden(f"{path}.{name}", detail) for name, value in flags if value]
    for here, container in all_containers(spec, path):
        if container.volume_devices:
            errors.append(forbidden(f"{here}.volumeDevices", detail))
    return errors


def _file_key_volumes(spec: PodSpec, path: str) -> list[FieldError]:
    """Check that the volumes with environment files are there and empty directories."""
    volumes: dict[str, Volume] = {one.name: one for one in spec.volumes or ()}
    errors: list[FieldError] = []
    for here, container in all_containers(spec, path):
        for index, variable in enumerate(container.env or ()):
            reference = variable.value_from.file_key_ref if variable.value_from is not None else None
            if reference is None:
                continue
            where, name = f"{here}.env[{index}].valueFrom.fileKeyRef.volumeName", reference.volume_name
            if name not in volumes:
                errors.append(not_found(where, name))
            elif volumes[name].empty_dir is None:
                errors.append(invalid(where, name, "referenced volume must be of type emptyDir"))
    return errors


def _service_account_tokens(spec: PodSpec, path: str) -> list[FieldError]:
    if spec.service_account_name:
        return []
    detail = "must not be specified when serviceAccountName is not set"
    return [
        forbidden(f"{path}[{index}].projected.sources[{number}].serviceAccountToken", detail)
        for index, volume in enumerate(spec.volumes or ())
        for number, source in enumerate((volume.projected.sources if volume.projected is not None else None) or ())
        if source.service_account_token is not None
    ]
