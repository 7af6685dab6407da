"""Fills what a Pod leaves out, and makes a file's Pod the static pod of a node.

Source: kubernetes pkg/apis/core/v1/defaults.go, pkg/kubelet/config/common.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec

from minikubelet.api.aggregate import aggregate_limits, aggregate_requests
from minikubelet.api.image_name import means_latest
from minikubelet.api.types import (
    Container,
    ContainerPort,
    EmptyDirVolumeSource,
    EnvVar,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    ObjectMeta,
    Pod,
    PodSecurityContext,
    PodSpec,
    Probe,
    ResourceRequirements,
    Toleration,
    Volume,
    VolumeProjection,
)

S = TypeVar("S")


def _set(value: S, **changes: Any) -> S:
    """Return a copy of an API value with some fields changed."""
    return cast("S", msgspec.structs.replace(cast("msgspec.Struct", value), **changes))


_FILE_MODE: Final = 0o644
_FNV_OFFSET: Final = 0x6C62272E07BB014262B821756295C58D
_FNV_PRIME: Final = 0x0000000001000000000000000000013B

CONFIG_HASH: Final = "kubernetes.io/config.hash"
CONFIG_SOURCE: Final = "kubernetes.io/config.source"
CONFIG_SEEN: Final = "kubernetes.io/config.seen"


def set_defaults(pod: Pod) -> Pod:
    """Return the Pod with the API's defaults filled in."""
    spec = pod.spec
    host = spec.host_network
    context = spec.security_context or PodSecurityContext()
    new = _set(
        spec,
        volumes=_each(spec.volumes, _volume),
        init_containers=_each(spec.init_containers, lambda one: _container(one, host)),
        containers=_each(spec.containers, lambda one: _container(one, host)) or [],
        ephemeral_containers=_each(spec.ephemeral_containers, lambda one: _container(one, False, requests=False)),
        restart_policy=spec.restart_policy or "Always",
        termination_grace_period_seconds=_grace(spec.termination_grace_period_seconds),
        dns_policy=spec.dns_policy or "ClusterFirst",
        enable_service_links=True if spec.enable_service_links is None else spec.enable_service_links,
        scheduler_name=spec.scheduler_name or "default-scheduler",
        security_context=context,
        service_account=spec.service_account_name or spec.service_account,
        service_account_name=spec.service_account_name or spec.service_account,
    )
    return _set(pod, spec=_set(new, resources=_pod_resources(new)))


def _grace(seconds: int | None) -> int:
    if seconds is None:
        return 30
    return 1 if seconds < 0 else seconds  # as Kubernetes' conversion from v1


def _each(items: Sequence[S] | None, one: Callable[[S], S]) -> list[S] | None:
    return None if items is None else [one(item) for item in items]


C = TypeVar("C", bound=Container)


def _container(container: C, host_network: bool, *, requests: bool = True) -> C:
    return _set(
        container,
        image_pull_policy=container.image_pull_policy or _pull_policy(container.image),
        termination_message_path=container.termination_message_path or "/dev/termination-log",
        termination_message_policy=container.termination_message_policy or "File",
        ports=_each(container.ports, lambda one: _port(one, host_network)),
        env=_each(container.env, _env),
        resources=_resources(container.resources) if requests else container.resources,
        liveness_probe=_probe(container.liveness_probe),
        readiness_probe=_probe(container.readiness_probe),
        startup_probe=_probe(container.startup_probe),
        lifecycle=_lifecycle(container.lifecycle),
    )


def _pull_policy(image: str) -> str:
    """Return Always for the tag `latest`, written or implied; what cannot be parsed is left to the image stage."""
    return "Always" if means_latest(image) else "IfNotPresent"


def _port(port: ContainerPort, host_network: bool) -> ContainerPort:
    host_port = port.container_port if host_network and not port.host_port else port.host_port
    return _set(port, protocol=port.protocol or "TCP", host_port=host_port)


def _env(variable: EnvVar) -> EnvVar:
    source = variable.value_from
    if source is None:
        return variable
    if source.field_ref is not None and not source.field_ref.api_version:
        source = _set(source, field_ref=_set(source.field_ref, api_version="v1"))
    if source.file_key_ref is not None and source.file_key_ref.optional is None:
        source = _set(source, file_key_ref=_set(source.file_key_ref, optional=False))
    return _set(variable, value_from=source)


def _resources(resources: ResourceRequirements) -> ResourceRequirements:
    """Return requests that default to the limits."""
    if not resources.limits:
        return resources
    requests = dict(resources.requests or {})
    for name, value in resources.limits.items():
        requests.setdefault(name, value)
    return _set(resources, requests=requests)


def _pod_resources(spec: PodSpec) -> ResourceRequirements | None:
    """Return a Pod's own resources: limits on huge pages from the containers', and requests, given limits, from the
    containers' or else from the limits."""
    resources = spec.resources
    if resources is None or not (resources.limits or resources.requests):
        return resources
    limits, requests = dict(resources.limits or {}), dict(resources.requests or {})
    for name, amount in aggregate_limits(spec).items():
        if name.startswith("hugepages-") and name not in requests:
            limits.setdefault(name, amount.canonical())
    if limits:
        for name, amount in aggregate_requests(spec).items():
            if name in ("cpu", "memory"):
                requests.setdefault(name, amount.canonical())
        for name, value in limits.items():
            if name in ("cpu", "memory") or name.startswith("hugepages-"):
                requests.setdefault(name, value)
    return _set(resources, limits=limits or None, requests=requests or None)


def _probe(probe: Probe | None) -> Probe | None:
    if probe is None:
        return None
    grpc = probe.grpc
    if grpc is not None and grpc.service is None:
        grpc = _set(grpc, service="")
    return _set(
        probe,
        http_get=_http_get(probe.http_get),
        grpc=grpc,
        timeout_seconds=probe.timeout_seconds or 1,
        period_seconds=probe.period_seconds or 10,
        success_threshold=probe.success_threshold or 1,
        failure_threshold=probe.failure_threshold or 3,
    )


def _http_get(action: HTTPGetAction | None) -> HTTPGetAction | None:
    if action is None:
        return None
    return _set(action, path=action.path or "/", scheme=action.scheme or "HTTP")


def _lifecycle(lifecycle: Lifecycle | None) -> Lifecycle | None:
    if lifecycle is None:
        return None

    def handler(one: LifecycleHandler | None) -> LifecycleHandler | None:
        return None if one is None else _set(one, http_get=_http_get(one.http_get))

    return _set(lifecycle, post_start=handler(lifecycle.post_start), pre_stop=handler(lifecycle.pre_stop))


def _volume(volume: Volume) -> Volume:
    found = {name: getattr(volume, name) for name in volume.__struct_fields__ if name != "name"}
    sources = {name: source for name, source in found.items() if source is not None}
    if not sources:
        return _set(volume, empty_dir=EmptyDirVolumeSource())
    changes: dict[str, Any] = {}
    for name, source in sources.items():
        unset = (None,) if name == "azure_disk" else (None, "")  # an Azure disk's empty texts are texts
        missing = {
            field: value for field, value in _SOURCE_DEFAULTS.get(name, {}).items() if getattr(source, field) in unset
        }
        if missing:
            changes[name] = _set(source, **missing)
    if volume.projected is not None and volume.projected.sources:
        source = changes.get("projected", volume.projected)
        changes["projected"] = _set(source, sources=[_projection(one) for one in source.sources])
    if volume.downward_api is not None:
        changes["downward_api"] = _downward_items(changes.get("downward_api", volume.downward_api))
    if volume.image is not None and not volume.image.pull_policy:
        changes["image"] = _set(volume.image, pull_policy=_pull_policy(volume.image.reference))
    template = volume.ephemeral.volume_claim_template if volume.ephemeral is not None else None
    if template is not None and template.spec.volume_mode is None:
        filled = _set(template, spec=_set(template.spec, volume_mode="Filesystem"))
        changes["ephemeral"] = _set(volume.ephemeral, volume_claim_template=filled)
    return _set(volume, **changes)


_SOURCE_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "config_map": {"default_mode": _FILE_MODE},
    "secret": {"default_mode": _FILE_MODE},
    "downward_api": {"default_mode": _FILE_MODE},
    "projected": {"default_mode": _FILE_MODE},
    "host_path": {"type": ""},
    "iscsi": {"iscsi_interface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azure_disk": {"caching_mode": "ReadWrite", "kind": "Shared", "fs_type": "ext4", "read_only": False},
    "scale_io": {"storage_mode": "ThinProvisioned", "fs_type": "xfs"},
}


def _downward_items(source: S) -> S:
    """Return a downward API source whose field references have their version."""
    items = [
        _set(one, field_ref=_set(one.field_ref, api_version="v1"))
        if one.field_ref is not None and not one.field_ref.api_version
        else one
        for one in getattr(source, "items", None) or ()
    ]
    return _set(source, items=items) if items else source


def _projection(one: VolumeProjection) -> VolumeProjection:
    if one.downward_api is not None:
        return _set(one, downward_api=_downward_items(one.downward_api))
    if one.service_account_token is not None and one.service_account_token.expiration_seconds is None:
        return _set(one, service_account_token=_set(one.service_account_token, expiration_seconds=3600))
    if one.pod_certificate is not None and one.pod_certificate.max_expiration_seconds is None:
        return _set(one, pod_certificate=_set(one.pod_certificate, max_expiration_seconds=86400))
    return one


# The static pod of a node


def make_static(pod: Pod, *, node_name: str, file_path: str, seen_at: str) -> Pod:
    """Return a file's defaulted Pod as the node runs it: named after the node, with uid and annotations."""
    meta = pod.metadata
    uid = meta.uid or static_uid(pod, node_name=node_name, file_path=file_path)
    annotations = {**(meta.annotations or {}), CONFIG_HASH: uid, CONFIG_SOURCE: "file"}
    if seen_at:
        annotations[CONFIG_SEEN] = seen_at
    new_meta: ObjectMeta = _set(
        meta,
        name=f"{meta.name}-{node_name.lower()}",
        namespace=meta.namespace or "default",
        uid=uid,
        annotations=annotations,
        creation_timestamp=meta.creation_timestamp,
    )
    toleration = Toleration(operator="Exists", effect="NoExecute")
    tolerations = list(pod.spec.tolerations or ())
    if toleration not in tolerations:
        tolerations.append(toleration)
    spec = _set(pod.spec, node_name=node_name, tolerations=tolerations)
    return _set(pod, metadata=new_meta, spec=spec, status=_set(pod.status, phase="Pending"))


def static_uid(pod: Pod, *, node_name: str, file_path: str) -> str:
    """Return 32 hex digits that change with the defaulted object, the node's name and the file's path."""
    dump = msgspec.json.encode(_set(pod, status=type(pod.status)()), order="deterministic")
    return f"{fnv1a_128(dump + f'host:{node_name}file:{file_path}'.encode()):032x}"


def fnv1a_128(data: bytes) -> int:
    """Return the FNV-1a hash of 128 bits."""
    value = _FNV_OFFSET
    mask = (1 << 128) - 1
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & mask
    return value
