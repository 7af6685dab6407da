"""The JSON schema of manifests, for editors that check and complete while one writes: made from the types.

It is draft 7, which editors understand best. It holds what a schema can hold: shapes, choices, what must be there.
Fields that are not known are refused, as `minikubelet validate` does; the rules across fields are its business, too.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from minikubelet.api.documentation import KINDS, description, every_struct, struct_of
from minikubelet.api.field_types import FieldType, struct_fields
from minikubelet.api.support import Support, support_of

Json = dict[str, Any]

_PULL: Final = ("Always", "IfNotPresent", "Never")
_RESTART: Final = ("Always", "OnFailure", "Never")
_PROFILE: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_SELECT: Final = ("In", "NotIn", "Exists", "DoesNotExist")
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "PodSpec.restartPolicy": _RESTART,
    "PodSpec.dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    "PodSpec.preemptionPolicy": ("PreemptLowerPriority", "Never"),
    "Container.imagePullPolicy": _PULL,
    "Container.restartPolicy": _RESTART,
    "Container.terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
    "ContainerPort.protocol": ("TCP", "UDP", "SCTP"),
    "ContainerResizePolicy.resourceName": ("cpu", "memory"),
    "ContainerResizePolicy.restartPolicy": ("NotRequired", "RestartContainer"),
    "ContainerRestartRule.action": ("Restart", "RestartAllContainers"),
    "ContainerRestartRuleOnExitCodes.operator": ("In", "NotIn"),
    "VolumeMount.mountPropagation": ("None", "HostToContainer", "Bidirectional"),
    "VolumeMount.recursiveReadOnly": ("Disabled", "IfPossible", "Enabled"),
    "HTTPGetAction.scheme": ("HTTP", "HTTPS"),
    "HostPathVolumeSource.type": (
        "",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
        "CharDevice",
        "BlockDevice",
    ),
    "ImageVolumeSource.pullPolicy": _PULL,
    "SecurityContext.procMount": ("Default", "Unmasked"),
    "SeccompProfile.type": _PROFILE,
    "AppArmorProfile.type": _PROFILE,
    "PodSecurityContext.supplementalGroupsPolicy": ("Merge", "Strict"),
    "PodSecurityContext.fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "PodSecurityContext.seLinuxChangePolicy": ("MountOption", "Recursive"),
    "PodOS.name": ("linux", "windows"),
    "Toleration.operator": ("", "Equal", "Exists"),
    "Toleration.effect": ("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
    "LabelSelectorRequirement.operator": _SELECT,
    "TopologySpreadConstraint.whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "TopologySpreadConstraint.nodeAffinityPolicy": ("Honor", "Ignore"),
    "TopologySpreadConstraint.nodeTaintsPolicy": ("Honor", "Ignore"),
}
_DEFAULTS: Final[Json] = {
    "ObjectMeta.namespace": "default",
    "PodSpec.restartPolicy": "Always",
    "PodSpec.dnsPolicy": "ClusterFirst",
    "PodSpec.terminationGracePeriodSeconds": 30,
    "PodSpec.hostUsers": True,
    "Container.terminationMessagePath": "/dev/termination-log",
    "Container.terminationMessagePolicy": "File",
    "ContainerPort.protocol": "TCP",
    "Probe.initialDelaySeconds": 0,
    "Probe.timeoutSeconds": 1,
    "Probe.periodSeconds": 10,
    "Probe.successThreshold": 1,
    "Probe.failureThreshold": 3,
    "HTTPGetAction.path": "/",
    "HTTPGetAction.scheme": "HTTP",
    "HostPathVolumeSource.type": "",
    "ConfigMapVolumeSource.defaultMode": 0o644,
    "SecretVolumeSource.defaultMode": 0o644,
    "DownwardAPIVolumeSource.defaultMode": 0o644,
    "ProjectedVolumeSource.defaultMode": 0o644,
    "VolumeMount.mountPropagation": "None",
    "SecurityContext.procMount": "Default",
    "ObjectFieldSelector.apiVersion": "v1",
}
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "Pod": ("apiVersion", "kind", "metadata", "spec"),
    "ConfigMap": ("apiVersion", "kind", "metadata"),
    "Secret": ("apiVersion", "kind", "metadata"),
    "PodSpec": ("containers",),
    "Container": ("name", "image"),
    "Volume": ("name",),
    "VolumeMount": ("name", "mountPath"),
    "VolumeDevice": ("name", "devicePath"),
    "EnvVar": ("name",),
    "ContainerPort": ("containerPort",),
    "KeyToPath": ("key", "path"),
    "HostPathVolumeSource": ("path",),
    "SecretVolumeSource": ("secretName",),
    "ConfigMapVolumeSource": ("name",),
    "HTTPGetAction": ("port",),
    "TCPSocketAction": ("port",),
    "GRPCAction": ("port",),
    "ExecAction": ("command",),
    "HostAlias": ("ip",),
    "Sysctl": ("name",),
}


def manifest_schema() -> Json:
    """Return the schema of one document: Pod, ConfigMap, Secret, or a List of them."""
    definitions: Json = {kind.__name__: _object(kind) for kind in every_struct()}
    one = {"oneOf": [_reference(name) for name in KINDS]}
    listed = {
        "type": "object",
        "properties": {
            "apiVersion": {"const": "v1"},
            "kind": {"enum": ["List", "PodList"]},
            "metadata": {"type": ["object", "null"]},
            "items": {"type": ["array", "null"], "items": one},
        },
        "required": ["apiVersion", "kind"],
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "minikubelet manifest",
        "oneOf": [*one["oneOf"], listed],
        "definitions": dict(sorted(definitions.items())),
    }


def _reference(name: str) -> Json:
    return {"$ref": f"#/definitions/{name}"}


def _object(kind: type[msgspec.Struct]) -> Json:
    needed = _NEEDED.get(kind.__name__, ())
    properties: Json = {}
    for name, field in struct_fields(kind).items():
        one = _value(field.type, null=name not in needed)
        choices, default = (_of(kind, name, table) for table in (_CHOICES, _DEFAULTS))
        if choices is not None:
            one = {"enum": [*choices, *(() if name in needed else ("", None) if "" not in choices else (None,))]}
        if kind.__name__ in KINDS and name in ("apiVersion", "kind"):
            one = {"const": "v1" if name == "apiVersion" else kind.__name__}
        if default is not None:
            one["default"] = default
        about = description(kind, name)
        entry = support_of(kind, name)
        if entry.support is Support.UNHONOURED:
            about += f" Not honoured on this node: {entry.sentence}."
        # Beside a reference, draft 7 passes over all else.
        properties[name] = {"allOf": [one], "description": about} if "$ref" in one else {**one, "description": about}
    found: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(needed)} if needed else found


def _of(kind: type[msgspec.Struct], name: str, table: Json | dict[str, tuple[str, ...]]) -> Any:
    """Return what a table has on a field, of the type or one that it inherits from."""
    return next((table[key] for one in kind.__mro__ if (key := f"{one.__name__}.{name}") in table), None)


def _value(kind: FieldType, *, null: bool) -> Json:
    more = ["null"] if null else []
    if kind.item is not None and kind.base is list:
        return {"type": ["array", *more], "items": _value(kind.item, null=True)}
    if kind.item is not None:
        return {"type": ["object", *more], "additionalProperties": _value(kind.item, null=True)}
    struct = struct_of(kind)
    if struct is not None:
        reference = _reference(struct.__name__)
        return {"anyOf": [reference, {"type": "null"}]} if null else reference
    if kind.base is None:
        return {}
    match kind.kind:
        case "quantity":
            return {"type": ["string", "number", *more]}
        case "int-or-string":
            return {"type": ["integer", "string", *more]}
        case "int32":
            return {"type": ["integer", *more], "minimum": -(2**31), "maximum": 2**31 - 1}
        case "time":
            return {"type": ["string", *more], "format": "date-time"}
        case _:
            return {"type": [{str: "string", int: "integer", bool: "boolean"}[kind.base], *more]}
