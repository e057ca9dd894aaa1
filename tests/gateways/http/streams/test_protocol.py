"""WebSocket frames, read however they arrive; those that break a rule are refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings, strategies as st

from kitmsg_gateways.http.aiohttp_parts import _unmask_in_python, unmask
from kitmsg_gateways.http.streams.protocol import (
    CloseCode,
    FrameReader,
    Opcode,
    ProtocolError,
    close_payload,
    frame,
)

MASK = b"\x01\x02\x03\x04"


def masked(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a frame as a client sends it."""
    head = bytearray(frame(opcode, payload))
    size = len(head) - len(payload)
    head[1] |= 0x80
    if not final:
        head[0] &= 0x7F
    return bytes(head[:size]) + MASK + unmask(payload, MASK)


def read(
    data: bytes, *, limit: int = 100_000, step: int = 0
) -> list[tuple[int, bytes]]:
    """Return what a reader finds, given so many bytes at a time."""
    reader = FrameReader(limit)
    step = step or len(data) or 1
    pieces = (data[at : at + step] for at in range(0, len(data), step))
    return [found for piece in pieces for found in reader.read(piece)]


def refused(data: bytes, **options: int) -> tuple[CloseCode, str]:
    """Return what a reader has against `data`."""
    with pytest.raises(ProtocolError) as caught:
        read(data, **options)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
def test_messages_of_all_lengths(size):
    """Each of the three ways to write a length."""
    assert read(masked(Opcode.BINARY, b"x" * size)) == [(Opcode.BINARY, b"x" * size)]


def test_the_examples_of_the_standard():
    """RFC 6455, section 5.7: a masked text; ours are not masked."""
    assert read(bytes.fromhex("818537fa213d7f9f4d5158")) == [(Opcode.TEXT, b"Hello")]
    assert frame(Opcode.TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=200)), max_size=6),
    st.integers(1, 50),
)
def test_messages_are_the_same_however_they_arrive(messages, step):
    """Where one read ends and the next begins does not matter."""
    data = b"".join(masked(opcode, payload) for opcode, payload in messages)
    assert read(data, step=step) == messages


@given(
    st.lists(st.binary(max_size=20), min_size=1, max_size=8),
    st.sampled_from([1, 2]),
    st.integers(1, 50),
)
def test_fragments_are_put_together(parts, opcode, step):
    """With control frames between them, which come out first."""
    frames = []
    for at, part in enumerate(parts):
        is_last = at == len(parts) - 1
        frames.append(masked(opcode if at == 0 else 0, part, final=is_last))
        if not is_last:
            frames.append(masked(Opcode.PING, b"%d" % at))
    pings = [(Opcode.PING, b"%d" % at) for at in range(len(parts) - 1)]
    found = read(b"".join(frames), step=step)
    assert found == [*pings, (opcode, b"".join(parts))]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(Opcode.TEXT, b"hello"), "not masked"),
        (frame(Opcode.TEXT, b"")[:2], "not masked"),
        (b"\xc1\x80" + MASK, "reserved bits"),
        (b"\x83\x80" + MASK, "opcode 3 is unknown"),
        (b"\x8b\x80" + MASK, "opcode 11 is unknown"),
        (masked(Opcode.PING, final=False), "control frame"),
        (masked(Opcode.PING, b"x" * 126), "control frame"),
        (masked(Opcode.CONTINUATION), "nothing to continue"),
        (masked(Opcode.TEXT, final=False) + masked(Opcode.TEXT), "unfinished"),
        (b"\x81\xfe" + struct.pack("!H", 125) + MASK, "shortest form"),
        (b"\x81\xff" + struct.pack("!Q", 125) + MASK, "shortest form"),
        (b"\x81\xff" + struct.pack("!Q", 0xFFFF) + MASK, "shortest form"),
        (b"\x82\xff" + struct.pack("!Q", 1 << 63) + MASK, "shortest form"),
    ],
)
def test_what_breaks_a_rule(data, reason):
    """1002; and it is seen at the head of a frame, before the rest has come."""
    assert refused(data) == refused(data, step=1)
    code, said = refused(data)
    assert code == CloseCode.PROTOCOL_ERROR
    assert reason in said


def test_what_is_too_long():
    """1009, by the length that it announces; in one piece or in many."""
    assert refused(masked(Opcode.TEXT, b"x" * 101), limit=100)[0] == CloseCode.TOO_BIG
    huge = b"\x82\xff" + struct.pack("!Q", 1 << 62) + MASK
    assert refused(huge)[0] == CloseCode.TOO_BIG
    parts = masked(1, b"x" * 60, final=False) + masked(0, b"x" * 60)
    assert refused(parts, limit=100)[0] == CloseCode.TOO_BIG


def test_empty_fragments_take_no_room():
    """However many there are."""
    reader = FrameReader(100)
    assert list(reader.read(masked(1, b"a", final=False))) == []
    for _ in range(1000):
        assert list(reader.read(masked(0, b"", final=False))) == []
    assert len(reader._parts) == 1
    assert list(reader.read(masked(0, b"b"))) == [(Opcode.TEXT, b"ab")]


@settings(max_examples=1000)
@given(st.binary(max_size=64), st.integers(1, 20))
def test_any_bytes_are_messages_or_refused(data, step):
    """Nothing else comes of them, and less is kept than has come."""
    reader = FrameReader(50)
    try:
        for at in range(0, len(data), step):
            for opcode, payload in reader.read(data[at : at + step]):
                assert opcode in set(Opcode)
                assert len(payload) <= 125
    except ProtocolError:
        return
    assert len(reader._rest) <= len(data)


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
def test_both_ways_to_unmask_agree(data, mask):
    """aiohttp's, which is in C, and ours; twice is as before."""
    assert unmask(data, mask) == _unmask_in_python(data, mask)
    assert unmask(unmask(data, mask), mask) == data


def test_a_long_reason_is_cut_between_characters():
    """A close frame has room for 123 bytes of UTF-8."""
    payload = close_payload(4400, "ü" * 100)
    assert len(payload) <= 125
    assert payload[:2] == (4400).to_bytes(2)
    assert payload[2:].decode() == "ü" * 61


@given(st.binary(max_size=130), st.sampled_from(list(Opcode)), st.booleans())
def test_the_short_way_and_the_long_way_agree(payload, opcode, final):
    """One whole short message is found at once; all else is left to `read`."""
    data = masked(opcode, payload, final=final)
    found = FrameReader(1000).whole(0x81, data)
    is_usual = opcode == Opcode.TEXT and final and len(payload) < 126
    assert found == (payload if is_usual else None)


def test_the_short_way_is_not_taken_in_the_middle_of_a_message():
    """Nor for one that is too long, or a piece of one."""
    text = masked(Opcode.TEXT, b"abc")
    reader = FrameReader(1000)
    list(reader.read(masked(Opcode.TEXT, b"a", final=False)))
    assert reader.whole(0x81, text) is None
    reader = FrameReader(1000)
    list(reader.read(text[:3]))
    assert reader.whole(0x81, text) is None
    assert FrameReader(2).whole(0x81, text) is None
    assert all(FrameReader(9).whole(0x81, text[:at]) is None for at in range(len(text)))
    assert FrameReader(9).whole(0x81, text + text) is None
