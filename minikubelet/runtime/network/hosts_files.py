"""Names of this node's pods for each other: a block in every pod's hosts file, kept up to date while pods run.

Why the hosts file and not a small DNS server: every resolver reads it before it asks a server (glibc, musl, Go's own,
so static binaries too), nothing has to listen on port 53, `resolv.conf` stays the host's, and names go on resolving
while the daemon is down. What it cannot do is answer `dig`, and programs that read the file once only.

The file is one mount in each container, so it is changed in place: written over from its start and cut to its length
afterwards, so that a reader never finds it empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from minikubelet.lifecycle.observed import PodUID
from minikubelet.linux.faults import point

log = structlog.get_logger(__name__)

_BEGIN: Final = "# Pods of this node, kept up to date by minikubelet."
_END: Final = "# End of the pods of this node."
_DELAY_S: Final = 0.05
# A node with many pods spends at most a tenth of its time on their names.
_REST: Final = 9.0
# A container may write its hosts file, and make it as large as it likes: what is larger is left alone.
_MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPod:
    """A pod that others may look up.

    `names` are the pod's full name and what its manifest calls it; `hostname` and `subdomain` are those of the spec.
    """

    uid: PodUID
    namespace: str
    names: tuple[str, ...]
    ips: tuple[str, ...]
    hostname: str = ""
    subdomain: str = ""


def pod_names(pod: NamedPod, *, ip: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """Return what a pod at an address is called, seen from a namespace; the most complete name first.

    Source: "DNS for Services and Pods": `<ip with dashes>.<namespace>.pod.<domain>`, and with a subdomain
    `<hostname>.<subdomain>.<namespace>.svc.<domain>` with what the search path makes of it. `<pod>.<namespace>` and,
    in its own namespace, `<pod>` are ours.
    """
    found: list[str] = []
    if pod.subdomain:
        short = f"{pod.hostname or pod.names[0]}.{pod.subdomain}"
        full = f"{short}.{pod.namespace}"
        found += [f"{full}.svc.{cluster_domain}", f"{full}.svc", full]
        found += [short] if pod.namespace == namespace else []
    dashed = str(ipaddress.ip_address(ip)).replace(".", "-").replace(":", "-")
    found.append(f"{dashed}.{pod.namespace}.pod.{cluster_domain}")
    found += [f"{name}.{pod.namespace}" for name in pod.names]
    if pod.namespace == namespace:
        found += pod.names
    return tuple(dict.fromkeys(found))


def hosts_block(pods: Iterable[NamedPod], *, namespace: str, cluster_domain: str) -> str:
    """Return the block for the pods of a namespace, in a stable order; empty without pods."""
    ordered = sorted(pods, key=lambda pod: (pod.namespace, pod.names, pod.uid))
    lines = [line for pod in ordered for line in _lines(pod, pod.namespace == namespace, cluster_domain)]
    return "\n".join([_BEGIN, *lines, _END, ""]) if lines else ""


@functools.lru_cache(maxsize=4096)
def _lines(pod: NamedPod, is_near: bool, cluster_domain: str) -> tuple[str, ...]:
    """Return a pod's lines, seen from its own namespace or another: kept, as every pod's file has every pod's lines."""
    namespace = pod.namespace if is_near else ""
    return tuple(
        f"{ip}\t{' '.join(pod_names(pod, ip=ip, namespace=namespace, cluster_domain=cluster_domain))}" for ip in pod.ips
    )


def replace_block(text: str, block: str) -> str:
    """Put a block in place of the one in the text, or at its end; what a container wrote around it stays."""
    before, found, rest = text.partition(_BEGIN)
    if not found:
        return text + ("" if not text or text.endswith("\n") else "\n") + block
    _, ended, after = rest.partition(_END + "\n")
    return before + block + (after if ended else "")


class HostsFiles:
    """The hosts files of this node's pods.

    Args:
        cluster_domain: The domain of the names that Kubernetes gives pods.
    """

    def __init__(self, *, cluster_domain: str = "cluster.local") -> None:
        self._cluster_domain = cluster_domain
        self._pods: dict[PodUID, NamedPod] = {}
        self._paths: dict[PodUID, tuple[str, str]] = {}
        self._blocks: dict[str, str] = {}  # by namespace, as of the last update
        self._stale = False
        self._task: asyncio.Task[None] | None = None

    def add(self, pod: NamedPod) -> None:
        """Make a pod known by its names, or by its new addresses; the others' files follow at once."""
        if self._pods.get(pod.uid) != pod:
            self._pods[pod.uid] = pod
            self._ring()

    def remove(self, uid: PodUID) -> None:
        """Forget a pod and its file."""
        self._paths.pop(uid, None)
        if self._pods.pop(uid, None) is not None:
            self._ring()

    def block(self, namespace: str) -> str:
        """Return the block for a hosts file that is being written; empty while a pod is alone.

        It is as old as the last update, which follows at once for a file that is then kept.
        """
        if len(self._pods) < 2:
            return ""
        if namespace not in self._blocks:
            self._blocks[namespace] = hosts_block(
                self._pods.values(), namespace=namespace, cluster_domain=self._cluster_domain
            )
        return self._blocks[namespace]

    def keep(self, uid: PodUID, namespace: str, path: str) -> None:
        """Keep a pod's hosts file up to date from now on: one that was just written, or an adopted pod's.

        One that is kept already has just been written with what the others have: nothing is to be done.
        """
        if self._paths.get(uid) != (namespace, path):
            self._paths[uid] = (namespace, path)
            self._ring()

    async def settle(self) -> None:
        """Wait until every file is up to date."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        """Stop; the files stay as they are."""
        if self._task is not None:
            self._task.cancel()

    def _ring(self) -> None:
        self._stale = True
        if self._task is None:
            self._task = asyncio.create_task(self._update())

    async def _update(self) -> None:
        try:
            while self._stale:
                await asyncio.sleep(_DELAY_S)
                self._stale = False
                self._blocks.clear()
                began = asyncio.get_running_loop().time()
                blocks = {namespace: self.block(namespace) for namespace, _ in self._paths.values()}
                files = [(path, blocks[namespace]) for namespace, path in self._paths.values()]
                await asyncio.to_thread(_update_files, files)
                if self._stale:
                    await asyncio.sleep(_REST * (asyncio.get_running_loop().time() - began))
        finally:
            self._task = None


def _update_files(files: list[tuple[str, str]]) -> None:
    for path, block in files:
        try:
            _update_file(path, block)
        except FileNotFoundError:
            continue  # the pod is on its way in or out
        except OSError as error:
            log.warning("hosts file not updated", path=path, error=str(error))


def _update_file(path: str, block: str) -> None:
    point("hosts.write")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    with contextlib.closing(os.fdopen(descriptor, "rb+", buffering=0)) as file:
        size = os.fstat(descriptor).st_size
        if size > _MAX_BYTES:
            raise OSError(errno.EFBIG, f"{size} bytes, not read", path)
        old = file.read(_MAX_BYTES)
        new = replace_block(old.decode(errors="surrogateescape"), block).encode(errors="surrogateescape")
        if new != old:
            os.pwrite(descriptor, new, 0)
            os.ftruncate(descriptor, len(new))
