"""The rules for probes, lifecycle hooks and stop signals.

Source: kubernetes pkg/apis/core/validation/validation.go `validateProbe`, `validateHandler`,
`validateLifecycle` (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import (
    FieldError,
    forbidden,
    invalid,
    required,
    unsupported,
)
from minikubelet.api.types import (
    Container,
    HTTPGetAction,
    LifecycleHandler,
    PodSpec,
    Probe,
    SleepAction,
)

_SCHEMES: Final = ("HTTP", "HTTPS")
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"
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


def validate_probes(container: Container, path: str) -> list[FieldError]:
    """Check a container's probes."""
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


def validate_hooks(container: Container, spec: PodSpec, path: str) -> list[FieldError]:
    """Check `lifecycle`: hooks and the stop signal."""
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


def _validate_hook(handler: LifecycleHandler, spec: PodSpec, path: str) -> list[FieldError]:
    actions: dict[str, object] = {
        "exec": handler.exec,
        "httpGet": handler.http_get,
        "tcpSocket": handler.tcp_socket,
        "sleep": handler.sleep,
    }
    return _validate_handler(actions, spec.termination_grace_period_seconds or 0, path)


def _validate_stop_signal(signal: str, spec: PodSpec, path: str) -> list[FieldError]:
    if spec.os is None:
        return [forbidden(path, "may not be set for containers with empty `spec.os.name`")]
    allowed = {"linux": STOP_SIGNALS, "windows": ("SIGKILL", "SIGTERM")}.get(spec.os.name)
    return [] if allowed is None or signal in allowed else [unsupported(path, signal, allowed)]
