"""The rules for containers: names, images, ports, environment, mounts, probes, hooks, resources.

Source: kubernetes pkg/apis/core/validation/validation.go `validateContainers`, `validateInitContainers` (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, duplicate, forbidden, invalid, not_found, required, unsupported
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import (
    ConfigMapKeySelector,
    Container,
    EnvVar,
    FileKeySelector,
    HTTPGetAction,
    LifecycleHandler,
    PodSpec,
    Probe,
    ResourceRequirements,
    SecretKeySelector,
)
from minikubelet.api.validation.fields import validate_env_field, validate_env_resource
from minikubelet.api.validation.security import validate_container_security
from minikubelet.api.validation.volumes import local_path

_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_SCHEMES: Final = ("HTTP", "HTTPS")
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"


def validate_containers(spec: PodSpec, volumes: Collection[str], path: str) -> list[FieldError]:
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
        elif container.name:
            names.add(container.name)
        errors += _validate_hooks(container, spec, here)
        errors += _validate_probes(container, here)
    return errors


def validate_init_containers(spec: PodSpec, volumes: Collection[str], path: str) -> list[FieldError]:
    """Return what is wrong with the init containers; only sidecars may have probes and hooks."""
    errors: list[FieldError] = []
    names = {one.name for one in spec.containers}
    for index, container in enumerate(spec.init_containers or ()):
        here = f"{path}[{index}]"
        errors += _validate_common(container, spec, volumes, here)
        if container.name in names:
            errors.append(duplicate(f"{here}.name", container.name))
        elif container.name:
            names.add(container.name)
        if container.restart_policy == "Always":
            errors += _validate_hooks(container, spec, here)
            errors += _validate_probes(container, here)
            continue
        for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            attribute = re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)
            if getattr(container, attribute) is not None:
                detail = "may not be set for init containers without restartPolicy=Always"
                errors.append(forbidden(f"{here}.{name}", detail))
    return errors


def _validate_common(container: Container, spec: PodSpec, volumes: Collection[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not container.name:
        errors.append(required(f"{path}.name"))
    else:
        errors += [invalid(f"{path}.name", container.name, one) for one in syntax.dns_label_no_dots(container.name)]
    if not container.image:
        errors.append(required(f"{path}.image"))
    elif container.image != container.image.strip():
        errors.append(invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace"))
    if container.termination_message_policy not in _MESSAGE_POLICIES:
        errors.append(
            unsupported(f"{path}.terminationMessagePolicy", container.termination_message_policy, _MESSAGE_POLICIES)
        )
    errors += _validate_ports(container, f"{path}.ports")
    errors += _validate_env(container, volumes, path)
    errors += _validate_mounts(container, volumes, f"{path}.volumeMounts")
    if container.image_pull_policy not in _PULL_POLICIES:
        errors.append(unsupported(f"{path}.imagePullPolicy", container.image_pull_policy, _PULL_POLICIES))
    errors += _validate_mount_options(container, f"{path}.volumeMounts")
    errors += _validate_devices(container, spec, f"{path}.volumeDevices")
    errors += validate_resources(container.resources, f"{path}.resources")
    claims = [one.name for one in spec.resource_claims or ()]
    errors += _validate_claims(container, claims, f"{path}.resources.claims")
    errors += _validate_restart(container, path)
    errors += validate_container_security(container, spec, f"{path}.securityContext")
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


def _validate_env(container: Container, volumes: Collection[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, variable in enumerate(container.env or ()):
        here = f"{path}.env[{index}]"
        if not variable.name:
            errors.append(required(f"{here}.name"))
        else:
            errors += [invalid(f"{here}.name", variable.name, one) for one in syntax.env_name(variable.name)]
        errors += _validate_value_from(variable, volumes, f"{here}.valueFrom")
    for index, source in enumerate(container.env_from or ()):
        here = f"{path}.envFrom[{index}]"
        if source.prefix:
            errors += [invalid(f"{here}.prefix", source.prefix, one) for one in syntax.env_name(source.prefix)]
        for name, reference in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
            if reference is not None and not reference.name:
                errors.append(required(f"{here}.{name}.name"))
            elif reference is not None:
                wrong = syntax.dns_subdomain(reference.name)
                errors += [invalid(f"{here}.{name}.name", reference.name, one) for one in wrong]
        if source.config_map_ref is None and source.secret_ref is None:
            errors.append(invalid(f"{path}.envFrom", "", "must specify one of: `configMapRef` or `secretRef`"))
        elif source.config_map_ref is not None and source.secret_ref is not None:
            detail = "may not have more than one field specified at a time"
            errors.append(invalid(f"{path}.envFrom", "", detail))
    return errors


def _validate_value_from(variable: EnvVar, volumes: Collection[str], path: str) -> list[FieldError]:
    source = variable.value_from
    if source is None:
        return []
    found = [name for name in source.__struct_fields__ if getattr(source, name) is not None]
    if not found:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        return [invalid(path, "", detail)]
    errors: list[FieldError] = []
    if source.field_ref is not None:
        errors += validate_env_field(source.field_ref, f"{path}.fieldRef")
    if source.resource_field_ref is not None:
        errors += validate_env_resource(source.resource_field_ref, f"{path}.resourceFieldRef")
    if source.config_map_key_ref is not None:
        errors += _validate_key(source.config_map_key_ref, f"{path}.configMapKeyRef")
    if source.secret_key_ref is not None:
        errors += _validate_key(source.secret_key_ref, f"{path}.secretKeyRef")
    if source.file_key_ref is not None:
        errors += _validate_file_key(source.file_key_ref, volumes, f"{path}.fileKeyRef")
    if variable.value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(found) > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _validate_key(reference: ConfigMapKeySelector | SecretKeySelector, path: str) -> list[FieldError]:
    errors = [invalid(f"{path}.name", reference.name, one) for one in syntax.dns_subdomain(reference.name)]
    if not reference.key:
        return [*errors, required(f"{path}.key")]
    return [*errors, *(invalid(f"{path}.key", reference.key, one) for one in syntax.config_key(reference.key))]


def _validate_file_key(reference: FileKeySelector, volumes: Collection[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not reference.key:
        errors.append(required(f"{path}.key"))
    else:
        errors += [invalid(f"{path}.key", reference.key, one) for one in syntax.env_name(reference.key)]
    if not reference.volume_name:
        errors.append(required(f"{path}.volumeName"))
    else:
        wrong = syntax.dns_label(reference.volume_name)
        errors += [invalid(f"{path}.volumeName", reference.volume_name, one) for one in wrong]
    if not reference.path:
        errors.append(required(f"{path}.path"))
    else:
        errors += local_path(reference.path, f"{path}.path", non_descending=True)
    if reference.volume_name not in volumes:
        errors.append(not_found(f"{path}.volumeName", reference.volume_name))
    return errors


def _validate_mounts(container: Container, volumes: Collection[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    points: set[str] = set()
    for index, one in enumerate(container.volume_mounts or ()):
        here = f"{path}[{index}]"
        if not one.name:
            errors.append(required(f"{here}.name"))
        if one.name not in volumes:
            errors.append(not_found(f"{here}.name", one.name))
        if not one.mount_path:
            errors.append(required(f"{here}.mountPath"))
        if one.mount_path in points:
            errors.append(invalid(f"{here}.mountPath", one.mount_path, "must be unique"))
        points.add(one.mount_path)
        if one.sub_path:
            errors += local_path(one.sub_path, f"{path}.subPath")
        if one.sub_path_expr:
            if one.sub_path:
                errors.append(
                    invalid(f"{here}.subPathExpr", one.sub_path_expr, "subPathExpr and subPath are mutually exclusive")
                )
            errors += local_path(one.sub_path_expr, f"{path}.subPathExpr")
    return errors


def _validate_mount_options(container: Container, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    privileged = container.security_context is not None and bool(container.security_context.privileged)
    modes = ("Bidirectional", "HostToContainer", "None")
    for one in container.volume_mounts or ():
        if one.mount_propagation is not None and one.mount_propagation not in modes:
            errors.append(unsupported(f"{path}.mountPropagation", one.mount_propagation, modes))
        elif one.mount_propagation == "Bidirectional" and not privileged:
            detail = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden(f"{path}.mountPropagation", detail))
        recursive = one.recursive_read_only
        if recursive is None:
            continue
        where = f"{path}.recursiveReadOnly"
        if recursive not in ("Disabled", "Enabled", "IfPossible"):
            errors.append(unsupported(where, recursive, ("Disabled", "Enabled", "IfPossible")))
        elif recursive != "Disabled":
            if not one.read_only:
                errors.append(forbidden(where, "may only be specified when readOnly is true"))
            if one.mount_propagation not in (None, "None"):
                detail = "may only be specified when mountPropagation is None or not specified"
                errors.append(forbidden(where, detail))
    return errors


def _validate_devices(container: Container, spec: PodSpec, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    mounted = {one.name for one in container.volume_mounts or ()}
    points = {one.mount_path for one in container.volume_mounts or ()}
    for index, one in enumerate(container.volume_devices or ()):
        here = f"{path}[{index}]"
        if one.name in mounted:
            errors.append(invalid(f"{here}.name", one.name, "must not already exist in volumeMounts"))
        if not one.device_path:
            errors.append(required(f"{here}.devicePath"))
        if one.device_path in points:
            detail = "must not already exist as a path in volumeMounts"
            errors.append(invalid(f"{here}.devicePath", one.device_path, detail))
    return errors


def _validate_restart(container: Container, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    policy, rules = container.restart_policy, container.restart_policy_rules or []
    policies = ("Always", "Never", "OnFailure")
    if policy is not None and policy not in policies:
        errors.append(unsupported(f"{path}.restartPolicy", policy, policies))
    if rules and policy is None:
        errors.append(required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    if len(rules) > 20:
        errors.append(
            FieldError(
                f"{path}.restartPolicyRules",
                f"{path}.restartPolicyRules: Too many: {len(rules)}: must have at most 20 items",
            )
        )
    for index, rule in enumerate(rules):
        here = f"{path}.restartPolicyRules[{index}]"
        if rule.action not in ("Restart", "RestartAllContainers"):
            errors.append(unsupported(f"{here}.action", rule.action, ("Restart", "RestartAllContainers")))
        if rule.exit_codes is None:
            errors.append(required(f"{here}.exitCodes", "must be specified"))
        elif rule.exit_codes.operator not in ("In", "NotIn"):
            errors.append(unsupported(f"{here}.exitCodes.operator", rule.exit_codes.operator, ("In", "NotIn")))
    return errors


def _validate_claims(container: Container, claims: list[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    known = f": {', '.join(claims)}" if claims else " which is empty"
    for index, one in enumerate(container.resources.claims or ()):
        here = f"{path}[{index}]"
        if not one.name:
            errors.append(required(here))
            continue
        if one.request:
            errors += [invalid(f"{here}.request", one.request, detail) for detail in syntax.dns_label(one.request)]
        key = one.name + "/" + one.request if one.request else one.name
        if key in seen:
            errors.append(duplicate(here, key))
        seen.add(key)
        if one.name not in claims:
            error = not_found(here, one.name)
            detail = f"must be one of the names in pod.spec.resourceClaims{known}"
            errors.append(FieldError(here, f"{error.text}: {detail}"))
    return errors


def _validate_probes(container: Container, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is None:
            continue
        here = f"{path}.{name}"
        errors += _validate_probe(probe, here)
        if name != "readinessProbe" and probe.success_threshold != 1:
            errors.append(invalid(f"{here}.successThreshold", probe.success_threshold, "must be 1"))
        if name == "readinessProbe" and probe.termination_grace_period_seconds is not None:
            detail = "must not be set for readinessProbes"
            value = probe.termination_grace_period_seconds
            errors.append(invalid(f"{here}.terminationGracePeriodSeconds", value, detail))
    return errors


def _validate_probe(probe: Probe, path: str) -> list[FieldError]:
    handler = {
        "exec": probe.exec,
        "httpGet": probe.http_get,
        "tcpSocket": probe.tcp_socket,
        "grpc": probe.grpc,
    }
    errors = _validate_handler(handler, path)
    for name, value in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if value < 0:
            errors.append(invalid(f"{path}.{name}", value, _NOT_NEGATIVE))
    grace = probe.termination_grace_period_seconds
    if grace is not None and grace <= 0:
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return errors


def _validate_handler(handler: Mapping[str, object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for name, action in handler.items():
        if action is None:
            continue
        count += 1
        here = f"{path}.{name}"
        if count > 1:
            errors.append(forbidden(here, "may not specify more than 1 handler type"))
            continue
        command = getattr(action, "command", None)
        if name == "exec" and not command:
            errors.append(required(f"{here}.command"))
        port = getattr(action, "port", None)
        if port is not None:
            errors += _validate_port(port, f"{here}.port")
        if isinstance(action, HTTPGetAction):
            errors += _validate_http(action, here)
    if count == 0:
        errors.append(required(path, "must specify a handler type"))
    return errors


def _validate_port(port: int | str, path: str) -> list[FieldError]:
    if isinstance(port, int):
        return [invalid(path, port, one) for one in syntax.port_number(port)]
    return [invalid(path, port, one) for one in syntax.port_name(port)]


def _validate_http(action: HTTPGetAction, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if action.scheme not in _SCHEMES:
        errors.append(unsupported(f"{path}.scheme", action.scheme, _SCHEMES))
    for one in action.http_headers or ():
        errors += [invalid(f"{path}.httpHeaders", one.name, detail) for detail in syntax.header_name(one.name)]
    return errors


def _validate_hooks(container: Container, spec: PodSpec, path: str) -> list[FieldError]:
    lifecycle = container.lifecycle
    if lifecycle is None:
        return []
    errors: list[FieldError] = []
    for name, handler in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if handler is not None:
            errors += _validate_hook(handler, spec, f"{path}.lifecycle.{name}")
    return errors


def _validate_hook(handler: LifecycleHandler, spec: PodSpec, path: str) -> list[FieldError]:
    actions: dict[str, object] = {
        "exec": handler.exec,
        "httpGet": handler.http_get,
        "tcpSocket": handler.tcp_socket,
        "sleep": handler.sleep,
    }
    errors = _validate_handler(actions, path)
    grace = spec.termination_grace_period_seconds or 0
    if handler.sleep is not None and not 0 <= handler.sleep.seconds <= max(1, grace):
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        errors.append(invalid(f"{path}.sleep", handler.sleep.seconds, detail))
    return errors


def validate_resources(resources: ResourceRequirements, path: str) -> list[FieldError]:
    """Return what is wrong with limits and requests."""
    errors: list[FieldError] = []
    limits, requests = resources.limits or {}, resources.requests or {}
    uncovered = False
    for name, text in sorted(limits.items()):
        errors += _resource_name(name, f"{path}.limits[{name}]")
        errors += _resource_quantity(name, text, f"{path}.limits[{name}]")
    for name, text in sorted(requests.items()):
        errors += _resource_name(name, f"{path}.requests[{name}]")
        errors += _resource_quantity(name, text, f"{path}.requests[{name}]")
        own = parse_quantity(text).nanos
        overcommit = name in _NATIVE or name == "ephemeral-storage"
        if name in limits:
            limit = parse_quantity(limits[name]).nanos
            if own != limit and not overcommit:
                detail = f"must be equal to {name} limit of {limits[name]}"
                errors.append(invalid(f"{path}.requests", text, detail))
            elif own > limit:
                detail = f"must be less than or equal to {name} limit of {limits[name]}"
                errors.append(invalid(f"{path}.requests", text, detail))
        elif not overcommit:
            uncovered = True
    if uncovered:
        errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    names = {*limits, *requests}
    if any(name.startswith("hugepages-") for name in names) and not names & set(_NATIVE):
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    return errors


_NATIVE: Final = ("cpu", "memory")


def _resource_name(name: str, path: str) -> list[FieldError]:
    wrong = [invalid(path, name, one) for one in syntax.qualified_name(name)]
    if "/" not in name:
        standard = name in (*_NATIVE, "ephemeral-storage") or name.startswith("hugepages-")
        known = standard or name in ("storage", "pods") or name.startswith(("limits.", "requests."))
        if not wrong and not known:
            wrong.append(invalid(path, name, "must be a standard resource type or fully qualified"))
        if not standard:
            wrong.append(invalid(path, name, "must be a standard resource for containers"))
        return wrong
    native = "kubernetes.io/" in name
    if not native and (wrong or name.startswith("requests.")):
        wrong.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return wrong


def _resource_quantity(name: str, text: str, path: str) -> list[FieldError]:
    quantity = parse_quantity(text)
    errors: list[FieldError] = []
    if quantity.nanos < 0:
        errors.append(invalid(path, text, _NOT_NEGATIVE))
    if "/" in name and quantity.nanos % 10**9:
        errors.append(invalid(path, text, "must be an integer"))
    if name.startswith("hugepages-") and not is_page_multiple(text, name):
        errors.append(invalid(path, text, f"{text} is not positive integer multiple of {name}"))
    return errors


def is_page_multiple(text: str, name: str) -> bool:
    """Tell whether an amount of huge pages is a whole number of pages."""
    try:
        page = parse_quantity(name.removeprefix("hugepages-")).value()
    except ValueError:
        return False
    return page > 0 and parse_quantity(text).value() % page == 0
