"""The tunnel's codec: what one side writes the other reads, however it is cut; garbage is an error, not a crash."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.server.spdy import DICTIONARY, Codec, Frame, Kind, SpdyError, control_frame, data_frame


def test_the_dictionary_is_the_one_of_the_protocol() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(st.dictionaries(st.text("abc", min_size=1), st.text(max_size=9), max_size=4), max_size=5), st.data())
def test_streams_are_read_however_they_are_cut(blocks: list[dict[str, str]], data: st.DataObject) -> None:
    writer, reader = Codec(), Codec()
    wire = b""
    for number, headers in enumerate(blocks):
        body = struct.pack(">IIH", 2 * number + 1, 0, 0) + writer.header_block(headers)
        wire += control_frame(Kind.SYN_STREAM, body) + data_frame(2 * number + 1, b"x" * number, fin=True)
    found: list[Frame] = []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        found += reader.feed(wire[:cut])
        wire = wire[cut:]
    assert [one.headers for one in found[::2]] == blocks
    assert [(one.data, one.fin) for one in found[1::2]] == [(b"x" * number, True) for number in range(len(blocks))]


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_nothing(data: bytes) -> None:
    try:
        Codec().feed(data)
    except SpdyError:
        return


def test_headers_that_unpack_without_end_are_refused() -> None:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    bomb = deflate.compress(b"\0" * 10_000_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(SpdyError, match="over the limit"):
        Codec().feed(control_frame(Kind.SYN_STREAM, struct.pack(">IIH", 1, 0, 0) + bomb))
