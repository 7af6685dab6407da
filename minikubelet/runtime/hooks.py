"""Runs lifecycle hooks: exec in the container, httpGet from the node, sleep; tcpSocket always fails, as it does there.

A hook has no time limit of its own: postStart may take for ever, preStop is cut off by whoever ends the container.
Source: kubelet lifecycle/handlers.go (v1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import structlog

from minikubelet.api.field_errors import quote
from minikubelet.api.types import Container, HTTPGetAction, LifecycleHandler, Pod
from minikubelet.lifecycle.observed import ContainerID
from minikubelet.lifecycle.pods import full_name
from minikubelet.runtime.port import Runtime, RuntimeFailure
from minikubelet.runtime.probes.http import BodyError, HttpError, http_get, request_headers
from minikubelet.runtime.probes.target import probe_url

log = structlog.get_logger(__name__)

_OUTPUT_LIMIT: Final = 10 * 1024
# An HTTP hook whose server never answers ends with the pod, not by itself.
_FOREVER_S: Final = 10 * 365 * 24 * 3600.0


class HookError(RuntimeFailure):
    """A hook failed; the text is what the kubelet logs and shows as the container's waiting message."""


class HookRunner:
    """Runs the hooks of all pods."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        version: str,
        pod_ips: Callable[[Pod], Sequence[str]],
        on_http_fallback: Callable[[Pod, str], None],
    ) -> None:
        """Create it.

        Args:
            runtime: Runs exec hooks.
            version: `<major>.<minor>`, for the User-Agent.
            pod_ips: The pod's addresses now.
            on_http_fallback: Told, with the host and port, of an HTTPS hook that succeeded in plain HTTP.
        """
        self._runtime = runtime
        self._user_agent = f"kube-lifecycle/{version}"
        self._pod_ips = pod_ips
        self._on_http_fallback = on_http_fallback

    async def post_start(self, pod: Pod, container: Container, container_id: ContainerID) -> None:
        """Run the postStart hook, if there is one. Raises HookError."""
        if container.lifecycle is not None and container.lifecycle.post_start is not None:
            await self._run("PostStart", container.lifecycle.post_start, pod, container, container_id)

    async def pre_stop(self, pod: Pod, container: Container, container_id: ContainerID) -> None:
        """Run the preStop hook, if there is one. Raises HookError."""
        if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
            await self._run("PreStop", container.lifecycle.pre_stop, pod, container, container_id)

    async def _run(
        self, which: str, handler: LifecycleHandler, pod: Pod, container: Container, container_id: ContainerID
    ) -> None:
        try:
            if handler.exec is not None:
                await self._exec(tuple(handler.exec.command or ()), which, pod, container, container_id)
            elif handler.http_get is not None:
                await self._http(handler.http_get, which, pod, container)
            elif handler.sleep is not None:
                await asyncio.sleep(handler.sleep.seconds)
            else:
                kind = "tcpSocket" if handler.tcp_socket is not None else "none"
                raise HookError(f"Cannot run handler: invalid handler: {kind}")
        except RuntimeFailure as failure:
            log.warning("hook failed", hook=which, container=container.name, error=str(failure))
            raise

    async def _exec(
        self, command: tuple[str, ...], which: str, pod: Pod, container: Container, container_id: ContainerID
    ) -> None:
        named = f'Container "{container.name}" in Pod "{full_name(pod)}"'
        what = f"Exec lifecycle hook ([{' '.join(command)}]) for {named} failed"
        try:
            result = await self._runtime.exec(pod, container_id, command, timeout_s=None, limit=_OUTPUT_LIMIT)
        except RuntimeFailure as failure:
            raise HookError(f'{what} - error: {failure}, message: ""') from failure
        if result.exit_code != 0:
            output, stderr = (one.decode("utf-8", "replace") for one in (result.output, result.stderr))
            error = f"command '{' '.join(command)}' exited with {result.exit_code}: {stderr}"
            raise HookError(f"{what} - error: {error}, message: {quote(output)}")

    async def _http(self, action: HTTPGetAction, which: str, pod: Pod, container: Container) -> None:
        named = f'Container "{container.name}" in Pod "{full_name(pod)}"'
        try:
            await self._http_get(action, pod, container)
        except (HttpError, RuntimeFailure) as error:
            raise HookError(f"HTTP lifecycle hook ({action.path}) for {named} failed - error: {error}") from error

    async def _http_get(self, action: HTTPGetAction, pod: Pod, container: Container) -> None:
        addresses = self._pod_ips(pod)
        if not action.host and not addresses:
            raise HookError("failed to find networking container: pod has no IP")
        url = probe_url(action, container, addresses[0] if addresses else "")
        given = [(header.name, header.value) for header in action.http_headers or ()]
        headers = request_headers(given, user_agent=self._user_agent)
        try:
            await self._get(url, headers)
        except HttpError as error:
            if "server gave HTTP response to HTTPS client" not in str(error):
                raise
        else:
            return
        parts = urlsplit(url)
        # As the kubelet: credentials meant for HTTPS are not sent in the clear.
        open_headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
        await self._get(parts._replace(scheme="http").geturl(), open_headers)
        self._on_http_fallback(pod, parts.netloc)

    @staticmethod
    async def _get(url: str, headers: Sequence[tuple[str, str]]) -> None:
        with contextlib.suppress(BodyError):  # any answer will do
            await http_get(url, headers, timeout_s=_FOREVER_S)
