"""The pytest plugin, from outside: small test files are run by a pytest of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypeAlias

import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import Disconnected

pytest_plugins = ["pytester"]

Outcome: TypeAlias = Callable[..., tuple[dict[str, int], str]]

QUIET = ("-p", "no:xdist", "-p", "no:hypothesispytest")  # slow to load, not needed

GREETER = """
import asyncio, pytest
from kitmsg import Service, endpoint

class Greeter(Service):
    @endpoint
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"
"""


class Greeter(Service):
    """Says hello."""

    @endpoint
    async def hello(self, name: str) -> str:
        """Greet by name."""
        return f"Hello, {name}!"


@pytest.fixture
def outcome(pytester: pytest.Pytester) -> Outcome:
    """Run a test file; return how many tests ended how, and what was printed."""

    def run(body: str, *options: str) -> tuple[dict[str, int], str]:
        pytester.makepyfile(GREETER + body)
        result = pytester.runpytest(*QUIET, "-Werror", *options)
        ends = {k: n for k, n in result.parseoutcomes().items() if k != "warnings"}
        return ends, result.stdout.str()

    return run


async def test_hello_as_the_manual_has_it(kit: kitmsg.Kit) -> None:
    """The fixture needs no marker, no server, and is typed."""
    await kit.serve(Greeter())
    assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"


async def test_time_is_virtual(kit: kitmsg.Kit) -> None:
    """A day passes at once."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.sleep(86_400)
    assert loop.time() - started >= 86_400


async def test_the_bus_can_be_cut(kit: kitmsg.Kit) -> None:
    """`kit.bus` is the bus in memory, with its switches for tests."""
    assert isinstance(kit.bus, MemoryBus)
    kit.bus.disconnect()
    with pytest.raises(Disconnected):
        await kit.client(Greeter).hello("Ann")


async def test_real_server(kit_nats: kitmsg.Kit) -> None:
    """`kit_nats` is the same on a real server."""
    assert not isinstance(kit_nats.bus, MemoryBus)
    await kit_nats.serve(Greeter())
    assert await kit_nats.client(Greeter).hello("Ann") == "Hello, Ann!"


@pytest.mark.parametrize(
    "options",
    [("-p", "no:anyio"), ("-o", "anyio_mode=auto"), ("-o", "anyio_mode=strict")],
    ids=["alone", "anyio-auto", "anyio-strict"],
)
def test_runs_coroutine_tests_and_fixtures(
    outcome: Outcome, options: tuple[str, ...]
) -> None:
    """Functions, methods and coroutine fixtures of a kit's test run on its loop."""
    ends, text = outcome(
        """
        @pytest.fixture
        async def greeter(kit):
            await kit.serve(Greeter())
            loop = asyncio.get_running_loop()
            yield kit.client(Greeter)
            assert asyncio.get_running_loop() is loop
            assert await kit.client(Greeter).hello("Bob") == "Hello, Bob!"

        @pytest.fixture
        async def loop(kit):
            return asyncio.get_running_loop()

        async def test_hello(greeter, loop):
            assert asyncio.get_running_loop() is loop
            assert await greeter.hello("Ann") == "Hello, Ann!"

        class TestHello:
            @pytest.fixture
            async def marked(self, kit):
                self.mark = 1

            async def test_method(self, greeter, marked):
                assert self.mark == 1
                assert await greeter.hello("Ann") == "Hello, Ann!"

        def test_sync(kit):
            assert kit.hosts == []
        """.replace("\n        ", "\n"),
        *options,
    )
    assert ends == {"passed": 3}, text


def test_leaves_other_tests_alone(outcome: Outcome) -> None:
    """A coroutine test without a kit is run by anyio, on anyio's loop."""
    ends, text = outcome(
        """
from kitmsg.testing import VirtualTimeLoop

async def test_other():
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
""",
        "-o",
        "anyio_mode=auto",
    )
    assert ends == {"passed": 1}, text


def test_a_lost_exception_fails_the_test(outcome: Outcome) -> None:
    """A task that fails while nobody looks is a failure, shown with its traceback."""
    ends, text = outcome("""
async def boom():
    raise ValueError("lost and found")

async def test_lost(kit):
    task = asyncio.create_task(boom())
    await asyncio.sleep(1)

async def test_seen(kit):
    with pytest.raises(ValueError):
        await asyncio.gather(boom(), boom())
""")
    assert ends == {"failed": 1, "passed": 1}, text
    assert "an exception that nobody looked at" in text
    assert "ValueError: lost and found" in text


def test_a_failed_callback_fails_the_test(outcome: Outcome) -> None:
    """So is an exception in a callback of the loop."""
    ends, text = outcome("""
def boom():
    raise ValueError("in a callback")

async def test_callback(kit):
    asyncio.get_running_loop().call_soon(boom)
    await asyncio.sleep(1)
""")
    assert ends == {"failed": 1}, text
    assert "ValueError: in a callback" in text


def test_a_failing_stop_is_told(outcome: Outcome) -> None:
    """What a service's `stop` raises at the end is an error of the test."""
    ends, text = outcome("""
class Bad(Service):
    async def stop(self):
        raise ValueError("cannot stop")

async def test_stop(kit):
    await kit.serve(Bad())
""")
    assert ends == {"passed": 1, "errors": 1}, text
    assert "ValueError: cannot stop" in text


def test_leftover_tasks_and_calls_are_ended(outcome: Outcome) -> None:
    """What still runs at the end is cancelled, and that is no failure."""
    ends, text = outcome("""
cancelled = []

class Slow(Service):
    @endpoint
    async def hang(self) -> None:
        await asyncio.Event().wait()

async def hang():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.append(1)
        raise

async def test_leftover(kit):
    await kit.serve(Slow())
    asyncio.create_task(hang())
    asyncio.create_task(kit.client(Slow, timeout=100).hang())
    await asyncio.sleep(1)

def test_after():
    assert cancelled == [1]
""")
    assert ends == {"passed": 2}, text


def test_what_fails_at_the_end_is_told(outcome: Outcome) -> None:
    """A leftover task that answers its cancellation with an error does not hide it."""
    ends, text = outcome("""
async def bad():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("at the end")

async def test_leftover(kit):
    asyncio.create_task(bad())
    await asyncio.sleep(1)
""")
    assert ends == {"passed": 1, "errors": 1}, text
    assert "ValueError: at the end" in text


def test_a_deadlock_is_named(outcome: Outcome) -> None:
    """A test that can never end fails at once, and says where it waits."""
    ends, text = outcome("""
async def test_stuck(kit):
    await asyncio.Event().wait()
""")
    assert ends == {"failed": 1}, text
    assert "deadlock" in text
    assert "in test_stuck" in text


def test_both_kits_share_real_time(outcome: Outcome) -> None:
    """A test may ask for both; then both are on a real loop."""
    ends, text = outcome("""
async def test_both(kit, kit_nats):
    await kit.serve(Greeter())
    await kit_nats.serve(Greeter())
    for each in (kit, kit_nats):
        assert await each.client(Greeter).hello("Ann") == "Hello, Ann!"
""")
    assert ends == {"passed": 1}, text


@pytest.mark.parametrize(
    ("required", "expected"), [("", {"skipped": 1}), ("1", {"errors": 1})]
)
def test_no_server(
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    required: str,
    expected: dict[str, int],
) -> None:
    """Without a server the test is skipped with a sentence, or fails where all must run."""
    monkeypatch.setenv("NATS_SERVER", os.devnull)
    monkeypatch.setenv("KITMSG_REQUIRE_ALL", required)
    ends, text = outcome(
        """
async def test_hello(kit_nats):
    pass
""",
        "-rs",
    )
    assert ends == expected, text
    assert "pip install 'kitmsg[server]'" in text


def test_loads_no_bus_and_no_server_code(pytester: pytest.Pytester) -> None:
    """Every pytest run on the machine imports the plugin, so it imports little."""
    pytester.makepyfile("""
import sys

def test_modules():
    for name in ("nats", "uvloop", "kitmsg.bus.embedded", "kitmsg.bus.nats"):
        assert name not in sys.modules, name
""")
    result = pytester.runpytest_subprocess(*QUIET)
    result.assert_outcomes(passed=1)
