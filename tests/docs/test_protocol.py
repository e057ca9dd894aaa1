"""The byte-level examples of docs/protocol.md, replayed over TCP against a real server.

Each example is a block after ``<!-- example: NAME; served: WHAT -->``.  Lines that begin
with ``>`` are sent, those with ``<`` must come back, byte for byte; ``--`` is something
that happens meanwhile.  Indented lines continue the one before.  ``<word>`` stands for
bytes that vary; the same word in one example stands for the same bytes.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from examples.addsvc.service import AddService
from examples.greeter import Greeter
from examples.orders import Inventory, Orders
from examples.shop.events import OrderPaid
from examples.shop.mail import Mail
from examples.stringsvc import stringsvc1
from examples.ticker import Ticker
from kitmsg.auth.allow import known
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.errors import Code
from kitmsg.events.dead import DEAD, replay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()

BLOCK = re.compile(
    r"<!-- example: (?P<name>[\w-]+); served: (?P<served>[\w, -]+) -->\n"
    r"+```text\n(?P<text>.*?)```",
    re.DOTALL,
)
PLACEHOLDER = re.compile(r"<(\w+)>")
FORMS = {
    "instance": rb"[0-9a-f]{16}",
    "id": rb"[0-9a-f]{16}",
    "schema": rb"[0-9a-f]+",
    "inbox": rb"\S+",
    "n": rb"\d+",
    "time": rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
    "event": rb"[\w-]+",
    "hash": rb"[0-9a-f]{16}",
    "another": rb"\S+",
    "unix": rb"\d+\.\d+",
    "micros": rb"\d{16}",
    "seconds": rb"\d+\.\d+",
    "due": rb"\d{4}-\d\d-\d\dT[\d:.]+Z",
}
SECONDS = 30.0


@dataclass(frozen=True)
class Example:
    """One block: what it is called, what it needs, and its steps."""

    name: str
    served: str
    steps: list[tuple[str, str]]


def read_examples(page: str) -> list[Example]:
    """Return the examples of a page, in order."""
    return [
        Example(match["name"], match["served"], read_steps(match["text"]))
        for match in BLOCK.finditer(page)
    ]


def read_steps(text: str) -> list[tuple[str, str]]:
    """Return sign and text of each step, continued lines joined."""
    steps: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("  "):
            sign, so_far = steps.pop()
            steps.append((sign, so_far + line.strip()))
        elif line:
            sign, _, rest = line.partition(" ")
            steps.append((sign, rest))
    return steps


def to_bytes(text: str) -> bytes:
    r"""Return what C-style escapes stand for: ``\r``, ``\n``, ``\xNN`` and so on."""
    return text.encode().decode("unicode_escape").encode("latin-1")


class Peer:
    """A client that knows nothing but TCP, and fills in the placeholders."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self._known: dict[str, bytes] = {}

    async def send(self, text: str) -> None:
        """Send the bytes that `text` stands for."""
        for name, value in self._known.items():
            text = text.replace(f"<{name}>", value.decode())
        self._writer.write(to_bytes(text))
        await self._writer.drain()

    async def expect(self, text: str) -> None:
        """Read until what came is what `text` says; anything else fails."""
        want = self._pattern(text)
        try:
            async with asyncio.timeout(SECONDS):
                while (found := want.match(self._buffer)) is None:
                    await self._read()
        except TimeoutError:
            pytest.fail(f"wanted {text}\ngot    {self._buffer!r}", pytrace=False)
        self._known.update(found.groupdict())
        self._buffer = self._buffer[found.end() :]

    async def _read(self) -> None:
        chunk = await self._reader.read(65536)
        assert chunk, "the server hung up"
        self._buffer += chunk
        if b"PING\r\n" in self._buffer:
            self._buffer = self._buffer.replace(b"PING\r\n", b"")
            await self.send(r"PONG\r\n")

    async def settle(self) -> None:
        """Wait until the server has seen all that was sent."""
        await self.send(r"PING\r\n")
        await self.expect(r"PONG\r\n")

    def assert_nothing_left(self) -> None:
        """Fail if more came than an example says."""
        assert self._buffer == b""

    def _pattern(self, text: str) -> re.Pattern[bytes]:
        parts = []
        seen = set(self._known)
        for i, part in enumerate(PLACEHOLDER.split(text)):
            if i % 2 == 0:
                parts.append(re.escape(to_bytes(part)))
            elif part in self._known:
                parts.append(re.escape(self._known[part]))
            elif part == "n":
                parts.append(FORMS[part])
            elif part in seen:
                parts.append(b"(?P=%b)" % part.encode())
            else:
                seen.add(part)
                parts.append(b"(?P<%b>%b)" % (part.encode(), FORMS[part]))
        return re.compile(b"".join(parts), re.DOTALL)


@pytest.fixture(scope="module")
def plain() -> Iterator[EmbeddedServer]:
    """A server with nobody else on it."""
    with EmbeddedServer(jetstream=False) as embedded:
        yield embedded


@pytest.fixture
def server(plain: EmbeddedServer, example: Example) -> Iterator[EmbeddedServer]:
    """The same, or where something is stored one of the example's own."""
    if example.served.removeprefix("nobody, then ") not in STORED:
        yield plain
        return
    with EmbeddedServer() as embedded:
        yield embedded


class Clock(kitmsg.Service):
    """Has a schedule."""

    @kitmsg.every(1)
    async def strike(self) -> None: ...


def full_inventory() -> Inventory:
    """Return a service that can do one thing at a time, and lets nobody wait."""
    inventory = Inventory({"teapot": 5})
    inventory.concurrency, inventory.mailbox = 1, 0
    return inventory


SERVED: dict[str, Callable[[kitmsg.Kit], kitmsg.Service]] = {
    "greeter": lambda _: Greeter(),
    "addsvc": lambda _: AddService(),
    "ticker": lambda _: Ticker(),
    "inventory": lambda _: Inventory({"teapot": 5}),
    "inventory with room for one": lambda _: full_inventory(),
    "orders": lambda kit: Orders(kit.client(Inventory)),
    "orders with a bug": lambda _: Orders(None),  # type: ignore[arg-type]
    "mail": Mail,
    "clock": lambda _: Clock(),
}
STORED = ("mail", "clock")


async def until(
    look: Callable[[], Awaitable[Any]], is_so: Callable[[Any], bool]
) -> None:
    """Look until it is so; what is seen on the bus is stored a little later."""
    async with asyncio.timeout(SECONDS):
        while not is_so(await look()):
            await asyncio.sleep(0.01)


def stored_by(kit: kitmsg.Kit) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return what can be stored during an example."""

    async def replayed() -> None:
        stream = await kit.jetstream.stream(DEAD)
        await until(stream.info, lambda info: info.messages > 0)
        await replay(kit.jetstream, await stream.get(1, fresh=True))

    return {
        "an order is paid": lambda: kit.publish(OrderPaid("A1", 4200)),
        "the mail is sent": lambda: until(kit.client(Mail).sent, bool),
        "mail is told": lambda: kit.tell(Mail).ask_for_review("A1"),
        "mail is told for later": lambda: kit.tell(
            Mail, after=3600, id="review-A1"
        ).ask_for_review("A1"),
        "the dead letter is replayed": replayed,
    }


@asynccontextmanager
async def serving(
    kit: kitmsg.Kit, what: str
) -> AsyncIterator[dict[str, Callable[[], Awaitable[Any]]]]:
    """Serve what an example needs; yields what can happen during it."""
    if what == "stringsvc":
        intake = await stringsvc1.start(kit.bus, stringsvc1.BasicStrings())
        yield {}
        await intake.drain(0)
        return
    events: dict[str, Callable[[], Awaitable[Any]]] = {}
    if what.startswith("nobody, then "):
        service = SERVED[what.removeprefix("nobody, then ")](kit)
        events["the instance starts"] = lambda: kit.serve(service)
    elif what != "nobody":
        served = SERVED[what](kit)
        await kit.serve(served)
        if isinstance(served, Inventory):
            events["the turn begins"] = served.searching.wait
    events |= stored_by(kit)
    events["the instance stops"] = lambda: kit.drain(0)
    yield events
    await kit.drain(0)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Peer]:
    """Connect as the page says an example begins."""
    host, port = url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        await reader.readline()  # INFO
        peer = Peer(reader, writer)
        hello = r'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
        assert hello in PAGE
        await peer.send(hello)
        await peer.settle()
        yield peer
    finally:
        writer.close()
        await writer.wait_closed()


EXAMPLES = read_examples(PAGE)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
async def test_example_is_what_happens(server, example):
    """Every byte of the page is what a served example sends."""
    async with (
        kitmsg.connect(server.url, makes_streams=True) as kit,
        serving(kit, example.served) as events,
        connected(server.url) as peer,
    ):
        for sign, text in example.steps:
            if sign == "--":
                await peer.settle()
                await events[text]()
            else:
                await {">": peer.send, "<": peer.expect}[sign](text)
        await peer.settle()
        peer.assert_nothing_left()


def test_every_block_of_bytes_is_an_example():
    """No block of the page escapes the replay."""
    assert PAGE.count("```text\n") == len(EXAMPLES) > 10
    assert len({example.name for example in EXAMPLES}) == len(EXAMPLES)


def test_table_of_codes_is_the_one_in_use():
    """The page's numbers are those of `kitmsg.errors`."""
    row = re.compile(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", re.MULTILINE)
    written = {name: (int(http), int(grpc)) for name, http, grpc in row.findall(PAGE)}
    assert written == {code.value: (code.http, code.grpc) for code in Code}


def test_every_header_in_use_is_explained():
    """No header is sent or read that the page does not list."""
    from kitmsg import wire

    names = {
        getattr(wire, name)
        for name in wire.__all__
        if isinstance(getattr(wire, name), str)
    }
    headers = {name for name in names if not name.startswith(("_", "$"))}
    assert [name for name in headers if f"`{name}`" not in PAGE] == []


def test_table_of_endpoint_metadata_is_complete():
    """Whatever INFO may say of an endpoint is explained."""

    class Full(kitmsg.Service):
        @kitmsg.endpoint(
            http="GET /x",
            idempotent=True,
            timeout=1.0,
            wire="gokit",
            raises=[],
            cache=60,
            status=201,
            internal=True,
            allow=known,
        )
        async def everything(self) -> None:
            """Say it all."""

        @kitmsg.endpoint(durable=True)
        async def told(self) -> None:
            """Keep."""

        @kitmsg.endpoint
        async def rest(self) -> AsyncIterator[int]:
            """Stream."""
            yield 1

    keys = [key for d in Full.__declarations__.values() for key in d.metadata()]
    table = PAGE.partition("| key | meaning |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == set(keys)


def test_no_endpoint_is_named_like_a_control_subject():
    """The page says so; `greeter._schema` must mean one thing."""
    assert "no endpoint's begins with `_`" in " ".join(PAGE.split())
    with pytest.raises(ValueError, match=r"kept for control"):

        class Clash(kitmsg.Service):
            @kitmsg.endpoint(name="_schema")
            async def schema(self) -> None: ...
