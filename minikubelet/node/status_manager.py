"""Publishes the status of pods: one JSON file a pod, one table for people, and the store that the API serves from.

Owner of what has been published. The files lie in the run directory, which does not outlive a boot, so they are
replaced atomically but not waited for on disk. A file is written only when its content differs, at the moment of the
change; the table is written once for all changes of one turn of the event loop, and less often when there are very
many pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
import structlog

from minikubelet.api.types import Pod, PodStatus
from minikubelet.lifecycle.status import parse_rfc3339
from minikubelet.linux.files import write_atomic
from minikubelet.node.store import Store

log = structlog.get_logger(__name__)

Json = dict[str, Any]

# A table is written again at the earliest after this many times what the last writing took.
_TABLE_LOAD: Final = 20.0
# Ages in the table go on even when nothing happens, at a two-thousandth of a core where there are many pods.
_TABLE_REFRESH_S: Final = 10.0
_TABLE_REFRESH_LOAD: Final = 2000.0
# Files for which there was no room are tried again after this.
_RETRY_S: Final = 2.0


class StatusManager:
    """Owner of the published pods; `previous` gives back what was last published, also by an earlier daemon."""

    def __init__(
        self, *, status_dir: str, table_path: str, store: Store, render: Callable[[Sequence[Json]], str]
    ) -> None:
        """Create it without touching a file.

        Args:
            status_dir: Directory of `<namespace>_<name>.json`, made by `start`.
            table_path: The file that holds the table.
            store: Where the API reads pods from.
            render: Makes the table of all pods, as the API prints them.
        """
        self._status_dir = status_dir
        self._table_path = table_path
        self._store = store
        self._render = render
        self._pods: dict[tuple[str, str], Pod] = {}
        self._stale: set[str] = set()
        self._table_text = ""
        self._table_timer: asyncio.TimerHandle | None = None
        self._table_cost_s = 0.0
        self._unwritten: dict[str, bytes] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._table_changed = asyncio.Event()

    def table(self) -> str:
        """Return the table as it was last written."""
        return self._table_text

    async def changed(self, at_most_s: float) -> None:
        """Wait until the table is another, but not longer than given."""
        self._table_changed.clear()
        # Not wait_for: in Python 3.11 it may swallow a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._table_changed.wait()

    def start(self) -> None:
        """Make the directory and note which files an earlier daemon left."""
        os.makedirs(self._status_dir, exist_ok=True)
        os.chmod(self._status_dir, 0o700)  # a pod has its variables in it, whose manifest may be for root only
        self._stale = {name for name in os.listdir(self._status_dir) if name.endswith(".json")}
        self._schedule_table()

    def previous(self, namespace: str, name: str, uid: str) -> PodStatus | None:
        """Return the status last published for this very pod (same uid), or None."""
        known = self._pods.get((namespace, name))
        if known is None:
            known = self._read_back(namespace, name)
        return known.status if known is not None and known.metadata.uid == uid else None

    def _read_back(self, namespace: str, name: str) -> Pod | None:
        try:
            with open(self._path(namespace, name), "rb") as file:
                pod = msgspec.json.decode(file.read(), type=Pod)
            if pod.status is not None and pod.status.start_time:
                parse_rfc3339(pod.status.start_time)  # everything else is only shown
            return pod
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            log.warning("status file unreadable, made anew", pod=f"{namespace}/{name}", error=str(error))
            return None

    def publish(self, pod: Pod) -> None:
        """Publish one pod with its status; nothing is written when nothing changed."""
        key = (pod.metadata.namespace, pod.metadata.name)
        pod = _with_creation(pod)
        if self._pods.get(key) == pod:
            return
        self._pods[key] = pod
        self._stale.discard(os.path.basename(self._path(*key)))
        self._write(self._path(*key), msgspec.json.encode(pod))
        self._store.put("pods", key[0], key[1], msgspec.to_builtins(pod))
        self._schedule_table()

    def remove(self, namespace: str, name: str, uid: str) -> None:
        """Withdraw a pod that is gone, unless a successor of the same name has been published meanwhile."""
        known = self._pods.get((namespace, name))
        if known is None or known.metadata.uid != uid:
            return
        del self._pods[(namespace, name)]
        self._unwritten.pop(self._path(namespace, name), None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(namespace, name))
        self._store.delete("pods", namespace, name)
        self._schedule_table()

    def remove_stale(self, pods: Iterable[Pod]) -> None:
        """Remove the files that an earlier daemon published, but for those of pods that will be published again."""
        kept = {os.path.basename(self._path(pod.metadata.namespace, pod.metadata.name)) for pod in pods}
        for name in self._stale - kept:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._status_dir, name))
        self._stale.clear()

    def pods(self) -> list[Pod]:
        """Return all published pods, by namespace and name."""
        return [self._pods[key] for key in sorted(self._pods)]

    def objects(self) -> list[Json]:
        """Return all published pods as the API prints them, by namespace and name."""
        return [one.object for one in self._store.list("pods")]

    def stop(self) -> None:
        """Write the table a last time and forget the timer."""
        if self._table_timer is not None:
            self._table_timer.cancel()
            self._table_timer = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._write_table()

    def _path(self, namespace: str, name: str) -> str:
        return os.path.join(self._status_dir, f"{namespace}_{name}.json")

    def _write(self, path: str, data: bytes) -> None:
        """Write one file; a full disk must not stop a pod, so a failure is said once and tried again in a while."""
        try:
            write_atomic(path, data)
        except OSError as error:
            if not self._unwritten:
                log.error("cannot write status", path=path, error=str(error))
            self._unwritten[path] = data
            if self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._write_again)
        else:
            self._unwritten.pop(path, None)

    def _write_again(self) -> None:
        self._retry = None
        for path, data in list(self._unwritten.items()):
            self._write(path, data)
            if path in self._unwritten:
                return  # no room yet: the rest would fail too
        log.info("status written again")

    def _schedule_table(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._table_cost_s * _TABLE_LOAD
        if self._table_timer is not None:
            if self._table_timer.when() <= due:
                return
            self._table_timer.cancel()
        self._table_timer = loop.call_at(due, self._on_table_timer)

    def _on_table_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._table_timer = None
        started = loop.time()
        self._write_table()
        self._table_cost_s = loop.time() - started
        if self._pods and self._table_timer is None:
            delay = max(_TABLE_REFRESH_S, self._table_cost_s * _TABLE_REFRESH_LOAD)
            self._table_timer = loop.call_at(loop.time() + delay, self._on_table_timer)

    def _write_table(self) -> None:
        text = self._render(self.objects())
        if text != self._table_text or not os.path.exists(self._table_path):
            self._table_text = text
            self._table_changed.set()
            self._write(self._table_path, text.encode())


def _with_creation(pod: Pod) -> Pod:
    """Return the pod with the time since which it is known, as its mirror on an API server would have it."""
    if pod.metadata.creation_timestamp or pod.status is None or not pod.status.start_time:
        return pod
    metadata = msgspec.structs.replace(pod.metadata, creation_timestamp=pod.status.start_time)
    return msgspec.structs.replace(pod, metadata=metadata)
