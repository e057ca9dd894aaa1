"""Defects of Go kit's metrics that are not checked by the contract of backends.

The contract has the others: labels that siblings share, a gauge that a flush sets back, a
sampling rate that is said and not taken, `With` that does nothing.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from kitmsg.metrics.address import backend_of, parse
from kitmsg.metrics.discard import DISCARD
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.provider import Provider
from kitmsg.metrics.push import pushers, pushing
from tests.metrics.receivers.pushed import Pushed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    """A socket that takes datagrams."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


def datagrams(sock: socket.socket) -> list[bytes]:
    """Return what has come, without the empty line that looks for the receiver."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(70_000))
    return [each for each in found if each != b"\n"]


@contextlib.contextmanager
def taken(sock: socket.socket) -> Iterator[list[bytes]]:
    """Take what comes meanwhile: all of a process may be more than a socket holds."""
    found: list[bytes] = []
    is_over = threading.Event()

    def take() -> None:
        while not is_over.is_set():
            select.select([sock], [], [], 0.01)
            found.extend(datagrams(sock))

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
        found.extend(datagrams(sock))


@pytest.mark.parametrize("scheme", ["statsd", "dogstatsd", "influx"])
async def test_lines_share_datagrams(scheme: str, udp: socket.socket) -> None:
    """Go kit wrote one datagram per line; here each is as full as the next line allows."""
    sending = Pushed(f"{scheme}://127.0.0.1:{udp.getsockname()[1]}?packet=500")
    for number in range(200):
        sending.metrics.counter("c", labels=("n",)).labels(n=str(number)).add()
    await sending.push()
    found = datagrams(udp)
    lines = [line for each in found for line in each.splitlines()]
    assert len(lines) == 200
    longest = max(map(len, lines))
    assert all(500 - longest - 1 <= len(each) <= 500 for each in found[:-1])
    await sending.close()


async def test_the_last_flush_is_at_the_end(udp: socket.socket) -> None:
    """Go kit's loops ended without it, so what came since the last tick was lost."""
    address = f"statsd://127.0.0.1:{udp.getsockname()[1]}?interval=3600"
    with taken(udp) as found:
        async with pushing(address) as metrics:
            metrics.counter("orders").add(3)
    lines = [line for each in found for line in each.splitlines()]
    assert b"orders_total:3|c" in lines


async def test_what_could_not_be_sent_is_sent_later(udp: socket.socket) -> None:
    """Go kit reset its numbers before the write, so a failed one lost them."""
    sending = Pushed(f"statsd://127.0.0.1:{udp.getsockname()[1]}")
    sending.metrics.counter("c").add(2)
    port = udp.getsockname()[1]
    udp.close()
    assert not await sending.pusher.flush()
    sending.metrics.counter("c").add(3)
    with socket.socket(type=socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))
        again.setblocking(False)
        assert await sending.pusher.flush()
        assert datagrams(again) == [b"c_total:5|c\n"]
    await sending.close()


async def test_negative_gauges_are_absolute(udp: socket.socket) -> None:
    """A sign in front means "less than before" to StatsD."""
    sending = Pushed(f"statsd://127.0.0.1:{udp.getsockname()[1]}")
    sending.metrics.gauge("g").set(-2.5)
    await sending.push()
    assert datagrams(udp) == [b"g:0|g\ng:-2.5|g\n"]
    await sending.close()


async def test_durations_are_milliseconds_for_statsd_alone(udp: socket.socket) -> None:
    """Its timings are; tags and fields keep the seconds of the name."""
    port = udp.getsockname()[1]
    for scheme, line in (
        ("statsd", b"t_ms:250|ms\n"),
        ("dogstatsd", b"t_seconds:0.25|h|#a:b\n"),
    ):
        sending = Pushed(f"{scheme}://127.0.0.1:{port}")
        labels = ("a",) if scheme == "dogstatsd" else ()
        histogram = sending.metrics.histogram("t_seconds", labels=labels)
        (histogram.labels(a="b") if labels else histogram).observe(0.25)
        await sending.push()
        assert datagrams(udp) == [line]
        await sending.close()


async def test_options_of_an_address_are_followed(udp: socket.socket) -> None:
    port = udp.getsockname()[1]
    for address, line in (
        ("statsd://{}?prefix=shop", b"shop.c_total.a.b_c.d.none:1|c\n"),
        ("statsd://{}?labels=tags", b"c_total;a=b_c;d=none:1|c\n"),
        ("dogstatsd://{}?tags=x:y+z", b"c_total:1|c|#x:y,z,a:b.c\n"),
    ):
        sending = Pushed(address.format(f"127.0.0.1:{port}"))
        counter = sending.metrics.counter("c", labels=("a", "d"))
        counter.labels(d="", a="b.c").add()
        await sending.push()
        assert datagrams(udp) == [line]
        await sending.close()


def test_a_name_asked_for_twice_is_one_instrument() -> None:
    """Go kit's Prometheus panicked at the second."""
    metrics = MemoryMetrics()
    for _ in range(2):
        metrics.counter("c").add()
    assert metrics.value("c_total") == 2


def test_equal_labels_are_one_series() -> None:
    """Go kit's generic counter copied its value into a new one at each `With`."""
    metrics = MemoryMetrics()
    counter = metrics.counter("c", labels=("a",))
    one, two = counter.labels(a="1"), counter.labels(a="1")
    one.add(1)
    two.add(2)
    assert metrics.value("c_total", a="1") == 3


def test_labels_bound_one_after_the_other_make_the_same_series() -> None:
    """In any order: Go kit's were a list, in which the order counted."""
    metrics = MemoryMetrics()
    counter = metrics.counter("c", labels=("a", "b"))
    counter.labels(a="1").labels(b="2").add()
    counter.labels(b="2").labels(a="1").add()
    counter.labels(b="2", a="1").add()
    assert metrics.value("c_total", a="1", b="2") == 3


def test_histograms_of_other_labels_are_other_ones() -> None:
    """Go kit's generic `With` shared the observations of all."""
    metrics = MemoryMetrics()
    histogram = metrics.histogram("h", labels=("a",))
    histogram.labels(a="1").observe(1.0)
    histogram.labels(a="2").observe(1.0)
    assert metrics.value("h", a="1") == metrics.value("h", a="2") == 1


def test_parts_of_one_are_counted() -> None:
    """Go kit's PCP cut each addition to a whole number."""
    metrics = MemoryMetrics()
    for _ in range(4):
        metrics.counter("c").add(0.25)
    assert metrics.value("c_total") == 1.0


def test_observations_that_are_no_numbers_harm_nothing() -> None:
    metrics = MemoryMetrics(fine=True)
    gauge = metrics.gauge("g")
    gauge.set(2)
    for wrong in (float("nan"), float("inf")):
        gauge.set(wrong)
        gauge.add(wrong)
        with pytest.raises(ValueError, match="cannot rise"):
            metrics.counter("c").add(wrong)
    assert metrics.value("g") == 2
    for value in (float("nan"), float("inf"), 1.0, -1.0, 0.0):
        metrics.histogram("h").observe(value)
    family = list(metrics.collect())[-1]
    assert (family.distributions[0].count, family.distributions[0].total) == (3, 0.0)


def test_everything_that_makes_instruments_is_a_provider() -> None:
    """And code that is given none can take one that counts nothing."""
    assert isinstance(MemoryMetrics(), Provider)
    assert isinstance(DISCARD, Provider)
    DISCARD.counter("c", labels=("a",)).labels(a="1").add()
    DISCARD.gauge("g").set(1)
    DISCARD.histogram("h").observe(1)


def test_a_receiver_that_is_read_has_no_loop() -> None:
    assert pushers([parse("prometheus")], list) == []
    assert backend_of(parse("prometheus")) is None
