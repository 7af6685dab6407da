"""What a client wants: the form of the answer from `Accept`, and query parameters as the API machinery reads them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from minikubelet.server.errors import ApiError


class Form(Enum):
    """The form in which objects are sent."""

    OBJECT = "object"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


def accepted_form(accept: str) -> Form:
    """Return the form that an `Accept` header prefers among those that are spoken here.

    Raises:
        ApiError: 406, there is none.
    """
    if not accept.strip():
        return Form.OBJECT
    for media, parameters in media_ranges(accept):
        if media not in ("application/json", "application/*", "*/*"):
            continue
        kind = parameters.get("as")
        if kind is None:
            return Form.OBJECT
        if parameters.get("g") != "meta.k8s.io" or parameters.get("v") not in ("v1", "v1beta1"):
            continue
        if kind == "Table":
            return Form.TABLE
        if kind in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Form.METADATA
    text = "only the following media types are accepted: application/json"
    raise ApiError(406, text)


def media_ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Return media types with their parameters, the best liked first."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for one in accept.split(","):
        media, *rest = (part.strip() for part in one.split(";"))
        parameters = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in rest)}
        found.append((-_quality(parameters.pop("q", "1")), media.lower(), parameters))
    return [(media, parameters) for _, media, parameters in sorted(found, key=lambda one: one[0])]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def boolean(query: Mapping[str, str], name: str) -> bool:
    """Return a parameter as a bool: absent, `false` and `0` are False, anything else (also nothing) is True."""
    return name in query and query[name].lower() not in ("false", "0")


def integer(query: Mapping[str, str], name: str) -> int | None:
    """Return a parameter as an integer, None when it is absent. Raises ApiError."""
    text = query.get(name, "")
    if not text:
        return None
    try:
        value = int(text)
    except ValueError:
        raise ApiError(400, f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if not -(2**63) <= value < 2**63:
        raise ApiError(400, f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def resource_version(text: str) -> int | None:
    """Return a resource version, None for "". Raises ApiError."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**64:
        cause = "value out of range" if text.isascii() and text.isdigit() else "invalid syntax"
        raise ApiError(400, f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": {cause}')
    return int(text)
