"""Questions to the kernel whose answer changes while it is given, with a socket that plays the kernel."""

from __future__ import annotations

import errno
import struct

import pytest

from minikubelet.runtime.network import rtnetlink
from minikubelet.runtime.network.rtnetlink import Netlink

DONE, CHANGED = 3, 0x10


class Kernel:
    """A socket that answers each question with an empty list, which is said to have changed for the first times."""

    changes = 0

    def __init__(self, *_: object) -> None:
        self._answer = b""

    def bind(self, address: tuple[int, int]) -> None: ...

    def setsockopt(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def send(self, data: bytes) -> None:
        sequence = struct.unpack_from("=IHHII", data)[3]
        flags = CHANGED if Kernel.changes > 0 else 0
        Kernel.changes -= 1
        self._answer = struct.pack("=IHHIIi", 20, DONE, flags, sequence, 0, 0)

    def recv(self, size: int) -> bytes:
        return self._answer


@pytest.fixture
def netlink(monkeypatch: pytest.MonkeyPatch) -> Netlink:
    monkeypatch.setattr(rtnetlink.socket, "socket", Kernel)
    monkeypatch.setattr(rtnetlink, "_DUMP_PAUSE_S", 0.0)
    return Netlink()


def test_a_list_that_changes_again_and_again_is_asked_for_until_it_is_whole(netlink: Netlink) -> None:
    Kernel.changes = 50
    assert netlink.links() == []
    assert Kernel.changes == -1


def test_a_list_that_never_is_whole_is_an_error(netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel.changes = 1 << 30
    monkeypatch.setattr(rtnetlink, "_DUMP_LIMIT_S", 0.01)
    with pytest.raises(OSError, match="cannot list the links: it kept changing") as caught:
        netlink.links()
    assert caught.value.errno == errno.EINTR
