"""The manifest directory: which pods, ConfigMaps and Secrets its files ask for.

The bell only says that something happened; the truth is what a scan finds. A scan looks at the stamp of every file and
reads what has changed, so a bell that rings too often costs little and one that never rings is made good by the next
regular scan. Reading gives way to the event loop every few milliseconds.

Nothing is believed too early: a file that is open for writing is left alone until it is closed or has been quiet for
long, what is wrong with a file is told when it is still so a moment later, and a directory that goes, or becomes
another one, takes its pods along only when it stays so.

Where this differs from the kubelet: only .yaml, .yml and .json are read; a bad edit keeps the last good version
running; of two manifests of one pod the first goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from minikubelet.api.manifest import Manifest, parse_manifest
from minikubelet.node.bell import Bell, places_of
from minikubelet.node.desired import DesiredState, Doubt, ManifestFile, Writing, assemble, rfc3339
from minikubelet.node.guard import BeingWrittenError, RefusedError, Stamp, read_trusted
from minikubelet.node.kept import KeptFile, KeptManifests
from minikubelet.node.listing import Listing, UnusableError, list_manifests
from minikubelet.node.verdicts import problem_line

log = structlog.get_logger(__name__)

# A file that somebody has open for writing is taken as it is when nothing was written for this long.
_QUIET_S: Final = 10.0
_TELL_WRITING_S: Final = 1.0
# How often such a file is looked at where its closing is not heard.
_DEAF_S: Final = 0.5
# What is wrong with a file is told when it is still so after this time: a writer may come back to it.
_SETTLE_S: Final = 0.25
# Files that are missing because the directory went or became another one count as removed after this time.
_SWAP_S: Final = 2.0
# How long the directory is left alone after a change.
_REST_S: Final = 0.003
# The event loop gets its turn after so much reading.
_SLICE_S: Final = 0.004
# Larger files are parsed in a thread.
_LARGE_BYTES: Final = 64 * 1024
# While very many new files are read, those that are read already are handed on this often, but at the earliest after
# this many times what the last handing on took: each looks at all files.
_HAND_ON_S: Final = 0.05
_HAND_ON_REST: Final = 10.0


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
        on_scan: Callable[[], None] = lambda: None,
        afterwards: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        """Create it; `start` begins to watch.

        Args:
            directory: Where manifests are dropped; may also be one file.
            state_dir: `<state>`; last good versions lie in `manifests`.
            node_name: For names and uids of pods.
            period_s: How often the directory is listed without being asked to.
            strict_static: Refuse references to other API objects.
            trusted_uid: Who may write manifests besides root.
            on_change: Called on the loop with the new desired state.
            on_scan: Called after every scan, whether or not it found something new.
            afterwards: Does something a moment later, in order.
        """
        self._path = os.path.abspath(directory)
        self._kept = KeptManifests(os.path.join(state_dir, "manifests"))
        self._node_name = node_name
        self._period_s = period_s
        self._strict = strict_static
        self._trusted_uid = trusted_uid
        self._on_change = on_change
        self._on_scan = on_scan
        self._afterwards = afterwards
        self._files: dict[str, ManifestFile] = {}
        self._claims: dict[str, tuple[str, ...]] = {}
        self._ignored: set[str] = set()
        self._desired = DesiredState()
        self._rung = asyncio.Event()
        self._bell: Bell | None = None
        self._task: asyncio.Task[None] | None = None
        self._due: float | None = None
        self._scanned = False
        self._identity: tuple[int, int] | None = None
        self._swapped_at = float("-inf")
        self._trouble = ""

    @property
    def desired(self) -> DesiredState:
        """Return what the directory asks for now."""
        return self._desired

    async def start(self) -> None:
        """Scan once, so that the first state is whole, then watch."""
        self._kept.start()
        self._claims = self._kept.claims()
        self._bell = Bell(self._rung.set)
        await self.scan()
        self._task = asyncio.create_task(self._run(), name="manifest source")

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._bell is not None:
            self._bell.close()

    async def _run(self) -> None:
        while True:
            delay = self._period_s
            if self._due is not None:
                delay = max(0.0, min(delay, self._due - time.monotonic()))
            # Not wait_for: in Python 3.11 it may swallow a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._rung.wait()
            self._rung.clear()
            try:
                if await self.scan():
                    # What it found goes first; changes that come in a row are looked at together.
                    await asyncio.sleep(_REST_S)
            except Exception:  # the source must go on, whatever one file does to it
                log.exception("scan failed")

    # The scan

    async def scan(self) -> bool:
        """Look at every file; tell `on_change` when the desired state is another, and return whether it is."""
        self._due = None
        first, self._scanned = not self._scanned, True
        try:
            listing = list_manifests(self._path, self._trusted_uid)
        except UnusableError as error:
            if self._bell is not None:
                self._bell.watch(places_of(self._path))
            changed = self._recall_all() if first else False
            changed = self._say_trouble(f"{error}; its pods go on as they were") or changed
        else:
            changed = await self._take(listing, first=first)
        if changed or first:
            self._publish()
        self._on_scan()
        return changed

    async def _take(self, listing: Listing, *, first: bool) -> bool:
        """Take up what a listing shows; True when the desired state may be another."""
        if self._bell is not None:
            self._bell.watch(listing.places)
        self._say_ignored(listing)
        held = self._are_removals_held(listing, first=first)
        gone = "" if listing.identity is not None or held else "does not exist; it counts as empty"
        changed = self._say_trouble(gone)
        if first:
            self._kept.forget_others({os.path.join(listing.directory, name) for name in listing.files})
        removed = [] if held else [name for name in self._files if name not in listing.files]
        for name in removed:
            self._kept.forget(self._files.pop(name).path)
        new = [(name, found) for name, found in listing.files.items() if self._is_new(name, found)]
        only_additions = not first and not removed and all(name not in self._files for name, _ in new)
        return (
            await self._look_at_all(listing.directory, new, only_additions=only_additions) or changed or bool(removed)
        )

    async def _look_at_all(
        self, directory: str, new: Iterable[tuple[str, Stamp | str]], *, only_additions: bool
    ) -> bool:
        changed = False
        turn = handed_on = time.monotonic()
        rest = _HAND_ON_S
        for name, found in new:
            changed = await self._look(name, os.path.join(directory, name), found) or changed
            now = time.monotonic()
            if changed and only_additions and now - handed_on >= rest:
                self._publish()
                changed, handed_on = False, time.monotonic()
                rest = max(_HAND_ON_S, _HAND_ON_REST * (handed_on - now))
            if now - turn >= _SLICE_S:
                await asyncio.sleep(0)
                turn = time.monotonic()
        return changed

    def _are_removals_held(self, listing: Listing, *, first: bool) -> bool:
        """Tell whether missing files may only be missing because the directory is just being exchanged."""
        now = time.monotonic()
        if listing.identity != self._identity:
            self._identity = listing.identity
            if not first:
                self._swapped_at = now
        if now - self._swapped_at >= _SWAP_S:
            return False
        self._look_again(self._swapped_at + _SWAP_S)
        return True

    def _look_again(self, at: float) -> None:
        self._due = at if self._due is None else min(self._due, at)

    def _say_ignored(self, listing: Listing) -> None:
        for name in listing.ignored:
            if name not in self._ignored:
                log.info("file ignored: only .yaml, .yml and .json files are read", file=name)
        self._ignored = set(listing.ignored)

    def _say_trouble(self, trouble: str) -> bool:
        changed = trouble != self._trouble
        self._trouble = trouble
        return changed

    # One file

    def _is_new(self, name: str, found: Stamp | str) -> bool:
        known = self._files.get(name)
        return known is None or known.stamp != found or known.written is not None or known.doubt is not None

    async def _look(self, name: str, path: str, found: Stamp | str) -> bool:
        """Read a file if its stamp is new; True when what it asks for may be another."""
        file, news = self._file(name, path)
        if file.stamp == found:
            news = news or (file.written is not None and file.written.told)
            file.doubt = file.written = None
            return news
        if isinstance(found, str):
            return self._doubt(file, found, None) or news
        if file.doubt is not None and file.doubt.cause == found:
            return self._doubt(file, found, file.doubt.manifest) or news
        return await self._read(file) or news

    async def _read(self, file: ManifestFile) -> bool:
        try:
            data, stamp = self._content(file)
        except RefusedError as error:
            return self._doubt(file, str(error), None)
        except BeingWrittenError as error:
            return self._wait_for_writer(file, error.stamp)
        except OSError as error:
            return self._doubt(file, f"cannot be read: {error.strerror}", None)
        news = file.written is not None and file.written.told
        file.written = None
        digest = hashlib.sha256(data).digest()
        if digest == file.digest and file.now is not None:
            # Touched, or another file with the same content.
            news = news or bool(file.refusal) or file.doubt is not None
            file.stamp, file.refusal, file.doubt = stamp, "", None
            return news
        manifest = await self._parse(file, data)
        if manifest.errors:
            return self._doubt(file, stamp, manifest) or news
        file.stamp, file.digest, file.now, file.refusal, file.doubt = stamp, digest, manifest, "", None
        file.good, file.good_since = manifest, stamp.modified_ns / 1e9
        self._kept.keep(KeptFile(path=file.path, first_seen=file.first_seen, modified=file.good_since, data=data))
        self._say_warnings(file)
        return True

    def _content(self, file: ManifestFile) -> tuple[bytes, Stamp]:
        quiet = file.written is not None and time.monotonic() - file.written.quiet_since >= _QUIET_S
        return read_trusted(file.path, self._trusted_uid, wait_for_writers=not quiet)

    def _wait_for_writer(self, file: ManifestFile, stamp: Stamp) -> bool:
        """Come back to a file that is not whole; True when that is to be told."""
        now = time.monotonic()
        before = file.written or Writing(stamp, now, now)
        told = before.told or now - before.open_since >= _TELL_WRITING_S
        quiet_since = before.quiet_since if before.stamp == stamp else now
        file.written = Writing(stamp, quiet_since, before.open_since, told)
        deaf = self._bell is None or self._bell.is_deaf
        self._look_again(now + _DEAF_S if deaf else quiet_since + _QUIET_S)
        if not told:
            self._look_again(before.open_since + _TELL_WRITING_S)
        return told and not before.told

    def _doubt(self, file: ManifestFile, cause: Stamp | str, manifest: Manifest | None) -> bool:
        """Hold an error back until it has stood for a moment; True when it is told now."""
        if file.refusal == cause:
            file.doubt = None
            return False
        now = time.monotonic()
        if file.doubt is None or file.doubt.cause != cause:
            file.doubt = Doubt(cause, now, manifest)
        if now - file.doubt.since < _SETTLE_S:
            self._look_again(file.doubt.since + _SETTLE_S)
            return False
        file.stamp, file.now, file.doubt, file.digest = cause, manifest, None, b""
        file.refusal = cause if isinstance(cause, str) else ""
        file.written = None
        self._say_warnings(file)
        return True

    async def _parse(self, file: ManifestFile, data: bytes) -> Manifest:
        if len(data) > _LARGE_BYTES:
            return await asyncio.to_thread(self._parse_now, file.path, file.first_seen, data, file.good)
        return self._parse_now(file.path, file.first_seen, data, file.good)

    def _parse_now(self, path: str, first_seen: float, data: bytes, before: Manifest | None = None) -> Manifest:
        return parse_manifest(
            data,
            file=path,
            node_name=self._node_name,
            seen_at=rfc3339(first_seen),
            strict_static=self._strict,
            before=before,
        )

    def _say_warnings(self, file: ManifestFile) -> None:
        for problem in file.now.problems if file.now is not None and not file.now.errors else ():
            log.warning("manifest warning", problem=problem_line(file.path, problem))

    def _file(self, name: str, path: str) -> tuple[ManifestFile, bool]:
        """Return what is known of a file, and whether an earlier daemon's knowledge was just found."""
        known = self._files.get(name)
        if known is not None:
            known.path = path
            return known, False
        known = self._files[name] = ManifestFile(path=path, first_seen=time.time())
        kept = self._kept.recall(path)
        return known, kept is not None and self._recall(known, kept)

    # The last good version, for a daemon that starts while the file is broken

    def _recall(self, file: ManifestFile, kept: KeptFile) -> bool:
        file.first_seen = kept.first_seen
        manifest = self._parse_now(kept.path, kept.first_seen, kept.data)
        if manifest.errors:
            return False  # a newer daemon may be stricter
        file.good, file.good_since = manifest, kept.modified
        file.now, file.digest = manifest, hashlib.sha256(kept.data).digest()
        return True

    def _recall_all(self) -> bool:
        """Take up all last good versions, for a daemon that starts while the directory cannot be used."""
        for kept in self._kept.all():
            name = os.path.basename(kept.path)
            self._files[name] = ManifestFile(path=kept.path, first_seen=kept.first_seen)
            self._recall(self._files[name], kept)
        return bool(self._files)

    # The desired state

    def _publish(self) -> None:
        state, claims = assemble(self._files.values(), self._claims, self._path, self._trouble)
        self._claims, self._desired = claims, state
        self._afterwards(lambda: self._kept.keep_claims(claims))
        self._on_change(state)
