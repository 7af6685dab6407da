"""`exec` and `attach`: a program's standard streams, or its terminal, over a WebSocket's channels.

What a program prints waits in its pipe until the client takes it, what the client sends waits in the socket until the
program takes it: nothing is kept in between. A client that vanishes ends its command.
Source: kubelet pkg/server/remotecommand, cri-streaming (v1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from minikubelet.lifecycle.observed import ContainerID, PodUID
from minikubelet.runtime.port import RuntimeFailure
from minikubelet.sandbox.terminal import receive_terminal, set_size
from minikubelet.server import channels
from minikubelet.server.channels import Channels, open_web_socket
from minikubelet.server.containers import chosen_container, container_of, running_instance
from minikubelet.server.context import Context
from minikubelet.server.descriptors import Descriptors, read_some, write_all
from minikubelet.server.errors import ApiError, failure
from minikubelet.server.negotiation import boolean

Json = dict[str, Any]

_SUCCESS: Final[Json] = {"metadata": {}, "status": "Success"}
_MAX_COMMAND: Final = 1000  # words
_MAX_SIZE: Final = 65535  # rows or columns


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Which streams a client wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, query: Mapping[str, str]) -> StreamOptions:
        """Read the query. Raises ApiError when no stream is asked for."""
        stdin, stdout, stderr, tty = (boolean(query, name) for name in ("stdin", "stdout", "stderr", "tty"))
        # A terminal has one output; the kubelet passes over stderr too.
        stderr = stderr and not tty
        if not (stdin or stdout or stderr):
            raise ApiError(400, "you must specify at least 1 of stdin, stdout, stderr")
        return cls(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)


@dataclass(slots=True, kw_only=True)
class Pipes:
    """The near ends of a program's streams, -1 for what there is not. A terminal is both input and output."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    terminal: int = -1


class Commands:
    """Serves exec and attach of all pods."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """Run a command in a container."""
        command = tuple(request.query.getall("command", ()))
        if not command or len(command) > _MAX_COMMAND:
            raise ApiError(400, "you must provide at least one command" if not command else "the command is too long")
        options = StreamOptions.of(request.query)
        uid, identity, _ = self._target(request)
        return await self._converse(
            request,
            options,
            lambda client, descriptors: self._execute(client, uid, identity, command, options, descriptors),
        )

    async def _converse(
        self,
        request: web.Request,
        options: StreamOptions,
        talk: Callable[[Channels, Descriptors], Awaitable[Json | None]],
    ) -> web.StreamResponse:
        """Serve one client: what `talk` opens is closed, and the status that it returns is sent at the end."""
        with self._context.streams.take():
            client = Channels(await open_web_socket(request, channels.COMMAND_PROTOCOLS))
            await _greet(client, options)
            descriptors = Descriptors()
            try:
                status = await talk(client, descriptors)
            finally:
                descriptors.close_all()
            if status is not None:
                await client.finish(status)
            return client.response

    def _target(self, request: web.Request) -> tuple[PodUID, ContainerID, Json]:
        """Return the pod, the running instance and the container that a request is about."""
        pod = self._context.pod(request.match_info["namespace"], request.match_info["name"])
        name = chosen_container(pod, request.query.get("container", ""))
        identity = ContainerID(running_instance(pod, name).rpartition("//")[2])
        return PodUID(pod["metadata"]["uid"]), identity, container_of(pod, name)

    async def _execute(
        self,
        client: Channels,
        uid: PodUID,
        identity: ContainerID,
        command: tuple[str, ...],
        options: StreamOptions,
        descriptors: Descriptors,
    ) -> Json | None:
        """Run it; return how it ended, None when the client went first."""
        pipes, far, console = _make_streams(options, descriptors)
        try:
            execution = self._context.pauses.begin_exec(
                uid, identity, command, descriptors=far, console=console is not None
            )
        except RuntimeFailure as error:
            return _not_started(error)
        finally:
            descriptors.close(*far)
        ended = asyncio.ensure_future(execution.wait())
        try:
            if console is not None:
                pipes.terminal = descriptors.own(await _take_terminal(console, ended))
                pipes.stdin = pipes.terminal if options.stdin else -1
                pipes.stdout = pipes.terminal if options.stdout else -1
            if not await _pump(client, pipes, descriptors, until=ended):
                return None
            code = await ended
        except RuntimeFailure as error:
            return _not_started(error)
        finally:
            if not ended.done():
                execution.kill()
                ended.cancel()
            if console is not None:
                console.close()
        return _SUCCESS if code == 0 else _exit_status(command, code)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """Connect to a container's main process."""
        options = StreamOptions.of(request.query)
        uid, identity, container = self._target(request)
        return await self._converse(
            request,
            options,
            lambda client, descriptors: self._attach(client, uid, identity, container, options, descriptors),
        )

    async def _attach(
        self,
        client: Channels,
        uid: PodUID,
        identity: ContainerID,
        container: Json,
        options: StreamOptions,
        descriptors: Descriptors,
    ) -> Json | None:
        has_terminal = bool(container.get("tty"))
        pipes = Pipes()
        far: dict[str, int] = {}
        if options.stdout:
            pipes.stdout, far["stdout"] = descriptors.pipe()
        if options.stderr and not has_terminal:
            pipes.stderr, far["stderr"] = descriptors.pipe()
        try:
            stdin = await self._context.pauses.attach(uid, identity, far, stdin=options.stdin or has_terminal)
        except RuntimeFailure as error:
            return failure(500, "InternalError", f"Internal error occurred: error attaching to container: {error}")
        descriptors.close(*far.values())
        if stdin >= 0:
            descriptors.own(stdin)
            pipes.stdin = stdin if options.stdin and container.get("stdin") else -1
            pipes.terminal = stdin if has_terminal else -1
        return _SUCCESS if await _pump(client, pipes, descriptors, until=None) else None


def _make_streams(
    options: StreamOptions, descriptors: Descriptors
) -> tuple[Pipes, tuple[int, ...], socket.socket | None]:
    """Return our ends, the command's ends, and the socket that its terminal comes from."""
    if options.tty:
        console, far = socket.socketpair()
        console.setblocking(False)
        return Pipes(), (descriptors.own(far.detach()),), console
    pipes = Pipes()
    ends: list[int] = []
    for name in ("stdin", "stdout", "stderr"):
        if not getattr(options, name):
            ends.append(descriptors.own(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)))
            continue
        reading, writing = descriptors.pipe()
        near, far_end = (writing, reading) if name == "stdin" else (reading, writing)
        setattr(pipes, name, near)
        ends.append(far_end)
    return pipes, tuple(ends), None


async def _take_terminal(console: socket.socket, ended: asyncio.Future[int]) -> int:
    """Wait for the terminal of a command. Raises RuntimeFailure when it could not be started."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(console, readable.set)
    waiting: asyncio.Future[Any] = asyncio.ensure_future(readable.wait())
    try:
        await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(console)
        waiting.cancel()
    terminal = receive_terminal(console.fileno())
    if terminal < 0:
        await ended
        raise RuntimeFailure("the command got no terminal")
    return terminal


async def _pump(client: Channels, pipes: Pipes, descriptors: Descriptors, *, until: asyncio.Future[int] | None) -> bool:
    """Carry everything in both directions until the output has ended (and the command); False if the client went.

    Args:
        client: The client.
        pipes: The program's streams.
        descriptors: Owns them.
        until: The command's end, None when the end of its output is the end.
    """
    for one in {pipes.stdin, pipes.stdout, pipes.stderr, pipes.terminal} - {-1}:
        os.set_blocking(one, False)
    outputs = [
        asyncio.create_task(_copy_out(client, channel, descriptor))
        for channel, descriptor in ((channels.STDOUT, pipes.stdout), (channels.STDERR, pipes.stderr))
        if descriptor >= 0
    ]
    listener = asyncio.create_task(_copy_in(client, pipes, descriptors))
    waited: list[Awaitable[Any]] = [*outputs, *([until] if until is not None else [])]
    done = asyncio.ensure_future(asyncio.gather(*waited) if waited else asyncio.Event().wait())
    try:
        await asyncio.wait({done, listener}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            listener.result()
            return False
        done.result()
        return True
    except ConnectionError:
        return False
    finally:
        for task in (*outputs, listener):
            task.cancel()
        done.add_done_callback(lambda one: one.cancelled() or one.exception())
        await asyncio.gather(*outputs, listener, return_exceptions=True)


async def _copy_out(client: Channels, channel: int, descriptor: int) -> None:
    while data := await read_some(descriptor):
        await client.send(channel, data)


async def _copy_in(client: Channels, pipes: Pipes, descriptors: Descriptors) -> None:
    """Carry what the client sends, until it goes; what a program does not take any more is dropped."""
    ended = pipes.stdin < 0
    while (message := await client.receive()) is not None:
        if message.channel == channels.RESIZE:
            _resize(pipes.terminal, message.data)
        elif message.channel == channels.STDIN and not ended:
            try:
                await write_all(pipes.stdin, message.data)
            except OSError:
                ended = True
            if (message.end or ended) and pipes.stdin != pipes.terminal:
                ended = True
                descriptors.close(pipes.stdin)


def _resize(terminal: int, data: bytes) -> None:
    """Take a new size; nonsense is passed over."""
    if terminal < 0:
        return
    with contextlib.suppress(ValueError, TypeError, AttributeError, OSError):
        size = json.loads(data)
        rows, columns = int(size.get("Height", 0)), int(size.get("Width", 0))
        if 0 < rows <= _MAX_SIZE and 0 < columns <= _MAX_SIZE:
            set_size(terminal, rows, columns)


async def _greet(client: Channels, options: StreamOptions) -> None:
    """Send an empty message on the lowest output channel: the connection stands."""
    lowest = channels.STDOUT if options.stdout else channels.STDERR if options.stderr else channels.ERROR
    with contextlib.suppress(ConnectionError):
        await client.send(lowest, b"")


def _exit_status(command: tuple[str, ...], code: int) -> Json:
    inner = f"error executing command [{' '.join(command)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {inner}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _not_started(error: RuntimeFailure) -> Json:
    """Return the status of a command that could not be started, in the words of the usual runtime."""
    text = f"error executing command in container: failed to exec in container: {error}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {text}",
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }
