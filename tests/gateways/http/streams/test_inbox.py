"""Messages wait in order, and the connection is not read while there are many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kitmsg.errors import Unavailable
from kitmsg_gateways.http.streams.source import Inbox


class Connection:
    """Notes whether it is read."""

    def __init__(self) -> None:
        self.is_read = True

    def pause_reading(self) -> None:
        assert self.is_read
        self.is_read = False

    def resume_reading(self) -> None:
        assert not self.is_read
        self.is_read = True


@pytest.mark.parametrize(("size", "most"), [(1, 65), (20_000, 4)])
async def test_many_messages_pause_the_connection(size, most):
    """Many small ones, or a few long ones; taking half of them lets it go on."""
    connection: Any = Connection()
    inbox = Inbox(connection)
    count = 0
    while connection.is_read:
        inbox.put(b"%d" % count + b"x" * size)
        count += 1
    assert count == most
    assert inbox.is_paused
    for number in range(count):
        assert (await inbox.get()).startswith(b"%d" % number)
    assert connection.is_read


async def test_it_is_awaited_when_its_taker_has_nothing_to_do():
    """Not before, nor once there is something."""
    connection: Any = Connection()
    inbox = Inbox(connection)
    seen = [inbox.is_awaited]
    taking = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    seen.append(inbox.is_awaited)
    inbox.put(b"a")
    seen.append(inbox.is_awaited)
    assert await taking == b"a"
    seen.append(inbox.is_awaited)
    assert seen == [False, True, False, False]


async def test_nobody_waits_for_more_once_it_is_shut():
    """What is there can be taken."""
    connection: Any = Connection()
    inbox = Inbox(connection)
    taking = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.shut()
    with pytest.raises(Unavailable):
        await taking
    inbox.put(b"a")
    assert await inbox.get() == b"a"
