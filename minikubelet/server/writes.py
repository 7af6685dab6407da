"""Answers to those who want to change something: pods come from files, so the answer names the file to edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from minikubelet.server.errors import ApiError
from minikubelet.server.resources import RESOURCES

Json = dict[str, Any]

_WORDS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object is described."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Writes:
    """Refuses writes, and says what to do instead."""

    def __init__(self, *, manifest_dir: str, origin: Callable[[str, str, str], Origin | None]) -> None:
        """Create it.

        Args:
            manifest_dir: Where new manifests go.
            origin: Says where an object of a kind, namespace and name is described.
        """
        self._manifest_dir = manifest_dir
        self._origin = origin

    async def refuse(self, request: web.Request) -> web.StreamResponse:
        """Answer 403 with the file to edit (405 where nothing could ever be written)."""
        resource = RESOURCES.get(request.match_info.get("resource", ""))
        verb = _WORDS.get(request.method)
        if request.match_info.get("subresource") == "ephemeralcontainers":
            shell = "'minikubelet debug POD' opens a host shell in a pod's namespaces"
            raise ApiError(403, f"this node runs no ephemeral containers; {shell}")
        if resource is None or verb is None:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        name = request.match_info.get("name", "")
        origin = self._origin(resource.kind, request.match_info.get("namespace", ""), name) if name else None
        text = _advice(resource.kind, verb, name, origin, self._manifest_dir)
        what = f'{resource.name} "{name}"' if name else resource.name
        details = {"name": name, "kind": resource.name} if name else {"kind": resource.name}
        raise ApiError(403, f"{what} is forbidden: {text}", details=details)


def _advice(kind: str, verb: str, name: str, origin: Origin | None, manifest_dir: str) -> str:
    if kind == "Node":
        return "the Node object is this node's own; 'minikubelet drain' ends its pods, 'uncordon' lets them run again"
    if kind not in ("Pod", "ConfigMap", "Secret"):
        return f"{kind} objects are made by this node and cannot be changed"
    if verb == "create" and not name:
        return f"to create a {kind}, put its manifest into {manifest_dir}"
    where = f"the manifest file {origin}" if origin is not None else f"its manifest file in {manifest_dir}"
    if verb == "delete":
        return f"this {kind} comes from a file: to delete it, remove {where}"
    return f"this {kind} comes from a file: to change it, edit {where}"
