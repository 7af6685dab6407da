"""What the manifest source keeps on disk: the last good version of each file, and who came first for each name."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from minikubelet.linux.files import write_atomic
from minikubelet.node.claims import Claims

log = structlog.get_logger(__name__)

_CLAIMS = "claims.json"
_LATEST = 1e11  # seconds: the year 5138


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """The last good version of a manifest file; times are Unix time."""

    path: str
    first_seen: float
    modified: float
    data: bytes


class KeptManifests:
    """Owner of `<state>/manifests`. A failure to write is logged and costs what would be known after a restart."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._claims_text = ""

    def start(self) -> None:
        """Make the directory."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def keep(self, file: KeptFile) -> None:
        """Keep this version, in place of the one before."""
        record = {
            "file": file.path,
            "first_seen": file.first_seen,
            "modified": file.modified,
            "content": base64.b64encode(file.data).decode(),
        }
        self._write(_record_name(file.path), json.dumps(record))

    def recall(self, path: str) -> KeptFile | None:
        """Return the kept version of a file, or None."""
        found = self._read(_record_name(path))
        return found if found is not None and found.path == path else None

    def all(self) -> Iterator[KeptFile]:
        """Yield every kept version."""
        for name in sorted(os.listdir(self._directory)):
            if name != _CLAIMS and (found := self._read(name)) is not None:
                yield found

    def forget(self, path: str) -> None:
        """Keep nothing of a file."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._directory, _record_name(path)))

    def forget_others(self, paths: set[str]) -> None:
        """Keep nothing of files other than these."""
        wanted = {_CLAIMS, *map(_record_name, paths)}
        for name in os.listdir(self._directory):
            if name not in wanted:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._directory, name))

    def claims(self) -> dict[str, tuple[str, ...]]:
        """Return the claims that were kept last."""
        found = self._json(_CLAIMS)
        if not isinstance(found, dict):
            return {}
        return {str(name): tuple(map(str, files)) for name, files in found.items() if isinstance(files, list)}

    def keep_claims(self, claims: Claims) -> None:
        """Keep the claims, if they are others than before."""
        text = json.dumps(claims)
        if text != self._claims_text and self._write(_CLAIMS, text):
            self._claims_text = text

    def _write(self, name: str, text: str) -> bool:
        try:
            write_atomic(os.path.join(self._directory, name), text.encode(), mode=0o600)
        except OSError as error:
            log.error("cannot keep last good version", path=os.path.join(self._directory, name), error=str(error))
            return False
        return True

    def _json(self, name: str) -> Any:
        try:
            with open(os.path.join(self._directory, name), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            log.warning("kept version unreadable, passed over", file=name, error=str(error))
            return None

    def _read(self, name: str) -> KeptFile | None:
        record = self._json(name)
        if record is None:
            return None
        try:
            found = KeptFile(
                path=str(record["file"]),
                first_seen=float(record["first_seen"]),
                modified=float(record.get("modified", record["first_seen"])),
                data=base64.b64decode(record["content"]),
            )
            found.path.encode("utf-8", "surrogateescape")
            if not all(0 <= time <= _LATEST for time in (found.first_seen, found.modified)):
                raise ValueError("its times make no sense")
            return found
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("kept version unreadable, passed over", file=name, error=str(error))
            return None


def _record_name(path: str) -> str:
    return hashlib.sha256(os.fsencode(os.path.basename(path))).hexdigest()[:32]
