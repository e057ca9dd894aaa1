"""pytest fixtures for services; pytest loads this by itself once kitmsg is installed.

    kit       services and clients on a bus in memory, in virtual time, with no server
    kit_nats  the same on a real ``nats-server``, in real time

    async def test_hello(kit):
        await kit.serve(Greeter())
        assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"

A coroutine test that asks for one of them needs no marker: it runs here, together with
its coroutine fixtures, on a loop of its own.  All other tests are left to whatever runs
them.  At the end the kit is drained and closed, tasks that still run are cancelled, and
an exception that nobody looked at fails the test.

Everything but pytest is imported when a fixture is first used.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import traceback
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator

    from kitmsg.bus import Bus
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.testing.kit import FixtureKit

__all__ = ["kit", "kit_nats"]

T = TypeVar("T")

_REAL_DRAIN_SECONDS = 1.0
_END = object()


@pytest.fixture
def kit(_kit_home: _Home) -> Iterator[FixtureKit]:
    """Services and clients on a `MemoryBus`, which is `kit.bus`, in virtual time."""
    from kitmsg.bus.memory import MemoryBus

    yield from _home_of_kit(_kit_home, MemoryBus(), None)


@pytest.fixture
def kit_nats(_kit_home: _Home, _kit_server: EmbeddedServer) -> Iterator[FixtureKit]:
    """Services and clients on a real server, one for each process that runs tests.

    A test has a connection of its own, not subjects of its own; streams that it made are
    deleted at its end.  Without a
    ``nats-server`` the test is skipped; with ``KITMSG_REQUIRE_ALL=1`` it fails.
    """
    from kitmsg.bus.nats import NatsBus

    bus = _kit_home.run(NatsBus.connect(_kit_server.url))
    yield from _home_of_kit(_kit_home, bus, _REAL_DRAIN_SECONDS)


@pytest.fixture
def _kit_home(request: pytest.FixtureRequest) -> Iterator[_Home]:
    """Return the loop of a test that asks for a kit; real time wins if it asks twice."""
    factory = _real_loop if "kit_nats" in request.fixturenames else _virtual_loop
    home = _Home(factory)
    yield home
    home.close()


@pytest.fixture(scope="session")
def _kit_server() -> Iterator[EmbeddedServer]:
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.errors import FailedPrecondition

    try:
        server = EmbeddedServer()
    except FailedPrecondition as exc:
        if os.environ.get("KITMSG_REQUIRE_ALL") == "1":
            pytest.fail(f"kit_nats: {exc}", pytrace=False)
        pytest.skip(f"kit_nats: {exc}")
    with server:
        yield server


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run a coroutine test on the loop of its kit."""
    __tracebackhide__ = True
    home = pyfuncitem.funcargs.get("_kit_home")
    test = _coroutine_function(pyfuncitem)
    if not isinstance(home, _Home) or test is None:
        return (yield)
    given = pyfuncitem.obj
    # Other plugins see a plain function, and leave it alone.
    pyfuncitem.obj = _in_home(home, test)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = given


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Run the coroutine fixtures of a test on the loop of its kit."""
    func = fixturedef.func
    is_generator = inspect.isasyncgenfunction(func)
    if (
        request.scope != "function"
        or "_kit_home" not in request.fixturenames
        or not (is_generator or inspect.iscoroutinefunction(func))
    ):
        return (yield)
    home: _Home = request.getfixturevalue("_kit_home")
    wrap = _generator_in_home if is_generator else _in_home
    fixturedef.func = wrap(home, _bound(func, request.instance))  # type: ignore[misc]  # final for us, not for pytest
    try:
        return (yield)
    finally:
        fixturedef.func = func  # type: ignore[misc]


def _bound(func: Callable[..., Any], instance: object) -> Callable[..., Any]:
    """Return a fixture that is a method bound to the test's own instance."""
    if inspect.ismethod(func) and type(func.__self__) is type(instance):
        method: Callable[..., Any] = func.__func__.__get__(instance)
        return method
    return func


class _Home:
    """The event loop of one test, and what went wrong on it unseen."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._runner = asyncio.Runner(loop_factory=loop_factory)
        self._failed: list[asyncio.Task[Any]] = []
        self._unseen: list[str] = []
        loop = self._runner.get_loop()
        loop.set_exception_handler(self._note)
        loop.set_task_factory(self._task)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine until it is done."""
        __tracebackhide__ = True
        return self._runner.run(coroutine)

    def close(self) -> None:
        """Cancel what still runs and close the loop.

        Fails the test for exceptions of tasks and callbacks that nobody looked at.
        """
        self._runner.close()
        self.check(at_end=True)

    def check(self, *, at_end: bool = False) -> None:
        """Fail the test for exceptions that nobody looked at so far.

        Args:
            at_end: Leave out calls that failed because the kit was closed.
        """
        from kitmsg.errors import Unavailable

        texts, self._unseen = self._unseen, []
        failed, self._failed = self._failed, []
        for task in failed:
            if not task._log_traceback:  # noqa: SLF001
                continue
            error = task.exception()
            if not (at_end and isinstance(error, Unavailable)):
                texts.append(_text_of(error, f"task {task.get_name()!r}"))
        if texts:
            head = "an exception that nobody looked at, in "
            pytest.fail("\n".join(head + text for text in texts), pytrace=False)

    def _task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        # `task.exception()` would count as a look at it.
        if not task.cancelled() and task._log_traceback:  # noqa: SLF001
            self._failed.append(task)

    def _note(self, _: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        error = facts.get("exception")
        self._unseen.append(_text_of(error, facts.get("message", "the event loop")))


def _text_of(error: BaseException | None, where: str) -> str:
    lines = traceback.format_exception(error) if error is not None else []
    return f"{where}:\n{''.join(lines)}".rstrip()


def _home_of_kit(
    home: _Home, bus: Bus, drain_seconds: float | None
) -> Iterator[FixtureKit]:
    from kitmsg.testing.callers import TEST_TRUST
    from kitmsg.testing.kit import FixtureKit

    made = FixtureKit(bus, trust=TEST_TRUST)
    yield made

    async def close() -> None:
        try:
            await made.drain(drain_seconds)
            await made.forget()
        finally:
            await bus.close()

    home.run(close())


def _virtual_loop() -> asyncio.AbstractEventLoop:
    from kitmsg.testing.loop import VirtualTimeLoop

    return VirtualTimeLoop()


def _real_loop() -> asyncio.AbstractEventLoop:
    from kitmsg.loops import new_loop

    return new_loop()


def _coroutine_function(item: pytest.Function) -> Callable[..., Any] | None:
    """Return the coroutine function of a test; None if it is none."""
    test: Callable[..., Any] = item.obj
    if type(item).__module__.startswith("pytest_asyncio"):
        test = inspect.unwrap(test)  # it wraps the test just before it is called
    return test if inspect.iscoroutinefunction(test) else None


def _in_home(home: _Home, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        result = home.run(function(*args, **kwargs))
        home.check()
        return result

    return run


def _generator_in_home(home: _Home, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        steps = function(*args, **kwargs)

        async def step() -> Any:
            return await anext(steps, _END)

        yield home.run(step())
        if home.run(step()) is not _END:
            pytest.fail(f"fixture {function.__name__} yields more than once")

    return run
