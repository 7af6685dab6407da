"""The rules for volumes.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateVolumes` (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    quote,
    required,
    too_long,
    unsupported,
)
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import (
    AzureDiskVolumeSource,
    CinderVolumeSource,
    CSIVolumeSource,
    EphemeralVolumeSource,
    FCVolumeSource,
    FlockerVolumeSource,
    ISCSIVolumeSource,
    LocalObjectReference,
    NFSVolumeSource,
    StorageOSVolumeSource,
    Volume,
    wire_name,
)
from minikubelet.api.validation.claim_template import validate_claim_template
from minikubelet.api.validation.paths import local_path, no_backsteps, validate_items, validate_mode
from minikubelet.api.validation.projected import validate_downward_file, validate_projected

_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_IQN: Final = re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.([a-zA-Z0-9.-]+)(:[^,;*&$| \t\n\f\r]+)\Z")
_EUI: Final = re.compile(r"eui.[a-zA-Z0-9]{16}")
_NAA: Final = re.compile(r"naa.[a-zA-Z0-9]{32}")
_LONGEST_TARGET: Final = 64


def validate_volumes(volumes: Sequence[Volume], pod: str, path: str) -> tuple[list[FieldError], dict[str, Volume]]:
    """Return what is wrong with a Pod's volumes, and by name those that are in order, which containers may use."""
    errors: list[FieldError] = []
    known: dict[str, Volume] = {}
    created = {f"{pod}-{one.name}" for one in volumes if one.ephemeral is not None}
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        found = _validate_source(volume, pod, here)
        if not volume.name:
            found.append(required(f"{here}.name"))
        else:
            found += [invalid(f"{here}.name", volume.name, one) for one in syntax.dns_label(volume.name)]
        if volume.name in known:
            found.append(duplicate(f"{here}.name", volume.name))
        if not found:
            known[volume.name] = volume
        errors += found
        claim = volume.persistent_volume_claim
        if claim is not None and claim.claim_name in created:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid(f"{here}.persistentVolumeClaim.claimName", claim.claim_name, detail))
    return errors, known


def _validate_source(volume: Volume, pod: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for name in _ORDER:
        source = getattr(volume, name)
        if source is None:
            continue
        count += 1
        if count > 1:
            where = f"{path}.{_MISSPELLED.get(name, wire_name(name))}"
            errors.append(forbidden(where, "may not specify more than 1 volume type"))
        else:
            errors += _CHECKS[name](source, f"{path}.{_PATHS.get(name, wire_name(name))}")
        if name == "iscsi" and source.initiator_name is not None:
            errors += _iscsi_length(volume.name, source, path)
        if name == "ephemeral" and count == 1 and pod and volume.name:
            claim = f"{pod}-{volume.name}"
            for one in syntax.dns_subdomain(claim):
                errors.append(invalid(f"{path}.name", volume.name, f"PVC name {quote(claim)}: {one}"))
    if count == 0:
        errors.append(required(path, "must specify a volume type"))
    return errors


def _iscsi_length(name: str, source: ISCSIVolumeSource, path: str) -> list[FieldError]:
    if len(f"{name}:{source.target_portal}".encode()) <= _LONGEST_TARGET:
        return []
    detail = (
        "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is "
        "specified."
    )
    return [invalid(f"{path}.name", name, detail)]


def _required(*names: str) -> Callable[[Any, str], list[FieldError]]:
    """Return a check that these attributes hold something."""

    def check(source: Any, path: str) -> list[FieldError]:
        return [required(f"{path}.{wire_name(name)}") for name in names if not getattr(source, name)]

    return check


def _host_path(source: Any, path: str) -> list[FieldError]:
    if not source.path:
        return [required(f"{path}.path")]
    errors: list[FieldError] = []
    errors += no_backsteps(source.path, f"{path}.path")
    if (source.type or "") not in _HOST_PATH_TYPES:
        errors.append(unsupported(f"{path}.type", source.type, _HOST_PATH_TYPES))
    return errors


def _empty_dir(source: Any, path: str) -> list[FieldError]:
    if source.size_limit is not None and parse_quantity(source.size_limit).nanos < 0:
        return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _config_map(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.name else [required(f"{path}.name")]
    errors += validate_mode(source.default_mode, f"{path}.defaultMode")
    return errors + validate_items(source.items, f"{path}.items")


def _secret(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.secret_name else [required(f"{path}.secretName")]
    errors += validate_mode(source.default_mode, f"{path}.defaultMode")
    return errors + validate_items(source.items, f"{path}.items")


def _git_repo(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.repository else [required(f"{path}.repository")]
    return errors + local_path(source.directory, f"{path}.directory")


def _disk(source: Any, path: str) -> list[FieldError]:
    name = "pd_name" if hasattr(source, "pd_name") else "volume_id"
    errors = [] if getattr(source, name) else [required(f"{path}.{wire_name(name)}")]
    if not 0 <= source.partition <= 255:
        errors.append(invalid(f"{path}.partition", source.partition, syntax.between(1, 255)))
    return errors


def _iscsi(source: ISCSIVolumeSource, path: str) -> list[FieldError]:
    errors = [] if source.target_portal else [required(f"{path}.targetPortal")]
    if not source.iqn:
        errors.append(required(f"{path}.iqn"))
    else:
        errors += _iscsi_name(source.iqn, f"{path}.iqn")
    if not 0 <= source.lun <= 255:
        errors.append(invalid(f"{path}.lun", source.lun, syntax.between(0, 255)))
    if (source.chap_auth_discovery or source.chap_auth_session) and source.secret_ref is None:
        errors.append(required(f"{path}.secretRef"))
    if source.initiator_name is not None:
        errors += _iscsi_name(source.initiator_name, f"{path}.initiatorname")
    return errors


def _iscsi_name(name: str, path: str) -> list[FieldError]:
    fits = {"iqn": _IQN.search(name), "eui": _EUI.fullmatch(name), "naa": _NAA.fullmatch(name)}
    if name[:3] not in fits:
        return [invalid(path, name, "must be valid format starting with iqn, eui, or naa")]
    return [] if fits[name[:3]] else [invalid(path, name, "must be valid format")]


def _nfs(source: NFSVolumeSource, path: str) -> list[FieldError]:
    errors = _required("server", "path")(source, path)
    if not source.path.startswith("/"):
        errors.append(invalid(f"{path}.path", source.path, "must be an absolute path"))
    return errors


def _cinder(source: CinderVolumeSource, path: str) -> list[FieldError]:
    errors = _required("volume_id")(source, path)
    return errors + _secret_name(source.secret_ref, f"{path}.secretRef")


def _secret_name(reference: LocalObjectReference | None, path: str) -> list[FieldError]:
    return [required(f"{path}.name")] if reference is not None and not reference.name else []


def _storageos(source: StorageOSVolumeSource, path: str) -> list[FieldError]:
    name, namespace = source.volume_name, source.volume_namespace
    errors = [] if name else [required(f"{path}.volumeName")]
    if name:
        errors += [invalid(f"{path}.volumeName", name, one) for one in syntax.dns_label(name)]
    if namespace:
        errors += [invalid(f"{path}.volumeNamespace", namespace, one) for one in syntax.dns_label(namespace)]
    return errors + _secret_name(source.secret_ref, f"{path}.secretRef")


# As Go's net.SplitHostPort takes it: an IPv6 address stands in brackets, and both may be empty.
_HOST_AND_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*")


def _quobyte(source: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    pair = "must be a host:port pair or multiple pairs separated by commas"
    if not source.registry:
        errors.append(required(f"{path}.registry", pair))
    elif len(source.tenant.encode()) >= 65:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        wrong = [one for one in source.registry.split(",") if not _HOST_AND_PORT.fullmatch(one)]
        errors += [invalid(f"{path}.registry", source.registry, pair) for _ in wrong]
    if not source.volume:
        errors.append(required(f"{path}.volume"))
    return errors


def _flocker(source: FlockerVolumeSource, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not source.dataset_name and not source.dataset_uuid:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if source.dataset_name and source.dataset_uuid:
        errors.append(invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if "/" in source.dataset_name:
        errors.append(invalid(f"{path}.datasetName", source.dataset_name, "must not contain '/'"))
    return errors


def _fc(source: FCVolumeSource, path: str) -> list[FieldError]:
    names, wwids = source.target_ww_ns or [], source.wwids or []
    errors: list[FieldError] = []
    if not names and not wwids:
        errors.append(required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both"))
    if names and wwids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(invalid(f"{path}.targetWWNs", names, detail))
    if names and source.lun is None:
        errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif names and source.lun is not None and not 0 <= source.lun <= 255:
        errors.append(invalid(f"{path}.lun", source.lun, syntax.between(0, 255)))
    return errors


def _flex(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.driver else [required(f"{path}.driver")]
    options: dict[str, str] = source.options or {}
    for key in options:
        space = "." + key.partition("/")[0].lower()
        if space.endswith((".kubernetes.io", ".k8s.io")):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(f"{path}.options[{key}]", key, detail))
    return errors


def _csi(source: CSIVolumeSource, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not source.driver:
        errors.append(required(f"{path}.driver"))
    else:
        if len(source.driver.encode()) > 63:
            errors.append(too_long(f"{path}.driver", 63))
        wrong = syntax.dns_subdomain(source.driver.lower())
        errors += [invalid(f"{path}.driver", source.driver, one) for one in wrong]
    reference = source.node_publish_secret_ref
    if reference is not None and not reference.name:
        errors.append(required(f"{path}.nodePublishSecretRef.name"))
    elif reference is not None:
        errors += [invalid(f"{path}.name", reference.name, one) for one in syntax.dns_subdomain(reference.name)]
    return errors


_MANAGED_DISK: Final = (
    "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
)
_BLOB_DISK: Final = ("https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",)


def _azure_disk(source: AzureDiskVolumeSource, path: str) -> list[FieldError]:
    errors = _required("disk_name", "disk_uri")(source, path)
    modes = ("None", "ReadOnly", "ReadWrite")
    if source.caching_mode is not None and source.caching_mode not in modes:
        errors.append(unsupported(f"{path}.cachingMode", source.caching_mode, modes))
    kinds = ("Dedicated", "Managed", "Shared")
    if source.kind is not None and source.kind not in kinds:
        errors.append(unsupported(f"{path}.kind", source.kind, kinds))
    if source.kind == "Managed" and not source.disk_uri.startswith("/subscriptions/"):
        errors.append(unsupported(f"{path}.diskURI", source.disk_uri, _MANAGED_DISK))
    if source.kind not in (None, "Managed") and not source.disk_uri.startswith("https://"):
        errors.append(unsupported(f"{path}.diskURI", source.disk_uri, _BLOB_DISK))
    return errors


def _image(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.reference else [required(f"{path}.reference")]
    if not source.pull_policy:
        errors.append(required(f"{path}.pullPolicy"))
    elif source.pull_policy not in _PULL_POLICIES:
        errors.append(unsupported(f"{path}.pullPolicy", source.pull_policy, _PULL_POLICIES))
    return errors


def _ephemeral(source: EphemeralVolumeSource, path: str) -> list[FieldError]:
    template = source.volume_claim_template
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    return validate_claim_template(template, f"{path}.volumeClaimTemplate")


def _downward(source: Any, path: str) -> list[FieldError]:
    errors = validate_mode(source.default_mode, f"{path}.defaultMode")
    for one in source.items or ():
        errors += validate_downward_file(one, path)
    return errors


# Where Kubernetes' own paths are not the field's name: what is wrong in it, and that there is another beside it.
_PATHS: Final = {"gce_persistent_disk": "persistentDisk"}
_MISSPELLED: Final = {"downward_api": "downwarAPI", "cephfs": "cephFS"}
_CHECKS: Final[dict[str, Callable[[Any, str], list[FieldError]]]] = {
    "empty_dir": _empty_dir,
    "host_path": _host_path,
    "git_repo": _git_repo,
    "gce_persistent_disk": _disk,
    "aws_elastic_block_store": _disk,
    "secret": _secret,
    "nfs": _nfs,
    "iscsi": _iscsi,
    "glusterfs": _required("endpoints", "path"),
    "flocker": _flocker,
    "persistent_volume_claim": _required("claim_name"),
    "rbd": _required("monitors", "image"),
    "cinder": _cinder,
    "cephfs": _required("monitors"),
    "quobyte": _quobyte,
    "downward_api": _downward,
    "fc": _fc,
    "flex_volume": _flex,
    "config_map": _config_map,
    "azure_file": _required("secret_name", "share_name"),
    "vsphere_volume": _required("volume_path"),
    "photon_persistent_disk": _required("pd_id"),
    "portworx_volume": _required("volume_id"),
    "azure_disk": _azure_disk,
    "storageos": _storageos,
    "projected": validate_projected,
    "scale_io": _required("gateway", "system", "volume_name"),
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
_ORDER: Final = tuple(_CHECKS)
