"""Verbs on what is stored: streams, events, tells, schedules, dead letters, consumers."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.cli.dead import _replay
from kitmsg.cli.events import _messages
from kitmsg.cli.stored import read_since
from kitmsg.events.dead import dead_stream, replay_subject
from kitmsg.jetstream import StreamConfig
from kitmsg.worker.load import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran

SHOP = '''
from kitmsg import Event, Service, endpoint, every, subscribe

class Placed(Event, subject="cli.orders.{region}.placed.{order_id}"):
    region: str
    order_id: str
    cents: int = 0

class ShopMailer(Service):
    """Thanks."""

    publishes = (Placed,)

    @subscribe(Placed, retries=())
    async def thank(self, event: Placed) -> None:
        if event.order_id == "bad":
            raise RuntimeError("no such customer")

    @endpoint(durable=True)
    async def send(self, to: str, times: int = 1) -> None: ...

    @endpoint
    async def ask(self) -> None: ...

    @every(days=1)
    async def nightly(self) -> None: ...
'''


@pytest.fixture
def url() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.url


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with the service; of another name each time, as modules are imported once."""
    name = f"shop_{secrets.token_hex(4)}.py"
    (tmp_path / name).write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.fixture
def serving(url: str, shop: str, cli: Callable[..., Ran]) -> Iterator[None]:
    """The service runs; its streams are made as an operator makes them."""
    assert cli("streams", "apply", shop, nats_url=url).code == 0
    (factory,) = load([shop])
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()

    async def serve() -> None:
        async with kitmsg.connect(url) as kit:
            await kit.serve(factory)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    yield
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def until(look: Callable[[], Any]) -> Any:
    for _ in range(200):
        found = look()
        if found:
            return found
        threading.Event().wait(0.05)
    raise AssertionError("it never came")


def test_streams_are_planned_as_a_migration_is(
    cli: Callable[..., Ran], url: str, shop: str
) -> None:
    ran = cli("streams", "plan", shop, nats_url=url)
    assert ran.code == 0
    assert cli("streams", "plan", "--check", shop, nats_url=url).code == 1
    assert "+ stream cli" in ran.out
    assert "    subject: event.cli.orders.*.placed.*" in ran.out
    assert "+ consumer shop_mailer-thank of cli" in ran.out
    assert ran.out.endswith("kitmsg streams apply makes it so\n")
    assert cli("streams", "apply", shop, nats_url=url).code == 0
    ran = cli("streams", "plan", "--check", shop, nats_url=url)
    assert (ran.code, ran.out) == (
        0,
        "all streams and consumers are as they are declared\n",
    )
    rows = cli("streams", "ls", nats_url=url).out
    assert "tell-shop_mailer" in rows
    shown = cli("streams", "show", "cli", nats_url=url).out
    assert "subjects   event.cli.orders.*.placed.*" in shown
    assert "shop_mailer-thank" in shown


def test_a_change_that_may_drop_messages_has_to_be_allowed(
    cli: Callable[..., Ran], url: str, shop: str, tmp_path: Path
) -> None:
    cli("streams", "apply", shop, nats_url=url)
    text = SHOP.replace("import Event,", "import Stream, Event,").replace(
        '{order_id}"):', '{order_id}", stream=Stream(name="cli", max_age=60)):'
    )
    (tmp_path / "shorter.py").write_text(text)
    ran = cli("streams", "plan", "shorter.py", nats_url=url)
    assert "! stream cli\n    max_age: none -> 60" in ran.out
    ran = cli("streams", "apply", "shorter.py", nats_url=url)
    assert ran.code == 7, ran
    assert "may drop messages (max_age: none -> 60, " in ran.err
    assert "; give --allow" in ran.err
    assert cli("streams", "apply", "shorter.py", "--allow", nats_url=url).code == 0
    assert cli("streams", "plan", "--check", "shorter.py", nats_url=url).code == 0


def test_an_event_is_published_and_read(
    cli: Callable[..., Ran], url: str, shop: str
) -> None:
    cli("streams", "apply", shop, nats_url=url)
    ran = cli(
        *("publish", "cli.orders.placed", "region=e.u", "order_id=5", "cents=7"),
        *("--target", shop),
        nats_url=url,
    )
    assert (ran.code, ran.out) == (0, "cli #1\n")
    data = '{"region": "us", "order_id": "A2"}'
    cli("publish", "cli.orders.placed", "-d", data, "--target", shop, nats_url=url)
    lines = cli("events", "cli.orders.placed", nats_url=url).out.splitlines()
    assert lines[0].startswith("#1  2")
    assert lines[0].endswith('{"region":"e.u","order_id":"5","cents":7}')
    ran = cli("events", "cli.orders.placed", "--since", "#2", "--json", nats_url=url)
    (row,) = map(json.loads, ran.out.splitlines())
    assert row["data"] == {"region": "us", "order_id": "A2", "cents": 0}
    ran = cli("events", "cli.orders.paid", nats_url=url)
    assert (ran.code, ran.out) == (0, "")
    assert "no 'cli.orders.paid' there" in ran.err
    assert "the stream cli has only cli.orders.placed" in ran.err


def test_an_event_that_does_not_fit_is_not_published(
    cli: Callable[..., Ran], url: str, shop: str
) -> None:
    def ran(*words: str) -> Ran:
        return cli("publish", *words, "--target", shop, nats_url=url)

    wrong = ran("cli.orders.placed", "region=eu", "order_id=A1", "cents=x")
    assert wrong.code == 5
    sentence = "cli.orders.placed: field 'cents': expected int, got str"
    assert wrong.err == f"kitmsg: {sentence}\n"
    fields = "region=eu", "order_id=A1"
    assert "field 'order_id' is missing" in ran("cli.orders.placed", fields[0]).err
    # A reader would ignore it; who writes it by hand has misspelt another.
    misspelt = ran("cli.orders.placed", *fields, "cnts=7")
    assert misspelt.code == 5
    assert "'cnts' is not known; known fields: region, order_id, cents" in misspelt.err
    unknown = ran("cli.orders.plaaced", "region=eu")
    assert unknown.code == 2
    assert "there is no event 'cli.orders.plaaced'" in unknown.err
    missing = ran("cli.orders.placed", "region=eu", "order_id=A1")
    assert "no stream stores" in missing.err


def test_stored_events_are_checked_against_todays_classes(
    cli: Callable[..., Ran], url: str, shop: str, tmp_path: Path
) -> None:
    cli("streams", "apply", shop, nats_url=url)
    for name in ("A1", "A2"):
        cli(
            *("publish", "cli.orders.placed", "region=eu", f"order_id={name}"),
            *("--target", shop),
            nats_url=url,
        )
    ran = cli("events", "check", "--against", "cli", shop, nats_url=url)
    assert (ran.code, ran.out) == (0, "2 events read, 0 do not fit\n")
    (tmp_path / "newer.py").write_text(SHOP.replace("cents: int = 0", "customer: str"))
    ran = cli("events", "check", "--against", "cli", "newer.py", nats_url=url)
    assert ran.code == 1
    assert ran.out.count("customer") == 2
    assert ran.out.endswith("2 events read, 2 do not fit\n")


def test_a_dead_letter_is_shown_replayed_and_dropped(
    cli: Callable[..., Ran], url: str, shop: str, serving: None
) -> None:
    def dead(*words: str) -> Ran:
        return cli("dead", *words, nats_url=url)

    assert dead("ls").out == "nothing is dead\n"
    for region in ("eu", "us"):
        cli(
            *("publish", "cli.orders.placed", f"region={region}", "order_id=bad"),
            *("--target", shop),
            nats_url=url,
        )
    rows = until(
        lambda: (r := json.loads(dead("ls", "--json").out)) and len(r) == 2 and r
    )
    assert {row["for"] for row in rows} == {"shop_mailer.thank"}
    assert rows[0]["reason"] == "no such customer"
    assert rows[0]["subject"] == "event.cli.orders.eu.placed.bad"
    shown = dead("show", str(rows[0]["number"])).out
    assert "Kit-Dead-Error: RuntimeError" in shown
    assert shown.endswith('{"region":"eu","order_id":"bad","cents":0}\n')
    number = str(rows[0]["number"])
    assert dead("show", number, number).code == 2
    assert dead("ls", "--name", "other").out == "nothing is dead\n"
    assert dead("ls", "--reason", "customer", "--since", "1h").out.count("bad") == 2
    assert dead("replay", number, number).out == "1 replayed\n"
    # It fails again, so it is dead again, and knows where it came from at first.
    again = until(
        lambda: [
            row
            for row in json.loads(dead("ls", "--json").out)
            if row["number"] > rows[1]["number"]
        ]
    )
    assert again[0]["subject"] == "event.cli.orders.eu.placed.bad"
    assert "Kit-Dead-Replays: 1" in dead("show", str(again[0]["number"])).out
    assert dead("replay").code == 2
    assert dead("drop", "--all").out == "2 dropped\n"
    assert dead("ls").out == "nothing is dead\n"


def test_a_replay_that_waits_is_no_dead_letter(
    cli: Callable[..., Ran], url: str
) -> None:
    """It is in the same stream, and neither replayed again nor dropped by its number."""

    async def store() -> None:
        async with kitmsg.connect(url) as kit:
            await kit.jetstream.create_stream(dead_stream())
            await kit.jetstream.publish(replay_subject("a.b"), b"{}")

    asyncio.run(store())
    for what, number in (("show", 1), ("drop", 1), ("replay", 1), ("show", 2)):
        ran = cli("dead", what, str(number), nats_url=url)
        assert ran.code == 3
        assert f"there is no dead letter {number}; see kitmsg dead ls" in ran.err
    assert "messages   1" in cli("streams", "show", "dead", nats_url=url).out


def test_a_tell_is_stored_shown_and_cancelled(
    cli: Callable[..., Ran], url: str, serving: None
) -> None:
    def ran(*words: str) -> Ran:
        return cli(*words, nats_url=url)

    assert ran("tell", "shop_mailer.send", "to=ann", "times=2").out.startswith(
        "tell-shop"
    )
    ran("tell", "shop_mailer.send", "to=5", "--after", "1h", "--id", "welcome 7")
    (row,) = json.loads(ran("schedules", "ls", "shop_mailer", "--json").out)
    assert (row["what"], row["id"]) == ("send", "welcome%207")
    assert row["payload"] == '{"to": "5"}'
    assert ran("schedules", "rm", "shop_mailer", "welcome 7").code == 0
    assert ran("schedules", "ls").out == "nothing waits for its time\n"
    assert ran("schedules", "rm", "shop_mailer", "welcome 7").code == 3
    assert "cannot be told" in ran("tell", "shop_mailer.ask").err
    shown = ran("info", "shop_mailer").out
    assert "publishes  cli.orders.placed\n" in shown
    assert "subscribes cli.orders.placed\n" in shown
    assert "schedules  nightly\n" in shown
    assert "nobody can be told 'shop_mailer.sned'; there is shop_mailer.send" in (
        ran("tell", "shop_mailer.sned", "to=ann").err
    )
    assert "missing to; write to=VALUE" in ran("tell", "shop_mailer.send").err
    misspelt = ran("tell", "shop_mailer.send", "to=ann", "tims=2").err
    assert "shop_mailer.send: field 'tims' is not known" in misspelt
    wrong = ran("tell", "shop_mailer.send", "to=ann", "times=x").err
    assert "shop_mailer.send: field 'times': expected integer, got string" in wrong
    assert not json.loads(ran("streams", "show", "tell-shop_mailer", "--json").out)[
        "stream"
    ]["messages"]
    rows = json.loads(ran("consumers", "--json").out)
    names = {row["consumer"] for row in rows}
    assert {"shop_mailer-thank", "shop_mailer-send", "shop_mailer-nightly"} <= names


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("streams", "plan"), "no services: name some"),
        (("streams", "show"), "name one stream"),
        (("dead", "show"), "name one number"),
        (("dead", "drop"), "give numbers, a filter, or --all"),
        (("dead", "show", "9"), "there is no dead letter 9; see kitmsg dead ls"),
        (("events", "x", "--since", "yesterday"), "no stream stores events named 'x'"),
        (("events", "check"), "name the stream"),
        (("publish", "a.b"), "no services: name some, as in --target shop.py"),
        (("events", "check", "--against", "x"), "as in kitmsg events check --against"),
        (("tell", "mailer.send", "--data", "[1]"), "--data must be a JSON object"),
        (("tell", "mailer"), "write SERVICE.ENDPOINT"),
        (("tell", "mailer.send", "--after", "soon"), "write a time such as 30s"),
        (
            ("tell", "mailer.send", "--after", "99999999d"),
            "kitmsg: --after 99999999d: after=",
        ),
        (("tell", "mailer.send", "--at", "noon"), "write a time such as 2026"),
        (("tell", "mailer.send", "--at", "9999-12-31"), "times up to 2262-04-11"),
        (
            ("tell", "mailer.send", "--at", "9999-12-31T23:59:59-05:00"),
            "--at 9999-12-31T23:59:59-05:00: NATS holds times up to 2262-04-11",
        ),
        (("tell", "mailer.send", "to=ann"), "no stream stores 'tell.mailer.send'"),
        (("schedules", "rm", "mailer"), "write kitmsg schedules rm SERVICE ID"),
        (("dead", "show", "-1"), "there is no dead letter -1; see kitmsg dead ls"),
        (("dead", "drop", "9" * 30), f"there is no dead letter {'9' * 30}; see"),
        (("streams", "show", "a b"), "'a b' is no name of a stream: letters"),
        (("streams", "show", "nowhere"), "there is no stream 'nowhere'; see kitmsg"),
        (("consumers", "nowhere"), "there is no stream 'nowhere'; see kitmsg streams"),
        (("events", "a.b", "id=5"), "'id=5' is not understood: kitmsg events NAME"),
    ],
)
def test_a_mistake_is_a_sentence(
    cli: Callable[..., Ran],
    url: str,
    words: tuple[str, ...],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli(*words, nats_url=url)
    assert ran.code != 0
    assert why in ran.err
    assert "Traceback" not in ran.err


def test_no_jetstream_is_a_sentence(cli: Callable[..., Ran]) -> None:
    with EmbeddedServer(jetstream=False) as server:
        ran = cli("streams", "ls", nats_url=server.url)
    assert ran.code == 7
    assert "JetStream is off on the NATS server" in ran.err


@pytest.mark.parametrize("since", ["2", "#2"])
def test_a_log_is_read_from_a_sequence(
    cli: Callable[..., Ran], url: str, shop: str, since: str
) -> None:
    """As over HTTP; a shell takes what begins with # for a comment."""
    cli("streams", "apply", shop, nats_url=url)
    words = ("publish", "cli.orders.placed", "region=eu")
    for name in ("A1", "A2", "A3"):
        cli(*words, f"order_id={name}", "--target", shop, nats_url=url)
    ran = cli("events", "cli.orders.placed", "--since", since, nats_url=url)
    assert [line.split()[0] for line in ran.out.splitlines()] == ["#2", "#3"]


def test_a_stream_to_check_against_is_there(
    cli: Callable[..., Ran], url: str, shop: str
) -> None:
    ran = cli("events", "check", "--against", "nowhere", shop, nats_url=url)
    assert ran.code == 3
    assert "there is no stream 'nowhere'" in ran.err


async def test_nothing_is_missed_between_a_log_and_what_comes() -> None:
    """An event that is published when the log was just read, and was empty."""
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        config = StreamConfig(name="cli", subjects=("event.cli.>",))
        stream = await kit.jetstream.create_stream(config)

        class Late:
            """The stream, where an event comes before the consumer that follows it."""

            read = stream.read

            async def create_consumer(self, config: Any) -> Any:
                await kit.jetstream.publish("event.cli.a", b"late")
                return await stream.create_consumer(config)

        late: Any = Late()
        messages = _messages(late, None, 0, follow=True)
        async with asyncio.timeout(20):
            assert (await anext(messages)).data == b"late"
        await messages.aclose()


async def test_a_replay_that_is_cut_short_says_how_far_it_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A letter that was replayed counts, though the replay was cut short."""
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        await kit.jetstream.create_stream(dead_stream())
        for _ in range(50):
            await kit.jetstream.publish("dead.a.b", b"{}")
        options = argparse.Namespace(
            what="replay", numbers=[], name="", reason="", since="", all=True
        )
        stream = await kit.jetstream.stream("dead")
        task = asyncio.create_task(_replay(kit, options))
        while (await stream.info()).last < 60:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        replayed = (await stream.info()).last - 50
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err in {
        f"kitmsg: {count} of 50 replayed\n" for count in (replayed - 1, replayed)
    }


def test_so_long_ago_that_no_clock_had_begun_is_the_beginning() -> None:
    assert read_since("999999999d", now=4000.0) == datetime.fromtimestamp(0, UTC)
