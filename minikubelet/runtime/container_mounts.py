"""What a container has mounted above its root: the files in /etc, its termination message, its volumes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

import structlog

from minikubelet.api.expansion import expand
from minikubelet.api.types import Container, Pod, Volume, VolumeMount
from minikubelet.linux import mounts
from minikubelet.runtime import launch
from minikubelet.runtime.port import ContainerFailure
from minikubelet.sandbox.rootfs import open_sub_path
from minikubelet.sandbox.spec import MountSpec

log = structlog.get_logger(__name__)


def container_mounts(
    pod: Pod,
    container: Container,
    *,
    pod_dir: str,
    message: str,
    variables: Mapping[str, str],
    source_path: Callable[[Pod, Volume], str],
) -> list[MountSpec]:
    """Return a container's mounts, outer ones first; a volume at the place of a file of ours replaces it.

    Args:
        pod: The pod.
        container: One of its containers.
        pod_dir: Where the pod's files in /etc lie.
        message: The file for the instance's termination message.
        variables: The container's environment, for subPathExpr.
        source_path: Where a volume lies on the host.

    Raises:
        ContainerFailure: A mount cannot be made as it is asked for.
    """
    context = container.security_context
    read_only_root = bool(context.read_only_root_filesystem) if context is not None else False
    found = [
        MountSpec(kind="bind", source=f"{pod_dir}/etc-hosts", target="/etc/hosts", own=True),
        MountSpec(
            kind="bind",
            source=f"{pod_dir}/etc-resolv.conf",
            target="/etc/resolv.conf",
            read_only=read_only_root,
            own=True,
        ),
        MountSpec(
            kind="bind",
            source=f"{pod_dir}/etc-hostname",
            target="/etc/hostname",
            read_only=read_only_root,
            own=True,
        ),
        MountSpec(
            kind="bind",
            source=message,
            target=container.termination_message_path or "/dev/termination-log",
            own=True,
        ),
    ]
    own = [_volume_mount(pod, container, one, variables, source_path) for one in container.volume_mounts or ()]
    covered = {one.target.rstrip("/") for one in own}
    found = [one for one in found if one.target not in covered]
    return sorted((*found, *own), key=lambda one: one.target.rstrip("/").count("/"))


def _volume_mount(
    pod: Pod,
    container: Container,
    one: VolumeMount,
    variables: Mapping[str, str],
    source_path: Callable[[Pod, Volume], str],
) -> MountSpec:
    volume = next(v for v in pod.spec.volumes or () if v.name == one.name)
    source = source_path(pod, volume)
    sub_path = one.sub_path
    if one.sub_path_expr:
        sub_path = _expand_sub_path(one.sub_path_expr, variables)
    if sub_path:
        _prepare_sub_path(source, sub_path, one, container)
    privileged = container.security_context is not None and container.security_context.privileged
    if one.mount_propagation == "Bidirectional" and not privileged:
        text = "Bidirectional mount propagation is available only to privileged containers"
        raise ContainerFailure(launch.CREATE_ERROR, text)
    target = one.mount_path if one.mount_path.startswith("/") else "/" + one.mount_path
    always_read_only = any((volume.config_map, volume.secret, volume.downward_api, volume.projected))
    propagation = {"HostToContainer": "rslave", "Bidirectional": "rshared"}.get(one.mount_propagation or "", "")
    if propagation:
        _check_propagation(source, propagation)
    return MountSpec(
        kind="bind",
        source=source,
        target=os.path.normpath(target),
        sub_path=sub_path,
        own=volume.host_path is None,
        read_only=one.read_only or always_read_only,
        recursive_read_only=one.recursive_read_only in ("Enabled", "IfPossible"),
        propagation=propagation,
    )


def _expand_sub_path(text: str, variables: Mapping[str, str]) -> str:
    """Return a subPathExpr with its references replaced; a missing or empty one is an error."""
    known = {name: value for name, value in variables.items() if value}
    missing = sorted({name for name in _references(text) if name not in known})
    if missing:
        raise ContainerFailure(launch.CONFIG_ERROR, f"missing value for {', '.join(missing)}")
    return expand(text, known)


def _prepare_sub_path(source: str, sub_path: str, one: VolumeMount, container: Container) -> None:
    """Make a sub-path's missing directories, so that what is wrong with it is told before anything starts.

    The mount itself resolves the path again, just as safely, for a container may exchange it at any moment.
    """
    if os.path.isabs(sub_path):
        raise ContainerFailure(launch.CONFIG_ERROR, f"error SubPath `{sub_path}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise ContainerFailure(launch.CONFIG_ERROR, f"unable to provision SubPath `{sub_path}`: must not contain '..'")
    what = f'failed to prepare subPath for volumeMount "{one.name}" of container "{container.name}"'
    try:
        top = os.open(source, os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(open_sub_path(top, sub_path))
        finally:
            os.close(top)
    except OSError as error:
        log.warning("cannot prepare subPath", volume=one.name, sub_path=sub_path, error=str(error))
        raise ContainerFailure(launch.CONFIG_ERROR, what) from error


def _check_propagation(source: str, propagation: str) -> None:
    """Refuse propagation that the host's mount does not have, with containerd's words."""
    point, fields = mounts.propagation_of(os.path.realpath(source))
    shared, slave = any(f.startswith("shared:") for f in fields), any(f.startswith("master:") for f in fields)
    if propagation == "rshared" and not shared:
        what = "it is not a shared mount"
    elif propagation == "rslave" and not (shared or slave):
        what = "it is not a shared or slave mount"
    else:
        return
    text = f'failed to generate container spec: path "{source}" is mounted on "{point}" but {what}'
    raise ContainerFailure(launch.CREATE_ERROR, text)


def _references(text: str) -> list[str]:
    return re.findall(r"\$\(([^)]*)\)", text.replace("$$", ""))
