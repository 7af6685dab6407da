"""The rules for volumes.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateVolumes` (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, duplicate, forbidden, invalid, required, too_long, unsupported
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import (
    DownwardAPIVolumeFile,
    EphemeralVolumeSource,
    FCVolumeSource,
    ISCSIVolumeSource,
    KeyToPath,
    Volume,
    VolumeProjection,
    wire_name,
)
from minikubelet.api.validation.fields import validate_volume_field, validate_volume_resource

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
_ACCESS_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MODE_RULE: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_PORTAL: Final = re.compile(
    r"iqn\.\d{4}-\d{2}\.[a-z0-9.-]+(?::[^,;*&$|\s]+)?$|eui\.[a-zA-Z0-9]{16}$|naa\.[a-zA-Z0-9]{32}$"
)
_MINIMUM_TOKEN_S: Final = 600


def validate_volumes(volumes: Sequence[Volume], path: str) -> tuple[list[FieldError], set[str]]:
    """Return what is wrong with a Pod's volumes, and the names of those that are in order, which mounts may use."""
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        found = _validate_source(volume, here)
        if not volume.name:
            found.append(required(f"{here}.name"))
        else:
            found += [invalid(f"{here}.name", volume.name, one) for one in syntax.dns_label_no_dots(volume.name)]
        if volume.name in names:
            found.append(duplicate(f"{here}.name", volume.name))
        if not found:
            names.add(volume.name)
        errors += found
    return errors, names


def _validate_source(volume: Volume, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for name in _ORDER:
        source = getattr(volume, name)
        if source is None:
            continue
        here = f"{path}.{_PATHS.get(name, wire_name(name))}"
        count += 1
        if count > 1:
            where = "downwarAPI" if name == "downward_api" else wire_name(name)  # spelled so there
            errors.append(forbidden(f"{path}.{where}", "may not specify more than 1 volume type"))
            continue
        errors += _CHECKS[name](source, here)
    if count == 0:
        errors.append(required(path, "must specify a volume type"))
    return errors


def _required(*names: str) -> Callable[[Any, str], list[FieldError]]:
    """Return a check that these attributes hold something."""

    def check(source: Any, path: str) -> list[FieldError]:
        return [required(f"{path}.{wire_name(name)}") for name in names if not getattr(source, name)]

    return check


def _host_path(source: Any, path: str) -> list[FieldError]:
    if not source.path:
        return [required(f"{path}.path")]
    errors: list[FieldError] = []
    if ".." in source.path.split("/"):
        errors.append(invalid(f"{path}.path", source.path, "must not contain '..'"))
    if (source.type or "") not in _HOST_PATH_TYPES:
        errors.append(unsupported(f"{path}.type", source.type, _HOST_PATH_TYPES))
    return errors


def _empty_dir(source: Any, path: str) -> list[FieldError]:
    if source.size_limit is not None and parse_quantity(source.size_limit).nanos < 0:
        return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _config_map(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.name else [required(f"{path}.name")]
    return [*errors, *_mode(source.default_mode, f"{path}.defaultMode"), *_items(source.items, f"{path}.items")]


def _secret(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.secret_name else [required(f"{path}.secretName")]
    return [*errors, *_mode(source.default_mode, f"{path}.defaultMode"), *_items(source.items, f"{path}.items")]


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
    elif not source.iqn.startswith(("iqn", "eui", "naa")):
        errors.append(invalid(f"{path}.iqn", source.iqn, "must be valid format starting with iqn, eui, or naa"))
    elif not _PORTAL.match(source.iqn):
        errors.append(invalid(f"{path}.iqn", source.iqn, "must be valid format"))
    if not 0 <= source.lun <= 255:
        errors.append(invalid(f"{path}.lun", source.lun, syntax.between(0, 255)))
    if (source.chap_auth_discovery or source.chap_auth_session) and source.secret_ref is None:
        errors.append(required(f"{path}.secretRef"))
    return errors


def _quobyte(source: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    pair = "must be a host:port pair or multiple pairs separated by commas"
    if not source.registry:
        errors.append(required(f"{path}.registry", pair))
    elif len(source.tenant) >= 65:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        wrong = [one for one in source.registry.split(",") if one.count(":") != 1 or one.endswith(":")]
        errors += [invalid(f"{path}.registry", source.registry, pair) for _ in wrong]
    if not source.volume:
        errors.append(required(f"{path}.volume"))
    return errors


def _flocker(source: Any, path: str) -> list[FieldError]:
    if not source.dataset_name and not source.dataset_uuid:
        return [required(path, "one of datasetName and datasetUUID is required")]
    if source.dataset_name and source.dataset_uuid:
        return [invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")]
    if "/" in source.dataset_name:
        return [invalid(f"{path}.datasetName", source.dataset_name, "must not contain '/'")]
    return []


def _fc(source: FCVolumeSource, path: str) -> list[FieldError]:
    names, wwids = source.target_ww_ns or [], source.wwids or []
    if not names and not wwids:
        return [required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")]
    if names and wwids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        return [invalid(f"{path}.targetWWNs", names, detail)]
    if names:
        if source.lun is None:
            return [required(f"{path}.lun", "lun is required if targetWWNs is specified")]
        if not 0 <= source.lun <= 255:
            return [invalid(f"{path}.lun", source.lun, syntax.between(0, 255))]
    return []


def _flex(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.driver else [required(f"{path}.driver")]
    for key in source.options or {}:
        prefix = key.partition("/")[0] if "/" in key else ""
        reserved = ("kubernetes.io", "k8s.io")
        if prefix in reserved or prefix.endswith(tuple("." + one for one in reserved)):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(f"{path}.options[{key}]", key, detail))
    return errors


def _csi(source: Any, path: str) -> list[FieldError]:
    errors = csi_driver(source.driver, f"{path}.driver")
    if source.node_publish_secret_ref is not None and not source.node_publish_secret_ref.name:
        errors.append(required(f"{path}.nodePublishSecretRef.name"))
    return errors


def csi_driver(name: str, path: str) -> list[FieldError]:
    """Check a CSI driver's name."""
    if not name:
        return [required(path)]
    if len(name) > 63:
        return [too_long(path, 63)]
    return [invalid(path, name, one) for one in syntax.dns_subdomain(name)]


def _azure_disk(source: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not source.disk_name:
        errors.append(required(f"{path}.diskName"))
    if not source.disk_uri:
        errors.append(required(f"{path}.diskURI"))
    modes = ("None", "ReadOnly", "ReadWrite")
    if source.caching_mode is not None and source.caching_mode not in modes:
        errors.append(unsupported(f"{path}.cachingMode", source.caching_mode, modes))
    kinds = ("Dedicated", "Managed", "Shared")
    if source.kind is not None and source.kind not in kinds:
        errors.append(unsupported(f"{path}.kind", source.kind, kinds))
    return errors


def _image(source: Any, path: str) -> list[FieldError]:
    errors = [] if source.reference else [required(f"{path}.reference")]
    if source.pull_policy and source.pull_policy not in _PULL_POLICIES:
        errors.append(unsupported(f"{path}.pullPolicy", source.pull_policy, _PULL_POLICIES))
    return errors


def _ephemeral(source: EphemeralVolumeSource, path: str) -> list[FieldError]:
    template = source.volume_claim_template
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    here = f"{path}.volumeClaimTemplate.spec"
    spec = template.spec
    errors: list[FieldError] = []
    if not spec.access_modes:
        errors.append(required(f"{here}.accessModes", "at least 1 access mode is required"))
    for mode in spec.access_modes or ():
        if mode not in _ACCESS_MODES:
            errors.append(unsupported(f"{here}.accessModes", mode, _ACCESS_MODES))
    size = (spec.resources.requests or {}).get("storage")
    if size is None:
        errors.append(required(f"{here}.resources[storage]"))
    elif parse_quantity(size).nanos <= 0:
        errors.append(invalid(f"{here}.resources[storage]", size, "must be greater than zero"))
    return errors


def _downward(source: Any, path: str) -> list[FieldError]:
    errors = _mode(source.default_mode, f"{path}.defaultMode")
    for one in source.items or ():
        errors += _downward_file(one, path)
    return errors


def _downward_file(one: DownwardAPIVolumeFile, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not one.path:
        errors.append(required(f"{path}.path"))
    errors += local_path(one.path, f"{path}.path", non_descending=True)
    if one.field_ref is not None:
        errors += validate_volume_field(one.field_ref, f"{path}.fieldRef")
        if one.resource_field_ref is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(path, "resource", detail))
    elif one.resource_field_ref is not None:
        errors += validate_volume_resource(one.resource_field_ref, f"{path}.resourceFieldRef")
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return [*errors, *_mode(one.mode, f"{path}.mode")]


def _projected(source: Any, path: str) -> list[FieldError]:
    errors = _mode(source.default_mode, f"{path}.defaultMode")
    paths: set[str] = set()
    for index, one in enumerate(source.sources or ()):
        errors += _projection(one, f"{path}.sources[{index}]", path, paths)
    return errors


def _projection(one: VolumeProjection, path: str, top: str, paths: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0

    def begin() -> bool:
        nonlocal count
        count += 1
        if count > 1:
            errors.append(forbidden(path, "may not specify more than 1 volume type per source"))
        return count == 1

    def take(name: str) -> None:
        if name:
            if name in paths:
                errors.append(invalid(top, name, "conflicting duplicate paths"))
            paths.add(name)

    if one.secret is not None and begin():
        if not one.secret.name:
            errors.append(required(f"{path}.secret.name"))
        errors += _items(one.secret.items, f"{path}.secret.items")
        for item in one.secret.items or ():
            take(item.path)
    if one.config_map is not None and begin():
        if not one.config_map.name:
            errors.append(required(f"{path}.configMap.name"))
        errors += _items(one.config_map.items, f"{path}.configMap.items")
        for item in one.config_map.items or ():
            take(item.path)
    if one.downward_api is not None and begin():
        for file in one.downward_api.items or ():
            errors += _downward_file(file, f"{path}.downwardAPI")
            take(file.path)
    if one.service_account_token is not None and begin():
        errors += _token(one, path, top)
        take(one.service_account_token.path)
    if one.cluster_trust_bundle is not None and begin():
        errors += _trust_bundle(one.cluster_trust_bundle, f"{path}.clusterTrustBundle")
        take(one.cluster_trust_bundle.path)
    return errors


def _token(one: VolumeProjection, path: str, top: str) -> list[FieldError]:
    token = one.service_account_token
    if token is None:
        return []
    errors: list[FieldError] = []
    seconds = token.expiration_seconds
    where = f"{path}.serviceAccountToken.expirationSeconds"
    if seconds is not None and seconds < _MINIMUM_TOKEN_S:
        errors.append(invalid(where, seconds, "may not specify a duration less than 10 minutes"))
    if seconds is not None and seconds > 1 << 32:
        errors.append(invalid(where, seconds, "may not specify a duration larger than 2^32 seconds"))
    if not token.path:
        return [*errors, required(f"{path}.serviceAccountToken.path")]
    return errors + local_path(token.path, f"{top}.path", non_descending=True)


def _trust_bundle(bundle: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if bundle.name is not None and bundle.signer_name is not None:
        shown = {
            "Name": bundle.name,
            "SignerName": bundle.signer_name,
            "LabelSelector": None,
            "Optional": bundle.optional,
            "Path": bundle.path,
        }
        errors.append(invalid(path, shown, "only one of name and signerName may be used"))
    elif bundle.name is None and bundle.signer_name is None:
        errors.append(required(path, "either name or signerName must be specified"))
    if not bundle.path:
        errors.append(required(f"{path}.path"))
    return errors


def _mode(mode: int | None, path: str) -> list[FieldError]:
    return [invalid(path, mode, _MODE_RULE)] if mode is not None and not 0 <= mode <= 0o777 else []


def _items(items: Iterable[KeyToPath] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(items or ()):
        here = f"{path}[{index}]"
        if not one.key:
            errors.append(required(f"{here}.key"))
        if not one.path:
            errors.append(required(f"{here}.path"))
        errors += local_path(one.path, f"{here}.path", non_descending=True)
        errors += _mode(one.mode, f"{here}.mode")
    return errors


def local_path(text: str, path: str, *, non_descending: bool = False) -> list[FieldError]:
    """Check a path that must stay below a volume."""
    errors: list[FieldError] = []
    if text.startswith("/"):
        errors.append(invalid(path, text, "must be a relative path"))
    if ".." in text.split("/"):
        errors.append(invalid(path, text, "must not contain '..'"))
    if non_descending and text.startswith("..") and not text.startswith("../"):
        errors.append(invalid(path, text, "must not start with '..'"))
    return errors


# Where Kubernetes' own paths are not the field's name.
_PATHS: Final = {"gce_persistent_disk": "persistentDisk"}
_CHECKS: Final[dict[str, Callable[[Any, str], list[FieldError]]]] = {
    "empty_dir": _empty_dir,
    "host_path": _host_path,
    "git_repo": _git_repo,
    "gce_persistent_disk": _disk,
    "aws_elastic_block_store": _disk,
    "secret": _secret,
    "nfs": _required("server", "path"),
    "iscsi": _iscsi,
    "glusterfs": _required("endpoints", "path"),
    "flocker": _flocker,
    "persistent_volume_claim": _required("claim_name"),
    "rbd": _required("monitors", "image"),
    "cinder": _required("volume_id"),
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
    "storageos": _required("volume_name"),
    "projected": _projected,
    "scale_io": _required("gateway", "system", "volume_name"),
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
_ORDER: Final = tuple(_CHECKS)
