"""The services of the examples, their users, and connections as one of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator  # noqa: TC003  # of an endpoint
from typing import TYPE_CHECKING, Any

import kitmsg
from examples.addsvc.service import AddService
from examples.greeter import Greeter
from examples.orders import Inventory, Orders
from examples.ticker import Ticker
from kitmsg import Service, chain, endpoint
from kitmsg.cli.acl import server_config, users_of
from kitmsg.cli.app import main
from kitmsg.message import matches
from kitmsg.middleware import dedupe, log, rate_limit

if TYPE_CHECKING:
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.service import Kit
    from kitmsg.service.rights import Rights


class Blob(Service):
    """Takes and gives what is longer than a message, and streams."""

    @endpoint
    async def size(self, data: bytes) -> int:
        return len(data)

    @endpoint
    async def make(self, size: int) -> bytes:
        return b"x" * size

    @endpoint
    async def chunks(self, data: bytes) -> AsyncIterator[int]:
        yield len(data)
        yield 2

    @endpoint
    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item


class Kept(Service):
    """Keeps answers, and a limit, for its fleet."""

    middleware = (chain(rate_limit(1000, shared="kept"), log()),)

    @endpoint(middleware=[dedupe()])
    async def pay(self, cents: int) -> str:
        await asyncio.sleep(cents / 100)
        return secrets.token_hex(8)


CLASSES: list[Any] = [AddService, Greeter, Inventory, Orders, Ticker, Blob, Kept]

USERS = {user.name: user for user in users_of(CLASSES, [("kept", "greeter")], [])}


def configured(users: list[Rights], **replaced: str) -> str:
    """Return a configuration in which each user's password is its name."""
    text = re.sub(
        r"user: ([\w-]+), password: \$\w+",
        r"user: \1, password: \1",
        server_config(users),
    )
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def administered(text: str) -> str:
    """Return a configuration with one more user, ``admin``, who may do anything."""
    return text.replace(
        "users = [", "users = [\n    { user: admin, password: admin }", 1
    )


@contextlib.asynccontextmanager
async def connected(server: EmbeddedServer, name: str) -> AsyncIterator[Kit]:
    inbox = f"_INBOX_{name}"
    async with kitmsg.connect(
        server.url, user=name, password=name, inbox_prefix=inbox
    ) as kit:
        yield kit


@contextlib.asynccontextmanager
async def working(server: EmbeddedServer, *classes: Any) -> AsyncIterator[None]:
    """Serve classes, all as the user ``worker`` or each as itself."""
    async with contextlib.AsyncExitStack() as stack:
        for cls in classes:
            kit = await stack.enter_async_context(connected(server, cls.name))
            await kit.serve(cls)
        yield


def own(found: re.Match[str]) -> str:
    """Return the user's name as the password."""
    return f"password: {found[1].lower()}"


def some(subject: str) -> str:
    """Return a subject that a pattern matches."""
    return subject.replace("*", "zz").replace(">", "zz.zz")


def may(subject: str, allowed: tuple[str, ...]) -> bool:
    return any(matches(pattern, subject) for pattern in allowed)


def printed(capsys: Any, *words: str) -> str:
    assert main(["acl", *words]) == 0
    return str(capsys.readouterr().out)
