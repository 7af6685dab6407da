"""Messages with descriptors over a real socket pair, cut and joined as a busy connection cuts and joins them."""

from __future__ import annotations

import contextlib
import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from minikubelet.sandbox.protocol import Decoder, Outbox, encode


def inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_descriptors_stay_with_their_message(plan: list[tuple[bool, bool, bool]]) -> None:
    """Each message has descriptors or not, is sent in one piece or first byte alone, and is read at once or later."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    decoder = Decoder()
    sent: list[list[int]] = []
    found: list[list[int]] = []
    opened: list[int] = []
    with ours, theirs:

        def read() -> None:
            while True:
                try:
                    messages = decoder.read(theirs)
                except BlockingIOError:
                    return
                for message, descriptors in messages or ():
                    assert message["number"] == len(found)
                    found.append([inode(one) for one in descriptors])
                    opened.extend(descriptors)

        for number, (has_descriptor, in_pieces, read_now) in enumerate(plan):
            data = encode({"number": number})
            own = [os.memfd_create(str(number))] if has_descriptor else []
            sent.append([inode(one) for one in own])
            opened.extend(own)
            first = data[:1] if in_pieces else data
            if own:
                socket.send_fds(ours, [first], own)
            else:
                ours.sendall(first)
            ours.sendall(data[len(first) :])
            if read_now:
                read()
        read()
        for one in opened:
            os.close(one)
    assert found == sent


def test_an_outbox_keeps_order_and_descriptors_whatever_room_there_is() -> None:
    before = os.listdir("/proc/self/fd")
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    outbox = Outbox()
    null = os.open("/dev/null", os.O_RDONLY)
    for number in range(200):
        outbox.put({"number": number, "text": "x" * 8000}, (null,) if number % 50 == 7 else ())
    decoder = Decoder()
    found: list[tuple[int, int]] = []
    while len(outbox) or len(found) < 200:
        with contextlib.suppress(BlockingIOError):
            outbox.send(ours)
        with contextlib.suppress(BlockingIOError):
            for message, descriptors in decoder.read(theirs) or []:
                found.append((message["number"], len(descriptors)))
                for one in descriptors:
                    os.close(one)
    assert found == [(number, int(number % 50 == 7)) for number in range(200)]
    outbox.put({}, (null, null))
    outbox.close()
    for closing in (ours, theirs):
        closing.close()
    os.close(null)
    assert os.listdir("/proc/self/fd") == before
