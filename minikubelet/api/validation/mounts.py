"""The rules for what containers mount, and for block devices.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateVolumeMounts`, `ValidateVolumeDevices` (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minikubelet.api.field_errors import (
    FieldError,
    forbidden,
    invalid,
    not_found,
    required,
    unsupported,
)
from minikubelet.api.types import (
    Container,
    Volume,
    VolumeMount,
)
from minikubelet.api.validation.paths import local_path

Volumes = Mapping[str, Volume]  # those in order, which containers may use

_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")
_RECURSIONS: Final = ("Disabled", "Enabled", "IfPossible")


def validate_mounts(container: Container, volumes: Volumes, path: str) -> list[FieldError]:
    """Check `volumeMounts`; places may be used once and lead to a volume of the pod."""
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


def validate_devices(container: Container, volumes: Volumes, path: str) -> list[FieldError]:
    """Check `volumeDevices`: block devices of claims, beside what is mounted."""
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
