"""Names of images: what they may look like, and whether they mean the newest one. Pure.

Source: distribution/reference `ParseNormalizedNamed`; kubelet images/image_manager.go (v1.36).
"""

from __future__ import annotations

import re
from typing import Final

# A first part with a dot, a port or a capital is a registry.
_PATH: Final = re.compile(r"{0}(?:/{0})*".format("[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"))
_LABEL: Final = "(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_IMAGE: Final = re.compile(
    rf"(?:(?P<domain>(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::[0-9]+)?)/)?(?P<path>{_PATH.pattern})"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[A-Za-z][^@]*:[A-Fa-f0-9]{32,}))?"
)
_LONGEST_PATH: Final = 255
_IMAGE_ID: Final = re.compile("[a-f0-9]{64}")
_DIGEST_DIGITS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}


def means_latest(image: str) -> bool:
    """Tell whether an image has the tag `latest`, written or implied; one that cannot be parsed has none."""
    found = _IMAGE.fullmatch(image)
    if found is None or image_problem(image):
        return False
    return found["tag"] == "latest" or not (found["tag"] or found["digest"])


def image_problem(image: str) -> str:
    """Return what the kubelet says of a name that is none, "" for a good one."""
    problem = _problem(image)
    if not problem:
        return ""
    return f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {problem}'


def _problem(image: str) -> str:
    if _IMAGE_ID.fullmatch(image):
        return f"invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"
    domain, rest = _split(image)
    path = rest.partition(":")[0]
    if path != path.lower():
        return f"invalid reference format: repository name ({path}) must be lowercase"
    found = _IMAGE.fullmatch(f"{domain}/{rest}")
    if found is None or not _PATH.fullmatch(found["path"]):
        return "invalid reference format"
    if len(found["path"]) > _LONGEST_PATH:
        return f"repository name must not be more than {_LONGEST_PATH} characters"
    return _digest_problem(found["digest"] or "")


def _split(image: str) -> tuple[str, str]:
    """Return the registry and the rest, with what is understood when it is not written."""
    first, slash, rest = image.partition("/")
    if not slash or not (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        first, rest = "docker.io", image
    return first, rest if first != "docker.io" or "/" in rest else f"library/{rest}"


def _digest_problem(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    if not digest or (len(digits) == _DIGEST_DIGITS.get(algorithm) and digits == digits.lower()):
        return ""
    if algorithm not in _DIGEST_DIGITS:
        return "unsupported digest algorithm"
    return "invalid checksum digest length" if digits == digits.lower() else "invalid checksum digest format"
