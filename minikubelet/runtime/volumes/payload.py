"""Which files a ConfigMap-like volume holds: a pure function of the volume, the objects it names and the Pod.

Source: kubernetes pkg/volume/{configmap,secret,downwardapi,projected} (v1.36).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from minikubelet.api.types import ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume
from minikubelet.runtime.volumes.atomic_writer import FilePayload

DEFAULT_MODE: Final = 0o644

# What stands behind no API server and no container engine, and so is not here.
_NEEDS_CLUSTER: Final = {
    "service_account_token": "serviceAccountToken: only an API server issues tokens, and this node has none",
    "cluster_trust_bundle": "clusterTrustBundle: trust bundles are objects of an API server, and this node has none",
    "pod_certificate": "podCertificate: only an API server signs certificates, and this node has none",
}


class PayloadError(Exception):
    """An object or key that the volume needs is missing; the text is what the event carries."""


class Objects(Protocol):
    """The ConfigMaps and Secrets of this node's manifests."""

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """Return the named ConfigMap, or None."""
        ...

    def secret(self, namespace: str, name: str) -> Secret | None:
        """Return the named Secret, or None."""
        ...


# Gives the text of one downward API item; the environment's rules serve it too.
DownwardValue = Callable[[Pod, DownwardAPIVolumeFile], str]


def config_map_bytes(found: ConfigMap) -> dict[str, bytes]:
    """Return all keys of a ConfigMap, text and binary."""
    files = {key: text.encode() for key, text in (found.data or {}).items()}
    files.update({key: base64.b64decode(text) for key, text in (found.binary_data or {}).items()})
    return files


def secret_bytes(found: Secret) -> dict[str, bytes]:
    """Return all keys of a Secret, decoded; plain `stringData` wins over `data`."""
    files = {key: base64.b64decode(text) for key, text in (found.data or {}).items()}
    files.update({key: text.encode() for key, text in (found.string_data or {}).items()})
    return files


def is_projection(volume: Volume) -> bool:
    """Tell whether the volume's files are written by the node."""
    return any(s is not None for s in (volume.config_map, volume.secret, volume.downward_api, volume.projected))


def needs_memory(volume: Volume) -> bool:
    """Tell whether its files may not touch a disk."""
    return any(s is not None for s in (volume.secret, volume.downward_api, volume.projected))


def unsupported_reason(volume: Volume) -> str:
    """Return why a volume of another type than emptyDir, hostPath and the projections cannot be had."""
    if volume.image is not None:
        return "image volumes need an image store, and this node runs programs without images"
    fields = (one for one in volume.__struct_fields__ if one != "name" and getattr(volume, one) is not None)
    kind = volume.__struct_encode_fields__[volume.__struct_fields__.index(next(fields))]
    return f"{kind} volumes need a cluster's storage plugins, and this node has none"


def volume_payload(pod: Pod, volume: Volume, objects: Objects, downward: DownwardValue) -> dict[str, FilePayload]:
    """Return the files of one volume.

    Raises:
        PayloadError: Something not optional is missing.
    """
    namespace = pod.metadata.namespace
    if volume.config_map is not None:
        source = volume.config_map
        mode = _mode(source.default_mode)
        return _config_map(objects, namespace, source.name, source.items, bool(source.optional), mode)
    if volume.secret is not None:
        secret = volume.secret
        mode = _mode(secret.default_mode)
        return _secret(objects, namespace, secret.secret_name, secret.items, bool(secret.optional), mode)
    if volume.downward_api is not None:
        mode = _mode(volume.downward_api.default_mode)
        return _downward(pod, volume.downward_api.items, mode, downward)
    files: dict[str, FilePayload] = {}
    if volume.projected is not None:
        mode = _mode(volume.projected.default_mode)
        for part in volume.projected.sources or ():
            if part.config_map is not None:
                one = part.config_map
                files.update(_config_map(objects, namespace, one.name, one.items, bool(one.optional), mode))
            elif part.secret is not None:
                two = part.secret
                files.update(_secret(objects, namespace, two.name, two.items, bool(two.optional), mode))
            elif part.downward_api is not None:
                files.update(_downward(pod, part.downward_api.items, mode, downward))
            else:
                absent = (text for name, text in _NEEDS_CLUSTER.items() if getattr(part, name) is not None)
                raise PayloadError(f"cannot project {next(absent, 'an empty source')}")
    return files


def _mode(mode: int | None) -> int:
    return DEFAULT_MODE if mode is None else mode


def _config_map(
    objects: Objects, namespace: str, name: str, items: Iterable[KeyToPath] | None, optional: bool, mode: int
) -> dict[str, FilePayload]:
    found = objects.config_map(namespace, name)
    if found is None:
        if optional:
            return {}
        raise PayloadError(f'configmap "{name}" not found')
    missing = "configmap references non-existent config key: {}"
    return _pick(config_map_bytes(found), items, optional, mode, missing)


def _secret(
    objects: Objects, namespace: str, name: str, items: Iterable[KeyToPath] | None, optional: bool, mode: int
) -> dict[str, FilePayload]:
    found = objects.secret(namespace, name)
    if found is None:
        if optional:
            return {}
        raise PayloadError(f'secret "{name}" not found')
    return _pick(secret_bytes(found), items, optional, mode, "references non-existent secret key: {}")


def _pick(
    data: Mapping[str, bytes], items: Iterable[KeyToPath] | None, optional: bool, mode: int, missing: str
) -> dict[str, FilePayload]:
    if not items:
        return {key: FilePayload(content, mode) for key, content in data.items()}
    files: dict[str, FilePayload] = {}
    for item in items:
        if item.key in data:
            files[item.path] = FilePayload(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise PayloadError(missing.format(item.key))
    return files


def _downward(
    pod: Pod, items: Iterable[DownwardAPIVolumeFile] | None, mode: int, downward: DownwardValue
) -> dict[str, FilePayload]:
    return {
        item.path: FilePayload(downward(pod, item).encode(), mode if item.mode is None else item.mode)
        for item in items or ()
    }
