"""What is asked of pauses: to make one and end it, to start, signal, kill and enter containers.

Nothing in here decides: it carries requests over the connections, which hear what came of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID
from minikubelet.runtime.channel import Channel, Execution, ForeignPause, PauseGone, PauseHangs
from minikubelet.runtime.pause_connections import RESPONSE_LIMIT_S, PauseConnections
from minikubelet.runtime.pause_state import PauseState, observed_container
from minikubelet.runtime.port import ContainerFailure, ExecResult, RuntimeFailure, SandboxFailure
from minikubelet.runtime.processes import kill_alive, signal_alive, wait_until_dead
from minikubelet.sandbox.journal import Journal
from minikubelet.sandbox.namespaces import unpin
from minikubelet.sandbox.protocol import Message, send_descriptor
from minikubelet.sandbox.spec import ContainerSpec, SandboxSpec, to_json

# How long a pause may take to say that it is there.
_START_LIMIT_S: Final = 30.0
# The pause itself gives up a start that takes a minute.
_CONTAINER_LIMIT_S: Final = 75.0


class Pauses(PauseConnections):
    """All pauses of the node: the connections to them, and what is asked over these."""

    # Sandboxes

    async def create_sandbox(self, spec: SandboxSpec, netns: Callable[[], Awaitable[int]] | None = None) -> int:
        """Make the pause of a pod; return a descriptor of its network namespace (it stays ours).

        Args:
            spec: What to make.
            netns: Gives the network namespace, where that is not the pause's to make; the caller's to close.

        Raises:
            SandboxFailure: It could not be made.
        """
        uid = PodUID(spec.uid)
        pod = self._pods.setdefault(uid, PauseState())
        if pod.foreign:
            raise SandboxFailure(pod.foreign)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise SandboxFailure(f"cannot connect the pause process: {error.strerror}") from error
        try:
            await self._fork_pause(uid, spec, netns, ours, theirs)
        except BaseException:
            self._withdraw(uid, ours)
            raise
        finally:
            theirs.close()
        return pod.netns

    async def _fork_pause(
        self,
        uid: PodUID,
        spec: SandboxSpec,
        netns: Callable[[], Awaitable[int]] | None,
        ours: socket.socket,
        theirs: socket.socket,
    ) -> None:
        ready = self._attach(uid, ours)
        await self._fork_server.fork(spec, theirs)
        theirs.close()
        if netns is not None:
            given = await netns()
            with contextlib.suppress(OSError):  # the pause is gone: its connection says why
                send_descriptor(ours, given)
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await ready
        except TimeoutError:
            raise SandboxFailure("the pause process did not answer in time") from None

    def _withdraw(self, uid: PodUID, sock: socket.socket) -> None:
        """Give up a connection: a pause that finds it closed before it was taken up ends itself."""
        pod = self._pods.get(uid)
        if pod is not None and pod.channel is not None:
            channel, pod.channel = pod.channel, None
            pod.view = None
            channel.close()
        sock.close()

    async def stop_sandbox(self, uid: PodUID) -> None:
        """End the pause with everything in it; no error when it is gone already."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        channel = pod.channel
        if channel is not None and pod.foreign:
            raise ForeignPause(pod.foreign)
        if channel is not None:
            try:
                async with asyncio.timeout(RESPONSE_LIMIT_S):
                    await channel.request({"do": "stop"})
                    await channel.closed.wait()
            except (TimeoutError, RuntimeFailure):
                pass
        for sandbox in pod.sandboxes.values():
            kill_alive(sandbox)
            await wait_until_dead(sandbox)
            path = sandbox["spec"]["netns_path"]
            if path:
                unpin(path)
        # Containers of a pause that was killed die a moment after it; what follows may rely on their death.
        for record in list(pod.containers.values()):
            kill_alive(record)
            await wait_until_dead(record)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._run_dir, f"{uid}.sock"))
        if channel is not None:
            channel.close()
        self._lost(uid)

    # Containers

    async def start_container(
        self, uid: PodUID, spec: ContainerSpec, descriptors: tuple[int, ...] = ()
    ) -> ObservedContainer:
        """Start one container.

        Raises:
            ContainerFailure: Its program could not be executed; an exited instance is left behind.
            RuntimeFailure: The pause is gone.
        """
        request = {"do": "start", "spec": to_json(spec)}
        reply, _ = await self._request(uid, request, descriptors, limit_s=_CONTAINER_LIMIT_S)
        # The pause told everybody before it answered; by now an exit may have been told too, so nothing is stored here.
        found = observed_container(reply["container"])
        if found.exit is not None and found.exit.reason == "StartError":
            raise ContainerFailure("RunContainerError", found.exit.message)
        return found

    async def signal(self, uid: PodUID, container_id: ContainerID, number: int) -> None:
        """Send a signal to a container's main process, ourselves if its pause does not answer."""
        try:
            await self._request(uid, {"do": "signal", "container": container_id, "signal": int(number)})
        except PauseGone:
            pass
        except PauseHangs:
            record = self._pods[uid].containers.get(container_id)
            if record is not None:
                signal_alive(record, number)

    async def kill(self, uid: PodUID, container_id: ContainerID) -> None:
        """Kill all processes of a container; a pause that does not even do that is killed with all it holds."""
        try:
            await self._request(uid, {"do": "kill", "container": container_id})
        except PauseGone:
            pass
        except PauseHangs:
            for sandbox in self._pods[uid].sandboxes.values():
                kill_alive(sandbox)

    async def remove_container(self, uid: PodUID, container_id: ContainerID) -> None:
        """Forget an instance that has exited."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        record = pod.containers.get(container_id)
        current = pod.newest_sandbox["id"] if pod.newest_sandbox is not None else ""
        told = False
        if pod.channel is not None:
            with contextlib.suppress(PauseGone):
                await self._request(uid, {"do": "remove", "container": container_id})
                told = True
        if record is not None and (not told or record.get("sandbox_id") != current):
            # The pause knows nothing of what an earlier one held. Lines appended by both do not mix: each is one write.
            with contextlib.suppress(OSError):
                journal = Journal(self._journal_path(uid))
                journal.append({"do": "remove", "id": container_id})
                journal.close()
        pod.containers.pop(container_id, None)
        pod.view = None

    # Commands and streams

    async def exec(
        self,
        uid: PodUID,
        container_id: ContainerID,
        command: tuple[str, ...],
        *,
        timeout_s: float | None,
        limit: int,
    ) -> ExecResult:
        """Run a command in a running container and wait for it. Raises RuntimeFailure."""
        message: Message = {
            "do": "exec",
            "container": container_id,
            "command": list(command),
            "timeout": timeout_s,
            "limit": limit,
            "tty": False,  # read by protocol 1
        }
        # The pause ends it in time; only one that hangs is waited for no longer.
        limit_s = None if timeout_s is None else timeout_s + RESPONSE_LIMIT_S
        reply, _ = await self._channel(uid).request(message, limit_s=limit_s)
        return ExecResult(
            exit_code=reply["exit_code"],
            output=str(reply["output"]).encode("latin-1"),
            stderr=str(reply.get("stderr", "")).encode("latin-1"),  # not told by pauses of earlier releases
            timed_out=bool(reply["timed_out"]),
        )

    def begin_exec(
        self,
        uid: PodUID,
        container_id: ContainerID,
        command: tuple[str, ...],
        *,
        descriptors: tuple[int, ...],
        console: bool,
    ) -> Execution:
        """Start a command that somebody talks to.

        Args:
            uid: The pod.
            container_id: The running instance.
            command: What to run.
            descriptors: Its standard streams, or, for a terminal, the socket that the terminal is sent over.
            console: Give it a terminal.

        Raises:
            RuntimeFailure: The pause is gone, or too old.
        """
        channel = self._streaming_channel(uid)
        message: Message = {
            "do": "exec",
            "container": container_id,
            "command": list(command),
            "timeout": None,
            "limit": 0,
            "console": console,
            "env": ["TERM=xterm"] if console else [],
        }
        return Execution(channel, *channel.begin(message, descriptors))

    async def attach(self, uid: PodUID, container_id: ContainerID, streams: Mapping[str, int], *, stdin: bool) -> int:
        """Have a container's output copied to descriptors from now on.

        Args:
            uid: The pod.
            container_id: The running instance.
            streams: `stdout`, `stderr` and the descriptor that each is copied to.
            stdin: Ask for the container's input.

        Returns:
            What the container's input is written to (its terminal, if it has one); -1 when it reads none.

        Raises:
            RuntimeFailure: It does not run, or the pause is too old.
        """
        message: Message = {"do": "attach", "container": container_id, "streams": list(streams), "stdin": stdin}
        channel = self._streaming_channel(uid)
        _, received = await channel.request(message, tuple(streams.values()), limit_s=RESPONSE_LIMIT_S)
        return received[0] if received else -1

    def _streaming_channel(self, uid: PodUID) -> Channel:
        channel = self._channel(uid)
        if self._pods[uid].version < 2:
            raise RuntimeFailure("the pod was started by an earlier minikubelet: make it anew to use exec or attach")
        return channel

    async def open_socket(self, uid: PodUID, family: int, kind: int) -> socket.socket:
        """Return a new socket of the pod's network namespace."""
        _, descriptors = await self._request(uid, {"do": "socket", "family": family, "type": kind})
        return socket.socket(fileno=descriptors[0])
