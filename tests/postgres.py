"""A PostgreSQL server for tests, and empty databases on it."""

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
from sqlalchemy.ext.asyncio import create_async_engine

from tests.require import miss

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["empty_database", "postgres"]


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


async def empty_database(address: str, driver: str = "asyncpg") -> str:
    """Make a database on the server at `address`; returns SQLAlchemy's URL of it."""
    name = f"t{secrets.token_hex(6)}"
    root = create_async_engine(
        f"postgresql+{driver}://kit@{address}/postgres", isolation_level="AUTOCOMMIT"
    )
    async with root.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await root.dispose()
    return f"postgresql+{driver}://kit@{address}/{name}"


def _program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = shutil.which(name) or (str(found[-1]) if found else "")
    return path or miss(f"PostgreSQL's {name} is missing; install postgresql")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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
