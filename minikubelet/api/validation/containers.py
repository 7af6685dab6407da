"""The rules for containers: names, images, ports, resources, restarts.

Source: kubernetes pkg/apis/core/validation/validation.go `validateContainers`, `validateInitContainers` (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_found,
    required,
    too_many,
    unsupported,
)
from minikubelet.api.types import (
    Container,
    PodSpec,
    ResourceRequirements,
    wire_name,
)
from minikubelet.api.validation.environment import validate_env
from minikubelet.api.validation.handlers import validate_hooks, validate_probes
from minikubelet.api.validation.mounts import Volumes, validate_devices, validate_mounts
from minikubelet.api.validation.resources import validate_claim_names, validate_resources
from minikubelet.api.validation.security import validate_container_security

_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_NOT_EPHEMERAL: Final = (
    "ports",
    "resources",
    "resize_policy",
    "restart_policy",
    "restart_policy_rules",
    "liveness_probe",
    "readiness_probe",
    "startup_probe",
    "lifecycle",
)
_RESIZED: Final = ("cpu", "memory")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")
_RESTART_POLICIES: Final = ("Always", "Never", "OnFailure")
_RULE_ACTIONS: Final = ("Restart", "RestartAllContainers")
_MOST_RULES: Final = 20
_MOST_EXIT_CODES: Final = 255


def validate_containers(spec: PodSpec, volumes: Volumes, path: str) -> list[FieldError]:
    """Return what is wrong with the app containers."""
    if not spec.containers:
        return [required(path)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, container in enumerate(spec.containers):
        here = f"{path}[{index}]"
        errors += _validate_common(container, spec, volumes, here)
        if container.name in names:
            errors.append(duplicate(f"{here}.name", container.name))
        names.add(container.name)
        errors += validate_hooks(container, spec, here)
        errors += validate_probes(container, here)
        errors += _validate_restart(container, here)
    return errors + _host_port_conflicts(spec.containers, path)


def validate_init_containers(spec: PodSpec, volumes: Volumes, path: str) -> list[FieldError]:
    """Return what is wrong with the init containers; only sidecars may have probes and hooks."""
    errors: list[FieldError] = []
    names = {one.name for one in spec.containers}
    for index, container in enumerate(spec.init_containers or ()):
        here = f"{path}[{index}]"
        errors += _validate_common(container, spec, volumes, here)
        errors += _validate_init_restart(container, here)
        if container.name in names:
            errors.append(duplicate(f"{here}.name", container.name))
        elif container.name:
            names.add(container.name)
        # Each by itself, since they run one by one; Kubernetes calls every one the first.
        errors += _host_port_conflicts([container], path)
        if container.restart_policy == "Always":
            errors += validate_hooks(container, spec, here)
            errors += validate_probes(container, here)
            continue
        for name, value in (
            ("lifecycle", container.lifecycle),
            ("livenessProbe", container.liveness_probe),
            ("readinessProbe", container.readiness_probe),
            ("startupProbe", container.startup_probe),
        ):
            if value is not None:
                detail = "may not be set for init containers without restartPolicy=Always"
                errors.append(forbidden(f"{here}.{name}", detail))
    return errors


# What an ephemeral container may not have, in the order in which Kubernetes looks.


def validate_ephemeral_containers(spec: PodSpec, volumes: Volumes, path: str) -> list[FieldError]:
    """Return what is wrong with ephemeral containers, which a manifest may not have at all."""
    errors: list[FieldError] = []
    others = {one.name for one in (*spec.containers, *(spec.init_containers or ()))}
    names = set(others)
    for index, container in enumerate(spec.ephemeral_containers or ()):
        here = f"{path}[{index}]"
        errors += _validate_common(container, spec, volumes, here)
        if container.image != container.image.strip():
            errors.append(invalid(f"{here}.image", container.image, "must not have leading or trailing whitespace"))
        if container.name in names:
            errors.append(duplicate(f"{here}.name", container.name))
        names.add(container.name)
        if container.target_container_name and container.target_container_name not in others:
            errors.append(not_found(f"{here}.targetContainerName", container.target_container_name))
        detail = "cannot be set for an Ephemeral Container"
        for name in _NOT_EPHEMERAL:
            if getattr(container, name) not in (None, ResourceRequirements()):
                errors.append(forbidden(f"{here}.{wire_name(name)}", detail))
        for number, one in enumerate(container.volume_mounts or ()):
            if one.sub_path:
                errors.append(forbidden(f"{here}.volumeMounts[{number}].subPath", detail))
            if one.sub_path_expr:
                errors.append(forbidden(f"{here}.volumeMounts[{number}].subPathExpr", detail))
    return errors


def _validate_common(container: Container, spec: PodSpec, volumes: Volumes, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not container.name:
        errors.append(required(f"{path}.name"))
    else:
        errors += [invalid(f"{path}.name", container.name, one) for one in syntax.dns_label(container.name)]
    if not container.image:
        errors.append(required(f"{path}.image"))
    if container.termination_message_policy not in _MESSAGE_POLICIES:
        policy = container.termination_message_policy
        errors.append(unsupported(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES))
    errors += _validate_ports(container, f"{path}.ports")
    errors += validate_env(container, path)
    errors += validate_mounts(container, volumes, f"{path}.volumeMounts")
    errors += validate_devices(container, volumes, f"{path}.volumeDevices")
    if container.image_pull_policy not in _PULL_POLICIES:
        errors.append(unsupported(f"{path}.imagePullPolicy", container.image_pull_policy, _PULL_POLICIES))
    errors += validate_resources(container.resources.limits, container.resources.requests, f"{path}.resources")
    errors += validate_claim_names(container.resources.claims, spec.resource_claims, f"{path}.resources.claims")
    errors += _validate_resize(container, spec, f"{path}.resizePolicy")
    return errors + validate_container_security(container, spec, f"{path}.securityContext")


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


def _validate_ports(container: Container, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(container.ports or ()):
        here = f"{path}[{index}]"
        if port.name:
            wrong = syntax.port_name(port.name)
            errors += [invalid(f"{here}.name", port.name, one) for one in wrong]
            if not wrong and port.name in names:
                errors.append(duplicate(f"{here}.name", port.name))
            names.add(port.name)
        if port.container_port == 0:
            errors.append(required(f"{here}.containerPort"))
        else:
            wrong = syntax.port_number(port.container_port)
            errors += [invalid(f"{here}.containerPort", port.container_port, one) for one in wrong]
        if port.host_port:
            wrong = syntax.port_number(port.host_port)
            errors += [invalid(f"{here}.hostPort", port.host_port, one) for one in wrong]
        if port.protocol not in _PROTOCOLS:
            errors.append(unsupported(f"{here}.protocol", port.protocol, _PROTOCOLS))
    return errors


def _validate_resize(container: Container, spec: PodSpec, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, one in enumerate(container.resize_policy or ()):
        if one.resource_name in seen:
            errors.append(duplicate(f"{path}[{index}]", one.resource_name))
        seen.add(one.resource_name)
        for value, allowed in ((one.resource_name, _RESIZED), (one.restart_policy, _RESIZE_POLICIES)):
            if not value:
                errors.append(required(path))
            elif value not in allowed:
                errors.append(unsupported(path, value, allowed))
        if spec.restart_policy == "Never" and one.restart_policy != "NotRequired":
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid(path, one.restart_policy, detail))
    return errors


def _validate_init_restart(container: Container, path: str) -> list[FieldError]:
    """Check the restart policy of an init container, whose rules count only with a policy."""
    if container.restart_policy is None and not container.restart_policy_rules:
        return []
    if container.restart_policy is None:
        return [required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")]
    return _validate_restart(container, path)


def _validate_restart(container: Container, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    policy, rules = container.restart_policy, container.restart_policy_rules or []
    if policy is not None and policy not in _RESTART_POLICIES:
        errors.append(unsupported(f"{path}.restartPolicy", policy, _RESTART_POLICIES))
    if rules and policy is None:
        errors.append(required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    if len(rules) > _MOST_RULES:
        errors.append(too_many(f"{path}.restartPolicyRules", len(rules), _MOST_RULES))
    for index, rule in enumerate(rules):
        here = f"{path}.restartPolicyRules[{index}]"
        if rule.action not in _RULE_ACTIONS:
            errors.append(unsupported(f"{here}.action", rule.action, _RULE_ACTIONS))
        codes = rule.exit_codes
        if codes is None:
            errors.append(required(f"{here}.exitCodes", "must be specified"))
            continue
        if codes.operator not in ("In", "NotIn"):
            errors.append(unsupported(f"{here}.exitCodes.operator", codes.operator, ("In", "NotIn")))
        if len(codes.values or ()) > _MOST_EXIT_CODES:
            errors.append(too_many(f"{here}.exitCodes.values", len(codes.values or ()), _MOST_EXIT_CODES))
    return errors
