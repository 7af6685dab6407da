"""One look at the manifest directory: which files it holds, in which state, and which directory it is.

The path may also be one file, which then is the only manifest, whatever it is called.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Final

from minikubelet.node.bell import Place, places_of
from minikubelet.node.guard import RefusedError, Stamp, check_trusted, stamp_of

EXTENSIONS: Final = (".yaml", ".yml", ".json")


@dataclass(slots=True, kw_only=True)
class Listing:
    """What was found. `identity` tells one directory from another at the same path; None means there is none."""

    identity: tuple[int, int] | None
    directory: str
    # Name to the file's stamp, or to why there is none.
    files: dict[str, Stamp | str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)


class UnusableError(Exception):
    """What the directory holds cannot be told; the text says why."""


def list_manifests(path: str, trusted_uid: int = 0) -> Listing:
    """List the manifest files of a directory; a missing directory has none.

    Raises:
        UnusableError: It cannot be read, or others than root may write it.
    """
    places = places_of(path)
    try:
        top = os.stat(path)
        if stat.S_ISDIR(top.st_mode):
            return _list_directory(path, places, trusted_uid)
        directory, name = os.path.split(path)
        check_trusted(directory, os.stat(directory), trusted_uid)
        return Listing(identity=(0, 0), directory=directory, files={name: stamp_of(top)}, places=places)
    except (FileNotFoundError, NotADirectoryError):
        return Listing(identity=None, directory=path, places=places)
    except RefusedError as error:
        raise UnusableError(str(error)) from error
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}") from error


def _list_directory(path: str, places: list[Place], trusted_uid: int) -> Listing:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        check_trusted(path, found, trusted_uid)
        listing = Listing(identity=(found.st_dev, found.st_ino), directory=path, places=places)
        with os.scandir(descriptor) as entries:
            for entry in entries:
                _add(entry, path, listing)
    finally:
        os.close(descriptor)
    listing.files = dict(sorted(listing.files.items()))
    return listing


def _add(entry: os.DirEntry[str], directory: str, listing: Listing) -> None:
    name = entry.name
    if name.startswith("."):
        return
    if not name.endswith(EXTENSIONS):
        listing.ignored.append(name)
        return
    if entry.is_symlink():
        listing.places.extend(places_of(os.path.join(directory, name)))
    try:
        found = entry.stat()
    except FileNotFoundError:
        if entry.is_symlink():
            listing.files[name] = "cannot be read: the link leads to no file"
        return  # else it was removed since the directory was read
    except OSError as error:
        listing.files[name] = f"cannot be read: {error.strerror}"
        return
    if stat.S_ISDIR(found.st_mode):
        listing.ignored.append(name)
    elif not name.isprintable():
        listing.files[name] = "the file's name is not printable text"
    else:
        listing.files[name] = stamp_of(found)
