"""The Kubernetes-shaped API on the daemon's root-only socket: get, list and watch of what the node publishes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import Any, Final

from aiohttp import web

from minikubelet.lifecycle import columns
from minikubelet.node.store import ExpiredError, Store

_KINDS: Final = {"pods": "Pod", "events": "Event"}

Json = dict[str, Any]


class Server:
    """A running server; `close` ends it."""

    def __init__(self, runner: web.AppRunner, path: str) -> None:
        self._runner = runner
        self._path = path

    async def close(self) -> None:
        """End all connections and remove the socket."""
        await self._runner.cleanup()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


async def serve(store: Store, path: str) -> Server:
    """Serve a store on a Unix socket that only root may use."""
    app = web.Application(client_max_size=1024 * 1024)
    api = _Api(store)
    app.add_routes(
        [
            web.get("/healthz", _ok),
            web.get("/livez", _ok),
            web.get("/readyz", _ok),
            web.get("/api/v1/{kind}", api.list),
            web.get("/api/v1/namespaces/{namespace}/{kind}", api.list),
            web.get("/api/v1/namespaces/{namespace}/{kind}/{name}", api.get),
            web.route("*", "/{tail:.*}", _not_found),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    mask = os.umask(0o177)
    try:
        await web.UnixSite(runner, path).start()
    finally:
        os.umask(mask)
    return Server(runner, path)


async def _ok(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _not_found(request: web.Request) -> web.Response:
    if request.method != "GET":
        text = "pods on this node come from manifest files: edit or remove the file in the manifest directory"
        return status_error(405, "MethodNotAllowed", text)
    return status_error(404, "NotFound", "the server could not find the requested resource")


def status_error(code: int, reason: str, message: str) -> web.Response:
    """Return an error as Kubernetes words one."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return web.json_response(body, status=code)


class _Api:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: web.Request) -> web.Response:
        kind, namespace, name = (request.match_info[one] for one in ("kind", "namespace", "name"))
        found = self._store.get(kind, namespace, name)
        if found is None:
            return status_error(404, "NotFound", f'{kind} "{name}" not found')
        if _wants_table(request):
            return web.json_response(table(kind, [found], found["metadata"]["resourceVersion"]))
        return web.json_response(found)

    async def list(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        if kind not in _KINDS:
            return await _not_found(request)
        namespace = request.match_info.get("namespace", "")
        try:
            chosen = Selector(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        except ValueError as error:
            return status_error(400, "BadRequest", str(error))
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, kind, namespace, chosen)
        items = [one for one in self._store.list(kind, namespace) if chosen.matches(one)]
        version = str(self._store.version)
        if _wants_table(request):
            return web.json_response(table(kind, items, version))
        body = {
            "kind": f"{_KINDS[kind]}List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": version},
            "items": items,
        }
        return web.json_response(body)

    async def _watch(self, request: web.Request, kind: str, namespace: str, chosen: Selector) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        since = int(request.query.get("resourceVersion") or self._store.version)
        as_table = _wants_table(request)
        await response.prepare(request)
        try:
            async for change in self._store.watch(kind, since):
                if namespace and change.object["metadata"]["namespace"] != namespace:
                    continue
                if not chosen.matches(change.object):
                    continue
                value = table(kind, [change.object], str(change.version)) if as_table else change.object
                await response.write(json.dumps({"type": change.type, "object": value}).encode() + b"\n")
        except ExpiredError as error:
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
            line = {"type": "ERROR", "object": {**gone, "message": str(error)}}
            await response.write(json.dumps(line).encode() + b"\n")
        except (ConnectionResetError, asyncio.CancelledError):
            pass
        return response


class Selector:
    """A label and field selector as the API takes them."""

    def __init__(self, labels: str, fields: str) -> None:
        """Raises ValueError for what cannot be understood."""
        self._labels = [_requirement(one) for one in labels.split(",") if one.strip()]
        self._fields = [_requirement(one) for one in fields.split(",") if one.strip()]

    def matches(self, found: Json) -> bool:
        """Tell whether an object is chosen."""
        labels = found["metadata"].get("labels") or {}
        return all(_holds(labels.get(name), operator, value) for name, operator, value in self._labels) and all(
            _holds(_field(found, name), operator, value) for name, operator, value in self._fields
        )


def _requirement(text: str) -> tuple[str, str, str]:
    for operator in ("!=", "==", "="):
        if operator in text:
            name, _, value = text.partition(operator)
            return name.strip(), "!=" if operator == "!=" else "=", value.strip()
    name = text.strip()
    return (name[1:], "absent", "") if name.startswith("!") else (name, "present", "")


def _holds(found: str | None, operator: str, value: str) -> bool:
    match operator:
        case "=":
            return found == value
        case "!=":
            return found != value
        case "present":
            return found is not None
        case _:
            return found is None


def _field(found: Json, path: str) -> str | None:
    value: Any = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else str(value)


def _wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def table(kind: str, items: list[Json], version: str) -> Json:
    """Return objects as the Table that kubectl prints."""
    now = time.time()
    names: tuple[str, ...]
    if kind == "pods":
        names = columns.HEADERS[1:]
        rows = [list(columns.pod_row(one, now)[1:]) for one in items]
        wide = 5
    else:
        names = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")
        rows = [event_row(one, now) for one in items]
        wide = len(names)
    definitions = [
        {"name": name.title(), "type": "string", "format": "", "description": "", "priority": int(index >= wide)}
        for index, name in enumerate(names)
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": definitions,
        "rows": [
            {
                "cells": cells,
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": one["metadata"],
                },
            }
            for cells, one in zip(rows, items, strict=True)
        ],
    }


def event_row(event: Json, now: float) -> list[str]:
    """Return an event's cells."""
    involved = event["involvedObject"]
    return [
        columns.age_column(event["lastTimestamp"], now),
        event["type"],
        event["reason"],
        f"{involved['kind'].lower()}/{involved['name']}",
        event["message"],
    ]
