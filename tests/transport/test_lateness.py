"""Holds on the way are seen by a caller's clock in its reply subjects."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator  # noqa: TC003  # read when `Desk` is defined
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given, strategies as st

import kitmsg
from kitmsg import Service, current, endpoint
from kitmsg.message import encode_headers
from kitmsg.transport.lateness import Lateness
from kitmsg.transport.transfer import offered
from kitmsg.wire import INBOX_MARK, SECRET_CHARS, STREAM_INBOX

if TYPE_CHECKING:
    from kitmsg import Kit
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.message import Message

INBOX = f"_INBOX.{INBOX_MARK}abc"


def reply(sent: float, *, seq: int = 0, inbox: str = INBOX) -> str:
    """Return the reply subject of an ask that was sent at `sent` by its caller's clock."""
    return f"{inbox}.{int(sent * 1000)}-{seq:0{SECRET_CHARS}}"


def test_a_hold_is_what_is_over_the_usual_way():
    """Clocks that have nothing to do with each other, and a way of 2 ms."""
    lateness = Lateness()
    for second in range(10):
        assert lateness.of(reply(500.0 + second), 9000.002 + second) == 0.0
    assert lateness.of(reply(511.0), 9014.002) == pytest.approx(3.0, abs=0.01)
    assert lateness.of(reply(515.0), 9015.002) == 0.0


def test_nothing_is_known_of_the_first_request():
    """It may have been held; the second one tells, if it was not."""
    lateness = Lateness()
    assert lateness.of(reply(0.0), 3.0) == 0.0
    assert lateness.of(reply(1.0), 1.001) == 0.0
    assert lateness.of(reply(1.0, seq=1), 4.0) == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    "other",
    [
        "_INBOX.abcdefgh.17",
        "_INBOX.abc.999999999999999",
        f"_INBOX.{INBOX_MARK}abc.s.17",
        f"_INBOX.{INBOX_MARK}abc.t.1700000-abcdefghijkl",
        f"_INBOX.{INBOX_MARK}abc.Xy7",
        "plain",
        "",
    ],
)
def test_callers_that_stamp_nothing_are_never_late(other: str) -> None:
    """Whatever their subjects look like, and however long it takes."""
    lateness = Lateness()
    assert [lateness.of(other, float(at)) for at in range(0, 1000, 100)] == [0.0] * 10


def test_a_way_that_got_longer_is_no_hold_for_ever():
    """After two windows the new way is the usual one."""
    lateness = Lateness()
    for at in range(10):
        lateness.of(reply(float(at)), at + 0.001)
    late = [lateness.of(reply(float(at)), at + 0.2) for at in range(10, 100)]
    assert late[0] == pytest.approx(0.2, abs=0.01)
    assert late[-1] == 0.0


def test_what_it_remembers_is_bounded():
    """A flood of inboxes makes it forget, not grow."""
    lateness = Lateness()
    for n in range(10_000):
        lateness.of(reply(1.0, inbox=f"_INBOX.{INBOX_MARK}{n}"), 1.0)
    assert len(lateness._ways) <= 4096


def test_streams_and_asks_of_a_caller_have_one_way():
    """A caller is known by either, and its first stream is held like any ask."""
    streams = f"{INBOX}{STREAM_INBOX}"
    for first, then in [(INBOX, streams), (streams, INBOX)]:
        lateness = Lateness()
        assert lateness.of(reply(1.0, inbox=first), 5.0) == 0.0
        late = lateness.of(reply(2.0, inbox=then), 9.0)
        assert late == pytest.approx(3.0, abs=0.01)


def test_where_nothing_is_known_it_is_as_old_as_it_can_be():
    """Of a new caller, and of one that stamps nothing; a hold that is known is no guess."""
    stood = 2.0
    lateness = Lateness(lambda _: stood)
    assert lateness.of("_INBOX.abc.1", 10.0) == 2.0
    assert lateness.is_guess
    assert lateness.of(reply(1.0), 10.0) == 2.0
    assert lateness.is_guess
    stood = 0.0
    assert lateness.of(reply(1.5), 10.5) == 0.0
    stood = 2.0
    known = lateness.of(reply(2.0), 11.5)
    assert [known, lateness.is_guess] == [pytest.approx(0.5, abs=0.01), False]
    assert lateness.of(reply(3.0), 12.0) == 0.0


def test_a_caller_that_is_new_while_we_stood_still_is_as_old_as_it_can_be():
    """All that it sent then, also the newest; what it sends later tells how it is."""
    stood = 2.0
    lateness = Lateness(lambda _: stood)
    for sent in (0.0, 0.5, 1.0):
        assert lateness.of(reply(sent), 2.0) == 2.0
        assert lateness.is_guess
    stood = 0.0
    assert lateness.of(reply(1.0), 2.0) == 0.0  # judged again: nothing better is known
    assert lateness.of(reply(3.0), 3.001) == 0.0
    stood = 2.0
    assert lateness.of(reply(4.0), 5.001) == pytest.approx(1.0, abs=0.01)
    assert not lateness.is_guess


@given(
    offset=st.floats(-1e6, 1e6),
    ways=st.lists(st.floats(0.0, 0.04), min_size=1, max_size=50),
    hold=st.floats(0.2, 100.0),
)
def test_a_free_way_is_never_late_and_a_hold_is_never_overrated(offset, ways, hold):
    """Whatever the clocks' difference, and however the way varies within the noise."""
    lateness, base = Lateness(), 2e6
    for n, way in enumerate(ways):
        sent = base + n * 0.5
        assert lateness.of(reply(sent), sent + offset + way) == 0.0
    sent = base + len(ways) * 0.5
    late = lateness.of(reply(sent), sent + offset + hold)
    assert hold - 0.05 <= late <= hold + 0.005


class Desk(Service):
    """Notes what it begins."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.left: float | None = None

    @endpoint
    async def keep(self, data: bytes) -> None:
        self.left = current().remaining(asyncio.get_running_loop().time())

    @endpoint
    async def note(self, number: int) -> None:
        self.begun.append(number)

    @endpoint
    async def watch(self, number: int) -> AsyncIterator[int]:
        self.begun.append(number)
        yield number


async def test_requests_that_piled_up_before_a_new_worker_do_not_begin_late(
    kit: Kit,
) -> None:
    """It never heard their caller; the newest one tells how old the others are."""
    desk = Desk()
    await kit.serve(desk)
    block = encode_headers({"Kit-Timeout": "500"})
    for number in range(10):
        ask = b'{"number":%d}' % number
        kit.bus.publish("desk.note", ask, reply(100 + number * 0.3), block)
    await kit.bus.flush()
    await asyncio.sleep(1)
    assert desk.begun == [8, 9]


async def test_streams_that_piled_up_before_a_new_worker_do_not_begin_late(
    kit: Kit,
) -> None:
    """They are held like asks, by the clock in their own subjects."""
    desk = Desk()
    await kit.serve(desk)
    block = encode_headers({"Kit-Timeout": "500", "Kit-Stream": "open"})
    inbox = f"{INBOX}{STREAM_INBOX}"
    kit.bus.subscribe(f"{inbox}.*", lambda _: None)
    for number in range(10):
        ask = b'{"number":%d}' % number
        at = reply(100 + number * 0.3, inbox=inbox)
        kit.bus.publish("desk.watch", ask, at, block)
    await kit.bus.flush()
    await asyncio.sleep(1)
    assert desk.begun == [8, 9]


async def test_a_stream_of_a_known_caller_does_not_begin_late(kit: Kit) -> None:
    """What is left of the time is what is left at its caller."""
    desk = Desk()
    await kit.serve(desk)
    now = asyncio.get_running_loop().time()
    block = encode_headers({"Kit-Timeout": "5000", "Kit-Stream": "open"})
    inbox = f"{INBOX}{STREAM_INBOX}"
    kit.bus.subscribe(f"{inbox}.*", lambda _: None)
    for number, held in enumerate((0.0, 4.0, 6.0)):
        at = reply(1000 + now - held, inbox=inbox)
        kit.bus.publish("desk.watch", b'{"number":%d}' % number, at, block)
        await kit.bus.flush()
        await asyncio.sleep(0)
    await asyncio.sleep(1)
    assert desk.begun == [0, 1]


async def test_the_time_that_a_long_request_takes_counts_once(kit: Kit) -> None:
    """Of 5 s, its body took 2 on the way from a caller that is known: 3 are left."""
    desk = Desk()
    await kit.serve(desk)
    loop = asyncio.get_running_loop()
    body = f"{INBOX}{STREAM_INBOX}.body"
    data = msgspec.msgpack.encode({"data": b"x" * 1000})
    with offered(kit.bus, data) as offer:

        def late(message: Message) -> None:
            rest = (offer.subject, message.data, message.reply, message.header_block)
            loop.call_later(2.0, kit.bus.publish, *rest)

        kit.bus.subscribe(body, late)
        fields = {"Kit-Body": body, "Kit-Body-Bytes": str(len(data))}
        for more in ({}, fields):
            block = encode_headers({"Kit-Timeout": "5000", **more})
            kit.bus.publish("desk.keep", b"{}", reply(1000 + loop.time()), block)
            await kit.bus.flush()
        await asyncio.sleep(2.5)
    assert desk.left == pytest.approx(3.0, abs=0.1)


async def test_a_worker_that_stood_still_begins_nothing_for_those_who_may_have_left(
    nats_server: EmbeddedServer,
) -> None:
    """A caller that stamps nothing hears that its call never began, and may try again."""
    desk = Desk()
    async with kitmsg.connect(nats_server.url) as kit:
        await kit.serve(desk)
        stranger = Stranger(nats_server)
        for number, milliseconds in enumerate((500, 5000)):
            stranger.ask("desk.note", b'{"number":%d}' % number, milliseconds)
        time.sleep(0.8)  # no turn of the loop meanwhile
        answers = await asyncio.to_thread(stranger.answers, 2)
    assert desk.begun == [1]
    assert b"stood still" in answers
    assert answers.count(b"Kit-Began: no") == 1


class Stranger:
    """A caller of another make, which needs no event loop."""

    def __init__(self, server: EmbeddedServer) -> None:
        address = urlsplit(server.url)
        self._link = socket.create_connection((address.hostname, address.port), 5)
        options = b'{"headers":true,"no_responders":true}'
        self._link.sendall(b"CONNECT %b\r\nSUB _INBOX.stranger.* 1\r\n" % options)

    def ask(self, subject: str, data: bytes, milliseconds: int) -> None:
        """Send a request, and have the server take it."""
        block = encode_headers({"Kit-Timeout": str(milliseconds)})
        head = f"HPUB {subject} _INBOX.stranger.1 {len(block)} {len(block) + len(data)}\r\n"
        self._link.sendall(head.encode() + block + data + b"\r\nPING\r\n")
        while b"PONG" not in self._link.recv(4096):
            pass

    def answers(self, count: int) -> bytes:
        """Wait for so many replies; returns all that came, and hangs up."""
        heard = b""
        with self._link:
            while heard.count(b"MSG _INBOX.stranger.1") < count:
                heard += self._link.recv(4096)
        return heard
