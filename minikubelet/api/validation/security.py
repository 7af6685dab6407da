"""The rules for security contexts.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidatePodSecurityContext`, `ValidateSecurityContext`
(v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, duplicate, invalid, required, unsupported
from minikubelet.api.types import (
    AppArmorProfile,
    Container,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
)
from minikubelet.api.validation.volumes import local_path

_MAX_ID: Final = 2**31 - 1
_PROFILES: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL: Final = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_SYSCTL_RULE: Final = (
    "must have at most 253 characters and match regex "
    "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)
_IPC_SYSCTLS: Final = ("kernel.sem",)
_IPC_PREFIXES: Final = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def validate_pod_security(spec: PodSpec, path: str) -> list[FieldError]:
    """Return what is wrong with the Pod's security context."""
    context = spec.security_context
    if context is None:
        return []
    errors = _ids(
        (
            ("fsGroup", context.fs_group),
            ("runAsUser", context.run_as_user),
            ("runAsGroup", context.run_as_group),
            *((f"supplementalGroups[{i}]", one) for i, one in enumerate(context.supplemental_groups or ())),
        ),
        path,
    )
    errors += _sysctls(spec, context, f"{path}.sysctls")
    for name, value, allowed in (
        ("fsGroupChangePolicy", context.fs_group_change_policy, ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", context.supplemental_groups_policy, ("Merge", "Strict")),
    ):
        if value is not None and value not in allowed:
            errors.append(unsupported(f"{path}.{name}", value, allowed))
    errors += _seccomp(context.seccomp_profile, f"{path}.seccompProfile")
    errors += _windows(context, path)
    return errors + _apparmor(context.app_armor_profile, f"{path}.appArmorProfile")


def _ids(values: Iterable[tuple[str, int | None]], path: str) -> list[FieldError]:
    detail = syntax.between(0, _MAX_ID)
    return [
        invalid(f"{path}.{name}", value, detail)
        for name, value in values
        if value is not None and not 0 <= value <= _MAX_ID
    ]


def _sysctls(spec: PodSpec, context: PodSecurityContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, one in enumerate(context.sysctls or ()):
        where = f"{path}[{index}].name"
        plain = one.name.replace("/", ".")
        if not one.name:
            errors.append(required(where))
        elif len(one.name) > 253 or not _SYSCTL.fullmatch(one.name):
            errors.append(invalid(where, one.name, _SYSCTL_RULE))
        elif one.name in names:
            errors.append(duplicate(where, one.name))
        if spec.host_network and plain.startswith("net."):
            errors.append(invalid(where, one.name, "may not be specified when 'hostNetwork' is true"))
        if spec.host_ipc and (plain in _IPC_SYSCTLS or plain.startswith(_IPC_PREFIXES)):
            errors.append(invalid(where, one.name, "may not be specified when 'hostIPC' is true"))
        names.add(one.name)
    return errors


def _seccomp(profile: SeccompProfile | None, path: str) -> list[FieldError]:
    if profile is None:
        return []
    errors: list[FieldError] = []
    if not profile.type:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set"))
    elif profile.type not in _PROFILES:
        errors.append(unsupported(f"{path}.type", profile.type, _PROFILES))
    where = f"{path}.localhostProfile"
    if profile.type == "Localhost":
        if profile.localhost_profile is None:
            errors.append(required(where, "must be set when seccomp type is Localhost"))
        else:
            errors += local_path(profile.localhost_profile, where, non_descending=True)
    elif profile.localhost_profile is not None:
        shown = {"Type": profile.type, "LocalhostProfile": profile.localhost_profile}
        errors.append(invalid(where, shown, "can only be set when seccomp type is Localhost"))
    return errors


def _apparmor(profile: AppArmorProfile | None, path: str) -> list[FieldError]:
    if profile is None:
        return []
    where = f"{path}.localhostProfile"
    name = profile.localhost_profile
    if profile.type == "Localhost":
        if name is None or not name.strip():
            return [required(where, "must be set when AppArmor type is Localhost")]
        if name != name.strip():
            return [invalid(where, name, "must not be padded with whitespace")]
        return []
    errors: list[FieldError] = []
    if not profile.type:
        errors.append(required(f"{path}.type", "type is required when appArmorProfile is set"))
    elif profile.type not in _PROFILES:
        errors.append(unsupported(f"{path}.type", profile.type, _PROFILES))
    if name is not None:
        errors.append(invalid(where, name, "can only be set when AppArmor type is Localhost"))
    return errors


def _windows(context: PodSecurityContext | SecurityContext, path: str) -> list[FieldError]:
    options = context.windows_options
    if options is None or options.gmsa_credential_spec != "":
        return []
    detail = "gmsaCredentialSpec cannot be an empty string"
    return [invalid(f"{path}.windowsOptions.gmsaCredentialSpec", "", detail)]


def validate_container_security(container: Container, spec: PodSpec, path: str) -> list[FieldError]:
    """Return what is wrong with a container's security context."""
    context = container.security_context
    if context is None:
        return []
    errors = _ids((("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)), path)
    if context.proc_mount is not None:
        if context.proc_mount not in ("Default", "Unmasked"):
            errors.append(unsupported(f"{path}.procMount", context.proc_mount, ("Default", "Unmasked")))
        elif context.proc_mount == "Unmasked" and spec.host_users is not False:
            detail = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(f"{path}.procMount", context.proc_mount, detail))
    errors += _seccomp(context.seccomp_profile, f"{path}.seccompProfile")
    if context.allow_privilege_escalation is False:
        errors += _escalation(context, path)
    errors += _windows(context, path)
    return errors + _apparmor(context.app_armor_profile, f"{path}.appArmorProfile")


def _escalation(context: SecurityContext, path: str) -> list[FieldError]:
    if context.privileged:
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        return [invalid(path, _go_value(context), detail)]
    added = (context.capabilities.add if context.capabilities else None) or ()
    if "CAP_SYS_ADMIN" in added:
        detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
        return [invalid(path, _go_value(context), detail)]
    return []


def _go_value(context: SecurityContext) -> dict[str, Any]:
    """Return a context as Go shows its struct."""
    capabilities = context.capabilities
    seccomp, apparmor = context.seccomp_profile, context.app_armor_profile
    return {
        "Capabilities": None if capabilities is None else {"Add": capabilities.add, "Drop": capabilities.drop},
        "Privileged": context.privileged,
        "SELinuxOptions": None,
        "WindowsOptions": None,
        "RunAsUser": context.run_as_user,
        "RunAsGroup": context.run_as_group,
        "RunAsNonRoot": context.run_as_non_root,
        "ReadOnlyRootFilesystem": context.read_only_root_filesystem,
        "AllowPrivilegeEscalation": context.allow_privilege_escalation,
        "ProcMount": context.proc_mount,
        "SeccompProfile": None
        if seccomp is None
        else {"Type": seccomp.type, "LocalhostProfile": seccomp.localhost_profile},
        "AppArmorProfile": None
        if apparmor is None
        else {"Type": apparmor.type, "LocalhostProfile": apparmor.localhost_profile},
    }
