"""Databases with the outbox's tables: SQLite, and PostgreSQL by both of its drivers."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

import kitmsg
from kitmsg import Kit, outbox
from kitmsg.bus.embedded import EmbeddedServer
from tests.require import miss

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.ext.asyncio import AsyncSession


def _program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = shutil.which(name) or (str(found[-1]) if found else "")
    return path or miss(f"PostgreSQL's {name} is missing; install postgresql")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of this session: ``HOST:PORT``."""
    initdb, server = _program("initdb"), _program("postgres")
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = next(n for n in ("postgres", "nobody") if n in _users())
    with tempfile.TemporaryDirectory(prefix="kitmsg-pg-") as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        subprocess.run(
            [initdb, "-D", data, "-U", "kit", "-A", "trust", "--no-sync", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            cwd=folder,
        )
        port = _free_port()
        options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        process = subprocess.Popen(
            [server, "-D", data, "-p", str(port), "-k", folder, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            cwd=folder,
        )
        try:
            _wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)  # ends though clients are there
            process.wait(20)


def _users() -> set[str]:
    return {each.pw_name for each in pwd.getpwall()}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    ready = _program("pg_isready")
    ends = time.monotonic() + 30
    while subprocess.run(
        [ready, "-q", "-h", "127.0.0.1", "-p", str(port)], check=False
    ).returncode:
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "asyncpg", "psycopg"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, with the outbox's tables in it."""
    if database == "sqlite":
        made = f"sqlite+aiosqlite:///{tmp_path}/app.db"
    else:
        address, name = request.getfixturevalue("postgres"), f"t{secrets.token_hex(6)}"
        root = create_async_engine(
            f"postgresql+{database}://kit@{address}/postgres",
            isolation_level="AUTOCOMMIT",
        )
        async with root.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        await root.dispose()
        made = f"postgresql+{database}://kit@{address}/{name}"
    engine = create_async_engine(made)
    await outbox.make_tables(engine)
    await engine.dispose()
    return made


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(url)
    yield made
    await made.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine)


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def kit(server: EmbeddedServer) -> AsyncIterator[Kit]:
    async with kitmsg.connect(server.url, makes_streams=True) as made:
        yield made
