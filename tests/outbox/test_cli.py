"""``kitmsg outbox``: makes the tables, relays until it is stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from kitmsg import Service, background, outbox
from tests.outbox.test_relay import Placed, make_stream, until_empty, until_stored

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

    from kitmsg import Kit
    from kitmsg.bus.embedded import EmbeddedServer

pytestmark = pytest.mark.anyio

LONG = 100.0  # seconds in which processes have started, however busy the machine is


@pytest.fixture
def database() -> str:
    return "sqlite"


async def kitmsg_outbox(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "kitmsg", "outbox", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def until_it_works(output: asyncio.StreamReader | None) -> str:
    """Read until the relay says that it works, as it does after its first events.

    A row that is gone says less: it is counted after that.
    """
    assert output is not None
    found = ""
    async with asyncio.timeout(LONG):
        while "the outbox's relay works here" not in found:
            line = await output.readline()
            assert line, found
            found += line.decode()
    return found


async def test_tables_are_made_and_events_relayed_until_the_end(
    server: EmbeddedServer, kit: Kit, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/other.db"
    await make_stream(kit)
    made = await kitmsg_outbox("tables", url)
    out, _ = await made.communicate()
    assert out.decode() == "the outbox's tables are there\n"
    engine = create_async_engine(url)
    async with async_sessionmaker(engine).begin() as session:
        await outbox.add(session, Placed("A1"))
    relay = await kitmsg_outbox("relay", url, "--nats-url", server.url)
    assert await until_stored(kit, 1, 60) == [Placed("A1")]
    await until_empty(engine)
    said = await until_it_works(relay.stdout)
    relay.send_signal(signal.SIGTERM)
    out, _ = await relay.communicate()
    assert relay.returncode == 0
    assert said + out.decode() == "the outbox's relay works here\n"
    await engine.dispose()


async def test_the_relay_tells_how_far_it_is_behind(
    server: EmbeddedServer, kit: Kit, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/other.db"
    await make_stream(kit)
    engine = create_async_engine(url)
    await outbox.make_tables(engine)
    async with async_sessionmaker(engine).begin() as session:
        await outbox.add(session, Placed("A1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        address = f"statsd://127.0.0.1:{receiver.getsockname()[1]}?interval=3600"
        words = ("relay", url, "--nats-url", server.url, "--metrics", address)
        relay = await kitmsg_outbox(*words)
        await until_it_works(relay.stdout)
        await until_stored(kit, 1, 60)
        await until_empty(engine)
        relay.send_signal(signal.SIGTERM)
        await relay.communicate()
        told = b""
        wanted = (b"published_total", b"lag_seconds", b"bus_connected")  # all of a page
        while not all(name in told for name in wanted):
            told += await asyncio.to_thread(receiver.recv, 65_536)
    assert b"kitmsg_outbox_published_total.process.outbox:1|c" in told
    assert b"kitmsg_outbox_lag_seconds.process.outbox:0|g" in told
    await engine.dispose()


async def test_an_address_of_metrics_that_is_none_is_a_sentence(
    tmp_path: Path,
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/other.db"
    relay = await kitmsg_outbox("relay", url, "--metrics", "nonsense://h:1")
    out, _ = await relay.communicate()
    assert relay.returncode == 2, out.decode()
    assert "Traceback" not in out.decode()
    assert "nonsense" in out.decode()


@pytest.mark.parametrize("url", ["nonsense", "mysql+aiomysql://h/d", ""])
async def test_a_database_that_cannot_be_used_is_a_sentence(
    url: str, server: EmbeddedServer
) -> None:
    process = await kitmsg_outbox("relay", url, "--nats-url", server.url)
    out, _ = await process.communicate()
    assert process.returncode == 2, out.decode()
    assert "Traceback" not in out.decode()
    assert "database" in out.decode()


async def test_a_service_relays_beside_its_turns(
    engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession], kit: Kit
) -> None:
    class Orders(Service):
        def __init__(self) -> None:
            self.relay = outbox.Relay(engine, kit.jetstream, metrics=kit.metrics)

        @background
        async def publish_committed(self) -> None:
            await self.relay.run()

    await make_stream(kit)
    await kit.serve(Orders())
    async with sessions.begin() as session:
        await outbox.add(session, Placed("A1"))
    assert await until_stored(kit, 1, 60) == [Placed("A1")]
    await until_empty(engine)


ORDERS = """
from kitmsg import Service, endpoint

class Orders(Service):
    @endpoint
    async def ask(self) -> None: ...
"""


@pytest.mark.timeout(300)  # two starts of three processes
async def test_workers_relay_while_they_serve(
    server: EmbeddedServer, kit: Kit, tmp_path: Path
) -> None:
    """Of two workers one does; a drain ends it, and the next one goes on."""
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.db"
    (tmp_path / "orders.py").write_text(ORDERS)
    await make_stream(kit)
    engine = create_async_engine(url)
    await outbox.make_tables(engine)
    for number in (1, 2):
        async with async_sessionmaker(engine).begin() as session:
            await outbox.add(session, Placed(f"A{number}"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kitmsg", "run", "orders.py"),
            *("--workers", "2", "--outbox", url, "--nats-url", server.url),
            cwd=tmp_path,
            stderr=asyncio.subprocess.PIPE,
        )
        await until_it_works(process.stderr)
        await until_stored(kit, number)
        await until_empty(engine)
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert process.returncode == 0, err.decode()
    await engine.dispose()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "write postgresql+asyncpg://... or"),
        ("sqlite+aiosqlite://", "so use a file"),
    ],
)
async def test_workers_of_an_outbox_that_cannot_be_do_not_start(
    url: str, why: str, server: EmbeddedServer, tmp_path: Path
) -> None:
    (tmp_path / "orders.py").write_text(ORDERS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kitmsg", "run", "orders.py"),
        *("--outbox", url, "--nats-url", server.url),
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert why in err.decode()
    assert "Traceback" not in err.decode()
