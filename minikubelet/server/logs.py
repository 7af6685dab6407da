"""A pod's `log`: which file, from where, in which form, and how long to follow it.

Source: apis/core/validation ValidatePodLogOptions, kubelet server getContainerLogs, cri-client pkg/logs (v1.36).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from minikubelet.lifecycle.observed import PodUID, RunState
from minikubelet.node.bell import Bell
from minikubelet.server.containers import chosen_container, logged_instance
from minikubelet.server.context import Context
from minikubelet.server.errors import ApiError, invalid
from minikubelet.server.log_file import LogFile
from minikubelet.server.log_format import LogFormatter
from minikubelet.server.negotiation import boolean, integer

Json = dict[str, Any]

_STREAMS: Final = {"": "", "All": "", "Stdout": "stdout", "Stderr": "stderr"}
_PROTOCOLS: Final = ("binary.k8s.io", "base64.binary.k8s.io")
# A bell may be deaf (no inotify watches left), and an end may be missed: then this is how often to look.
_LOOK_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What was asked for. Times are Unix nanoseconds."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    since: int | None = None
    timestamps: bool = False
    tail: int | None = None
    limit: int | None = None
    stream: str = ""

    def formatter(self) -> LogFormatter:
        """Return what makes the answer's text."""
        return LogFormatter(since=self.since, timestamps=self.timestamps, limit=self.limit, stream=self.stream)


def log_options(query: Mapping[str, str], *, pod: str, now: float) -> LogOptions:
    """Read and check the query.

    Args:
        query: The parameters.
        pod: The pod's name, for messages.
        now: Unix time.

    Raises:
        ApiError: 400 for what is no value, 422 for a value that cannot be taken.
    """
    tail, limit, seconds = (integer(query, name) for name in ("tailLines", "limitBytes", "sinceSeconds"))
    stream, since_time = query.get("stream", ""), query.get("sinceTime", "")
    problems: list[tuple[str, str, str]] = []
    if tail is not None and tail < 0:
        problems.append(_value("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        problems.append(_value("limitBytes", limit, "must be greater than 0"))
    if seconds is not None and since_time:
        problems.append(_forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif seconds is not None and seconds < 1:
        problems.append(_value("sinceSeconds", seconds, "must be greater than 0"))
    if stream not in _STREAMS:
        text = f'Unsupported value: "{stream}": supported values: "All", "Stderr", "Stdout"'
        problems.append(("stream", "FieldValueNotSupported", text))
    elif _STREAMS[stream] and tail is not None:
        problems.append(
            _forbidden("tailLines", "`tailLines` is forbidden when `stream` is set to `Stdout` or `Stderr`")
        )
    if problems:
        raise invalid("PodLogOptions", pod, problems)
    since = int((now - seconds) * 1e9) if seconds is not None else _nanoseconds(since_time)
    return LogOptions(
        container=query.get("container", ""),
        follow=boolean(query, "follow"),
        previous=boolean(query, "previous"),
        since=since,
        timestamps=boolean(query, "timestamps"),
        tail=tail,
        limit=limit,
        stream=_STREAMS[stream],
    )


def _value(field: str, value: int, text: str) -> tuple[str, str, str]:
    return field, "FieldValueInvalid", f"Invalid value: {value}: {text}"


def _forbidden(field: str, text: str) -> tuple[str, str, str]:
    return field or "sinceSeconds", "FieldValueForbidden", f"Forbidden: {text}"


def _nanoseconds(text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
    except ValueError:
        raise ApiError(400, f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"') from None
    return int(moment.timestamp() * 1_000_000) * 1000


class Logs:
    """Serves the logs of all pods."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._bell = LogBell()

    def close(self) -> None:
        """Let go of the bell."""
        self._bell.close()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer with a log."""
        context = self._context
        pod = context.pod(request.match_info["namespace"], request.match_info["name"])
        options = log_options(request.query, pod=pod["metadata"]["name"], now=time.time())
        container = chosen_container(pod, options.container)
        identity = logged_instance(pod, container, previous=options.previous)
        path = self._path(pod, container, identity)
        with context.followers.take() if options.follow else contextlib.nullcontext():
            try:
                file = LogFile(path, tail=options.tail)
            except OSError as error:
                text = f"unable to retrieve container logs for {identity}: {error.strerror}"
                raise ApiError(500, text) from error
            try:
                async with contextlib.aclosing(self._blocks(file, path, options, pod, identity)) as source:
                    if request.headers.get("Upgrade", "").lower() == "websocket":
                        return await _to_web_socket(request, source)
                    return await _to_response(request, source)
            finally:
                file.close()

    def _path(self, pod: Json, container: str, identity: str) -> str:
        instance = self._context.instance(pod, identity)
        if instance is None:
            raise ApiError(500, f"unable to retrieve container logs for {identity}: it has been removed")
        meta = pod["metadata"]
        name = f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
        directory = os.path.join(self._context.settings.log_dir, "pods", name, container)
        return os.path.join(directory, f"{instance.restart_count}.log")

    async def _blocks(
        self, file: LogFile, path: str, options: LogOptions, pod: Json, identity: str
    ) -> AsyncGenerator[bytes, None]:
        """Yield what is printed, block by block."""
        formatter = options.formatter()
        uid = PodUID(pod["metadata"]["uid"])
        with contextlib.ExitStack() as stack:
            news = stack.enter_context(self._context.bells.listen(uid)) if options.follow else asyncio.Event()
            if options.follow:
                stack.enter_context(self._bell.listen(os.path.dirname(path), news))
            while not formatter.is_full:
                news.clear()
                ended = not options.follow or self._has_ended(pod, identity)  # asked first: what it wrote is there then
                while (lines := file.read()) and not formatter.is_full:
                    if text := formatter.feed(lines):
                        yield text
                    await asyncio.sleep(0)
                if ended:
                    if text := formatter.feed(file.rest()):
                        yield text
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await news.wait()

    def _has_ended(self, pod: Json, identity: str) -> bool:
        instance = self._context.instance(pod, identity)
        return instance is None or instance.state is RunState.EXITED


class LogBell:
    """Tells followers that something was written into a directory; one watch a directory, however many follow."""

    def __init__(self) -> None:
        self._bell: Bell | None = None
        self._listeners: dict[str, list[asyncio.Event]] = {}

    @contextlib.contextmanager
    def listen(self, directory: str, news: asyncio.Event) -> Iterator[None]:
        """Set an event whenever something is written into a directory."""
        listeners = self._listeners.setdefault(directory, [])
        listeners.append(news)
        self._watch()
        try:
            yield
        finally:
            listeners.remove(news)
            if not listeners:
                self._listeners.pop(directory, None)
                self._watch()

    def _watch(self) -> None:
        if not self._listeners:
            self.close()
            return
        if self._bell is None:
            self._bell = Bell(self._ring)
        self._bell.watch((directory, "") for directory in self._listeners)

    def _ring(self) -> None:
        for listeners in self._listeners.values():
            for one in listeners:
                one.set()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._bell is not None:
            self._bell.close()
            self._bell = None


async def _to_response(request: web.Request, source: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    async for block in source:
        await response.write(block)
    return response


async def _to_web_socket(request: web.Request, source: AsyncIterator[bytes]) -> web.StreamResponse:
    """Send each block as a message; what the client sends is read and dropped, so that its leaving is noticed."""
    socket = web.WebSocketResponse(protocols=_PROTOCOLS, compress=False, max_msg_size=64 * 1024)
    await socket.prepare(request)
    is_text = (socket.ws_protocol or "").startswith("base64.")

    async def read() -> None:
        async for _ in socket:
            pass

    reader = asyncio.create_task(read())
    sender = asyncio.create_task(_send_blocks(socket, source, is_text=is_text))
    try:
        await asyncio.wait({reader, sender}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reader, sender):
            task.cancel()
        await asyncio.gather(reader, sender, return_exceptions=True)
        await socket.close()
    return socket


async def _send_blocks(socket: web.WebSocketResponse, source: AsyncIterator[bytes], *, is_text: bool) -> None:
    async for block in source:
        if is_text:
            await socket.send_str(base64.b64encode(block).decode())
        else:
            await socket.send_bytes(block)
