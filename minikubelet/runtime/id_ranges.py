"""Which user and group ids the pods with a user namespace of their own take on the host: one range each, no two alike.

Owner of the file `userns` in each pod's state directory, which keeps the range over restarts and frees it with the pod.
The node's range is that of the user `kubelet` in /etc/subuid and /etc/subgid, as for the kubelet, or else what follows
the ids of ordinary users.
Source: kubelet pkg/kubelet/userns (v1.36).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Final

from minikubelet.linux.files import write_atomic
from minikubelet.sandbox.spec import IdMap

IDS_PER_POD: Final = 65536
_OWNER: Final = "kubelet"
_FILE: Final = "userns"


class IdRangeError(Exception):
    """No range can be had; the text says why."""


def node_range(subuid: str, subgid: str, max_pods: int) -> IdMap:
    """Return the ids that all pods together may use.

    Args:
        subuid: The text of /etc/subuid.
        subgid: The text of /etc/subgid.
        max_pods: How many pods the default range is for.

    Raises:
        IdRangeError: The kubelet's entries differ, overlap the host's own ids or are no multiples of what a pod needs.
    """
    users, groups = _entries(subuid), _entries(subgid)
    if not users and not groups:
        return IdMap(first=IDS_PER_POD, length=IDS_PER_POD * max_pods)
    if users != groups or len(users) != 1:
        raise IdRangeError(f"user {_OWNER} needs one range, the same in /etc/subuid and /etc/subgid")
    first, length = users[0]
    if first < IDS_PER_POD or first % IDS_PER_POD or length < IDS_PER_POD or length % IDS_PER_POD:
        raise IdRangeError(f"range {first}:{length} of user {_OWNER} is not made of whole multiples of {IDS_PER_POD}")
    return IdMap(first=first, length=length)


def _entries(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for line in text.splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[0] == _OWNER and words[1].isdigit() and words[2].isdigit():
            found.append((int(words[1]), int(words[2])))
    return found


def lowest_free(whole: IdMap, taken: Iterable[int]) -> IdMap:
    """Return the first range that nobody has. Raises IdRangeError."""
    used = set(taken)
    for first in range(whole.first, whole.first + whole.length - IDS_PER_POD + 1, IDS_PER_POD):
        if first not in used:
            return IdMap(first=first, length=IDS_PER_POD)
    raise IdRangeError(f"all {whole.length // IDS_PER_POD} id ranges for user namespaces are taken")


class IdRanges:
    """Owner of the ranges: the files are the truth, read again whenever one is given out."""

    def __init__(self, *, pods_dir: str, max_pods: int, etc_dir: str = "/etc") -> None:
        """Args: pods_dir: `<state>/pods`. max_pods: For the default range. etc_dir: Where subuid and subgid are."""
        self._pods_dir = pods_dir
        self._max_pods = max_pods
        self._etc_dir = etc_dir

    def take(self, uid: str) -> IdMap:
        """Return a pod's range, giving it one when it has none.

        Raises:
            IdRangeError: There is none left, or the node's range is not usable.
            OSError: It could not be written down.
        """
        known = self._read(uid)
        if known is not None:
            return known
        whole = node_range(self._etc("subuid"), self._etc("subgid"), self._max_pods)
        taken = [one.first for name in os.listdir(self._pods_dir) if (one := self._read(name)) is not None]
        found = lowest_free(whole, taken)
        write_atomic(os.path.join(self._pods_dir, uid, _FILE), f"{found.first} {found.length}\n".encode(), mode=0o600)
        return found

    def _read(self, uid: str) -> IdMap | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            with open(os.path.join(self._pods_dir, uid, _FILE), encoding="ascii") as file:
                first, length = file.read().split()
            return IdMap(first=int(first), length=int(length))
        return None

    def _etc(self, name: str) -> str:
        try:
            with open(os.path.join(self._etc_dir, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""
