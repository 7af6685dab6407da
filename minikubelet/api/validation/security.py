"""The rules for security contexts.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidatePodSecurityContext`, `ValidateSecurityContext`
(v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, duplicate, invalid, required, too_long, unsupported
from minikubelet.api.types import (
    AppArmorProfile,
    Container,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
)
from minikubelet.api.validation.paths import local_path
from minikubelet.api.validation.windows import validate_options

_MAX_ID: Final = 2**31 - 1
_PROFILES: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL: Final = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_SYSCTL_RULE: Final = (
    "must have at most 253 characters and match regex "
    "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)
_IPC_SYSCTLS: Final = ("kernel.sem",)
_IPC_PREFIXES: Final = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_PATH_MAX: Final = 4095


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
    if spec.share_process_namespace and spec.host_pid:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.shareProcessNamespace", True, detail))
    errors += _sysctls(spec, context, f"{path}.sysctls")
    errors += _one_of(context.fs_group_change_policy, ("Always", "OnRootMismatch"), f"{path}.fsGroupChangePolicy")
    errors += _seccomp(context.seccomp_profile, f"{path}.seccompProfile")
    errors += validate_options(context.windows_options, f"{path}.windowsOptions")
    errors += _apparmor(context.app_armor_profile, f"{path}.appArmorProfile")
    errors += _one_of(context.supplemental_groups_policy, ("Merge", "Strict"), f"{path}.supplementalGroupsPolicy")
    return errors + _one_of(context.se_linux_change_policy, ("MountOption", "Recursive"), f"{path}.seLinuxChangePolicy")


def _one_of(value: str | None, allowed: tuple[str, ...], path: str) -> list[FieldError]:
    return [unsupported(path, value, allowed)] if value is not None and value not in allowed else []


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
        plain = _dotted(one.name)
        if not one.name:
            errors.append(required(where))
        elif len(one.name.encode()) > 253 or not _SYSCTL.fullmatch(one.name):
            errors.append(invalid(where, one.name, _SYSCTL_RULE))
        elif one.name in names:
            errors.append(duplicate(where, one.name))
        if spec.host_network and plain.startswith("net."):
            errors.append(invalid(where, one.name, "may not be specified when 'hostNetwork' is true"))
        if spec.host_ipc and (plain in _IPC_SYSCTLS or plain.startswith(_IPC_PREFIXES)):
            errors.append(invalid(where, one.name, "may not be specified when 'hostIPC' is true"))
        names.add(one.name)
    return errors


def _dotted(name: str) -> str:
    """Return a sysctl's name with dots between its parts: with slashes, a dot stands for a slash in a part."""
    first = re.search(r"[./]", name)
    if first is None or first[0] == ".":
        return name
    return name.translate({ord("."): "/", ord("/"): "."})


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
            errors += local_path(profile.localhost_profile, where)
    elif profile.localhost_profile is not None:
        shown = {"Type": profile.type, "LocalhostProfile": profile.localhost_profile}
        errors.append(invalid(where, shown, "can only be set when seccomp type is Localhost"))
    return errors


def _apparmor(profile: AppArmorProfile | None, path: str) -> list[FieldError]:
    if profile is None:
        return []
    where = f"{path}.localhostProfile"
    name = profile.localhost_profile
    errors: list[FieldError] = []
    if not profile.type:
        errors.append(required(f"{path}.type", "type is required when appArmorProfile is set"))
    elif profile.type not in _PROFILES:
        errors.append(unsupported(f"{path}.type", profile.type, _PROFILES))
    elif profile.type != "Localhost":
        if name is not None:
            errors.append(invalid(where, name, "can only be set when AppArmor type is Localhost"))
    elif not name:
        errors.append(required(where, "must be set when AppArmor type is Localhost"))
    else:
        if name != name.strip():
            errors.append(invalid(where, name, "must not be padded with whitespace"))
        if len(name.encode()) > _PATH_MAX:
            errors.append(too_long(where, _PATH_MAX))
    return errors


def validate_container_security(container: Container, spec: PodSpec, path: str) -> list[FieldError]:
    """Return what is wrong with a container's security context."""
    context = container.security_context
    if context is None:
        return []
    errors = _ids((("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)), path)
    if context.proc_mount is not None:
        if context.proc_mount not in ("Default", "Unmasked"):
            errors.append(unsupported(f"{path}.procMount", context.proc_mount, ("Default", "Unmasked")))
        if context.proc_mount == "Unmasked" and spec.host_users is not False:
            detail = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(f"{path}.procMount", context.proc_mount, detail))
    errors += _seccomp(context.seccomp_profile, f"{path}.seccompProfile")
    if context.allow_privilege_escalation is False:
        errors += _escalation(context, path)
    errors += validate_options(context.windows_options, f"{path}.windowsOptions")
    return errors + _apparmor(context.app_armor_profile, f"{path}.appArmorProfile")


def _escalation(context: SecurityContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if context.privileged:
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        errors.append(invalid(path, _go_value(context), detail))
    for one in (context.capabilities.add if context.capabilities else None) or ():
        if one == "CAP_SYS_ADMIN":
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid(path, _go_value(context), detail))
    return errors


def _go_value(context: SecurityContext) -> dict[str, Any]:
    """Return a context as Go shows its struct."""
    capabilities, selinux, windows = context.capabilities, context.se_linux_options, context.windows_options
    seccomp, apparmor = context.seccomp_profile, context.app_armor_profile
    return {
        "Capabilities": None if capabilities is None else {"Add": capabilities.add, "Drop": capabilities.drop},
        "Privileged": context.privileged,
        "SELinuxOptions": None
        if selinux is None
        else {"User": selinux.user, "Role": selinux.role, "Type": selinux.type, "Level": selinux.level},
        "WindowsOptions": None
        if windows is None
        else {
            "GMSACredentialSpecName": windows.gmsa_credential_spec_name,
            "GMSACredentialSpec": windows.gmsa_credential_spec,
            "RunAsUserName": windows.run_as_user_name,
            "HostProcess": windows.host_process,
        },
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
