"""U-SRC: where pods come from, the rows of Kubernetes' own test restated."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import yaml

from minikubelet.api.defaults import make_static
from minikubelet.api.manifest import Manifest, parse_manifest
from minikubelet.api.types import Pod
from minikubelet.node.desired import DesiredState
from minikubelet.node.source import ManifestSource

pytestmark = pytest.mark.anyio

TEXT = """
apiVersion: v1
kind: Pod
metadata: {name: test, namespace: mynamespace, uid: "12345"}
spec: {containers: [{name: image, image: test/image, command: [sleep, "1"]}]}
"""


def parse(text: str | bytes, *, node: str = "host", strict: bool = False) -> Manifest:
    data = text if isinstance(text, bytes) else text.encode()
    return parse_manifest(data, file="/m/a.yaml", node_name=node, strict_static=strict)


def only(manifest: Manifest) -> Pod:
    assert manifest.errors == []
    return manifest.pods[0].pod


def errors(manifest: Manifest) -> str:
    return "\n".join(f"{one.field}: {one.message}" for one in manifest.errors)


class Bench:
    """A source over one path, and what it published."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "manifests"
        self.directory.mkdir()
        os.chmod(self.directory, 0o755)
        self.file = self.directory / "a.yaml"
        self.state = base / "state"
        self.state.mkdir()
        self.published: list[DesiredState] = []
        self.told = asyncio.Event()
        self.source: ManifestSource | None = None

    async def start(self, path: Path) -> None:
        self.source = ManifestSource(
            directory=str(path),
            state_dir=str(self.state),
            node_name="host",
            period_s=60.0,
            strict_static=False,
            on_change=self._on_change,
        )
        await self.source.start()

    def _on_change(self, desired: DesiredState) -> None:
        self.published.append(desired)
        self.told.set()

    def write(self, text: str) -> None:
        self.file.write_text(text)
        os.chmod(self.file, 0o644)

    def images(self) -> list[str]:
        return [one.pod.spec.containers[0].image for one in self.published[-1].pods]

    async def until(self, images: list[str]) -> None:
        async with asyncio.timeout(20):
            while not self.published or self.images() != images:
                self.told.clear()
                await self.told.wait()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    one = Bench(tmp_path)
    yield one
    if one.source is not None:
        await one.source.stop()


@pytest.mark.conformance("U-SRC-2")
@pytest.mark.conformance("U-SRC-6")
@pytest.mark.conformance("U-SRC-8")
async def test_one_file_that_is_missing_appears_and_changes(bench: Bench) -> None:
    await bench.start(bench.file)
    assert bench.published[-1].pods == ()
    bench.write(TEXT)
    await bench.until(["test/image"])
    bench.write(TEXT.replace("test/image", "test/other"))
    await bench.until(["test/other"])


@pytest.mark.conformance("U-SRC-5")
@pytest.mark.conformance("U-SRC-7")
@pytest.mark.conformance("U-SRC-9")
@pytest.mark.conformance("U-SRC-11")
async def test_a_directory_in_which_a_file_appears_changes_and_goes(bench: Bench) -> None:
    await bench.start(bench.directory)
    assert bench.published[-1].pods == ()
    bench.file.touch()  # made, but not written yet: nothing to be told
    bench.write(TEXT)
    await bench.until(["test/image"])
    assert all(state.verdicts == () or not state.verdicts[0].errors() for state in bench.published)
    bench.write(TEXT.replace("test/image", "test/other"))
    await bench.until(["test/other"])
    bench.file.unlink()
    await bench.until([])


@pytest.mark.conformance("U-SRC-10")
async def test_a_renamed_file_is_another_pod(bench: Bench) -> None:
    text = TEXT.replace(', uid: "12345"', "")
    bench.write(text)
    await bench.start(bench.directory)
    before = bench.published[-1].pods[0].pod.metadata.uid
    bench.file.rename(bench.directory / "b.yaml")
    async with asyncio.timeout(20):
        while [one.pod.metadata.uid for one in bench.published[-1].pods] in ([], [before]):
            bench.told.clear()
            await bench.told.wait()
    assert bench.images() == ["test/image"]


@pytest.mark.conformance("U-SRC-3")
def test_what_becomes_of_a_file() -> None:
    pod = only(parse(TEXT))
    meta, spec = pod.metadata, pod.spec
    assert (meta.name, meta.namespace, meta.uid) == ("test-host", "mynamespace", "12345")
    assert (meta.annotations or {})["kubernetes.io/config.hash"] == "12345"
    assert (spec.node_name, spec.restart_policy, spec.dns_policy) == ("host", "Always", "ClusterFirst")
    assert spec.termination_grace_period_seconds == 30
    container = spec.containers[0]
    assert container.termination_message_path == "/dev/termination-log"
    assert container.termination_message_policy == "File"
    assert pod.status.phase == "Pending"


def test_what_a_file_says_of_itself_is_overwritten_or_kept() -> None:
    item = yaml.safe_load(TEXT)
    item["spec"].update(nodeName="elsewhere", tolerations=[{"key": "k", "operator": "Exists"}])
    item["metadata"]["annotations"] = {"kubernetes.io/config.hash": "h", "own": "a"}
    item["status"] = {"phase": "Failed", "conditions": [{"type": "gate", "status": "True"}]}
    pod = only(parse(json.dumps(item)))
    assert pod.spec.node_name == "host"
    tolerations = [(one.key, one.operator, one.effect) for one in pod.spec.tolerations or ()]
    assert tolerations == [("k", "Exists", ""), ("", "Exists", "NoExecute")]
    assert pod.metadata.annotations == {
        "kubernetes.io/config.hash": "12345",
        "kubernetes.io/config.source": "file",
        "own": "a",
    }
    assert pod.status.phase == "Pending"
    assert [one.type for one in pod.status.conditions or ()] == ["gate"]


@pytest.mark.conformance("U-SRC-4")
async def test_rubbish_is_an_error_and_no_pod(bench: Bench) -> None:
    bench.file.write_bytes(bytes([1, 2, 3]))
    os.chmod(bench.file, 0o644)
    await bench.start(bench.directory)
    async with asyncio.timeout(20):
        while not bench.published or not bench.published[-1].verdicts:
            bench.told.clear()
            await bench.told.wait()
    (verdict,) = bench.published[-1].verdicts
    assert "control characters are not allowed" in "".join(verdict.errors())
    assert all(state.pods == () for state in bench.published)


@pytest.mark.conformance("U-SRC-12")
def test_json_and_yaml_are_the_same() -> None:
    assert only(parse(json.dumps(yaml.safe_load(TEXT)))) == only(parse(TEXT))


@pytest.mark.conformance("U-SRC-13")
def test_a_list_of_pods() -> None:
    item = yaml.safe_load(TEXT)
    other = {**item, "metadata": {"name": "other"}}
    manifest = parse(json.dumps({"apiVersion": "v1", "kind": "PodList", "items": [item, other]}))
    assert [one.pod.metadata.name for one in manifest.pods] == ["test-host", "other-host"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(
            {
                "volumes": [
                    {"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"name": "b", "path": "p"}}]}}
                ]
            },
            "clustertrustbundles",
            marks=pytest.mark.conformance("U-SRC-14"),
            id="U-SRC-14",
        ),
        pytest.param(
            {"resourceClaims": [{"name": "c", "resourceClaimName": "d"}]},
            "resourceclaims",
            marks=pytest.mark.conformance("U-SRC-15"),
            id="U-SRC-15",
        ),
    ],
)
def test_references_to_api_objects_that_cannot_be_here_are_refused(change: dict[str, object], what: str) -> None:
    item = yaml.safe_load(TEXT)
    item["spec"].update(change)
    manifest = parse(json.dumps(item), strict=True)
    assert errors(manifest) == f"spec: static pods may not reference {what}"
    assert manifest.pods == []


@pytest.mark.conformance("U-SRC-16")
def test_a_container_may_have_a_restart_policy() -> None:
    item = yaml.safe_load(TEXT)
    item["spec"]["containers"][0]["restartPolicy"] = "Never"
    assert only(parse(json.dumps(item))).spec.containers[0].restart_policy == "Never"


@pytest.mark.parametrize(
    "node",
    [
        pytest.param("node1", marks=pytest.mark.conformance("U-SRC-17"), id="U-SRC-17"),
        pytest.param("Node1", marks=pytest.mark.conformance("U-SRC-18"), id="U-SRC-18"),
    ],
)
def test_the_name_has_the_node_in_lower_case(node: str) -> None:
    pod = only(parse(TEXT))
    pod = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, name="static-pod1"))
    assert make_static(pod, node_name=node, file_path="/m", seen_at="").metadata.name == "static-pod1-node1"


@pytest.mark.conformance("U-SRC-19")
def test_a_name_in_upper_case_is_invalid() -> None:
    said = errors(parse(TEXT.replace("name: test,", "name: Test,")))
    rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
    assert said.startswith(f'metadata.name: metadata.name: Invalid value: "Test-host": {rule}')


@pytest.mark.conformance("U-SRC-20")
def test_a_negative_grace_is_one_second() -> None:
    item = yaml.safe_load(TEXT)
    item["spec"]["terminationGracePeriodSeconds"] = -1
    assert only(parse(json.dumps(item))).spec.termination_grace_period_seconds == 1
