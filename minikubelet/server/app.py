"""The Kubernetes-shaped API on the daemon's root-only socket: which path leads where, and what bounds every request."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web

from minikubelet.server.commands import Commands
from minikubelet.server.context import Context
from minikubelet.server.control import Control
from minikubelet.server.discovery import Discovery
from minikubelet.server.errors import ApiError
from minikubelet.server.health import HealthEndpoint
from minikubelet.server.logs import Logs
from minikubelet.server.metrics import Metrics
from minikubelet.server.objects import Objects
from minikubelet.server.openapi import OpenApi
from minikubelet.server.port_forward import PortForward
from minikubelet.server.usage import Usage
from minikubelet.server.writes import Writes

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_BODY: Final = 1024 * 1024
MAX_HEADERS: Final = 64
MAX_HEADER: Final = 8 * 1024
MAX_LINE: Final = 32 * 1024  # exec sends its command in the path
MAX_CONNECTIONS: Final = 256
# A connection that has not sent a whole request in this time is closed.
REQUEST_LIMIT_S: Final = 20.0
_KEEP_ALIVE_S: Final = 60.0
_CHECK_S: Final = 5.0
_SHUTDOWN_S: Final = 0.2


class Server:
    """A running server; `close` ends it."""

    def __init__(self, runner: web.AppRunner, logs: Logs, gate: Gate, path: str) -> None:
        self._runner = runner
        self._logs = logs
        self._gate = gate
        self._path = path
        self._listener: asyncio.Server | None = None

    async def listen(self) -> None:
        """Begin to accept connections; only root may make any."""
        await self._runner.setup()
        assert self._runner.server is not None
        self._gate.start(self._runner.server)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        mask = os.umask(0o177)
        try:
            self._listener = await asyncio.get_running_loop().create_unix_server(self._gate.accept, self._path)
        finally:
            os.umask(mask)

    async def close(self) -> None:
        """End all connections and remove the socket."""
        if self._listener is not None:
            self._listener.close()
        self._gate.stop()
        await self._runner.cleanup()
        self._logs.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


class Gate:
    """Lets clients in: not too many, and none that only sits there."""

    def __init__(self) -> None:
        self._server: web.Server | None = None
        self._silent: dict[web.RequestHandler, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._coming = 0  # accepted in this turn of the loop, and not yet among the server's connections

    def start(self, server: web.Server) -> None:
        """Begin to look after a server's connections."""
        self._server = server

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        assert self._server is not None
        if len(self._server.connections) + self._coming >= MAX_CONNECTIONS:
            return _Refusal()
        loop = asyncio.get_running_loop()
        self._coming += 1
        loop.call_soon(self._has_come)
        handler = self._server()
        self._silent[handler] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(_CHECK_S, self._check)
        return handler

    def _has_come(self) -> None:
        self._coming -= 1

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection has sent a request."""
        self._silent.pop(request.protocol, None)
        return await handler(request)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        for handler, since in list(self._silent.items()):
            if loop.time() - since > REQUEST_LIMIT_S:
                del self._silent[handler]
                if handler.transport is not None:
                    handler.transport.abort()
        # Nobody is woken to look after nobody.
        self._timer = loop.call_later(_CHECK_S, self._check) if self._silent else None

    def stop(self) -> None:
        """Look after nothing any more."""
        if self._timer is not None:
            self._timer.cancel()


class _Refusal(asyncio.Protocol):
    """Says that there are too many connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        error = ApiError(429, f"too many requests: {MAX_CONNECTIONS} connections are open already").status()
        import msgspec

        body = msgspec.json.encode(error)
        head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nConnection: close\r\n"
        transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        transport.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """What answers beside objects, logs and streams."""

    writes: Writes
    control: Control
    usage: Usage
    metrics: Metrics
    health: Callable[[], Mapping[str, str]]


def make_server(context: Context, endpoints: Endpoints, path: str) -> Server:
    """Build the server; nothing is opened before `listen`."""
    gate = Gate()
    app = web.Application(client_max_size=MAX_BODY, middlewares=[gate.note, answer_errors])
    logs = Logs(context)
    add_node_routes(app, context, endpoints)
    add_routes(app, context, logs, endpoints.writes)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,  # a client that goes ends its follow or watch at once
        shutdown_timeout=_SHUTDOWN_S,
        keepalive_timeout=_KEEP_ALIVE_S,
        max_line_size=MAX_LINE,
        max_headers=MAX_HEADERS,
        max_field_size=MAX_HEADER,
        read_bufsize=64 * 1024,
        auto_decompress=False,
    )
    return Server(runner, logs, gate, path)


def add_node_routes(app: web.Application, context: Context, endpoints: Endpoints) -> None:
    """Say which path of the node itself leads where."""
    get = app.router.add_get
    for name in ("healthz", "livez", "readyz"):
        # A full disk or the like is no reason to restart the daemon: it is alive.
        health = HealthEndpoint(name, _ping if name == "livez" else lambda: {**_ping(), **endpoints.health()})
        get(f"/{name}", health.all)
        get(f"/{name}/{{check}}", health.one)
    discovery = Discovery(context.version)
    get("/version", discovery.version)
    get("/api", discovery.api)
    get("/apis", discovery.apis)
    get("/api/v1", discovery.core)
    get("/apis/metrics.k8s.io", discovery.group)
    openapi = OpenApi(context.version)
    get("/openapi/v3", openapi.index)
    get("/openapi/v3/api/v1", openapi.core)
    metrics = "/apis/metrics.k8s.io/v1beta1"
    get(metrics, discovery.metrics)
    usage = endpoints.usage
    get(f"{metrics}/nodes", usage.node_list)
    get(f"{metrics}/nodes/{{name}}", usage.one_node)
    get(f"{metrics}/pods", usage.pod_list)
    get(f"{metrics}/namespaces/{{namespace}}/pods", usage.pod_list)
    get(f"{metrics}/namespaces/{{namespace}}/pods/{{name}}", usage.pod)
    get("/stats/summary", usage.summary)
    get("/metrics", endpoints.metrics.main)
    get("/metrics/probes", endpoints.metrics.probes)
    get("/metrics/resource", endpoints.metrics.resource)
    get("/metrics/cadvisor", endpoints.metrics.cadvisor)
    control, own = endpoints.control, "/minikubelet/v1"
    get("/configz", control.configz)
    get("/pods", control.pods)
    get(f"{own}/manifests", control.manifests)
    get(f"{own}/namespaces/{{namespace}}/pods/{{name}}/facts", control.facts)


def _ping() -> dict[str, str]:
    """Return the check that an answer at all is."""
    return {"ping": ""}


def add_routes(app: web.Application, context: Context, logs: Logs, writes: Writes) -> None:
    """Say which path leads where."""
    objects, commands = Objects(context.store, context.watches), Commands(context)
    pod = "/api/v1/namespaces/{namespace}/pods/{name}"
    router = app.router
    router.add_get(f"{pod}/log", logs.get)
    for name, handler in (("exec", commands.exec), ("attach", commands.attach)):
        router.add_get(f"{pod}/{name}", handler)
        router.add_post(f"{pod}/{name}", handler)
    forward = PortForward(context).forward
    router.add_get(f"{pod}/portforward", forward)
    router.add_post(f"{pod}/portforward", forward)
    router.add_get(f"{pod}/status", objects.status)
    for place, handler in (("", objects.get_list), ("/{name}", objects.get)):
        for scope in ("/api/v1/{resource}", "/api/v1/namespaces/{namespace}/{resource}"):
            router.add_get(scope + place, handler)
            router.add_route("*", scope + place, writes.refuse)
    router.add_route("*", pod + "/{subresource}", writes.refuse)
    router.add_route("*", "/{tail:.*}", _not_found)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn failures into the `Status` that Kubernetes clients expect; a fault of ours costs one request."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:
        return ApiError(error.status, error.text or error.reason).response()
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()  # it went, or it does not read: there is nobody to tell
        raise web.HTTPServiceUnavailable from None
    except Exception as error:
        log.exception("request failed", method=request.method, path=request.path)
        return ApiError(500, f"Internal error occurred: {error}").response()


async def _not_found(request: web.Request) -> web.StreamResponse:
    raise ApiError(404, "the server could not find the requested resource", details={})
