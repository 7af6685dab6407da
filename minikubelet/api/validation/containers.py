"""The rules for containers: names, images, ports, environment, mounts, probes, hooks, resources.

Source: kubernetes pkg/apis/core/validation/validation.go `validateContainers`, `validateInitContainers` (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    SleepAction,
    Volume,
    VolumeMount,
    wire_name,
)
from minikubelet.api.validation.fields import validate_env_field, validate_env_resource
from minikubelet.api.validation.paths import local_path, no_backsteps
from minikubelet.api.validation.resources import validate_claim_names, validate_resources
from minikubelet.api.validation.security import validate_container_security

Volumes = Mapping[str, Volume]  # those in order, which containers may use

_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_SCHEMES: Final = ("HTTP", "HTTPS")
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"


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
        errors += _validate_hooks(container, spec, here)
        errors += _validate_probes(container, here)
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
            errors += _validate_hooks(container, spec, here)
            errors += _validate_probes(container, here)
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
    errors += _validate_env(container, path)
    errors += _validate_mounts(container, volumes, f"{path}.volumeMounts")
    errors += _validate_devices(container, volumes, f"{path}.volumeDevices")
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


def _validate_env(container: Container, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, variable in enumerate(container.env or ()):
        here = f"{path}.env[{index}]"
        if not variable.name:
            errors.append(required(f"{here}.name"))
        else:
            errors += [invalid(f"{here}.name", variable.name, one) for one in syntax.env_name(variable.name)]
        errors += _validate_value_from(variable, f"{here}.valueFrom")
    for index, source in enumerate(container.env_from or ()):
        here = f"{path}.envFrom[{index}]"
        if source.prefix:
            errors += [invalid(f"{here}.prefix", source.prefix, one) for one in syntax.env_name(source.prefix)]
        for name, reference in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
            if reference is not None and not reference.name:
                errors.append(required(f"{here}.{name}.name"))
            elif reference is not None:
                wrong = syntax.name_prefix(reference.name)
                errors += [invalid(f"{here}.{name}.name", reference.name, one) for one in wrong]
        if source.config_map_ref is None and source.secret_ref is None:
            errors.append(invalid(f"{path}.envFrom", "", "must specify one of: `configMapRef` or `secretRef`"))
        elif source.config_map_ref is not None and source.secret_ref is not None:
            detail = "may not have more than one field specified at a time"
            errors.append(invalid(f"{path}.envFrom", "", detail))
    return errors


def _validate_value_from(variable: EnvVar, path: str) -> list[FieldError]:
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
        errors += _validate_file_key(source.file_key_ref, f"{path}.fileKeyRef")
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


def _validate_file_key(reference: FileKeySelector, path: str) -> list[FieldError]:
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
        errors += no_backsteps(reference.path, f"{path}.path")
    return errors


def _validate_mounts(container: Container, volumes: Volumes, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    points: set[str] = set()
    devices = {one.name: one.device_path for one in container.volume_devices or ()}
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
        if one.name in devices:
            errors.append(invalid(f"{here}.name", one.name, "must not already exist in volumeDevices"))
        if one.mount_path in devices.values():
            detail = "must not already exist as a path in volumeDevices"
            errors.append(invalid(f"{here}.mountPath", one.mount_path, detail))
        if one.sub_path:
            errors += local_path(one.sub_path, f"{path}.subPath")
        if one.sub_path_expr:
            if one.sub_path:
                detail = "subPathExpr and subPath are mutually exclusive"
                errors.append(invalid(f"{here}.subPathExpr", one.sub_path_expr, detail))
            errors += local_path(one.sub_path_expr, f"{path}.subPathExpr")
        errors += _validate_mount_options(one, container, path)
    return errors


_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")
_RECURSIONS: Final = ("Disabled", "Enabled", "IfPossible")


def _validate_mount_options(one: VolumeMount, container: Container, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    privileged = container.security_context is not None and bool(container.security_context.privileged)
    if one.mount_propagation is not None and one.mount_propagation not in _PROPAGATIONS:
        errors.append(unsupported(f"{path}.mountPropagation", one.mount_propagation, _PROPAGATIONS))
    if one.mount_propagation == "Bidirectional" and not privileged:
        detail = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden(f"{path}.mountPropagation", detail))
    where = f"{path}.recursiveReadOnly"
    if one.recursive_read_only is not None and one.recursive_read_only not in _RECURSIONS:
        errors.append(unsupported(where, one.recursive_read_only, _RECURSIONS))
    elif one.recursive_read_only in ("Enabled", "IfPossible"):
        if not one.read_only:
            errors.append(forbidden(where, "may only be specified when readOnly is true"))
        if one.mount_propagation not in (None, "None"):
            errors.append(forbidden(where, "may only be specified when mountPropagation is None or not specified"))
    return errors


def _validate_devices(container: Container, volumes: Volumes, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    mounts = {one.name: one.mount_path for one in container.volume_mounts or ()}
    names: set[str] = set()
    points: set[str] = set()
    for index, one in enumerate(container.volume_devices or ()):
        here = f"{path}[{index}]"
        volume = volumes.get(one.name)
        if not one.name:
            errors.append(required(f"{here}.name"))
        if one.name in names:
            errors.append(invalid(f"{here}.name", one.name, "must be unique"))
        if volume is None:
            errors.append(not_found(f"{here}.name", one.name))
        elif volume.persistent_volume_claim is None and volume.ephemeral is None:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid(f"{here}.name", one.name, detail))
        if not one.device_path:
            errors.append(required(f"{here}.devicePath"))
        if one.device_path in points:
            errors.append(invalid(f"{here}.devicePath", one.device_path, "must be unique"))
        if ".." in one.device_path.split("/"):
            errors.append(invalid(f"{here}.devicePath", one.device_path, "can not contain backsteps ('..')"))
        else:
            points.add(one.device_path)
        if one.name in mounts:
            errors.append(invalid(f"{here}.name", one.name, "must not already exist in volumeMounts"))
        if one.device_path in mounts.values():
            detail = "must not already exist as a path in volumeMounts"
            errors.append(invalid(f"{here}.devicePath", one.device_path, detail))
        if one.name:
            names.add(one.name)
    return errors


_RESIZED: Final = ("cpu", "memory")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")


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


_RESTART_POLICIES: Final = ("Always", "Never", "OnFailure")
_RULE_ACTIONS: Final = ("Restart", "RestartAllContainers")
_MOST_RULES: Final = 20
_MOST_EXIT_CODES: Final = 255


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
    errors = _validate_handler(handler, 0, path)
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


def _validate_handler(handler: Mapping[str, object], grace: int, path: str) -> list[FieldError]:
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
        if isinstance(action, SleepAction) and not 0 <= action.seconds <= grace:
            detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            errors.append(invalid(here, action.seconds, detail))
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
    if lifecycle.stop_signal is not None:
        errors += _validate_stop_signal(lifecycle.stop_signal, spec, f"{path}.lifecycle.stopSignal")
    return errors


def _validate_hook(handler: LifecycleHandler, spec: PodSpec, path: str) -> list[FieldError]:
    actions: dict[str, object] = {
        "exec": handler.exec,
        "httpGet": handler.http_get,
        "tcpSocket": handler.tcp_socket,
        "sleep": handler.sleep,
    }
    return _validate_handler(actions, spec.termination_grace_period_seconds or 0, path)


_SIGNALS: Final = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP "
    "TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
).split()
STOP_SIGNALS: Final = tuple(
    sorted(
        (
            *(f"SIG{one}" for one in _SIGNALS),
            *(f"SIGRTMIN+{number}" for number in range(1, 16)),
            *(f"SIGRTMAX-{number}" for number in range(1, 15)),
        )
    )
)


def _validate_stop_signal(signal: str, spec: PodSpec, path: str) -> list[FieldError]:
    if spec.os is None:
        return [forbidden(path, "may not be set for containers with empty `spec.os.name`")]
    allowed = {"linux": STOP_SIGNALS, "windows": ("SIGKILL", "SIGTERM")}.get(spec.os.name)
    return [] if allowed is None or signal in allowed else [unsupported(path, signal, allowed)]
