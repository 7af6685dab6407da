"""A manifest file as a whole: its documents, the pods in it, and everything that is wrong with them.

The one entry point to this package for whoever has a file. Every document takes the same steps; the first that fails is
its `stage`: syntax, kind, decode, name, reference (strict static pods only), validation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from minikubelet.api.decode import decode_object
from minikubelet.api.decoding import Decoding, nearest
from minikubelet.api.defaults import make_static, set_defaults
from minikubelet.api.field_errors import FieldError, visible
from minikubelet.api.foreseen import foreseen_failures
from minikubelet.api.hints import likely_name
from minikubelet.api.nodes import Duplicate, Mark, Node, SourceError
from minikubelet.api.problems import Problem, Severity
from minikubelet.api.source import decode_text, read_documents
from minikubelet.api.support import unhonoured_fields
from minikubelet.api.types import ConfigMap, Pod, Secret

_LISTS: Final = ("List", "PodList", "ConfigMapList", "SecretList")
_KINDS: Final = ("Pod", "ConfigMap", "Secret", *_LISTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDocument:
    """A Pod of a file: static, defaulted and without errors, so fit to run."""

    pod: Pod
    document: int
    problems: tuple[Problem, ...] = ()
    line: int = 0  # where it begins in its file
    places: Mapping[str, Mark] = field(default_factory=dict[str, Mark])  # of its fields, when they were asked for

    def place(self, path: str) -> Mark:
        """Return where a field stands, or else the nearest thing around it that does."""
        return nearest(self.places, path)


@dataclass(slots=True, kw_only=True)
class Manifest:
    """What a file holds. `problems` are all of the file, in its order; `stages` has one word for each document."""

    pods: list[PodDocument] = field(default_factory=list[PodDocument])
    config_maps: list[ConfigMap] = field(default_factory=list[ConfigMap])
    secrets: list[Secret] = field(default_factory=list[Secret])
    problems: list[Problem] = field(default_factory=list[Problem])
    stages: list[str] = field(default_factory=list[str])

    @property
    def errors(self) -> list[Problem]:
        """Return the problems that keep something from running."""
        return [one for one in self.problems if one.severity is Severity.ERROR]

    @property
    def is_empty(self) -> bool:
        """Tell whether the file has no object in it at all."""
        return not (self.pods or self.config_maps or self.secrets or self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    file: str
    node_name: str
    seen_at: str
    strict_static: bool
    before: Manifest | None = None
    keep_places: bool = False


def parse_manifest(
    data: bytes,
    *,
    file: str,
    node_name: str,
    seen_at: str = "",
    strict_static: bool = False,
    before: Manifest | None = None,
    keep_places: bool = False,
) -> Manifest:
    """Read a manifest file.

    Args:
        data: Its content.
        file: Its path, which is part of what a pod's uid is made from.
        node_name: The node's name, which pods are named after.
        seen_at: When the file was first seen, RFC 3339, for the pod's annotation.
        strict_static: Refuse what the kubelet refuses in static pods: references to other API objects.
        before: The version of the file that counts until now; its immutable objects may not change.
        keep_places: Let each pod say where its fields stand.
    """
    options = _Options(
        file=file,
        node_name=node_name,
        seen_at=seen_at,
        strict_static=strict_static,
        before=before,
        keep_places=keep_places,
    )
    manifest = Manifest()
    try:
        documents, duplicates = read_documents(decode_text(data))
    except SourceError as error:
        manifest.problems.append(_problem("", error.message, 0, error.mark, error.hint))
        manifest.stages.append("syntax")
        return manifest
    if all(one.value is None for one in documents):
        manifest.problems.append(
            _problem("", "Object 'Kind' is missing in 'null'", 0, Mark(1, 1), "the file has no object in it")
        )
        manifest.stages.append("kind")
        return manifest
    for number, node in enumerate(documents):
        if node.value is None and len(documents) > 1:
            continue  # `---` at the start or end of a file makes an empty document
        into = Decoding(number)
        for one in duplicates[number]:
            _warn_duplicate(one, into)
        _read_object(node, into, manifest, options)
        into.close()
        manifest.problems.extend(into.problems)
    return manifest


def _problem(path: str, message: str, document: int, mark: Mark, hint: str = "") -> Problem:
    return Problem(
        severity=Severity.ERROR,
        field=path,
        message=visible(message),
        document=document,
        line=mark.line,
        column=mark.column,
        hint=hint,
    )


def _warn_duplicate(one: Duplicate, into: Decoding) -> None:
    what = "read into what the first one holds" if one.joined else "the last one counts"
    detail = f'duplicate key "{one.key}", {what}; the first is at {one.first.line}:{one.first.column}'
    into.warn("", one.second, detail)


def _read_object(node: Node, into: Decoding, manifest: Manifest, options: _Options) -> None:
    kind = _kind(node, into)
    if kind is None:
        manifest.stages.append("kind")
        return
    if kind in _LISTS:
        items = node.value.get("items") if isinstance(node.value, dict) else None
        for one in items[1].value if items is not None and isinstance(items[1].value, list) else ():
            _read_object(one, into, manifest, options)
        return
    manifest.stages.append(_read_one(kind, node, into, manifest, options))


def _kind(node: Node, into: Decoding) -> str | None:
    """Return the document's kind, or None with an error when it is none that is read here."""
    if not isinstance(node.value, dict):
        into.error("", node.mark, f"Object 'Kind' is missing in '{_sample(node)}'")
        return None
    values: list[str] = []
    marks: list[Mark] = []
    for name, shown in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        found = _type_meta(node.value, name)
        if found is not None and not isinstance(found.value, str | None):
            into.error("", found.mark, f"cannot read {name}: it must be a text")
            return None
        if found is None or not isinstance(found.value, str) or not found.value:
            into.error("", node.mark, f"Object '{shown}' is missing in '{_sample(node)}'")
            return None
        values.append(found.value)
        marks.append(found.mark)
    kind, version = values
    if version.removeprefix("/") != "v1" or version.count("/") > 1 or kind not in _KINDS:
        meant = likely_name(kind, _KINDS)
        hint = f'did you mean "{meant}"?' if meant and meant != kind else ""
        text = f'no kind "{kind}" is registered for version "{version}"'
        more = f"this node reads v1 Pod, List, ConfigMap and Secret{': ' + hint if hint else ''}"
        into.error("", marks[0] if version == "v1" else marks[1], f"{text}; {more}")
        return None
    # Whatever case and form they were written in.
    node.value["kind"] = (marks[0], Node(kind, marks[0], kind))
    node.value["apiVersion"] = (marks[1], Node("v1", marks[1], "v1"))
    return kind


def _type_meta(entries: Mapping[str, tuple[Mark, Node]], name: str) -> Node | None:
    """Return `kind` or `apiVersion`, however it is written: Kubernetes takes any case for these two alone."""
    if name in entries:
        return entries[name][1]
    found = [node for key, (_, node) in entries.items() if key.lower() == name.lower()]
    return found[-1] if found else None


def _sample(node: Node) -> str:
    """Return the beginning of a document for a message, without what may be secret."""
    return json.dumps(_without_secrets(node.plain()), separators=(",", ":"), ensure_ascii=False)[:80]


def _without_secrets(plain: Any) -> Any:
    """Return a value without what stands where Secrets have theirs, however deep and in whatever case."""
    if isinstance(plain, list):
        items: list[Any] = plain
        return [_without_secrets(one) for one in items]
    if isinstance(plain, dict):
        entries: dict[str, Any] = plain
        return {
            name: "..." if name.lower() in ("data", "stringdata", "binarydata") else _without_secrets(one)
            for name, one in entries.items()
        }
    return plain


def _read_one(kind: str, node: Node, into: Decoding, manifest: Manifest, options: _Options) -> str:
    """Read one object into the manifest; return the stage it reached."""
    before = len(into.problems)
    into.failed = False
    into.places = {}
    types: dict[str, Any] = {"Pod": Pod, "ConfigMap": ConfigMap, "Secret": Secret}
    value = decode_object(node, types[kind], into)
    if into.failed:
        return "decode"
    if kind == "Pod" and not value.metadata.name:
        into.add("metadata.name", "invalid pod: name is needed for the pod")
        return "name"
    if kind == "ConfigMap":
        old = _counterpart(value, options.before.config_maps if options.before is not None else ())
        return _keep(value, _validate_config_map(value, old), manifest.config_maps, into)
    if kind == "Secret":
        old = _counterpart(value, options.before.secrets if options.before is not None else ())
        return _keep(value, _validate_secret(value, old), manifest.secrets, into)
    pod = make_static(set_defaults(value), node_name=options.node_name, file_path=options.file, seen_at=options.seen_at)
    stage = _validate_pod(pod, into, options)
    if stage == "ok":
        for path, text in unhonoured_fields(pod):
            into.warn_of_node(path, text)
        for path, text, names in foreseen_failures(pod):
            into.warn_of_failure(path, text, names)
        own = tuple(into.problems[before:])
        manifest.pods.append(
            PodDocument(
                pod=pod,
                document=into.document,
                problems=own,
                line=node.mark.line,
                places=into.places if options.keep_places else {},
            )
        )
    return stage


def _validate_pod(pod: Pod, into: Decoding, options: _Options) -> str:
    from minikubelet.api.validation.pod import validate_pod
    from minikubelet.api.validation.references import reference_error

    if options.strict_static and (text := reference_error(pod)) is not None:
        into.add("spec", text)
        return "reference"
    return _add_errors(validate_pod(pod), into)


def _counterpart(value: Any, before: Sequence[Any]) -> Any:
    """Return the object of the same name in the version before, or None."""

    def key(one: Any) -> tuple[str, str]:
        return one.metadata.namespace or "default", one.metadata.name

    return next((one for one in before if key(one) == key(value)), None)


def _validate_config_map(value: ConfigMap, old: ConfigMap | None) -> Sequence[FieldError]:
    from minikubelet.api.validation.objects import validate_config_map, validate_config_map_update

    return validate_config_map(value) or validate_config_map_update(value, old)


def _validate_secret(value: Secret, old: Secret | None) -> Sequence[FieldError]:
    from minikubelet.api.validation.objects import validate_secret, validate_secret_update

    return validate_secret(value) or validate_secret_update(value, old)


def _keep(value: Any, errors: Sequence[FieldError], kept: list[Any], into: Decoding) -> str:
    stage = _add_errors(errors, into)
    if stage == "ok":
        kept.append(value)
    return stage


def _add_errors(errors: Sequence[FieldError], into: Decoding) -> str:
    for error in errors:
        into.add(error.path, error.text)
    return "validation" if errors else "ok"
