"""The manifest directory: which pods, ConfigMaps and Secrets its files ask for.

watchdog only rings the bell; the truth is what a scan finds. A scan looks at the stamp of every file and reads what has
changed, so a bell that rings too often costs little and one that never rings is made good by the next regular scan. A
file that is open for writing is left alone until it is closed or has been quiet for a while, and one that does not
parse so soon after a change is looked at again before it is called bad.

Where this differs from the kubelet: only .yaml, .yml and .json are read; a bad edit keeps the last good version
running; of two manifests of one pod the first goes on.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from minikubelet.api.manifest import Manifest, PodDocument, parse_manifest
from minikubelet.api.types import ConfigMap, Pod, Secret
from minikubelet.linux.files import write_atomic
from minikubelet.node.guard import RefusedError, Stamp, check_trusted, read_trusted, stamp_of
from minikubelet.node.verdicts import Verdict

log = structlog.get_logger(__name__)

EXTENSIONS: Final = (".yaml", ".yml", ".json")
# A file that somebody has open for writing is taken as it is when nothing was written for this long.
_QUIET_S: Final = 1.0
# A file that cannot be parsed so soon after its last change may be half-written.
_SETTLE_S: Final = 0.15
_RETRY_S: Final = 0.05


@dataclass(slots=True)
class _File:
    """What is known of one file."""

    path: str
    first_seen: float
    stamp: Stamp | None = None
    good: Manifest | None = None
    now: Manifest | None = None
    refusal: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """What the directory asks for, and what was made of each file."""

    pods: tuple[PodDocument, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    secrets: tuple[Secret, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # pod uid to the file it comes from


class ManifestSource:
    """Owner of the desired state; its memory is the directory, and the last good version of each file on disk."""

    def __init__(
        self,
        *,
        directory: str,
        state_dir: str,
        node_name: str,
        period_s: float,
        strict_static: bool,
        trusted_uid: int = 0,
        on_change: Callable[[DesiredState], None],
    ) -> None:
        """Create it; `start` begins to watch.

        Args:
            directory: Where manifests are dropped.
            state_dir: `<state>`; last good versions lie in `manifests`.
            node_name: For names and uids of pods.
            period_s: How often the directory is listed without being asked to.
            strict_static: Refuse references to other API objects.
            trusted_uid: Who may write manifests besides root.
            on_change: Called on the loop with the new desired state.
        """
        self._directory = directory
        self._kept_dir = os.path.join(state_dir, "manifests")
        self._node_name = node_name
        self._period_s = period_s
        self._strict = strict_static
        self._trusted_uid = trusted_uid
        self._on_change = on_change
        self._files: dict[str, _File] = {}
        self._being_written: dict[str, float] = {}
        self._ignored: set[str] = set()
        self._desired = DesiredState()
        self._bell = asyncio.Event()
        self._observer: Any = None
        self._watched: tuple[int, int] | None = None
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None
        self._retry_at: float | None = None

    @property
    def desired(self) -> DesiredState:
        """Return what the directory asks for now."""
        return self._desired

    async def start(self) -> None:
        """Scan once, so that the first state is whole, then watch."""
        os.makedirs(self._kept_dir, mode=0o700, exist_ok=True)
        self._watch()
        self.scan()
        self._task = asyncio.create_task(self._run(), name="manifest source")

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._unwatch()

    async def _run(self) -> None:
        while True:
            delay = self._period_s
            if self._retry_at is not None:
                delay = max(0.0, min(delay, self._retry_at - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), delay)
            self._bell.clear()
            try:
                self._watch()
                self.scan()
            except Exception:  # the source must go on, whatever one file does to it
                log.exception("scan failed")

    # The bell

    def _watch(self) -> None:
        """Watch the directory that is there now, and its parent for the day it is replaced."""
        try:
            found = os.stat(self._directory)
            identity: tuple[int, int] | None = (found.st_dev, found.st_ino)
        except OSError:
            identity = None
        if self._observer is not None and identity == self._watched:
            return
        self._unwatch()
        self._watched = identity
        handler = _Bell(asyncio.get_running_loop(), self._ring)
        observer = Observer()
        real = os.path.realpath(self._directory)
        watched = [path for path in {os.path.dirname(os.path.abspath(self._directory)), real} if os.path.isdir(path)]
        try:
            for path in watched:
                observer.schedule(handler, path, recursive=False)
            observer.start()
            self._observer = observer
        except OSError as error:
            log.error("cannot watch, listing regularly instead", path=self._directory, error=str(error))

    def _unwatch(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _ring(self, kind: str, path: str) -> None:
        if os.path.dirname(path) == os.path.realpath(self._directory):
            if kind == "modified":
                self._being_written[os.path.basename(path)] = time.monotonic()
                if not self._bell.is_set() and self._retry_at is None:
                    self._retry_at = time.monotonic() + _QUIET_S
                    self._bell.set()
                return
            self._being_written.pop(os.path.basename(path), None)
        self._bell.set()

    # The scan

    def scan(self) -> None:
        """Look at every file; tell `on_change` when the desired state is another."""
        self._retry_at = None
        names = self._names()
        if names is None:
            return
        changed = False
        for name in self._files.keys() - set(names):
            del self._files[name]
            self._forget(name)
            changed = True
        for name in names:
            changed = self._look(name) or changed
        if (
            changed
            or (not self._desired.verdicts and names)
            or (changed is False and not names and self._desired.verdicts)
        ):
            self._publish()

    def _names(self) -> list[str] | None:
        try:
            check_trusted(self._directory, os.stat(self._directory), self._trusted_uid)
            names = sorted(os.listdir(self._directory))
            self._trouble = ""
        except FileNotFoundError:
            return self._untrusted("the manifest directory does not exist; it counts as empty")
        except (OSError, RefusedError) as error:
            # What it held cannot be told now: nothing that runs is ended for that.
            self._untrusted(f"the manifest directory cannot be used, its pods go on as they were: {error}")
            return None
        taken: list[str] = []
        for name in names:
            if name.startswith("."):
                continue
            if name.endswith(EXTENSIONS):
                taken.append(name)
            elif name not in self._ignored:
                self._ignored.add(name)
                log.info("file ignored: only .yaml, .yml and .json are read", file=name)
        return taken

    def _untrusted(self, trouble: str) -> list[str]:
        if trouble != self._trouble:
            log.warning(trouble, path=self._directory)
        self._trouble = trouble
        return []

    def _look(self, name: str) -> bool:
        """Read a file if its stamp is new; True when what it asks for may be another."""
        path = os.path.join(self._directory, name)
        try:
            found = os.stat(path)
        except OSError:
            return self._refuse(name, path, "cannot be read: no such file (a dangling link?)")
        if stat.S_ISDIR(found.st_mode):
            return False
        known = self._files.get(name)
        if known is not None and known.stamp == stamp_of(found):
            return False
        if self._is_being_written(name):
            return False
        return self._read(name, path)

    def _is_being_written(self, name: str) -> bool:
        since = self._being_written.get(name)
        if since is None:
            return False
        due = since + _QUIET_S
        if due <= time.monotonic():
            del self._being_written[name]
            return False
        self._retry(due)
        return True

    def _retry(self, at: float) -> None:
        self._retry_at = at if self._retry_at is None else min(self._retry_at, at)

    def _read(self, name: str, path: str) -> bool:
        try:
            data, stamp = read_trusted(path, self._trusted_uid)
        except RefusedError as error:
            return self._refuse(name, path, str(error))
        except OSError as error:
            return self._refuse(name, path, f"cannot be read: {error.strerror}")
        file = self._file(name, path)
        manifest = self._parse(file, data)
        age = time.time() - stamp.modified_ns / 1e9
        half_written = "syntax" in manifest.stages or not data.strip()
        if half_written and 0 <= age < _SETTLE_S:
            self._retry(time.monotonic() + _RETRY_S)
            return False
        file.stamp, file.refusal, file.now = stamp, "", manifest
        if not manifest.errors:
            file.good = manifest
            self._keep(file, data)
        for problem in manifest.problems:
            log.warning("manifest problem", file=f"{path}:{problem.line}:{problem.column}", problem=problem.message)
        return True

    def _parse(self, file: _File, data: bytes) -> Manifest:
        seen = datetime.fromtimestamp(file.first_seen, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        return parse_manifest(data, file=file.path, node_name=self._node_name, seen_at=seen, strict_static=self._strict)

    def _file(self, name: str, path: str) -> _File:
        known = self._files.get(name)
        if known is None:
            known = _File(path=path, first_seen=time.time())
            self._recall(name, known)
            self._files[name] = known
        return known

    def _refuse(self, name: str, path: str, reason: str) -> bool:
        file = self._file(name, path)
        if file.refusal == reason:
            return False
        log.warning("manifest refused", file=path, reason=reason)
        file.refusal, file.now, file.stamp = reason, None, None
        return True

    # The last good version, for a daemon that starts while the file is broken

    def _kept_path(self, name: str) -> str:
        return os.path.join(self._kept_dir, hashlib.sha256(name.encode()).hexdigest()[:32])

    def _keep(self, file: _File, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        if digest == file.digest:
            return
        record = {"file": file.path, "first_seen": file.first_seen, "content": base64.b64encode(data).decode()}
        try:
            write_atomic(self._kept_path(os.path.basename(file.path)), json.dumps(record).encode(), mode=0o600)
            file.digest = digest
        except OSError as error:
            log.error("cannot keep last good version", file=file.path, error=str(error))

    def _recall(self, name: str, file: _File) -> None:
        try:
            with open(self._kept_path(name), encoding="utf-8") as kept:
                record = json.load(kept)
            if record["file"] != file.path:
                return
            data = base64.b64decode(record["content"])
            file.first_seen = float(record["first_seen"])
            manifest = self._parse(file, data)
            if not manifest.errors:
                file.good, file.digest = manifest, hashlib.sha256(data).hexdigest()
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("kept version unreadable, set aside", file=name, error=str(error))

    def _forget(self, name: str) -> None:
        self._being_written.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._kept_path(name))

    # The desired state

    def _publish(self) -> None:
        pods: dict[tuple[str, str], tuple[PodDocument, str]] = {}
        running: dict[str, list[str]] = {}
        refusals: dict[str, str] = {}
        in_use = {_key(one.pod): self._desired.files.get(one.pod.metadata.uid, "") for one in self._desired.pods}
        config_maps: list[ConfigMap] = []
        secrets: list[Secret] = []
        order = sorted(self._files.items(), key=lambda item: (item[1].first_seen, item[0]))
        for name, file in order:
            if file.good is None:
                continue
            config_maps.extend(file.good.config_maps)
            secrets.extend(file.good.secrets)
            for one in file.good.pods:
                key = _key(one.pod)
                holder = pods.get(key)
                if holder is not None and not (in_use.get(key) == file.path != holder[1]):
                    refusals[name] = f"pod {'/'.join(key)} is already defined in {holder[1]}, which goes on running"
                    continue
                pods[key] = (one, file.path)
        for key, (_, path) in pods.items():
            running.setdefault(path, []).append("/".join(key))
        self._desired = DesiredState(
            pods=tuple(one for one, _ in pods.values()),
            config_maps=tuple(config_maps),
            secrets=tuple(secrets),
            verdicts=tuple(self._verdict(name, file, running, refusals) for name, file in order),
            files={one.pod.metadata.uid: path for one, path in pods.values()},
        )
        self._on_change(self._desired)

    def _verdict(self, name: str, file: _File, running: dict[str, list[str]], refusals: dict[str, str]) -> Verdict:
        now_good = file.now is not None and file.now is file.good
        return Verdict(
            file=file.path,
            problems=tuple(file.now.problems) if file.now is not None else (),
            refusal=file.refusal or refusals.get(name, ""),
            running=tuple(running.get(file.path, ())),
            keeps_last_good=not now_good and bool(running.get(file.path)),
        )


def _key(pod: Pod) -> tuple[str, str]:
    return pod.metadata.namespace, pod.metadata.name


class _Bell(FileSystemEventHandler):
    """Carries what watchdog's thread hears to the loop; reading files makes events too, which are left out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[str, str], None]) -> None:
        self._loop = loop
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Ring for changes of files and of the directory itself."""
        if event.event_type in ("opened", "closed_no_write"):
            return
        path = event.dest_path or event.src_path
        text = os.fsdecode(path) if isinstance(path, bytes) else str(path)
        with contextlib.suppress(RuntimeError):  # the loop is closing
            self._loop.call_soon_threadsafe(self._ring, event.event_type, text)
