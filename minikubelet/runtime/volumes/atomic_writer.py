"""Files of a ConfigMap-like volume, replaced all at once under the eyes of running programs.

The files lie in a directory named by the time; `..data` is a link to it and every visible name a link through `..data`.
An update writes a new directory beside the old one and renames one link: a reader sees all old files or all new ones.
Source: kubernetes pkg/volume/util/atomic_writer.go (v1.36).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from minikubelet.linux.faults import point

_DATA: Final = "..data"
_DATA_TMP: Final = "..data_tmp"


@dataclass(frozen=True, slots=True)
class FilePayload:
    """Content, mode and owner of one projected file."""

    data: bytes
    mode: int
    uid: int = -1
    gid: int = -1


def write_payload(directory: str, payload: Mapping[str, FilePayload], *, now: float, gid: int | None = None) -> bool:
    """Make the visible files of a volume exactly `payload`; False when they already were.

    Args:
        directory: The volume's directory; it exists.
        payload: Relative paths (validated: no `..`, not absolute) to content.
        now: Unix time, for the name of the data directory.
        gid: The pod's fsGroup, which then owns the files and may read them.

    Raises:
        OSError: The old files are then still there, whole.
    """
    current = _current(directory)
    if current is not None and _same(os.path.join(directory, current), payload, gid):
        _tidy(directory, payload, current)  # a daemon that was killed may have left it half done
        return False
    name = datetime.fromtimestamp(now, UTC).strftime("..%Y_%m_%d_%H_%M_%S.") + str(secrets.randbelow(10**10))
    fresh = os.path.join(directory, name)
    os.mkdir(fresh, 0o755)
    try:
        point("volume.write")
        os.chmod(fresh, 0o755)
        _give(fresh, gid)
        for path, file in payload.items():
            _write_file(fresh, path, file, gid)
        link = os.path.join(directory, _DATA_TMP)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(name, link)
        os.rename(link, os.path.join(directory, _DATA))
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    _tidy(directory, payload, name)
    return True


def _tidy(directory: str, payload: Mapping[str, FilePayload], current: str) -> None:
    """Make the visible names those of the payload, and remove data of earlier times."""
    _relink(directory, {path.split("/", 1)[0] for path in payload})
    _remove_old(directory, keep=current)


def _current(directory: str) -> str | None:
    try:
        return os.readlink(os.path.join(directory, _DATA))
    except OSError:
        return None


def _same(directory: str, payload: Mapping[str, FilePayload], gid: int | None) -> bool:
    found: set[str] = set()
    for root, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(root, name)
            relative = os.path.relpath(path, directory)
            wanted = payload.get(relative)
            if wanted is None or not _is_written(path, wanted, gid):
                return False
            found.add(relative)
    return found == payload.keys()


def _is_written(path: str, wanted: FilePayload, gid: int | None) -> bool:
    """Tell whether a file has this content and mode."""
    try:
        # A privileged container could have put a pipe or a link in its place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return file.read() == wanted.data and stat.S_IMODE(os.fstat(descriptor).st_mode) == _mode(wanted.mode, gid)
    except OSError:
        return False


def _mode(mode: int, gid: int | None) -> int:
    # fsGroup: what the owner may read the group may read too.
    return mode | 0o440 if gid is not None else mode


def _write_file(root: str, path: str, file: FilePayload, gid: int | None) -> None:
    parent = root
    for part in path.split("/")[:-1]:
        parent = os.path.join(parent, part)
        if not os.path.isdir(parent):
            os.mkdir(parent, 0o755)
            os.chmod(parent, 0o755)
            _give(parent, gid)
    target = os.path.join(root, path)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as output:
        output.write(file.data)
        os.fchmod(descriptor, _mode(file.mode, gid))
        if file.uid >= 0 or gid is not None or file.gid >= 0:
            os.fchown(descriptor, file.uid, gid if gid is not None else file.gid)


def _give(directory: str, gid: int | None) -> None:
    if gid is not None:
        os.chown(directory, -1, gid)
        os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) | 0o2550)


def _relink(directory: str, names: set[str]) -> None:
    for name in names:
        link = os.path.join(directory, name)
        if not os.path.islink(link):
            os.symlink(os.path.join(_DATA, name), link)
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if not name.startswith("..") and name not in names and os.path.islink(path):
            os.unlink(path)


def _remove_old(directory: str, *, keep: str) -> None:
    for name in os.listdir(directory):
        if name == _DATA_TMP:
            os.unlink(os.path.join(directory, name))
        elif name.startswith("..") and name not in (keep, _DATA):
            shutil.rmtree(os.path.join(directory, name), ignore_errors=True)
