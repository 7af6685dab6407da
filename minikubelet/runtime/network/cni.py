"""Pods connected by CNI plugins, for machines that have a configuration in /etc/cni/net.d.

What DEL needs is in the pod's record before ADD is called: the configuration as it was then (the file may change or go
meanwhile), the host ports, and, after ADD, the result. So a pod can be disconnected after any crash and any edit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import structlog

from minikubelet.runtime.network import cni_config
from minikubelet.runtime.network.cni_config import NetworkList
from minikubelet.runtime.network.errors import CNIError, NetworkError, os_error_text
from minikubelet.runtime.network.records import PodNetwork, Records
from minikubelet.runtime.network.thread import NetworkThread

log = structlog.get_logger(__name__)

DEFAULT_BIN_DIRS: Final = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_TIMEOUT_S: Final = 60.0
_IFNAME: Final = "eth0"
_OUTPUT_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One pod's connection to one network, as plugins are told of it."""

    network: NetworkList
    container_id: str
    netns: str
    args: str
    runtime_config: Mapping[str, Any]
    result: Mapping[str, Any] | None = None


class CNIBackend:
    """Calls the plugins of one network.

    Args:
        conf_dir: Directory of the configurations.
        bin_dirs: Where plugins are looked for.
        thread: Where records are written.
        records: The pods' records.
    """

    def __init__(self, *, conf_dir: str, bin_dirs: tuple[str, ...], thread: NetworkThread, records: Records) -> None:
        self._conf_dir = conf_dir
        self._path = ":".join(bin_dirs)
        self._thread = thread
        self._records = records

    def configured(self) -> NetworkList | None:
        """Return the network that new pods are connected to, as the files say now. Raises CNIError."""
        return cni_config.load_network(self._conf_dir)

    async def connect(self, network: PodNetwork, netns_fd: int, netns_path: str) -> AsyncIterator[PodNetwork]:
        """Connect a pod, or see whether it still is; a new sandbox of the pod is connected anew.

        Gives the pod as it is recorded each time that changes: what was begun must be undone whatever happens next.

        Args:
            network: The pod as far as it is known.
            netns_fd: Its network namespace.
            netns_path: A path that leads to it, which lives as long as possible.

        Raises:
            NetworkError: A plugin refused; what the others did was undone.
        """
        identity = _identity(netns_fd)
        if network.cni.get("result") and network.cni.get("netns_id") == identity and await self._check(network):
            return
        if network.cni:
            await self.disconnect(network)
        configured = self.configured()
        if configured is None:
            raise CNIError(f"cannot connect the pod {network.pod}: {self._conf_dir} has no CNI configuration any more")
        fresh = replace(
            network,
            cni={
                "config": configured.raw,
                "netns": netns_path,
                "netns_id": identity,
                "args": _args(network),
                "runtime_config": cni_config.runtime_config(network.host_ports, network.ips),
                "result": None,
            },
        )
        await self._write(fresh)
        yield fresh
        attachment = _attachment(fresh)
        try:
            result = await self._add(attachment)
            ips = cni_config.result_addresses(result)
        except (CNIError, ValueError, LookupError, TypeError, AttributeError) as error:
            with contextlib.suppress(NetworkError):
                await self._delete(attachment)
            raise CNIError(f"cannot connect the pod {network.pod}: {error}", code=getattr(error, "code", 0)) from error
        done = replace(fresh, ips=ips, cni={**fresh.cni, "result": result})
        await self._write(done)
        yield done

    async def disconnect(self, network: PodNetwork) -> None:
        """Let the plugins undo what they did for a pod. Raises NetworkError."""
        try:
            await self._delete(_attachment(network))
        except (CNIError, ValueError) as error:
            raise CNIError(f"cannot disconnect the pod {network.pod}: {error}") from error

    async def collect_garbage(self, pods: Iterable[PodNetwork]) -> None:
        """Tell the plugins which attachments are valid, where they understand it (CNI 1.1)."""
        try:
            configured = self.configured()
        except CNIError:
            return
        if configured is None or configured.disable_gc or not configured.at_least("1.1.0"):
            return
        valid = [{"containerID": pod.uid, "ifname": _IFNAME} for pod in pods if pod.cni]
        extra = {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
        for plugin in configured.plugins:
            data = cni_config.plugin_input(configured, plugin, runtime_config={}, previous=None, extra=extra)
            try:
                await self._call("GC", plugin, data, {})
            except CNIError as error:
                log.warning("CNI garbage not collected", network=configured.name, error=str(error))

    async def _check(self, network: PodNetwork) -> bool:
        attachment = _attachment(network)
        if attachment.network.disable_check or not attachment.network.at_least("0.4.0"):
            return True
        try:
            for plugin in attachment.network.plugins:
                await self._run("CHECK", attachment, plugin, attachment.result)
        except CNIError as error:
            log.warning("CNI check failed", pod=network.pod, error=str(error))
            return False
        return True

    async def _add(self, attachment: Attachment) -> Mapping[str, Any]:
        result: Mapping[str, Any] | None = None
        for plugin in attachment.network.plugins:
            result = await self._run("ADD", attachment, plugin, result)
        return result or {}

    async def _delete(self, attachment: Attachment) -> None:
        """Call DEL from the last plugin to the first; one that fails does not keep the others from cleaning up."""
        first: CNIError | None = None
        previous = attachment.result if attachment.network.at_least("0.4.0") else None
        for plugin in reversed(attachment.network.plugins):
            try:
                await self._run("DEL", attachment, plugin, previous)
            except CNIError as error:
                first = first or error
        if first is not None:
            raise first

    async def _run(
        self, command: str, attachment: Attachment, plugin: Mapping[str, Any], previous: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        data = cni_config.plugin_input(
            attachment.network, plugin, runtime_config=attachment.runtime_config, previous=previous
        )
        # DEL must work when the namespace is gone; the plugins are told so by an empty path.
        netns = attachment.netns if command == "ADD" or os.path.exists(attachment.netns) else ""
        told = {
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": _IFNAME,
            "CNI_ARGS": attachment.args,
        }
        return await self._call(command, plugin, data, told)

    async def _call(
        self, command: str, plugin: Mapping[str, Any], data: bytes, told: Mapping[str, str]
    ) -> Mapping[str, Any]:
        kind = str(plugin["type"])
        program = shutil.which(kind, path=self._path)
        if program is None:
            raise CNIError(f'failed to find plugin "{kind}" in path {self._path.split(":")}')
        environment = {**os.environ, **told, "CNI_COMMAND": command, "CNI_PATH": self._path}
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise CNIError(os_error_text(f"cannot run the plugin {kind}", error)) from error
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                output, errors = await process.communicate(data)
        except TimeoutError:
            _kill_group(process.pid)
            await process.wait()
            raise CNIError(f"plugin {kind} took more than {_TIMEOUT_S:.0f} s for {command}") from None
        except asyncio.CancelledError:
            _kill_group(process.pid)
            raise
        if process.returncode == 0:
            return _object(output) if output.strip() else {}
        raise _failure(kind, command, output, errors)

    async def _write(self, network: PodNetwork) -> None:
        try:
            await self._thread.call(lambda: self._records.write(network))
        except OSError as error:
            raise NetworkError(os_error_text(f"cannot record the network of the pod {network.pod}", error)) from error


def _attachment(network: PodNetwork) -> Attachment:
    return Attachment(
        network=cni_config.network_of(network.cni["config"]),
        container_id=network.uid,
        netns=network.cni["netns"],
        args=network.cni["args"],
        runtime_config=network.cni["runtime_config"],
        result=network.cni["result"],
    )


def _args(network: PodNetwork) -> str:
    """Return CNI_ARGS as Kubernetes' runtimes give them."""
    namespace, _, name = network.pod.partition("/")
    return (
        f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};"
        f"K8S_POD_INFRA_CONTAINER_ID={network.uid};K8S_POD_UID={network.uid}"
    )


def _identity(netns_fd: int) -> str:
    found = os.fstat(netns_fd)
    return f"{found.st_dev}:{found.st_ino}"


def _failure(kind: str, command: str, output: bytes, errors: bytes) -> CNIError:
    with contextlib.suppress(CNIError):
        told = _object(output)
        text = str(told.get("msg") or "no message")
        details = told.get("details")
        code = told.get("code")
        return CNIError(
            f"plugin {kind} failed ({command.lower()}): {text}" + (f"; {details}" if details else ""),
            code=code if isinstance(code, int) else 0,
        )
    line = errors.decode(errors="replace").strip()[-500:] or "it gave no error"
    return CNIError(f"plugin {kind} failed ({command.lower()}): {line}")


def _object(output: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(output[:_OUTPUT_LIMIT])
    except ValueError:
        raise CNIError("a plugin's answer is no JSON") from None
    if not isinstance(value, dict):
        raise CNIError("a plugin's answer is no JSON object")
    return cast("dict[str, Any]", value)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
