"""The rules for annotations that Kubernetes itself reads from Pods.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidatePodSpecificAnnotations`,
`validateSeccompAnnotationsAndFields`, `validateAppArmorAnnotationsAndFieldsMatchOnCreate` (v1.36).
"""

from __future__ import annotations

import re
from typing import Final

from minikubelet.api.decode import go_name
from minikubelet.api.field_errors import FieldError, forbidden, invalid, quote
from minikubelet.api.json_source import read_json
from minikubelet.api.nodes import Node, SourceError
from minikubelet.api.types import AppArmorProfile, Pod, SeccompProfile, Toleration
from minikubelet.api.validation.affinity import validate_tolerations
from minikubelet.api.validation.paths import local_path
from minikubelet.api.validation.places import all_containers

_TOLERATIONS: Final = "scheduler.alpha.kubernetes.io/tolerations"
_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_LOCALHOST: Final = "localhost/"
_INT32: Final = range(-(2**31), 2**31)


def validate_annotations(pod: Pod, path: str) -> list[FieldError]:
    """Return what is wrong with the annotations that mean something."""
    found = pod.metadata.annotations or {}
    errors: list[FieldError] = []
    if found.get(_TOLERATIONS):
        errors += _tolerations(found[_TOLERATIONS], path)
    cost = found.get(_DELETION_COST)
    if cost is not None and not (re.fullmatch(r"0|[1-9][0-9]{0,9}|-[0-9]{1,99}", cost) and int(cost) in _INT32):
        errors.append(invalid(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer"))
    if _SECCOMP_POD in found:
        errors += _seccomp(found[_SECCOMP_POD], f"{path}.{_SECCOMP_POD}")
    for key, value in found.items():
        if key.startswith(_SECCOMP_CONTAINER):
            errors += _seccomp(value, f"{path}.{key}")
    names = {one.name for _, one in all_containers(pod.spec, "")}
    for key, value in found.items():
        if key.startswith(_APPARMOR):
            errors += _apparmor(key.removeprefix(_APPARMOR), value, names, f"{path}[{key}]")
    return errors


def _tolerations(text: str, path: str) -> list[FieldError]:
    try:
        found = [_toleration(one) for one in _toleration_list(read_json(text)[0])]
    except SourceError as error:
        return [invalid(path, _TOLERATIONS, error.message.partition("json parse error: ")[2] or error.message)]
    return validate_tolerations(found, f"{path}.{_TOLERATIONS}")


def _toleration_list(node: Node) -> list[Node]:
    if isinstance(node.value, list):
        return node.value
    if node.value is None:
        return []
    raise SourceError(f"json: cannot unmarshal {go_name(node)} into Go value of type []core.Toleration", node.mark)


def _toleration(node: Node) -> Toleration:
    """Return a toleration; Kubernetes takes its fields in any case, and so are wrong types told here in its words."""
    if node.value is None:
        return Toleration()
    if not isinstance(node.value, dict):
        raise SourceError(f"json: cannot unmarshal {go_name(node)} into Go value of type core.Toleration", node.mark)
    values: dict[str, object] = {}
    for key, (mark, one) in node.value.items():
        attribute, name, kind = _TOLERATION_FIELDS.get(key.lower(), ("", "", ""))
        if not attribute or one.value is None:
            continue
        is_right = isinstance(one.value, int if kind == "int64" else str) and not isinstance(one.value, bool)
        if not is_right:
            found = f"number {one.text}" if kind == "int64" and isinstance(one.value, float) else go_name(one)
            where = f"Go struct field Toleration.{name} of type {kind}"
            raise SourceError(f"json: cannot unmarshal {found} into {where}", mark)
        values[attribute] = one.value
    return Toleration(**values)  # type: ignore[arg-type]  # each value was compared with its field's type


_TOLERATION_FIELDS: Final = {
    "key": ("key", "Key", "string"),
    "operator": ("operator", "Operator", "core.TolerationOperator"),
    "value": ("value", "Value", "string"),
    "effect": ("effect", "Effect", "core.TaintEffect"),
    "tolerationseconds": ("toleration_seconds", "TolerationSeconds", "int64"),
}


def _seccomp(profile: str, path: str) -> list[FieldError]:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return []
    if profile.startswith(_LOCALHOST):
        return local_path(profile.removeprefix(_LOCALHOST), path)
    return [invalid(path, profile, "must be a valid seccomp profile")]


def _apparmor(container: str, profile: str, names: set[str], path: str) -> list[FieldError]:
    errors = [] if container in names else [invalid(path, container, "container not found")]
    if profile not in ("", "runtime/default", "unconfined") and not profile.startswith(_LOCALHOST):
        errors.append(invalid(path, profile, f"invalid AppArmor profile name: {quote(profile)}"))
    return errors


def validate_profiles_match(pod: Pod, path: str) -> list[FieldError]:
    """Check that fields and the older annotations ask for the same profiles."""
    found = pod.metadata.annotations or {}
    spec, context = pod.spec, pod.spec.security_context
    errors: list[FieldError] = []
    if context is not None and context.seccomp_profile is not None and _SECCOMP_POD in found:
        where = f"{path}.securityContext.seccompProfile"
        errors += _match("seccomp", found[_SECCOMP_POD], context.seccomp_profile, where)
    for here, one in all_containers(spec, path):
        own = one.security_context.seccomp_profile if one.security_context is not None else None
        annotation = found.get(_SECCOMP_CONTAINER + one.name)
        if own is not None and annotation is not None:
            errors += _match("seccomp", annotation, own, f"{here}.securityContext.seccompProfile")
    if spec.os is not None and spec.os.name == "windows":
        return errors
    for here, one in all_containers(spec, path):
        profile = one.security_context.app_armor_profile if one.security_context is not None else None
        profile = profile or (context.app_armor_profile if context is not None else None)
        annotation = found.get(_APPARMOR + one.name)
        if profile is not None and annotation is not None:
            errors += _match("apparmor", annotation, profile, f"{here}.securityContext.appArmorProfile")
    return errors


def _match(what: str, annotation: str, profile: SeccompProfile | AppArmorProfile, path: str) -> list[FieldError]:
    match profile.type:
        case "Unconfined":
            fits = annotation == "unconfined"
        case "RuntimeDefault":
            fits = annotation == "runtime/default" or (what == "seccomp" and annotation == "docker/default")
        case "Localhost":
            fits = annotation.startswith(_LOCALHOST)
            if fits and annotation.removeprefix(_LOCALHOST) != profile.localhost_profile:
                return [forbidden(f"{path}.localhostProfile", f"{what} profile in annotation and field must match")]
        case _:
            return []
    return [] if fits else [forbidden(f"{path}.type", f"{what} type in annotation and field must match")]
