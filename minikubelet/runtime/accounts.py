"""Users and groups as containers know them: from the /etc/passwd and /etc/group of their root file system.

Read from the files and not asked of the name service, as container runtimes do: what a container sees are the files,
and a directory server that does not answer would hold up every start. Read again only when a file has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class User:
    """One line of /etc/passwd."""

    name: str
    gid: int
    home: str


class Accounts:
    """The accounts of one root file system."""

    def __init__(self, root: str = "/") -> None:
        """Take the root; nothing is read before it is asked for."""
        self._users = _File(os.path.join(root, "etc/passwd"), _users)
        self._groups = _File(os.path.join(root, "etc/group"), _groups)

    def user(self, uid: int) -> User | None:
        """Return the first user of that number, or None."""
        return self._users.read().get(uid)

    def groups_of(self, name: str) -> frozenset[int]:
        """Return the numbers of the groups that list a user as a member."""
        return self._groups.read().get(name, frozenset())


class _File(Generic[T]):
    """A parsed file, kept until another one lies there; a file that cannot be read counts as empty."""

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._stamp: tuple[int, int, int] | None = None
        self._value = parse("")

    def read(self) -> T:
        try:
            found = os.stat(self._path)
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            if stamp != self._stamp:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._value = self._parse(file.read())
                self._stamp = stamp
        except OSError:
            self._stamp, self._value = None, self._parse("")
        return self._value


def _users(text: str) -> dict[int, User]:
    found: dict[int, User] = {}
    for fields in _lines(text, 7):
        if fields[2].isdigit() and fields[3].isdigit():
            found.setdefault(int(fields[2]), User(name=fields[0], gid=int(fields[3]), home=fields[5]))
    return found


def _groups(text: str) -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = {}
    for fields in _lines(text, 4):
        if fields[2].isdigit():
            for name in filter(None, fields[3].split(",")):
                found[name] = found.get(name, frozenset()) | {int(fields[2])}
    return found


def _lines(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) == fields:
            yield parts
