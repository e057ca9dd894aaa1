"""Users of a NatsBus: passwords, tokens, keys, credentials, and what each may do."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    Disconnected,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
)
from tests.bus.jwt import Operator, new_user_key
from tests.bus.links import Changes, address, ask_in_flight, works

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
