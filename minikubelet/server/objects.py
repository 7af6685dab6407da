"""Get, list and watch of the published objects, in whole, as Tables or as metadata only.

A list of any length is made in small steps, and sent as fast as its reader takes it, so no client holds up the loop.
Source: apiserver pkg/endpoints/handlers/{get,watch}.go, pkg/storage/etcd3 (resource version semantics, v1.36).
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from minikubelet.node.store import Change, ExpiredError, Item, Store, TooLargeError
from minikubelet.server import tables
from minikubelet.server.context import Quota
from minikubelet.server.errors import ApiError, failure, json_response, not_found
from minikubelet.server.negotiation import Form, accepted_form, boolean, integer, resource_version
from minikubelet.server.resources import RESOURCES, Resource
from minikubelet.server.selectors import Selector, SelectorError

Json = dict[str, Any]
Encoder = Callable[[Item], bytes]

_STEP: Final = 25  # objects encoded between two turns of the loop
_PIECE: Final = 64 * 1024
_WRITE_LIMIT_S: Final = 60.0
_BOOKMARK_S: Final = 60.0
_MIN_WATCH_S: Final = 1800.0
_MAX_LIMIT: Final = 10_000

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """What a list or watch was asked for."""

    namespace: str
    selector: Selector
    version: int | None
    match: str
    limit: int
    after: str = ""  # the continue token

    @classmethod
    def of(cls, resource: Resource, request: web.Request) -> ListOptions:
        """Read the query. Raises ApiError."""
        query = request.query
        try:
            selector = Selector(resource.name, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        except SelectorError as error:
            raise ApiError(400, str(error)) from None
        limit = integer(query, "limit") or 0
        if limit < 0:
            raise ApiError(400, f"limit: Invalid value: {limit}: must be greater than or equal to 0")
        options = cls(
            namespace=request.match_info.get("namespace", ""),
            selector=selector,
            version=resource_version(query.get("resourceVersion", "")),
            match=query.get("resourceVersionMatch", ""),
            limit=min(limit, _MAX_LIMIT),
            after=query.get("continue", ""),
        )
        options.check()
        return options

    def check(self) -> None:
        """Raise ApiError for what does not go together."""
        if self.match not in ("", "Exact", "NotOlderThan"):
            text = f'resourceVersionMatch: Unsupported value: "{self.match}": supported values: "Exact", "NotOlderThan"'
            raise ApiError(400, text)
        if self.match == "Exact" and self.version in (None, 0):
            unless = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            exact = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            raise ApiError(400, f"resourceVersionMatch: Forbidden: {unless if self.version is None else exact}")
        if self.after and self.version not in (None, 0):
            raise ApiError(400, "specifying resource version is not allowed when using continue")

    def selects(self, item: Item) -> bool:
        """Tell whether an object belongs to the answer."""
        return (not self.namespace or item.key[0] == self.namespace) and self.selector.matches(item.object)


class Objects:
    """Serves what the store holds."""

    def __init__(self, store: Store, watches: Quota) -> None:
        self._store = store
        self._watches = watches

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one object."""
        return self._answer(request, resource_of(request))

    async def status(self, request: web.Request) -> web.Response:
        """Answer with a pod, which has its status in it."""
        return self._answer(request, RESOURCES["pods"])

    def _answer(self, request: web.Request, resource: Resource) -> web.Response:
        item = self.find(resource, request.match_info.get("namespace", ""), request.match_info["name"])
        match accepted_form(request.headers.get("Accept", "")):
            case Form.TABLE:
                body = tables.header(resource.name, str(item.version))
                row = _row_encoder(resource, request.query)(item)
                return web.Response(body=_with_rows(body, [row]), content_type="application/json")
            case Form.METADATA:
                return json_response(tables.partial(item.object))
            case _:
                return web.Response(body=item.encoded, content_type="application/json")

    def find(self, resource: Resource, namespace: str, name: str) -> Item:
        """Return one object. Raises ApiError 404."""
        item = self._store.get(resource.name, namespace if resource.namespaced else "", name)
        if item is None:
            raise not_found(resource.name, name)
        return item

    async def get_list(self, request: web.Request) -> web.StreamResponse:
        """Answer with a list, or go on with a watch."""
        resource = resource_of(request)
        options = ListOptions.of(resource, request)
        form = accepted_form(request.headers.get("Accept", ""))
        if boolean(request.query, "watch"):
            with self._watches.take():
                return await self._watch(request, resource, options, form)
        version, items, following, remaining = self._page(resource, options)
        metadata: Json = {"resourceVersion": str(version)}
        if following:
            metadata["continue"] = following
            if options.selector.is_empty:
                metadata["remainingItemCount"] = remaining
        if form is Form.TABLE:
            head = tables.header(resource.name, str(version))
            head["metadata"] = metadata
            return await send_list(request, head, "rows", items, _row_encoder(resource, request.query))
        if form is Form.METADATA:
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
            return await send_list(request, head, "items", items, lambda item: _encode(tables.partial(item.object)))
        head = {"kind": f"{resource.kind}List", "apiVersion": "v1", "metadata": metadata}
        return await send_list(request, head, "items", items, lambda item: item.encoded)

    def _page(self, resource: Resource, options: ListOptions) -> tuple[int, list[Item], str, int]:
        """Return the version, the objects of this page, the token of the next ("" at the end), and how many follow."""
        at, start = self._place(options)
        try:
            items = [one for one in self._store.list(resource.name, at=at) if options.selects(one)]
        except ExpiredError as error:
            text = "The provided continue parameter is too old to display a consistent list result" if start else ""
            raise ApiError(410, text or str(error)) from None
        except TooLargeError as error:
            raise _too_large(error) from None
        version = self._store.version if at is None else at
        if start is not None:
            items = [one for one in items if one.key > start]
        if not options.limit or len(items) <= options.limit:
            return version, items, "", 0
        page = items[: options.limit]
        return version, page, _token(version, page[-1].key), len(items) - len(page)

    def _place(self, options: ListOptions) -> tuple[int | None, tuple[str, str] | None]:
        """Return the version to list at (None for now) and the key to go on after."""
        if options.after:
            return _read_token(options.after)
        version = options.version
        if version is None or version == 0:
            return None, None
        if options.match == "Exact" or (options.limit and not options.match):
            return version, None
        if version > self._store.version:
            raise _too_large(TooLargeError(f"Too large resource version: {version}, current: {self._store.version}"))
        return None, None

    # Watching

    async def _watch(
        self, request: web.Request, resource: Resource, options: ListOptions, form: Form
    ) -> web.StreamResponse:
        initial = boolean(request.query, "sendInitialEvents")
        bookmarks = boolean(request.query, "allowWatchBookmarks")
        _check_initial(request.query, options, bookmarks=bookmarks)
        seconds = integer(request.query, "timeoutSeconds") or random.uniform(_MIN_WATCH_S, 2 * _MIN_WATCH_S)
        encoder = _EventEncoder(resource, form, request.query)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        since, first, failed = self._beginning(resource, options, initial=initial)
        watch = self._store.watch(resource.name, since) if not failed else None
        try:
            await response.prepare(request)
            if watch is None:
                await _write(response, _event("ERROR", _encode(failed)))
                return response
            for number, item in enumerate(first):
                await _write(response, encoder.event("ADDED", item))
                if number % _STEP == _STEP - 1:
                    await asyncio.sleep(0)
            if initial:
                await _write(response, encoder.bookmark(since, initial=True))
            async for line in self._lines(watch.next, options, encoder, seconds, bookmarks=bookmarks):
                await _write(response, line)
        finally:
            if watch is not None:
                watch.close()
        return response

    def _beginning(
        self, resource: Resource, options: ListOptions, *, initial: bool
    ) -> tuple[int, list[Item], Json | None]:
        """Return the version to go on from, what is told first, and why the watch cannot be."""
        now = self._store.version
        version = options.version
        if version is not None and version > now:
            return now, [], _too_large(TooLargeError(f"Too large resource version: {version}, current: {now}")).status()
        if initial or version is None or version == 0:
            return now, [one for one in self._store.list(resource.name) if options.selects(one)], None
        try:
            self._store.watch(resource.name, version).close()
        except ExpiredError as error:
            return now, [], failure(410, "Expired", str(error))
        return version, [], None

    async def _lines(
        self,
        following: Callable[[float], Any],
        options: ListOptions,
        encoder: _EventEncoder,
        seconds: float,
        *,
        bookmarks: bool,
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        marked = loop.time()
        while (left := end - loop.time()) > 0:
            due = marked + _BOOKMARK_S - loop.time() if bookmarks else left
            try:
                change = await following(max(0.0, min(left, due)))
            except ExpiredError as error:
                yield _event("ERROR", _encode(failure(410, "Expired", str(error))))
                return
            if change is None:
                marked = loop.time()
                if bookmarks and left > 0:
                    yield encoder.bookmark(self._store.version)
            elif (seen := _seen(change, options)) is not None:
                yield encoder.event(*seen)


def resource_of(request: web.Request) -> Resource:
    """Return the resource that a path names. Raises ApiError 404."""
    resource = RESOURCES.get(request.match_info["resource"])
    if resource is None or (not resource.namespaced and "namespace" in request.match_info):
        raise ApiError(404, "the server could not find the requested resource", details={})
    return resource


def _seen(change: Change, options: ListOptions) -> tuple[str, Item] | None:
    """Return a change as a watcher with these selectors sees it: coming into view is ADDED, going out DELETED."""
    before = change.before is not None and options.selects(change.before)
    if change.type == "DELETED":
        return ("DELETED", change.item) if before else None
    if options.selects(change.item):
        return ("MODIFIED" if before else "ADDED"), change.item
    if before and change.before is not None:
        last = change.before.object
        metadata = {**last["metadata"], "resourceVersion": str(change.version)}
        return "DELETED", Item(change.before.key, change.version, {**last, "metadata": metadata})
    return None


class _EventEncoder:
    """Makes the lines of one watch."""

    def __init__(self, resource: Resource, form: Form, query: Mapping[str, str]) -> None:
        self._resource = resource
        self._form = form
        self._row = _row_encoder(resource, query)
        self._has_header = False

    def event(self, kind: str, item: Item) -> bytes:
        """Return one change as a line."""
        match self._form:
            case Form.TABLE:
                head = tables.header(self._resource.name, str(item.version), definitions=not self._has_header)
                self._has_header = True
                return _event(kind, _with_rows(head, [self._row(item)]))
            case Form.METADATA:
                return _event(kind, _encode(tables.partial(item.object)))
            case _:
                return _event(kind, item.encoded)

    def bookmark(self, version: int, *, initial: bool = False) -> bytes:
        """Return a line that only says how far the watch has come."""
        metadata: Json = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        kind, version_of = {
            Form.TABLE: ("Table", "meta.k8s.io/v1"),
            Form.METADATA: ("PartialObjectMetadata", "meta.k8s.io/v1"),
        }.get(self._form, (self._resource.kind, "v1"))
        value: Json = {"kind": kind, "apiVersion": version_of, "metadata": metadata}
        if self._form is Form.TABLE:
            value |= {"columnDefinitions": [], "rows": []}
        return _event("BOOKMARK", _encode(value))


def _event(kind: str, encoded: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), encoded)


def _check_initial(query: Mapping[str, str], options: ListOptions, *, bookmarks: bool) -> None:
    if "sendInitialEvents" not in query:
        if options.match:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise ApiError(422, f"resourceVersionMatch: Forbidden: {text}")
        return
    if options.match != "NotOlderThan":
        text = (
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
        raise ApiError(422, text)
    if boolean(query, "sendInitialEvents") and not bookmarks:
        raise ApiError(422, "sendInitialEvents: Forbidden: sendInitialEvents requires allowWatchBookmarks")


def _row_encoder(resource: Resource, query: Mapping[str, str]) -> Encoder:
    include = query.get("includeObject", "Metadata") or "Metadata"
    if include not in ("None", "Metadata", "Object"):
        raise ApiError(400, f'unrecognized includeObject value: "{include}"')
    now = time.time()

    def encode(item: Item) -> bytes:
        row = _encode(tables.cells(resource.name, item.object, max(now, time.time())))
        match include:
            case "None":
                value = b"null"
            case "Object":
                value = item.encoded
            case _:
                value = _encode(tables.partial(item.object))
        return b'{"cells":%s,"object":%s}' % (row, value)

    return encode


def _with_rows(head: Json, rows: list[bytes]) -> bytes:
    return _encode(head)[:-1] + b',"rows":[' + b",".join(rows) + b"]}"


async def send_list(
    request: web.Request, head: Json, name: str, items: list[Item], encoder: Encoder
) -> web.StreamResponse:
    """Send a list, made in steps and written in pieces: however many read slowly, the objects are held once."""
    parts: list[bytes] = [_encode(head)[:-1], f',"{name}":['.encode()]
    for number, item in enumerate(items):
        if number:
            parts.append(b",")
        parts.append(encoder(item))
        if number % _STEP == _STEP - 1:
            await asyncio.sleep(0)
    parts.append(b"]}")
    total = sum(map(len, parts))
    if total <= _PIECE:
        return web.Response(body=b"".join(parts), content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = total
    await response.prepare(request)
    piece = bytearray()
    for part in parts:
        piece += part
        if len(piece) >= _PIECE:
            await _write(response, bytes(piece))
            await asyncio.sleep(0)
            piece.clear()
    await _write(response, bytes(piece))
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Write, waiting for a slow reader, but not for ever."""
    async with asyncio.timeout(_WRITE_LIMIT_S):
        await response.write(data)


def _token(version: int, key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": key}).encode()).decode()


def _read_token(text: str) -> tuple[int, tuple[str, str]]:
    try:
        value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, name = value["start"]
        version = value["rv"]
        if not (isinstance(version, int) and isinstance(namespace, str) and isinstance(name, str)):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ApiError(400, "continue key is not valid: invalid continue token") from None
    return version, (namespace, name)


def _too_large(error: TooLargeError) -> ApiError:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    details = {"causes": causes, "retryAfterSeconds": 1}
    return ApiError(504, f"Timeout: {error}", details=details)
