"""NatsBus when things break: servers, links, users and certificates.

What it promises while all is well is in `test_contract`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from kitmsg.bus import natspy
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    KitError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from tests.bus.jwt import Operator, new_user_key
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from kitmsg.message import Message


def address(server: EmbeddedServer) -> str:
    return server.url.removeprefix("nats://")


class Changes:
    """What the watchers of a bus are told; await the next of one kind."""

    def __init__(self, bus: NatsBus) -> None:
        self.seen: list[bool] = []
        self._changed = asyncio.Event()
        bus.watch(self._note)

    def _note(self, up: bool) -> None:
        self.seen.append(up)
        self._changed.set()

    async def until(self, *expected: bool) -> None:
        """Wait until exactly `expected` was told."""
        while self.seen != list(expected):
            self._changed.clear()
            await self._changed.wait()


def echo(bus: NatsBus) -> Any:
    return lambda m: bus.publish(m.reply, m.data)


async def ask_in_flight(bus: NatsBus, subject: str = "hang") -> asyncio.Task[Message]:
    """Return an ask that a silent service has received."""
    received = asyncio.Event()
    bus.subscribe(subject, lambda _: received.set())
    task = asyncio.create_task(bus.request(subject, b"", 30))
    await received.wait()
    return task


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(jetstream=False) as server:
        yield server


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(server.url)
    yield bus
    await bus.close()


# -- servers that die, hang and come back ------------------------------------------


async def test_recovers_from_a_killed_server(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """Asks fail at once, new ones fail fast, and all works when the server is back."""
    bus.subscribe("echo", echo(bus), "q")
    asks = [await ask_in_flight(bus, f"hang.{i}") for i in range(3)]
    changes = Changes(bus)
    server.kill()
    for error in await asyncio.gather(*asks, return_exceptions=True):
        assert isinstance(error, Disconnected)
        assert error.sent
        assert str(error) == "the connection to the bus was lost"
    with pytest.raises(Disconnected) as info:
        await bus.request("echo", b"", 30)
    assert not info.value.sent
    server.restart()
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    assert bus.stats.reconnects == 1


async def test_asks_under_load_end_when_the_server_dies(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """Every one of many asks gets its reply or an error; none hangs."""
    bus.subscribe("echo", echo(bus), "q")
    answered = asyncio.Event()

    async def ask() -> None:
        while True:
            await bus.request("echo", b"", 30)
            answered.set()

    asks = [asyncio.create_task(ask()) for _ in range(100)]
    await answered.wait()
    server.kill()
    ends = await asyncio.gather(*asks, return_exceptions=True)
    assert {type(end) for end in ends} == {Disconnected}
    assert len(bus._connection.asks) == 0


async def test_finds_a_silent_server(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A half-open link ends after two unanswered life signs, and heals.

    Callers may be strangers: only the log says where the bus is, and why it was lost.
    """
    bus = await NatsBus.connect(server.url, ping_interval=0.05, connect_timeout=0.2)
    bus.subscribe("echo", echo(bus), "q")
    ask = await ask_in_flight(bus)
    changes = Changes(bus)
    server.pause()
    with pytest.raises(Disconnected, match=r"^the connection to the bus was lost$"):
        await ask
    assert "127.0.0.1" in caplog.text
    assert "stale connection" in caplog.text
    server.resume()
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    await bus.close()


async def test_flush_has_a_deadline(server: EmbeddedServer, bus: NatsBus) -> None:
    """A flush gives up in time; the answer that comes late harms nobody."""
    changes = Changes(bus)
    server.pause()
    with pytest.raises(DeadlineExceeded, match=r"in 0\.05 s"):
        await bus.flush(0.05)
    server.resume()
    await bus.flush()
    assert changes.seen == []


async def test_flush_ends_when_the_link_is_lost(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """A flush that waits is told, not left to its deadline."""
    server.pause()
    flush = asyncio.create_task(bus.flush(30))
    await asyncio.sleep(0)
    server.kill()
    with pytest.raises(Disconnected):
        await flush


async def test_bounds_what_waits_to_be_written(server: EmbeddedServer) -> None:
    """A server that takes nothing makes `publish` refuse, naming the limit."""
    bus = await NatsBus.connect(server.url, max_pending=64 << 10)
    server.pause()

    async def flood() -> None:
        for _ in range(100_000):
            bus.publish("it", bytes(32 << 10))
            await asyncio.sleep(0)

    with pytest.raises(ResourceExhausted, match="max_pending is 65536"):
        await flood()
    with pytest.raises(ResourceExhausted):
        await bus.request("it", b"", 5)
    assert len(bus._connection.asks) == 0
    server.resume()
    await bus.flush()
    bus.publish("it", b"")
    await bus.close()


async def test_close_does_not_hang_on_a_silent_server(server: EmbeddedServer) -> None:
    """Bytes that cannot leave are given up; `close` neither waits long nor raises."""
    bus = await NatsBus.connect(server.url)
    server.pause()
    for _ in range(200):
        bus.publish("it", bytes(32 << 10))
    async with asyncio.timeout(10):
        await bus.close()
    assert not bus.is_connected


async def test_close_of_a_dead_link(server: EmbeddedServer, bus: NatsBus) -> None:
    """A bus that is busy connecting again can be closed."""
    changes = Changes(bus)
    server.kill()
    await changes.until(False)
    await bus.close()
    await bus.close()
    with pytest.raises(Disconnected, match="the bus is closed"):
        bus.publish("it", b"")


async def test_a_dead_reader_is_replaced(bus: NatsBus) -> None:
    """The watchdog finds a reader that ended without a word."""
    bus.subscribe("echo", echo(bus), "q")
    changes = Changes(bus)
    reader = bus.client._reading_task
    assert reader is not None
    reader.cancel()
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"


async def test_a_dead_reconnection_is_restarted(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """The watchdog also looks after the task that connects again."""
    changes = Changes(bus)
    server.kill()
    await changes.until(False)
    task = bus.client._reconnection_task
    assert task is not None
    task.cancel()
    server.restart()
    await changes.until(False, True)


async def test_can_be_told_not_to_reconnect(server: EmbeddedServer) -> None:
    """With ``reconnect=False`` a lost link closes the bus for good."""
    bus = await NatsBus.connect(server.url, reconnect=False)
    ask = await ask_in_flight(bus)
    server.kill()
    with pytest.raises(Disconnected):
        await ask
    with pytest.raises(Disconnected, match="lost"):
        bus.publish("it", b"")
    server.restart()
    await bus.close()
    assert not bus.is_connected


async def test_counts_what_it_threw_away(bus: NatsBus) -> None:
    """A message accepted in the turn in which the link broke is counted.

    The first of a turn is with the socket at once.
    """
    bus.publish("it", b"")
    bus.publish("it", b"")
    await bus.client.force_reconnect()
    assert bus.stats.dropped == 1


# -- what must not stop the reader --------------------------------------------------


async def raw(server: EmbeddedServer, commands: bytes) -> None:
    """Send `commands` as a client of our own making, and wait for the PONG."""
    reader, writer = await asyncio.open_connection(*address(server).split(":"))
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(commands + b"PING\r\n")
    await reader.readuntil(b"PONG\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_subject_that_is_not_utf8_stops_nobody(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """Such a message is dropped and counted, also for nats-py's subscriptions."""
    seen: list[str] = []
    bus.subscribe("raw.>", lambda m: seen.append(m.subject))
    foreign = await bus.client.subscribe("raw.>")
    await bus.flush()
    changes = Changes(bus)
    await raw(server, b"PUB raw.\xff\xfe 1\r\nx\r\nPUB raw.a \xff 1\r\nx\r\n")
    await raw(server, b"PUB raw.good 1\r\nx\r\n")
    await bus.flush()
    assert seen == ["raw.good"]
    assert (await foreign.next_msg()).subject == "raw.good"
    assert bus.stats.bad_subjects == 4
    assert changes.seen == []


async def test_broken_headers_are_the_handlers_business(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """The header block is handed over as it came; looking at it may fail."""
    seen: list[Message] = []
    bus.subscribe("raw", seen.append)
    await bus.flush()
    await raw(server, b"HPUB raw 15 16\r\nNATS/1.0\r\n\xff\r\n\r\nx\r\n")
    await bus.flush()
    assert len(seen) == 1
    with pytest.raises(InvalidArgument):
        _ = seen[0].headers


async def test_a_slow_foreign_consumer_stops_nobody(
    bus: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    """nats-py reports each message it drops; that is logged once and costs nothing."""
    bus.subscribe("echo", echo(bus), "q")
    await bus.client.subscribe("flood", pending_msgs_limit=1)
    await bus.flush()
    for _ in range(50):
        bus.publish("flood", b"")
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    assert caplog.text.count("slow consumer on 'flood'") == 1


async def test_a_protocol_error_leads_to_a_new_connection(bus: NatsBus) -> None:
    """nats-py would close for good; here the next connection works."""
    bus.subscribe("echo", echo(bus), "q")
    changes = Changes(bus)
    bus._connection.send(b"NONSENSE\r\n")
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"


async def test_an_error_that_ends_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Connecting again would not help against a limit, so the link stays."""
    with EmbeddedServer(jetstream=False, config="max_subscriptions: 3") as server:
        bus = await NatsBus.connect(server.url)
        changes = Changes(bus)
        bus.subscribe("echo", echo(bus), "q")
        for i in range(5):
            bus.subscribe(f"more.{i}", lambda _: None)
        assert (await bus.request("echo", b"x", 5)).data == b"x"
        assert changes.seen == []
        assert caplog.text.count("maximum subscriptions exceeded") == 1
        await bus.close()


# -- beside nats-py -----------------------------------------------------------------


async def test_jetstream_works_beside_it(nats_bus: NatsBus) -> None:
    """The client underneath serves JetStream, push and pull, on the same link."""
    js = nats_bus.client.jetstream()
    await js.add_stream(name="BESIDE", subjects=["beside.*"])
    pushed = await js.subscribe("beside.a")
    for i in range(10):
        await js.publish("beside.a", b"%d" % i, headers={"N": str(i)})
    pull = await js.pull_subscribe("beside.*", durable="pull")
    pulled = await pull.fetch(10)
    assert [m.data for m in pulled] == [b"%d" % i for i in range(10)]
    first = await pushed.next_msg()
    assert first.headers == {"N": "0"}
    await js.delete_stream("BESIDE")


async def test_nats_py_does_not_replay_either(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """What is published through the client while down is refused, not kept."""
    seen: list[bytes] = []
    bus.subscribe("it", lambda m: seen.append(m.data))
    changes = Changes(bus)
    server.kill()
    await changes.until(False)
    with pytest.raises(Exception, match="outbound buffer limit"):
        await bus.client.publish("it", b"down")
    server.restart()
    await changes.until(False, True)
    await bus.client.publish("it", b"up")
    await bus.client.flush()
    assert seen == [b"up"]


# -- the first connection -----------------------------------------------------------


async def test_says_that_no_server_is_there() -> None:
    """The message names the address, without its password, and what to do."""
    port = free_port()
    with pytest.raises(Unavailable) as info:
        await NatsBus.connect(f"nats://ann:s3cret@127.0.0.1:{port}")
    assert str(info.value) == (
        f"no NATS server at nats://127.0.0.1:{port}: connection refused; start one with"
        " `kitmsg dev` or `docker compose up nats`, or set NATS_URL"
    )


async def test_says_that_a_host_does_not_exist() -> None:
    """A name that means nothing is said."""
    with pytest.raises(Unavailable, match=r"nats://no\.invalid:4222: host name not"):
        await NatsBus.connect("no.invalid")


async def test_gives_up_on_a_server_that_says_nothing() -> None:
    """Something that is not NATS ends the wait in time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mute = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match="no answer in time"):
            await NatsBus.connect(mute, connect_timeout=0.1)


async def test_passes_over_dead_servers(server: EmbeddedServer) -> None:
    """One of several addresses that answers is enough; order does not matter."""
    dead = f"127.0.0.1:{free_port()}"
    for servers in ([dead, address(server)], f"{address(server)} , nats://{dead}"):
        for _ in range(3):
            bus = await NatsBus.connect(servers)
            await bus.flush()
            await bus.close()


async def test_moves_to_another_server(server: EmbeddedServer) -> None:
    """When its server dies for good, the bus goes to another address it was given."""
    other = EmbeddedServer(jetstream=False)
    with other:
        bus = await NatsBus.connect([other.url, server.url])
        bus.subscribe("echo", echo(bus), "q")
        url = bus.client.connected_url
        assert url is not None
        changes = Changes(bus)
        (other if url.netloc == address(other) else server).kill()
        await changes.until(False, True)
        assert (await bus.request("echo", b"x", 5)).data == b"x"
        await bus.close()
        if url.netloc != address(other):
            server.restart()


async def test_can_wait_for_the_first_connection(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``wait=True`` a server may come later than its clients."""
    server.kill()
    task = asyncio.create_task(NatsBus.connect(server.url, wait=True))
    while "waiting for it" not in caplog.text:
        await asyncio.sleep(0.01)
    server.restart()
    bus = await task
    await bus.flush()
    await bus.close()


# -- users ----------------------------------------------------------------------------

USERS = """
authorization {
  users = [
    { user: ann, password: "p@ss/word" }
    { user: bob, password: bob, permissions: {
        publish: { deny: ["secret.>"] }, subscribe: { deny: ["other.>"] } } }
    { user: eve, password: eve, permissions: { subscribe: ["_eve.>", "open.>"] } }
  ]
}
"""


@pytest.fixture(scope="module")
def users() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(jetstream=False, config=USERS) as server:
        yield server


async def works(bus: NatsBus) -> None:
    """See that `bus` moves messages, and close it."""
    bus.subscribe("echo", echo(bus), "q")
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    await bus.close()


async def test_logs_in_with_a_password(users: EmbeddedServer) -> None:
    """As options, or percent-encoded in the address."""
    await works(await NatsBus.connect(users.url, user="ann", password="p@ss/word"))
    url = f"nats://ann:p%40ss%2Fword@{address(users)}"
    await works(await NatsBus.connect(url))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no user"),
        ({"user": "ann", "password": "wr0ng"}, "user 'ann' and a password"),
        ({"token": "wr0ng"}, "a token"),
    ],
)
async def test_says_who_was_refused(
    users: EmbeddedServer, options: dict[str, Any], words: str
) -> None:
    """A refusal names the server and the way tried, never the secret."""
    with pytest.raises(Unauthenticated) as info:
        await NatsBus.connect(users.url, **options)
    assert str(info.value) == (
        f"NATS server at {users.url} refused {words}: Authorization Violation"
    )


async def test_logs_in_with_a_token() -> None:
    """As an option, or in place of the user in the address."""
    with EmbeddedServer(
        jetstream=False, config='authorization { token: "t0ken" }'
    ) as server:
        await works(await NatsBus.connect(server.url, token="t0ken"))
        await works(await NatsBus.connect(f"nats://t0ken@{address(server)}"))
        with pytest.raises(Unauthenticated, match="a token"):
            await NatsBus.connect(server.url, token="other")


async def test_logs_in_with_an_nkey(tmp_path: Path) -> None:
    """The seed is given, or the file that holds it."""
    seed, public = new_user_key()
    config = f"authorization {{ users = [ {{ nkey: {public} }} ] }}"
    file = tmp_path / "user.nk"
    file.write_text(seed + "\n")
    with EmbeddedServer(jetstream=False, config=config) as server:
        await works(await NatsBus.connect(server.url, nkey_seed=seed))
        await works(await NatsBus.connect(server.url, nkey_file=str(file)))
        file.write_text(new_user_key()[0])
        with pytest.raises(Unauthenticated, match=r"the nkey in '.*user\.nk'"):
            await NatsBus.connect(server.url, nkey_file=str(file))


async def test_logs_in_with_a_creds_file(tmp_path: Path) -> None:
    """A JWT of an operator's account, and the key that goes with it."""
    operator = Operator()
    file = tmp_path / "user.creds"
    file.write_text(operator.creds())
    with EmbeddedServer(jetstream=False, config=operator.config()) as server:
        await works(await NatsBus.connect(server.url, creds=str(file)))
        file.write_text(Operator().creds())
        with pytest.raises(Unauthenticated, match=r"the credentials in '.*\.creds'"):
            await NatsBus.connect(server.url, creds=str(file))


async def test_keeps_trying_when_refused_later() -> None:
    """A refusal on connecting again may pass, so the bus goes on trying."""
    server = EmbeddedServer(jetstream=False, config=USERS)
    with server:
        bus = await NatsBus.connect(server.url, user="ann", password="p@ss/word")
        changes = Changes(bus)
        attempts = asyncio.Event()
        refused = bus._connection.where

        def noted() -> str:
            attempts.set()
            return refused()

        server.kill()
        await changes.until(False)
        server._config = "authorization { users = [ { user: ann, password: new } ] }"
        server.restart()
        bus._connection.where = noted  # type: ignore[method-assign]
        await attempts.wait()
        assert not bus.is_connected
        server._config = USERS
        server.restart()
        await changes.until(False, True)
        await bus.close()


async def test_fails_asks_that_are_not_allowed(
    users: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A denied ask fails at once, others go on; the log names the subject once."""
    bus = await NatsBus.connect(users.url, user="bob", password="bob")
    other = await ask_in_flight(bus)
    for _ in range(2):
        with pytest.raises(PermissionDenied, match=r"may not send to 'secret\.Place'"):
            await bus.request("secret.Place", b"", 30)
    assert not other.done()
    assert caplog.text.count("secret.place") == 1
    bus.subscribe("other.it", lambda _: None)
    await bus.flush()
    assert caplog.text.count("other.it") == 1
    assert bus.is_connected
    await bus.close()
    with pytest.raises(Disconnected):
        await other


async def test_says_when_replies_are_not_allowed(users: EmbeddedServer) -> None:
    """Without the right to listen for replies, asks fail instead of timing out."""
    bus = await NatsBus.connect(users.url, user="eve", password="eve")
    for _ in range(2):
        with pytest.raises(PermissionDenied, match="set inbox_prefix"):
            await bus.request("open.it", b"", 30)
    await bus.close()
    bus = await NatsBus.connect(
        users.url, user="eve", password="eve", inbox_prefix="_eve.box"
    )
    bus.subscribe("open.it", lambda m: bus.publish(m.reply, m.reply.encode()))
    assert (await bus.request("open.it", b"", 5)).data.startswith(b"_eve.box.")
    await bus.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        ("", "not a NATS creds file"),
        ("-----BEGIN NATS USER JWT-----\n", "not a NATS creds file"),
    ],
)
async def test_names_a_bad_creds_file(
    tmp_path: Path, content: str | None, words: str
) -> None:
    """A creds file that cannot be used is refused before anything is tried."""
    file = tmp_path / "bad.creds"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidArgument, match=words) as info:
        await NatsBus.connect(creds=str(file))
    assert "bad.creds" in str(info.value)


async def test_names_a_bad_seed(tmp_path: Path) -> None:
    """A seed that is none is refused without being shown."""
    file = tmp_path / "bad.nk"
    file.write_text("SUNOTASEED")
    with pytest.raises(InvalidArgument, match=r"bad\.nk does not hold a valid nkey"):
        await NatsBus.connect(nkey_file=str(file))
    with pytest.raises(InvalidArgument, match="nkey_seed does not hold") as info:
        await NatsBus.connect(nkey_seed="SUNOTASEED")
    assert "SUNOTASEED" not in str(info.value)


async def test_names_the_extra_for_nkeys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package nkeys the message says what to install."""
    monkeypatch.setitem(sys.modules, "nkeys", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'kitmsg\[auth\]'"):
        await NatsBus.connect(nkey_seed="SU")


# -- TLS --------------------------------------------------------------------------------


class Certificates:
    """An authority, a server's certificate and a client's, as files."""

    def __init__(self, folder: Path) -> None:
        authority, self.ca = trustme.CA(), str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
        self.other_ca = str(folder / "other.pem")
        self.server = self._issue(authority, folder / "server.pem", "127.0.0.1")
        self.client = self._issue(authority, folder / "client.pem", "ann@kit.test")

    @staticmethod
    def _issue(authority: trustme.CA, file: Path, identity: str) -> str:
        authority.issue_cert(identity).private_key_and_cert_chain_pem.write_to_path(
            file
        )
        return str(file)

    def config(self, *extra: str) -> str:
        """The server's side, in its own words."""
        files = f'cert_file: "{self.server}", key_file: "{self.server}"'
        return f"tls {{ {', '.join([files, *extra])} }}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


async def test_speaks_tls(certificates: Certificates) -> None:
    """With the authority's file, or a context of one's own."""
    with EmbeddedServer(jetstream=False, config=certificates.config()) as server:
        await works(await NatsBus.connect(server.url, tls_ca=certificates.ca))
        context = ssl.create_default_context(cafile=certificates.ca)
        url = f"tls://{address(server)}"
        bus = await NatsBus.connect(url, tls=context)
        assert bus.client._transport is not None
        assert bus._connection._out.wire is not None
        assert bus._connection._out.wire.get_extra_info("ssl_object") is not None
        await works(bus)


async def test_reconnects_over_tls(certificates: Certificates) -> None:
    """A lost link that was encrypted is encrypted again."""
    with EmbeddedServer(jetstream=False, config=certificates.config()) as server:
        bus = await NatsBus.connect(server.url, tls_ca=certificates.ca)
        changes = Changes(bus)
        server.restart()
        await changes.until(False, True)
        await works(bus)


async def test_refuses_a_server_it_cannot_trust(certificates: Certificates) -> None:
    """A certificate from elsewhere, or for another name, is said to be so."""
    with EmbeddedServer(jetstream=False, config=certificates.config()) as server:
        with pytest.raises(Unavailable, match="certificate is not trusted"):
            await NatsBus.connect(server.url, tls_ca=certificates.other_ca)
        with pytest.raises(Unavailable, match=r"not trusted: .*kit\.test"):
            await NatsBus.connect(
                server.url, tls_ca=certificates.ca, tls_hostname="kit.test"
            )


async def test_does_not_fall_back_to_plain_text(server: EmbeddedServer) -> None:
    """Who asks for TLS gets TLS or nothing."""
    with pytest.raises(Unavailable, match="does not offer TLS"):
        await NatsBus.connect(f"tls://{address(server)}")


async def test_uses_tls_that_is_only_offered(certificates: Certificates) -> None:
    """A server that takes both is spoken to with TLS when that was asked for."""
    config = certificates.config() + "\nallow_non_tls: true"
    with EmbeddedServer(jetstream=False, config=config) as server:
        bus = await NatsBus.connect(server.url, tls_ca=certificates.ca)
        assert bus._connection._out.wire is not None
        assert bus._connection._out.wire.get_extra_info("ssl_object") is not None
        await bus.close()
        await works(await NatsBus.connect(server.url))


async def test_can_begin_with_tls(certificates: Certificates) -> None:
    """``tls_first`` speaks to servers that want the handshake before a word."""
    config = certificates.config("handshake_first: true")
    with EmbeddedServer(jetstream=False, config=config) as server:
        await works(
            await NatsBus.connect(server.url, tls_ca=certificates.ca, tls_first=True)
        )


async def test_proves_itself_with_a_certificate(certificates: Certificates) -> None:
    """mTLS: with the certificate it works, without it the message says what to set."""
    config = certificates.config(f'ca_file: "{certificates.ca}"', "verify: true")
    with EmbeddedServer(jetstream=False, config=config) as server:
        bus = await NatsBus.connect(
            server.url,
            tls_ca=certificates.ca,
            tls_cert=certificates.client,
            tls_key=certificates.client,
        )
        await works(bus)
        with pytest.raises(KitError, match="set tls_cert and tls_key") as info:
            await NatsBus.connect(server.url, tls_ca=certificates.ca)
        assert isinstance(info.value, Unauthenticated)


async def test_names_bad_tls_files(tmp_path: Path) -> None:
    """A file that is missing or holds something else is named."""
    file = tmp_path / "bad.pem"
    with pytest.raises(InvalidArgument, match=r"bad\.pem"):
        await NatsBus.connect(tls_ca=str(file))
    file.write_text("nothing")
    with pytest.raises(InvalidArgument, match=r"bad\.pem"):
        await NatsBus.connect(tls_cert=str(file))


async def test_an_untried_nats_py_is_read_by_its_own_reader(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning, and everything works."""
    monkeypatch.setattr(natspy, "VERSION", "2.99.0")
    with pytest.warns(RuntimeWarning, match=r"nats-py 2\.99\.0 was not tried"):
        bus = await NatsBus.connect(server.url)
    bus.subscribe("it", lambda message: bus.respond(message, b"yes"))
    assert (await bus.request("it", b"", 5)).data == b"yes"
    assert not bus._connection.is_fast
    await bus.close()


async def test_is_busy_long_before_it_is_full(nats_server: EmbeddedServer) -> None:
    """What can wait hears it at a quarter, so that the rest is left for what cannot."""
    bus = await NatsBus.connect(nats_server.url, max_pending=4 << 20)
    sent = 0

    def is_busy() -> bool:
        return bus.is_busy

    while not is_busy():
        bus.publish("test.nobody", b"x" * 500_000)
        sent += 1
    assert sent
    bus.publish("test.nobody", b"x" * 500_000)
    await bus.flush()
    assert not is_busy()
    await bus.close()
