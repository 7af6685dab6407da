"""The rules for projected and downward API volumes.

Source: kubernetes pkg/apis/core/validation/validation.go `validateProjectionSources`, `validateDownwardAPIVolumeFile`;
names.go `ValidateSignerName` (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, forbidden, invalid, quote, required, too_long, unsupported
from minikubelet.api.types import (
    ClusterTrustBundleProjection,
    ConfigMapProjection,
    DownwardAPIVolumeFile,
    LabelSelector,
    PodCertificateProjection,
    ProjectedVolumeSource,
    SecretProjection,
    VolumeProjection,
)
from minikubelet.api.validation.affinity import validate_label_selector
from minikubelet.api.validation.fields import validate_volume_field, validate_volume_resource
from minikubelet.api.validation.metadata import ANNOTATIONS_LIMIT, annotations_size
from minikubelet.api.validation.paths import validate_item, validate_mode, visible_path

_SHORTEST_TOKEN_S: Final = 600
_SHORTEST_CERTIFICATE_S: Final = 3600
_LONGEST_CERTIFICATE_S: Final = 91 * 24 * 3600
_LONGEST_KUBERNETES_CERTIFICATE_S: Final = 24 * 3600
_KEY_TYPES: Final = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")

# Takes a file's path and what is shown when it is taken already; returns the error.
Claim = Callable[[str, str], list[FieldError]]


def validate_downward_file(one: DownwardAPIVolumeFile, path: str) -> list[FieldError]:
    """Check one file of a downward API volume."""
    errors = [] if one.path else [required(f"{path}.path")]
    errors += visible_path(one.path, f"{path}.path")
    if one.field_ref is not None:
        errors += validate_volume_field(one.field_ref, f"{path}.fieldRef")
        if one.resource_field_ref is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(path, "resource", detail))
    elif one.resource_field_ref is not None:
        errors += validate_volume_resource(one.resource_field_ref, f"{path}.resourceFieldRef")
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + validate_mode(one.mode, f"{path}.mode")


def validate_projected(source: ProjectedVolumeSource, path: str) -> list[FieldError]:
    """Check a projected volume, in which no path may be taken twice."""
    errors = validate_mode(source.default_mode, f"{path}.defaultMode")
    taken: set[str] = set()

    def claim(file: str, shown: str) -> list[FieldError]:
        if file in taken:
            return [invalid(path, shown, "conflicting duplicate paths")]
        taken.add(file)
        return []

    for index, one in enumerate(source.sources or ()):
        errors += _projection(one, f"{path}.sources[{index}]", path, claim)
    return errors


def _projection(one: VolumeProjection, path: str, top: str, claim: Claim) -> list[FieldError]:
    errors: list[FieldError] = []
    if one.secret is not None:
        errors += _object(one.secret, f"{path}.secret", claim)
    if one.config_map is not None:
        errors += _object(one.config_map, f"{path}.configMap", claim)
    for file in (one.downward_api.items if one.downward_api is not None else None) or ():
        errors += validate_downward_file(file, f"{path}.downwardAPI")
        errors += claim(file.path, file.path) if file.path else []
    if one.service_account_token is not None:
        errors += _token(one, path, top)
    if one.cluster_trust_bundle is not None:
        errors += _trust_bundle(one.cluster_trust_bundle, f"{path}.clusterTrustBundle", claim)
    if one.pod_certificate is not None:
        errors += _certificate(one.pod_certificate, f"{path}.podCertificate", claim)
    sources = sum(getattr(one, name) is not None for name in one.__struct_fields__)
    if sources > 1:
        errors.append(forbidden(path, "may not specify more than 1 volume type per source"))
    return errors


def _object(source: SecretProjection | ConfigMapProjection, path: str, claim: Claim) -> list[FieldError]:
    errors = [] if source.name else [required(f"{path}.name")]
    for index, one in enumerate(source.items or ()):
        errors += validate_item(one, f"{path}.items[{index}]")
        errors += claim(one.path, source.name) if one.path else []
    return errors


def _token(one: VolumeProjection, path: str, top: str) -> list[FieldError]:
    token = one.service_account_token
    if token is None:
        return []
    errors: list[FieldError] = []
    seconds, where = token.expiration_seconds or 0, f"{path}.serviceAccountToken.expirationSeconds"
    if seconds < _SHORTEST_TOKEN_S:
        errors.append(invalid(where, seconds, "may not specify a duration less than 10 minutes"))
    if seconds > 1 << 32:
        errors.append(invalid(where, seconds, "may not specify a duration larger than 2^32 seconds"))
    # Kubernetes says here that the path of the whole volume is wrong.
    return errors + (visible_path(token.path, f"{top}.path") if token.path else [required(f"{top}.path")])


def _trust_bundle(bundle: ClusterTrustBundleProjection, path: str, claim: Claim) -> list[FieldError]:
    errors: list[FieldError] = []
    if bundle.name is not None and bundle.signer_name is not None:
        errors.append(invalid(path, _go_bundle(bundle), "only one of name and signerName may be used"))
    elif bundle.name is not None:
        errors += _bundle_name(bundle.name, f"{path}.name")
        if bundle.label_selector is not None:
            detail = "labelSelector must be unset if name is specified"
            errors.append(invalid(f"{path}.labelSelector", bundle.label_selector, detail))
    elif bundle.signer_name is not None:
        if not bundle.signer_name:
            errors.append(required(f"{path}.signerName", "must be a valid signer name"))
        errors += _signer_name(bundle.signer_name, f"{path}.signerName")
        errors += validate_label_selector(bundle.label_selector, f"{path}.labelSelector")
    else:
        errors.append(required(path, "either name or signerName must be specified"))
    if not bundle.path:
        errors.append(required(f"{path}.path"))
    errors += visible_path(bundle.path, f"{path}.path")
    return errors + claim(bundle.path, bundle.path)


def _go_bundle(bundle: ClusterTrustBundleProjection) -> dict[str, Any]:
    """Return a bundle as Go shows its struct."""
    selector: LabelSelector | None = bundle.label_selector
    return {
        "Name": bundle.name,
        "SignerName": bundle.signer_name,
        "LabelSelector": selector,
        "Optional": bundle.optional,
        "Path": bundle.path,
    }


def _bundle_name(name: str, path: str) -> list[FieldError]:
    errors = [] if name else [required(path, "must be a valid object name")]
    before, colon, rest = name.rpartition(":")
    signer, prefix = before.replace(":", "/"), f"{before.replace('/', ':')}:"
    if not colon:
        wrong = syntax.dns_subdomain(name)
    elif not signer:
        wrong = ['ClusterTrustBundle without signer name must not have ":" in its name']
    elif not name.startswith(prefix):
        wrong = [f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"]
    else:
        wrong = syntax.dns_subdomain(rest)
    return errors + [invalid(path, name, f"not a valid clustertrustbundlename: {one}") for one in wrong]


def _certificate(one: PodCertificateProjection, path: str, claim: Claim) -> list[FieldError]:
    errors = _signer_name(one.signer_name, f"{path}.signerName")
    errors += _user_annotations(one, f"{path}.userAnnotations")
    if one.key_type not in _KEY_TYPES:
        errors.append(unsupported(f"{path}.keyType", one.key_type, _KEY_TYPES))
    seconds, where = one.max_expiration_seconds, f"{path}.maxExpirationSeconds"
    if seconds is not None:
        host = one.signer_name.partition("/")[0]
        of_kubernetes = host == "kubernetes.io" or host.endswith(".kubernetes.io")
        longest = _LONGEST_KUBERNETES_CERTIFICATE_S if of_kubernetes else _LONGEST_CERTIFICATE_S
        if seconds < _SHORTEST_CERTIFICATE_S:
            detail = f"if provided, maxExpirationSeconds must be >= {_SHORTEST_CERTIFICATE_S}"
            errors.append(invalid(where, seconds, detail))
        if seconds > longest:
            errors.append(invalid(where, seconds, f"if provided, maxExpirationSeconds must be <= {longest}"))
    paths = {
        "credentialBundlePath": one.credential_bundle_path,
        "keyPath": one.key_path,
        "certificateChainPath": one.certificate_chain_path,
    }
    for name, file in paths.items():
        if file:
            errors += visible_path(file, f"{path}.{name}")
            errors += claim(file, file)
    if not any(paths.values()):
        detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errors.append(required(path, detail))
    return errors


def _user_annotations(one: PodCertificateProjection, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in one.user_annotations or {}:
        if not key:
            errors.append(required(path))
        else:
            lowered = key.lower()
            errors += [invalid(path, lowered, detail) for detail in syntax.domain_prefixed_key(lowered)]
    if annotations_size(one.user_annotations or {}) > ANNOTATIONS_LIMIT:
        errors.append(too_long(path, ANNOTATIONS_LIMIT))
    return errors


def _signer_name(name: str, path: str) -> list[FieldError]:
    """Check the name of a signer, `example.com/name`."""
    if not name:
        return [required(path)]
    if name.count("/") != 1:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(path, name, detail)]
    domain, _, rest = name.partition("/")
    errors = [too_long(path, 253)] if len(domain.encode()) > 253 else []
    errors += _first_wrong(domain, syntax.dns_label, path)
    if "." not in domain:
        detail = "should be a domain with at least two segments separated by dots"
        errors.append(invalid(path, domain, detail))
    errors += _first_wrong(rest, syntax.dns_subdomain, path)
    longest = 253 + 1 + 253 + 63 + 1
    return errors + ([too_long(path, longest)] if len(name.encode()) > longest else [])


def _first_wrong(text: str, rule: Callable[[str], list[str]], path: str) -> list[FieldError]:
    for label in text.split("."):
        if wrong := rule(label):
            return [invalid(path, text, f"validating label {quote(label)}: {one}") for one in wrong]
    return []
