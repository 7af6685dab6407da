"""The answers that are read without h11 are read as h11 reads them, in whatever pieces they come."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.runtime.probes.http_answer import BODY_LIMIT, AnswerReader, HttpReply

REQUEST = h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Connection", "close")])

# What answers are made of, good and bad.
STARTS = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 404 Not Found",
    b"HTTP/1.1 500",
    b"HTTP/1.1 302 ",
    b"HTTP/1.1 204 No",
    b"SSH-2.0",
]
STARTS += [b"HTTP/1.1 304 X", b"HTTP/1.1 100 Continue", b"HTTP/1.1 600 X", b"HTTP/2.0 200 OK", b"HTTP/1.1 200\tOK", b""]
LINES = [
    b"Content-Length: 5",
    b"content-length:12",
    b"Content-Length: 0",
    b"Content-Length: 20000",
    b"Content-Length: x",
]
LINES += [
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"Location: /a b",
    b"X: \t a\tb  ",
    b"X:",
    b" folded",
    b"X : y",
]
LINES += [b"Caf\xe9: y", b"X: caf\xe9", b"X: a\x00b", b"Connection: keep-alive", b"Upgrade: h2c", b": y"]
BODIES = [b"", b"hello", b"hello and more", b"5\r\nhello\r\n0\r\n\r\n", b"x" * 9, b"x" * (BODY_LIMIT + 500)]

answers = st.builds(
    lambda start, lines, ends, body: ends.join([start, *lines]) + ends * 2 + body,
    st.sampled_from(STARTS) | st.binary(max_size=20),
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
    st.sampled_from(BODIES),
)


def by_h11(pieces: list[bytes]) -> HttpReply | str:
    """Read pieces as the protocol's library does."""
    machine = h11.Connection(our_role=h11.CLIENT)
    machine.send(REQUEST)
    machine.send(h11.EndOfMessage())
    status, headers, body = 0, (), b""
    for piece in pieces:
        machine.receive_data(piece)
        while True:
            try:
                event = machine.next_event()
            except h11.RemoteProtocolError:
                return "refused"
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Response):
                status, headers = event.status_code, tuple(event.headers)  # type: ignore[assignment]
            elif isinstance(event, h11.Data):
                body += event.data
            if status and (isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or len(body) > BODY_LIMIT):
                return HttpReply(status=status, headers=headers, body=body[:BODY_LIMIT])
            if isinstance(event, h11.ConnectionClosed):
                return "refused"
    return "unfinished"


def read(pieces: list[bytes]) -> HttpReply | str:
    reader = AnswerReader()
    for piece in pieces:
        try:
            reply = reader.take(piece)
        except h11.RemoteProtocolError:
            return "refused"
        if reply is not None:
            return reply
    return "unfinished"


@given(answers, st.lists(st.integers(0, 400), max_size=4), st.booleans())
def test_reads_what_h11_reads(answer: bytes, cuts: list[int], ends: bool):
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(answer)}), len(answer)]
    pieces = [answer[start:end] for start, end in itertools.pairwise(places) if start < end]
    pieces += [b""] if ends else []
    assert read(pieces) == by_h11(pieces)


@pytest.mark.parametrize("ends", [False, True])
def test_common_answer_needs_no_end_of_the_connection(ends: bool):
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\n", b"he", b"llo"] + [b""] * ends
    expected = HttpReply(status=200, headers=((b"content-length", b"5"), (b"x-y", b"z")), body=b"hello")
    assert read(pieces) == expected == by_h11(pieces)
