"""What is honoured, what is said of it, and that the reference, `explain` and the warnings agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from minikubelet.api.documentation import KINDS, UnknownPath, description, documented_types, find, struct_of
from minikubelet.api.field_types import struct_fields
from minikubelet.api.manifest import parse_manifest
from minikubelet.api.problems import Severity
from minikubelet.api.reference import manifest_reference
from minikubelet.api.support import TABLE, unhonoured_fields

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "manifest.md"


def types() -> Iterator[type[msgspec.Struct]]:
    seen: set[str] = set()
    queue: list[type[msgspec.Struct]] = list(KINDS.values())
    while queue:
        kind = queue.pop()
        if kind.__name__ in seen:
            continue
        seen.add(kind.__name__)
        yield kind
        queue += [below for one in struct_fields(kind).values() if (below := struct_of(one.type)) is not None]


def test_reference_is_current() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert text == manifest_reference(), f"run python -m minikubelet.api.reference {REFERENCE}"


def test_every_field_has_a_sentence() -> None:
    for kind in types():
        for name in struct_fields(kind):
            sentence = description(kind, name)
            assert sentence.endswith("."), (kind, name)
            assert sentence.count("|") == 0


def test_every_line_of_the_tables_is_about_a_field_that_there_is() -> None:
    known = {kind.__name__: struct_fields(kind) for kind in types()}
    for key in TABLE:
        kind, name = key.split(".")
        assert name in known[kind], key
    assert documented_types() <= set(known)


POD = """\
apiVersion: v1
kind: Pod
metadata: {name: a, ownerReferences: [{apiVersion: v1, kind: Node, name: m, uid: u}]}
spec:
  tolerations: [{operator: Exists}]
  imagePullSecrets: [{name: s}]
  runtimeClassName: kata
  securityContext: {appArmorProfile: {type: %s}}
  volumes:
  - {name: v, nfs: {server: s, path: /p}}
  - {name: p, projected: {sources: [{clusterTrustBundle: {name: x, path: p}}]}}
  initContainers:
  - {name: i, image: x, command: [a], resources: {limits: {example.com/gpu: 1}}}
  containers:
  - {name: c, image: x, securityContext: {seLinuxOptions: {level: s0}}, resources: {limits: {cpu: 1}}}
"""
ALWAYS = [
    "spec.containers[0].command",  # an image would have one
    "spec.volumes[0].nfs",
    "spec.volumes[1].projected.sources[0].clusterTrustBundle",
    "spec.initContainers[0].resources.limits",
    "spec.containers[0].securityContext.seLinuxOptions",
    "spec.imagePullSecrets",
    "spec.runtimeClassName",
]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("Unconfined", ALWAYS), ("RuntimeDefault", [*ALWAYS, "spec.securityContext.appArmorProfile"])],
)
def test_unhonoured_fields_are_found_wherever_they_are_set(profile: str, expected: list[str]) -> None:
    manifest = parse_manifest((POD % profile).encode(), file="f", node_name="n")
    assert not manifest.errors
    found = unhonoured_fields(manifest.pods[0].pod)
    assert sorted(path for path, _ in found) == sorted(expected)
    assert all(text.startswith(f"{path}: not honoured on this node: ") for path, text in found)
    warned = [(one.field, one.is_of_node) for one in manifest.problems]
    assert sorted(warned) == sorted((path, True) for path in expected)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("pod.spec.contaners", 'did you mean "pod.spec.containers"?'),
        ("pod.spec.containers.readonly", "does not exist in pod.spec.containers"),
        ("spec.containers", 'did you mean "pod.spec.containers"?'),
        ("pood", 'did you mean "pod"?'),
        ("pod.spec.containers.image.tag", "does not exist in pod.spec.containers.image"),
        ("", "there is no kind"),
    ],
)
def test_wrong_paths_name_the_likely_one(path: str, hint: str) -> None:
    with pytest.raises(UnknownPath, match=hint.replace("?", r"\?").replace("[", r"\[")):
        find(path)


@pytest.mark.parametrize(
    "path", ["pod", "po.spec.containers[0].image", "Pods.metadata.labels", "cm.data", "secret.type"]
)
def test_paths_are_found_as_kubectl_spells_them(path: str) -> None:
    assert find(path).description


def test_size_limit_of_a_volume_on_disk_is_not_honoured() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: c, image: x, command: [a]}]\n"
        "  volumes:\n"
        "  - {name: disk, emptyDir: {sizeLimit: 1Gi}}\n"
        "  - {name: memory, emptyDir: {sizeLimit: 1Gi, medium: Memory}}\n"
        "  - {name: plain, emptyDir: {}}\n"
    )
    manifest = parse_manifest(text.encode(), file="f", node_name="n")
    assert [(one.field, one.severity, one.line) for one in manifest.problems] == [
        ("spec.volumes[0].emptyDir.sizeLimit", Severity.WARNING, 7)
    ]
