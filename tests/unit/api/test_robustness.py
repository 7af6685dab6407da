"""Whatever stands in a file: a verdict, never a traceback, within bounds of time and memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikubelet.api.decode import decode_object
from minikubelet.api.decoding import MAX_PROBLEMS, Decoding
from minikubelet.api.manifest import Manifest, parse_manifest
from minikubelet.api.source import MAX_BYTES, MAX_NODES, read_documents
from minikubelet.api.types import Pod

CASES = Path(__file__).parents[2] / "data" / "cases" / "validation.jsonl"
GOOD = """\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {a: b}, creationTimestamp: 2020-01-02T03:04:05Z}
spec:
  containers:
  - name: c
    image: "x:1"
    command: ["sh", '-c', exit 0]
    ports: [{containerPort: 0x50}]
    resources: {limits: {cpu: 1e-1, memory: 64Mi}}
  volumes:
  - name: v
    emptyDir: {sizeLimit: 1Gi}
"""


def parse(data: bytes) -> Manifest:
    return parse_manifest(data, file="f", node_name="n")


def lines() -> Iterator[dict[str, Any]]:
    for line in CASES.read_text().splitlines():
        yield json.loads(line)


def check(manifest: Manifest) -> None:
    """Hold what is true of every verdict."""
    assert bool(manifest.errors) or manifest.pods or manifest.config_maps or manifest.secrets or manifest.is_empty
    for one in manifest.problems:
        assert one.line >= 1
        assert one.column >= 1
        assert one.message
        one.message.encode()  # no lone surrogates
        assert "\x00" not in one.message
        assert "\x1b" not in one.message


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    check_or_empty(parse(data))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_gets_a_verdict(text: str) -> None:
    check_or_empty(parse(text.encode("utf-8", "surrogatepass")))
    check_or_empty(parse(b'{"' + text.encode("utf-8", "surrogatepass")))


def check_or_empty(manifest: Manifest) -> None:
    if manifest.problems or manifest.pods:
        check(manifest)


WORDS = "null ~ [] {} 1 -1 1e999 0x7fffffffffffffff *a &a << ' | > --- ... yes 1:20 .inf 2020-01-01 {a:b} !!binary"
FRAGMENTS = st.sampled_from(
    [
        *WORDS.split(),
        *("\t", "\x00", "\x1b[2J", "\u202e", "\ud7ff", "\U0001f600", "? ", "- ", ": ", "[a, [b, [c]]]", "!!int x"),
        *("9" * 5000, "%YAML 1.3", "kind: Secret"),
    ]
)


@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 30), FRAGMENTS), max_size=4))
@settings(max_examples=250, deadline=None)
def test_mutations_of_a_good_manifest_get_a_verdict(edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    check_or_empty(parse(text.encode("utf-8", "surrogatepass")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from(
    "metadata metadata.labels metadata.managedFields spec spec.containers spec.volumes spec.affinity spec.overhead "
    "spec.securityContext spec.securityContext.sysctls spec.os spec.dnsConfig spec.tolerations spec.resources "
    "spec.initContainers spec.ephemeralContainers spec.containers.0.ports spec.containers.0.resources.limits "
    "spec.containers.0.livenessProbe spec.containers.0.livenessProbe.httpGet.port spec.containers.0.env "
    "spec.containers.0.lifecycle spec.containers.0.securityContext spec.volumes.0.projected spec.volumes.0.csi "
    "spec.volumes.0.ephemeral spec.volumes.0.downwardAPI spec.topologySpreadConstraints status".split()
)


@given(PATHS, JSON)
@settings(max_examples=250, deadline=None)
def test_any_value_anywhere_gets_a_verdict(path: str, value: Any) -> None:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "c", "image": "x"}], "volumes": [{"name": "v"}]},
    }
    *above, last = path.split(".")
    here: Any = pod
    for name in above:
        here = here[int(name)] if isinstance(here, list) else here.setdefault(name, {})
    here[last] = value
    check(parse(json.dumps(pod).encode()))


def test_what_is_decoded_is_what_was_encoded() -> None:
    """decode(encode(pod)) == pod, for the pods of all cases that are in order."""
    seen = 0
    for case in lines():
        manifest = parse(str(case.get("yaml", case.get("json"))).encode("utf-8", "surrogatepass"))
        for document in manifest.pods:
            (node,), _ = read_documents(msgspec.json.encode(document.pod).decode())
            into = Decoding(0)
            assert decode_object(node, Pod, into) == document.pod, case["id"]
            assert not into.problems
            seen += 1
    assert seen > 300


ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
HEAD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
BOMBS = {
    "aliases": HEAD + ALIASES,
    "merges": HEAD
    + "m0: &m0 {"
    + ", ".join(f"k{n}: 1" for n in range(1000))
    + "}\n"
    + "".join(f"m{n}: {{<<: *m0, x{n}: 1}}\n" for n in range(1, 3000)),
    "depth": HEAD + "spec: " + "[" * 5000,
    "depth of blocks": HEAD + "spec:\n" + "".join(" " * n + "a:\n" for n in range(1, 1500)),
    "depth in JSON": '{"a":' * 5000,
    "list": HEAD + "spec: {containers: [" + "{}, " * 15_000 + "{}]}\n",
    "unknown fields": HEAD + "spec: {containers: []}\n" + "".join(f"field{n}: 1\n" for n in range(50_000)),
    "long key": HEAD + "spec: {containers: []}\n? " + "k" * 100_000 + "\n: 1\n",
    "long name": HEAD.replace("name: a", f"name: {'a' * 2_000_000}") + "spec: {containers: [{name: c, image: x}]}\n",
    "long number": HEAD + "spec: {containers: [], priority: " + "9" * 1_000_000 + "}\n",
    "long quantity": HEAD + "spec: {containers: [], overhead: {cpu: '" + "9" * 1_000_000 + "'}}\n",
    "long fraction": HEAD + "spec: {containers: [], overhead: {cpu: '0." + "1" * 1_000_000 + "'}}\n",
    "exponent": HEAD + "spec: {containers: [], overhead: {cpu: 1e999999999}}\n",
    "documents": "---\n" * 100_000,
    "ten MiB": "a" * (MAX_BYTES + 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_defused(name: str) -> None:
    """Little memory, whatever it is: that bounds the time, too, without a clock."""
    tracemalloc.start()
    try:
        manifest = parse(BOMBS[name].encode())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert manifest.errors
    assert len(manifest.problems) <= MAX_PROBLEMS + 2
    assert peak < 40 * len(BOMBS[name]) + MAX_NODES * 1500


def test_what_is_not_told_is_counted() -> None:
    manifest = parse(BOMBS["unknown fields"].encode())
    assert [one.message for one in manifest.problems if "more" in one.message] == [
        "49000 more warnings are not shown",
        "1 more errors are not shown",
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b\nc: \x00\n", (2, 4)),
        ("a: b\n\tc: d\n", (2, 1)),
        ("%YAML 1.2\n---\na: b\n", (1, 1)),
        ('{\n "a": 1,\n "b": tru\n}', (3, 7)),
        ('{\n "a": "x\n"}', (2, 9)),
        ("kind: Pod\napiVersion: [v1]\n", (2, 13)),
        ("a: &a [*b]\n", (1, 8)),
    ],
)
def test_places_of_what_cannot_be_read(text: str, place: tuple[int, int]) -> None:
    problem = parse(text.encode()).errors[0]
    assert (problem.line, problem.column) == place
