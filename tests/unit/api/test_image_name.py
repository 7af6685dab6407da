"""Which names of images there may be, and what the kubelet says of others."""

from __future__ import annotations

import pytest

from minikubelet.api.image_name import image_problem
from minikubelet.api.manifest import parse_manifest

FORMAT = "invalid reference format"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "image",
    [
        "host",
        "nginx:1.27",
        "a/b/c",
        "registry.example/x:latest",
        "localhost:5000/x",
        "Registry/x",
        "[::1]:5000/x",
        f"x@{DIGEST}",
        f"x:1@{DIGEST}",
        "docker.io/nginx",
        "x:Tag",
    ],
)
def test_good_names(image: str) -> None:
    assert image_problem(image) == ""


@pytest.mark.parametrize(
    ("image", "what"),
    [
        ("a:b:c", FORMAT),
        ("a//b", FORMAT),
        ("a-", FORMAT),
        (":1", FORMAT),
        ("https://example.com/x", FORMAT),
        ("registry.example/library//nginx:latest", FORMAT),
        ("UPPER", f"{FORMAT}: repository name (library/UPPER) must be lowercase"),
        ("a/B:1", f"{FORMAT}: repository name (a/B) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("x" * 248, "repository name must not be more than 255 characters"),
        (f"x@sha256:{'a' * 63}", "invalid checksum digest length"),
        (f"x@sha256:{'A' * 64}", "invalid checksum digest format"),
        (f"x@md5:{'a' * 32}", "unsupported digest algorithm"),
    ],
)
def test_bad_names(image: str, what: str) -> None:
    assert image_problem(image) == (
        f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {what}'
    )


def test_a_pod_with_a_bad_name_is_accepted_with_a_warning_at_its_place() -> None:
    container = "{name: c, image: 'a:b:c', command: [x]}"
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - {container}\n"
    manifest = parse_manifest(text.encode(), file="f", node_name="n")
    assert len(manifest.pods) == 1
    (warning,) = manifest.problems
    assert (warning.field, warning.line) == ("spec.containers[0].image", 6)
    assert warning.message.endswith(f"{FORMAT}: the container waits with InvalidImageName")
