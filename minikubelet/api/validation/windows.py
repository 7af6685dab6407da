"""The rules that tell Linux and Windows Pods apart. This node runs Linux Pods only, but judges both.

Source: kubernetes pkg/apis/core/validation/validation.go `validateOS`, `validateLinux`, `validateWindows`,
`validateWindowsHostProcessPod`, `validateWindowsSecurityContextOptions` (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, forbidden, invalid, required, unsupported
from minikubelet.api.types import PodSpec, WindowsSecurityContextOptions, wire_name
from minikubelet.api.validation.places import all_containers

_NOT_LINUX: Final = "windows options cannot be set for a linux pod"
_NOT_WINDOWS: Final = "cannot be set for a windows pod"
_GMSA_KIB: Final = 64
_DOMAIN_LENGTH: Final = 256
_USER_LENGTH: Final = 104
_DNS_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DOMAIN: Final = re.compile(rf'[^\\/:*?"<>|.][^\\/:*?"<>|]{{0,14}}|{_DNS_LABEL}(?:\.{_DNS_LABEL})*')
_BAD_USER: Final = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")

# The fields that a Windows Pod may not have, in the order in which Kubernetes looks.
_POD_CONTEXT: Final = (
    "app_armor_profile",
    "se_linux_options",
    "-host_users",
    "-host_pid",
    "-host_ipc",
    "seccomp_profile",
    "fs_group",
    "fs_group_change_policy",
    "sysctls",
    "-share_process_namespace",
    "run_as_user",
    "run_as_group",
    "supplemental_groups",
    "supplemental_groups_policy",
    "se_linux_change_policy",
)
_CONTAINER_CONTEXT: Final = (
    "app_armor_profile",
    "se_linux_options",
    "seccomp_profile",
    "capabilities",
    "read_only_root_filesystem",
    "privileged",
    "allow_privilege_escalation",
    "proc_mount",
    "run_as_user",
    "run_as_group",
)


def validate_os(spec: PodSpec, path: str) -> list[FieldError]:
    """Check `os`, and that nothing is set that belongs to the other system."""
    if spec.os is None:
        return []
    match spec.os.name:
        case "":
            return [required(f"{path}.os.name")]
        case "linux":
            return _validate_linux(spec, path)
        case "windows":
            return _validate_windows(spec, path)
        case other:
            return [unsupported(f"{path}.os", other, ("linux", "windows"))]


def _validate_linux(spec: PodSpec, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.security_context is not None and spec.security_context.windows_options is not None:
        errors.append(forbidden(f"{path}.securityContext.windowsOptions", _NOT_LINUX))
    for here, one in all_containers(spec, path):
        if one.security_context is not None and one.security_context.windows_options is not None:
            errors.append(forbidden(f"{here}.securityContext.windowsOptions", _NOT_LINUX))
    return errors


def _validate_windows(spec: PodSpec, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in _POD_CONTEXT:
        owner, attribute = (spec, name[1:]) if name[0] == "-" else (spec.security_context, name)
        value = getattr(owner, attribute)
        unset = (None, False) if attribute in ("host_pid", "host_ipc") else (None,)
        if value not in unset:
            parent = path if name[0] == "-" else f"{path}.securityContext"
            errors.append(forbidden(f"{parent}.{wire_name(attribute)}", _NOT_WINDOWS))
    for here, one in all_containers(spec, path):
        for attribute in _CONTAINER_CONTEXT if one.security_context is not None else ():
            if getattr(one.security_context, attribute) is not None:
                errors.append(forbidden(f"{here}.securityContext.{wire_name(attribute)}", _NOT_WINDOWS))
    return errors


def validate_host_process(spec: PodSpec, path: str) -> list[FieldError]:
    """Check that either all containers of a Pod are processes of the host, with its network, or none."""
    errors: list[FieldError] = []
    options = spec.security_context.windows_options if spec.security_context is not None else None
    of_pod = options.host_process if options is not None else None
    count = total = 0
    for here, one in all_containers(spec, path):
        total += 1
        own = one.security_context.windows_options if one.security_context is not None else None
        value = own.host_process if own is not None else None
        if of_pod is not None and value is not None and of_pod != value:
            said = "true" if of_pod else "false"
            detail = f"pod hostProcess value must be identical if both are specified, was {said}"
            errors.append(invalid(f"{here}.securityContext.windowsOptions.hostProcess", value, detail))
        if value or (value is None and of_pod):
            count += 1
    if count == 0:
        return errors
    if count != total:
        detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(invalid(path, "", detail))
    if not spec.host_network:
        detail = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(invalid(f"{path}.hostNetwork", False, detail))
    return errors


def validate_options(options: WindowsSecurityContextOptions | None, path: str) -> list[FieldError]:
    """Check windowsOptions of a Pod or a container."""
    if options is None:
        return []
    errors: list[FieldError] = []
    name, spec = options.gmsa_credential_spec_name, options.gmsa_credential_spec
    if name is not None:
        errors += [invalid(f"{path}.gmsaCredentialSpecName", name, one) for one in syntax.dns_subdomain(name)]
    if spec == "":
        errors.append(invalid(f"{path}.gmsaCredentialSpec", "", "gmsaCredentialSpec cannot be an empty string"))
    elif spec is not None and len(spec.encode()) > _GMSA_KIB * 1024:
        detail = f"gmsaCredentialSpec size must be under {_GMSA_KIB} KiB"
        errors.append(invalid(f"{path}.gmsaCredentialSpec", spec, detail))
    user = options.run_as_user_name
    if user is not None:
        errors += [invalid(f"{path}.runAsUserName", user, f"runAsUserName{one}") for one in _user_name(user)]
    return errors


def _user_name(text: str) -> Iterator[str]:
    if not text:
        yield " cannot be an empty string"
    elif _CONTROL.search(text):
        yield " cannot contain control characters"
    elif text.count("\\") > 1:
        yield " cannot contain more than one backslash"
    else:
        domain, separator, user = text.rpartition("\\")
        if len(domain.encode()) >= _DOMAIN_LENGTH:
            yield f"'s Domain length must be under {_DOMAIN_LENGTH} characters"
        if separator and not _DOMAIN.fullmatch(domain):
            yield "'s Domain doesn't match the NetBios nor the DNS format"
        if not user:
            yield "'s User cannot be empty"
        elif len(user.encode()) > _USER_LENGTH:
            yield f"'s User length must not be longer than {_USER_LENGTH} characters"
        if re.fullmatch(r"[. ]+", user):
            yield "'s User cannot contain only periods or spaces"
        if _BAD_USER.search(user):
            yield "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"
