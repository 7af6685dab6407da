"""Which other API objects a Pod refers to: the kubelet refuses static Pods that do.

Source: kubernetes pkg/api/pod/util.go `HasAPIObjectReference` (v1.36).
"""

from __future__ import annotations

from typing import Final

from minikubelet.api.types import Container, Pod, PodSpec, Volume, VolumeProjection


def reference_error(pod: Pod) -> str | None:
    """Return the kubelet's refusal of a static Pod that refers to other API objects, None when it does not."""
    what = _first_reference(pod.spec)
    return f"static pods may not reference {what}" if what else None


def _first_reference(spec: PodSpec) -> str:
    if spec.service_account_name:
        return "serviceaccounts"
    containers: list[Container] = [
        *spec.containers,
        *(spec.init_containers or ()),
        *(spec.ephemeral_containers or ()),
    ]
    if spec.image_pull_secrets or any(_names(one, "secret") for one in containers) or _volume_secret(spec):
        return "secrets"
    if any(_names(one, "config_map") for one in containers) or _volume_config_map(spec):
        return "configmaps"
    if spec.resource_claims:
        return "resourceclaims"
    return next((what for one in spec.volumes or () if (what := _volume(one))), "")


def _names(container: Container, kind: str) -> bool:
    if any(getattr(one, f"{kind}_ref") is not None for one in container.env_from or ()):
        return True
    return any(
        one.value_from is not None and getattr(one.value_from, f"{kind}_key_ref") is not None
        for one in container.env or ()
    )


# Sources of volumes that may hold the name of a secret.
_WITH_SECRET: Final = ("cephfs", "cinder", "flex_volume", "rbd", "scale_io", "iscsi", "storageos")


def _projections(volume: Volume) -> list[VolumeProjection]:
    return (volume.projected.sources if volume.projected is not None else None) or []


def _volume_secret(spec: PodSpec) -> bool:
    for one in spec.volumes or ():
        if one.secret is not None or one.azure_file is not None or any(p.secret is not None for p in _projections(one)):
            return True
        if one.csi is not None and one.csi.node_publish_secret_ref is not None:
            return True
        sources = (getattr(one, name) for name in _WITH_SECRET)
        if any(source is not None and source.secret_ref is not None for source in sources):
            return True
    return False


def _volume_config_map(spec: PodSpec) -> bool:
    return any(
        one.config_map is not None or any(p.config_map is not None for p in _projections(one))
        for one in spec.volumes or ()
    )


def _volume(volume: Volume) -> str:
    if volume.csi is not None:
        return "csidrivers (via CSI volumes)"
    if volume.glusterfs is not None:
        return "endpoints (via glusterFS volumes)"
    if volume.persistent_volume_claim is not None:
        return "persistentvolumeclaims"
    if volume.ephemeral is not None:
        return "persistentvolumeclaims (via ephemeral volumes)"
    for one in _projections(volume):
        if one.service_account_token is not None:
            return "serviceaccounts (via projected volumes)"
        if one.cluster_trust_bundle is not None:
            return "clustertrustbundles"
        if one.pod_certificate is not None:
            return "podcertificates"
    return ""
