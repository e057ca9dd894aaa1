"""kitmsg.bus.wire: what a server sends, cut anywhere, is read the same."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import pytest
from hypothesis import given, settings, strategies as st

from kitmsg.bus.wire import Parser, ProtocolError

Event: TypeAlias = tuple[int, bytes, bytes, bytes, bytes] | bytes

STREAM = (
    b'INFO {"server_id":"x"} \r\n'
    b"PING\r\n"
    b"MSG a.b 1 5\r\nhello\r\n"
    b"+OK\r\n"
    b"MSG a.b 12 _INBOX.x.1 0\r\n\r\n"
    b"HMSG a.b 3 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    b"PONG\r\n"
    b"HMSG a.b 3 _INBOX.x.2 18 25\r\nNATS/1.0\r\nA: b\r\n\r\nMSG 1 1\r\n"
    b"-ERR 'Permissions Violation'\r\n"
    b"MSG \xff\xfe 1 4\r\n\r\n\r\n\r\n"
)
EVENTS: list[Event] = [
    b'INFO {"server_id":"x"} ',
    b"PING",
    (1, b"a.b", b"", b"", b"hello"),
    b"+OK",
    (12, b"a.b", b"_INBOX.x.1", b"", b""),
    (3, b"a.b", b"", b"NATS/1.0\r\n\r\n", b""),
    b"PONG",
    (3, b"a.b", b"_INBOX.x.2", b"NATS/1.0\r\nA: b\r\n\r\n", b"MSG 1 1"),
    b"-ERR 'Permissions Violation'",
    (1, b"\xff\xfe", b"", b"", b"\r\n\r\n"),
]


class Ear:
    """A parser and what it was heard to say."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.parser = Parser(lambda *event: self.heard.append(event), self.heard.append)

    def hear(self, *chunks: bytes) -> list[Event]:
        for chunk in chunks:
            self.parser.feed(chunk)
        return self.heard


def test_reads_a_stream_in_one_chunk() -> None:
    """Messages and control lines come out in order."""
    assert Ear().hear(STREAM) == EVENTS


@pytest.mark.parametrize("at", range(1, len(STREAM)))
def test_reads_a_stream_cut_anywhere(at: int) -> None:
    """One cut at any byte changes nothing."""
    assert Ear().hear(STREAM[:at], STREAM[at:]) == EVENTS


def test_reads_a_stream_byte_by_byte() -> None:
    """A cut at every byte changes nothing."""
    assert Ear().hear(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == EVENTS


@settings(max_examples=300)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_reads_a_stream_cut_many_times(cuts: list[int]) -> None:
    """Any set of cuts changes nothing; 300 are tried."""
    edges = [0, *cuts, len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert Ear().hear(*pieces) == EVENTS


def test_reads_a_megabyte_in_socket_sized_pieces() -> None:
    """A payload far longer than a chunk comes out whole."""
    payload = bytes(range(256)) * 4096
    stream = b"MSG big 7 %d\r\n%b\r\nPING\r\n" % (len(payload), payload)
    pieces = [stream[i : i + 65_536] for i in range(0, len(stream), 65_536)]
    assert Ear().hear(*pieces) == [(7, b"big", b"", b"", payload), b"PING"]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 1 << 40),
            st.binary(max_size=300),
            st.booleans(),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.data(),
)
def test_reads_what_a_server_writes(
    messages: list[tuple[int, bytes, bool, bool]], data: st.DataObject
) -> None:
    """Any payloads, with and without reply and headers, in any two cuts; 300 streams."""
    stream = b""
    want: list[Event] = []
    for sid, payload, has_reply, has_headers in messages:
        reply = b"_INBOX.r.1" if has_reply else b""
        block = b"NATS/1.0\r\nK: v\r\n\r\n" if has_headers else b""
        words = [b"s.t", b"%d" % sid, *([reply] if reply else [])]
        sizes = [b"%d" % (len(block) + len(payload))]
        if block:
            sizes.insert(0, b"%d" % len(block))
        verb = b"HMSG" if block else b"MSG"
        stream += (
            b" ".join([verb, *words, *sizes]) + b"\r\n" + block + payload + b"\r\n"
        )
        want.append((sid, b"s.t", reply, block, payload))
    first = data.draw(st.integers(0, len(stream)))
    second = data.draw(st.integers(first, len(stream)))
    pieces = stream[:first], stream[first:second], stream[second:]
    assert Ear().hear(*pieces) == want


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a 1\r\n",
        b"MSG a x 1\r\n1\r\n",
        b"MSG a 1 _I.1 x 1\r\n1\r\n",
        b"MSG\r\n",
        b"MSG a 1 -5\r\n",
        b"HMSG a 1 5\r\n",
        b"HMSG a 1 9 2\r\n12\r\n",
        b"MSG a 1 2\r\n12345\r\n",
    ],
)
def test_refuses_what_is_not_of_the_protocol(line: bytes) -> None:
    """A line that fits no message ends the connection instead of being guessed at."""
    with pytest.raises(ProtocolError):
        Ear().hear(line + b"PING\r\n" * 3)


def test_refuses_a_line_without_end() -> None:
    """A peer that never ends its line does not fill the memory."""
    with pytest.raises(ProtocolError, match="without an end"):
        Ear().hear(*([b"I" * 65_536] * 40))


def test_reset_forgets_half_a_message() -> None:
    """After a reconnect the new stream begins clean."""
    ear = Ear()
    ear.hear(b"MSG a 1 10\r\n12345")
    ear.parser.reset()
    assert ear.hear(b"PING\r\n") == [b"PING"]
