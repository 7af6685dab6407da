"""Which fields of a manifest this node honours: the one table that warnings, `explain` and the reference are made from.

A field that is not in the table is honoured. One that is stands by its type and name, so that it counts wherever the
type is used. What is honoured for some values only has a predicate that says for which it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from minikubelet.api.field_types import FieldType, struct_fields
from minikubelet.api.types import Pod


class Support(Enum):
    """How far a field is honoured."""

    HONOURED = "honoured"
    # Kubernetes' node agent does nothing with it for static pods either.
    ACCEPTED = "accepted, no action here or in the kubelet"
    UNHONOURED = "not honoured"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be said of one field; `applies` tells to which values, `within` in which objects, None to all."""

    support: Support
    sentence: str
    applies: Callable[[Any], bool] | None = None
    within: Callable[[Any], bool] | None = None

    @property
    def is_partial(self) -> bool:
        """Tell whether it holds for some values only."""
        return self.applies is not None or self.within is not None

    def holds(self, found: Any, inside: Any) -> bool:
        """Tell whether it holds for a value in an object."""
        return (self.applies is None or self.applies(found)) and (self.within is None or self.within(inside))


HONOURED: Final = Entry(Support.HONOURED, "")


def _accepted(sentence: str) -> Entry:
    return Entry(Support.ACCEPTED, sentence)


def _unhonoured(sentence: str, applies: Callable[[Any], bool] | None = None) -> Entry:
    return Entry(Support.UNHONOURED, sentence, applies)


def _is_default(profile: Any) -> bool:
    return str(profile.type) == "RuntimeDefault"


def _has_extended(amounts: dict[str, str]) -> bool:
    return any("/" in name for name in amounts)


def _is_on_disk(volume: Any) -> bool:
    return not volume.medium


_NO_SCHEDULER: Final = _accepted("a static pod is placed by its file, not by a scheduler")
_BY_NODE: Final = _accepted("the node writes it")
_NO_API: Final = _accepted("only an API server acts on it")
_WINDOWS: Final = _accepted("it is for Windows")
_NO_STORAGE: Final = _unhonoured("it needs a cluster's storage: the pod waits with a FailedMount event")
_NO_PROJECTION: Final = _unhonoured("it needs an API server: the pod waits with a FailedMount event")
_NO_SELINUX: Final = _unhonoured("no SELinux label is set")
_NO_APPARMOR: Final = _unhonoured(
    "there is no default AppArmor profile: none is set; without AppArmor on the machine, the pod is rejected",
    _is_default,
)
_NO_DEVICES: Final = _unhonoured("amounts of devices are not counted and no device is given", _has_extended)

TABLE: Final[dict[str, Entry]] = {
    **dict.fromkeys(
        (
            "ObjectMeta.selfLink",
            "ObjectMeta.resourceVersion",
            "ObjectMeta.generation",
            "ObjectMeta.creationTimestamp",
            "ObjectMeta.deletionTimestamp",
            "ObjectMeta.deletionGracePeriodSeconds",
            "Pod.status",
            "PodSpec.nodeName",
        ),
        _BY_NODE,
    ),
    **dict.fromkeys(
        ("ObjectMeta.generateName", "ObjectMeta.ownerReferences", "ObjectMeta.finalizers", "ObjectMeta.managedFields"),
        _NO_API,
    ),
    **dict.fromkeys(
        (
            "PodSpec.schedulerName",
            "PodSpec.preemptionPolicy",
            "PodSpec.tolerations",
            "PodSpec.topologySpreadConstraints",
            "PodSpec.schedulingGates",
            "PodSpec.schedulingGroup",
            "Affinity.podAffinity",
            "Affinity.podAntiAffinity",
            "NodeAffinity.preferredDuringSchedulingIgnoredDuringExecution",
        ),
        _NO_SCHEDULER,
    ),
    "PodSpec.ephemeralContainers": _NO_API,
    "PodSpec.serviceAccountName": _accepted("only its name is used; there are no tokens"),
    "PodSpec.serviceAccount": _accepted("only its name is used; there are no tokens"),
    "PodSpec.automountServiceAccountToken": _accepted("there are no tokens"),
    "PodSpec.enableServiceLinks": _accepted("there are no services"),
    "PodSpec.imagePullSecrets": _unhonoured("images are not fetched"),
    "PodSpec.runtimeClassName": _unhonoured("there is one runtime, which every pod gets"),
    "PodSpec.resourceClaims": _unhonoured("no device is given"),
    "ResourceRequirements.claims": _unhonoured("no device is given"),
    "ResourceRequirements.limits": _NO_DEVICES,
    "Container.imagePullPolicy": _accepted("images are not fetched"),
    "Container.resizePolicy": _accepted("static pods are not resized in place"),
    "Container.volumeDevices": _unhonoured("it needs a cluster's storage"),
    "SecurityContext.seLinuxOptions": _NO_SELINUX,
    "PodSecurityContext.seLinuxOptions": _NO_SELINUX,
    "PodSecurityContext.seLinuxChangePolicy": _NO_SELINUX,
    "SecurityContext.appArmorProfile": _NO_APPARMOR,
    "PodSecurityContext.appArmorProfile": _NO_APPARMOR,
    "SecurityContext.windowsOptions": _WINDOWS,
    "PodSecurityContext.windowsOptions": _WINDOWS,
    "PodSecurityContext.fsGroupChangePolicy": _accepted("the volume types of this node pay no heed to it"),
    "EmptyDirVolumeSource.sizeLimit": Entry(
        Support.UNHONOURED, "static pods are never evicted, so a volume on disk has no bound", within=_is_on_disk
    ),
    **dict.fromkeys(
        (
            f"Volume.{name}"
            for name in (
                "gcePersistentDisk awsElasticBlockStore gitRepo nfs iscsi glusterfs persistentVolumeClaim rbd "
                "flexVolume cinder cephfs flocker fc azureFile vsphereVolume quobyte azureDisk photonPersistentDisk "
                "portworxVolume scaleIO storageos csi ephemeral"
            ).split()
        ),
        _NO_STORAGE,
    ),
    "Volume.image": _unhonoured("images are not fetched: the pod waits with a FailedMount event"),
    "VolumeProjection.serviceAccountToken": _NO_PROJECTION,
    "VolumeProjection.clusterTrustBundle": _NO_PROJECTION,
    "VolumeProjection.podCertificate": _NO_PROJECTION,
}


def support_of(kind: type[msgspec.Struct], name: str) -> Entry:
    """Return what is to be said of a type's field, by its name on the wire; what a type inherits counts too."""
    for one in kind.__mro__:
        entry = TABLE.get(f"{one.__name__}.{name}")
        if entry is not None:
            return entry
    return HONOURED


NO_COMMAND: Final = "every image's name stands for the machine's own root, so a container says what it runs"


def unhonoured_fields(pod: Pod) -> list[tuple[str, str]]:
    """Return what a Pod asks for and this node does not honour: the fields' paths, and a sentence on each."""
    found = [
        (path, f"{path}: not honoured on this node: {entry.sentence}")
        for path, entry in _set_fields(pod, "")
        if entry.support is Support.UNHONOURED
    ]
    return [*found, *_missing_commands(pod)]


def _missing_commands(pod: Pod) -> Iterator[tuple[str, str]]:
    """Yield containers that leave their command to their image, which is correct but runs nothing here."""
    for group, containers in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        for index, one in enumerate(containers or ()):
            if not one.command and not one.args:
                path = f"spec.{group}[{index}].command"
                yield path, f"{path}: not honoured on this node: an image's own command; {NO_COMMAND}"


def _set_fields(value: msgspec.Struct, path: str) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of the fields that are set, without what is inside a field that has one itself."""
    for name, known in struct_fields(type(value)).items():
        found = getattr(value, known.attribute)
        if found is None or found in ("", False, [], {}):
            continue
        below = f"{path}.{name}" if path else name
        entry = support_of(type(value), name)
        if entry is not HONOURED:
            if entry.holds(found, value):
                yield below, entry
            continue
        yield from _inside(found, known.type, below)


def _inside(found: Any, kind: FieldType, path: str) -> Iterator[tuple[str, Entry]]:
    if isinstance(found, msgspec.Struct):
        yield from _set_fields(found, path)
    elif kind.base is list:
        for index, one in enumerate(found):
            if isinstance(one, msgspec.Struct):
                yield from _set_fields(one, f"{path}[{index}]")
