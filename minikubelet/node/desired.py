"""What all manifest files together ask for, and the verdict on each. Pure.

Of several documents that ask for one name, or pods that ask for one uid, the one that came first is taken; the others
are told so in the verdict on their file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from minikubelet.api.manifest import Manifest, PodDocument
from minikubelet.api.types import ConfigMap, ObjectMeta, Secret
from minikubelet.lifecycle.pods import pod_key
from minikubelet.node import verdicts
from minikubelet.node.claims import Claims, settle
from minikubelet.node.guard import Stamp
from minikubelet.node.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something wrong with a file, since when, and what it was made of."""

    cause: Stamp | str
    since: float
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Writing:
    """A file that is open for writing: how it was last seen, since when it is so, since when it is open, and whether
    that was told."""

    stamp: Stamp
    quiet_since: float
    open_since: float
    told: bool = False


@dataclass(slots=True)
class ManifestFile:
    """What is known of one file. `now` or `refusal` was made of the state that `stamp` tells; times are Unix time."""

    path: str
    first_seen: float
    stamp: Stamp | str | None = None
    now: Manifest | None = None
    refusal: str = ""
    digest: bytes = b""
    good: Manifest | None = None
    good_since: float = 0.0
    doubt: Doubt | None = None
    written: Writing | None = None
    verdict: tuple[tuple[object, ...], Verdict] | None = None  # the last one, and what it was made of


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """What the directory asks for, and what was made of each file."""

    pods: tuple[PodDocument, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    secrets: tuple[Secret, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    files: dict[str, str] = field(default_factory=dict[str, str])  # pod uid to the file it comes from
    origins: dict[str, str] = field(default_factory=dict[str, str])  # `ConfigMap default/web` to its file

    def origin(self, kind: str, namespace: str, name: str) -> tuple[str, int] | None:
        """Return the file and line (0 for unknown) that an object comes from; kinds as in manifests."""
        file = self.origins.get(f"{kind} {namespace}/{name}")
        if file is None:
            return None
        key = (namespace, name)
        pods = (one for one in self.pods if (one.pod.metadata.namespace, one.pod.metadata.name) == key)
        return file, next((one.line for one in pods if kind == "Pod"), 0)


def assemble(
    files: Iterable[ManifestFile], before: Claims, directory: str, trouble: str
) -> tuple[DesiredState, dict[str, tuple[str, ...]]]:
    """Return the desired state, and who claims what now.

    Args:
        files: All files that are known.
        before: The claims that were returned last.
        directory: The manifest directory.
        trouble: Why it cannot be used, if it cannot.
    """
    order = sorted(files, key=lambda file: (file.first_seen, file.path))
    names = settle(((name, file.path) for file in order for name, _ in _objects(file)), before)
    uids = settle(_asked_uids(order, names), before)
    taken = _Taken({**names, **uids})
    for file in order:
        taken.take(file)
    said = [Verdict(file=directory, refusals=(trouble,), reason=verdicts.FAILED_READING)] if trouble else []
    said += [_verdict(file, taken) for file in order if file.now or file.refusal or file.good or _is_waiting(file)]
    state = DesiredState(
        pods=tuple(one for one in taken.objects.values() if isinstance(one, PodDocument)),
        config_maps=tuple(one for one in taken.objects.values() if isinstance(one, ConfigMap)),
        secrets=tuple(one for one in taken.objects.values() if isinstance(one, Secret)),
        verdicts=tuple(said),
        files=taken.files,
        origins=taken.origins,
    )
    return state, {**names, **uids}


def rfc3339(seconds: float) -> str:
    """Return a Unix time with nanoseconds' digits, as the kubelet's config.seen annotation has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _objects(file: ManifestFile) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of every object in the version of a file that counts."""
    if file.good is None:
        return
    for pod in file.good.pods:
        yield f"Pod {pod_key(pod.pod)}", pod
    for config_map in file.good.config_maps:
        yield f"ConfigMap {config_map.metadata.namespace or 'default'}/{config_map.metadata.name}", config_map
    for secret in file.good.secrets:
        yield f"Secret {secret.metadata.namespace or 'default'}/{secret.metadata.name}", secret


def _asked_uids(order: Sequence[ManifestFile], names: Claims) -> Iterator[tuple[str, str]]:
    for file in order:
        for name, one in _objects(file):
            if isinstance(one, PodDocument) and names[name][0] == file.path:
                yield f"uid {one.pod.metadata.uid}", file.path


class _Taken:
    """The objects that are taken, and why others are not."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self.objects: dict[str, Any] = {}
        self.files: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self.pods: dict[str, list[PodDocument]] = {}
        self.refusals: dict[str, list[str]] = {}

    def take(self, file: ManifestFile) -> None:
        """Take what a file has first claim to."""
        for name, one in _objects(file):
            refusal = self._refusal(name, one, file.path)
            if refusal:
                self.refusals.setdefault(file.path, []).append(refusal)
                continue
            self.objects[name] = one
            self.origins[name] = file.path
            if isinstance(one, PodDocument):
                self.files[one.pod.metadata.uid] = file.path
                self.pods.setdefault(file.path, []).append(one)

    def _refusal(self, name: str, one: Any, file: str) -> str:
        holder = self._claims[name][0]
        if holder != file:
            return f"{name} is already defined in {holder}, which came first and goes on"
        if name in self.objects:
            return f"{name} is defined twice in this file, the first one counts"
        if not isinstance(one, PodDocument):
            return ""
        uid = one.pod.metadata.uid
        holder = self._claims[f"uid {uid}"][0]
        if holder != file:
            return f"{name} has the uid {uid} of a pod in {holder}, which came first and goes on"
        if uid in self.files:
            return f"{name} has the uid {uid} of another pod in this file, the first one counts"
        return ""


def _is_waiting(file: ManifestFile) -> bool:
    return file.written is not None and file.written.told


def _verdict(file: ManifestFile, taken: _Taken) -> Verdict:
    """Return the verdict on a file: the last one where nothing of it has changed, as there may be very many files."""
    running = [one.pod.metadata for one in taken.pods.get(file.path, ())]
    refusals = (*((file.refusal,) if file.refusal else ()), *taken.refusals.get(file.path, ()))
    basis = (file.path, file.now, file.good, file.good_since, running, refusals, _is_waiting(file))
    if file.verdict is None or file.verdict[0] != basis:
        file.verdict = basis, _make_verdict(file, running, refusals)
    return file.verdict[1]


def _make_verdict(file: ManifestFile, running: Sequence[ObjectMeta], refusals: tuple[str, ...]) -> Verdict:
    return Verdict(
        file=file.path,
        problems=tuple(file.now.problems) if file.now is not None else (),
        refusals=refusals,
        reason=_reason(file),
        running=tuple(f"{one.namespace}/{one.name}" for one in running),
        uids=tuple(one.uid for one in running),
        keeps_last_good=file.now is not file.good,
        good_since=rfc3339(file.good_since)[:19] + "Z",
        waiting=_is_waiting(file),
    )


def _reason(file: ManifestFile) -> str:
    if file.refusal:
        return verdicts.FAILED_READING
    stages = set(file.now.stages if file.now is not None else ())
    return verdicts.FAILED_PARSING if stages & {"syntax", "kind", "decode"} else verdicts.FAILED_VALIDATION
