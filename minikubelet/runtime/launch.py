"""From a container of a Pod to what its pause is asked to start: command, environment, mounts, user, rights.

Users are looked up in the host's /etc/passwd, which is the container's too: its root is the host's root.
Source: kubelet `generateContainerConfig`, containerd internal/cri/server/container_create (v1.36).
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from minikubelet.api.expansion import expand
from minikubelet.api.types import Container, Pod, PodSecurityContext, SecurityContext
from minikubelet.lifecycle.pods import full_name
from minikubelet.runtime.accounts import Accounts
from minikubelet.runtime.port import ContainerFailure
from minikubelet.runtime.seccomp import SeccompError, compile_profile, runtime_default
from minikubelet.sandbox.spec import ContainerSpec, MountSpec

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIG_ERROR: Final = "CreateContainerConfigError"
CREATE_ERROR: Final = "CreateContainerError"

CAPABILITIES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
_DEFAULT_CAPABILITIES: Final = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
).split()
_MASKED: Final = (
    *(f"/proc/{name}" for name in ("asound", "acpi", "interrupts", "kcore", "keys", "latency_stats")),
    *(f"/proc/{name}" for name in ("timer_list", "timer_stats", "sched_debug", "scsi")),
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    *(f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(os.cpu_count() or 1)),
)
_APPARMOR_PROFILES: Final = "/sys/kernel/security/apparmor/profiles"
_READ_ONLY: Final = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a container's processes are."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def container_hash(container: Container) -> str:
    """Return what a running container is judged by: name and image only (kubelet `HashContainer`)."""
    return hashlib.sha256(f"{container.name}\0{container.image}".encode()).hexdigest()[:16]


def command_line(container: Container, variables: Mapping[str, str]) -> list[str]:
    """Return argv with `$(NAME)` expanded.

    Raises:
        ContainerFailure: There is neither command nor args, and the host has no entrypoint to offer.
    """
    words = [*(container.command or ()), *(container.args or ())]
    # The image that stands for the host has no entrypoint: args alone are then the command.
    if not words:
        raise ContainerFailure(CREATE_ERROR, "failed to generate container spec: no command specified")
    return [expand(word, variables) for word in words]


def environment(variables: Mapping[str, str], *, hostname: str, home: str, tty: bool) -> list[str]:
    """Return the environment with what the runtime adds."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if tty:
        merged["TERM"] = "xterm"
    merged.update(variables)
    if not merged.get("HOME"):
        merged["HOME"] = home
    return [f"{name}={value}" for name, value in merged.items()]


def identity(pod: Pod, container: Container, accounts: Accounts) -> Identity:
    """Return the user and groups of a container's processes.

    Raises:
        ContainerFailure: runAsNonRoot forbids that user.
    """
    own = container.security_context or SecurityContext()
    shared = pod.spec.security_context or PodSecurityContext()
    chosen = own.run_as_user if own.run_as_user is not None else shared.run_as_user
    group = own.run_as_group if own.run_as_group is not None else shared.run_as_group
    non_root = own.run_as_non_root if own.run_as_non_root is not None else shared.run_as_non_root
    uid = 0 if chosen is None else chosen
    if non_root and uid == 0:
        where = f'(pod: "{full_name(pod)}", container: {container.name})'
        if chosen is None:
            raise ContainerFailure(CONFIG_ERROR, f"container has runAsNonRoot and image will run as root {where}")
        raise ContainerFailure(CONFIG_ERROR, f"container's runAsUser breaks non-root policy {where}")
    user = accounts.user(uid)
    gid = group if group is not None else user.gid if user is not None else 0
    groups = {gid, *(shared.supplemental_groups or ())}
    if shared.fs_group is not None:
        groups.add(shared.fs_group)
    if user is not None and shared.supplemental_groups_policy != "Strict":
        groups |= accounts.groups_of(user.name)
    home = user.home if user is not None and user.home else "/"
    return Identity(uid=uid, gid=gid, groups=tuple(sorted(groups)), home=home)


def capability_names(context: SecurityContext) -> list[str]:
    """Return a container's capabilities: `add: ALL`, then `drop: ALL`, then single adds, then single drops."""
    if context.privileged:
        return list(CAPABILITIES)
    wanted = context.capabilities
    add = [_plain(name) for name in (wanted.add if wanted else None) or ()]
    drop = [_plain(name) for name in (wanted.drop if wanted else None) or ()]
    names = list(CAPABILITIES) if "ALL" in add else list(_DEFAULT_CAPABILITIES)
    if "ALL" in drop:
        names = []
    names.extend(name for name in add if name != "ALL" and name not in names)
    return [name for name in names if name not in drop]


def _plain(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def capability_mask(names: Sequence[str]) -> int:
    """Return capabilities as the kernel's bit mask.

    Raises:
        ContainerFailure: A name that the kernel does not have.
    """
    mask = 0
    for name in names:
        if name not in CAPABILITIES:
            raise ContainerFailure(CREATE_ERROR, f'failed to generate container spec: unknown capability "CAP_{name}"')
        mask |= 1 << CAPABILITIES.index(name)
    return mask


def _seccomp_failure(text: str) -> ContainerFailure:
    return ContainerFailure(CREATE_ERROR, f"failed to generate seccomp spec opts: {text}")


def seccomp_filter(pod: Pod, container: Container, names: Sequence[str], profiles_dir: str) -> str:
    """Return the container's filter program in base64, "" for none.

    Raises:
        ContainerFailure: A local profile is missing or malformed.
    """
    own = container.security_context.seccomp_profile if container.security_context else None
    shared = pod.spec.security_context.seccomp_profile if pod.spec.security_context else None
    profile = own or shared
    privileged = container.security_context is not None and container.security_context.privileged
    if profile is None or profile.type == "Unconfined" or privileged:
        return ""
    path = os.path.join(profiles_dir, profile.localhost_profile or "")
    try:
        if profile.type == "RuntimeDefault":
            program = compile_profile(runtime_default({f"CAP_{name}" for name in names}))
        else:
            import json

            with open(path, encoding="utf-8") as file:
                program = compile_profile(json.load(file))
    except OSError as error:
        why = (error.strerror or str(error)).lower()  # as Go prints the C library's texts
        raise _seccomp_failure(f'cannot load seccomp profile "{path}": open {path}: {why}') from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _seccomp_failure(f'decoding seccomp profile "{path}" failed: {error}') from error
    except SeccompError as error:
        raise _seccomp_failure(str(error)) from error
    return base64.b64encode(program).decode()


def apparmor_profile(pod: Pod, container: Container, loaded: Callable[[], str | None]) -> str:
    """Return the AppArmor profile that exec puts on, "" to leave that alone.

    Args:
        pod: The pod.
        container: One of its containers.
        loaded: Reads the kernel's list of profiles, one a line as `name (mode)`; None when it cannot be read.

    Raises:
        ContainerFailure: A local profile is not loaded.
    """
    own = container.security_context.app_armor_profile if container.security_context else None
    shared = pod.spec.security_context.app_armor_profile if pod.spec.security_context else None
    profile = own or shared
    privileged = container.security_context is not None and container.security_context.privileged
    if profile is None or privileged or profile.type != "Localhost":
        return ""
    name = profile.localhost_profile or ""
    found = loaded()
    if found is not None and not any(line.rpartition(" (")[0] == name for line in found.splitlines()):
        text = f"failed to generate apparmor spec opts: apparmor profile not found {name}"
        raise ContainerFailure(CREATE_ERROR, text)
    return name


def _loaded_profiles() -> str | None:
    try:
        with open(_APPARMOR_PROFILES, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def container_spec(
    pod: Pod,
    container: Container,
    *,
    accounts: Accounts,
    container_id: str,
    restart_count: int,
    variables: Mapping[str, str],
    hostname: str,
    mounts: Sequence[MountSpec],
    hidden_paths: Sequence[str],
    host_mounts: Sequence[str],
    cgroup_dirs: Sequence[str],
    memory_cgroup: str,
    oom_score_adj: int | None,
    rootfs_size: int,
    log_path: str,
    log_max_size: int,
    log_max_files: int,
    seccomp_profiles_dir: str,
) -> ContainerSpec:
    """Put together everything that the pause needs for one instance.

    Raises:
        ContainerFailure: Something in the container's configuration cannot be honoured.
    """
    who = identity(pod, container, accounts)
    context = container.security_context or SecurityContext()
    names = capability_names(context)
    unmasked = bool(context.privileged) or context.proc_mount == "Unmasked"
    annotations = pod.metadata.annotations or {}
    return ContainerSpec(
        id=container_id,
        name=container.name,
        restart_count=restart_count,
        spec_hash=container_hash(container),
        argv=command_line(container, variables),
        env=environment(variables, hostname=hostname, home=who.home, tty=container.tty),
        cwd=container.working_dir or "/",
        rootfs="host" if annotations.get("minikubelet.io/rootfs") == "host" else "overlay",
        rootfs_size=rootfs_size,
        rootfs_read_only=bool(context.read_only_root_filesystem),
        hidden_paths=list(hidden_paths),
        host_mounts=list(host_mounts),
        mounts=list(mounts),
        masked_paths=[] if unmasked else list(_MASKED),
        read_only_paths=[] if unmasked else list(_READ_ONLY),
        privileged=bool(context.privileged),
        uid=who.uid,
        gid=who.gid,
        groups=list(who.groups),
        capabilities=capability_mask(names),
        no_new_privs=context.allow_privilege_escalation is False,
        seccomp=seccomp_filter(pod, container, names, seccomp_profiles_dir),
        apparmor=apparmor_profile(pod, container, _loaded_profiles),
        oom_score_adj=oom_score_adj,
        cgroup_dirs=list(cgroup_dirs),
        memory_cgroup=memory_cgroup,
        log_path=log_path,
        log_max_size=log_max_size,
        log_max_files=log_max_files,
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
    )
