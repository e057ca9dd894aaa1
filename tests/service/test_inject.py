"""Constructors of services are given clients and the kit, and nothing that is a guess."""

from __future__ import annotations

import functools

import pytest

from kitmsg import Kit, Service, Supervision, endpoint
from kitmsg.errors import InvalidArgument
from kitmsg.metrics import Provider  # noqa: TC001  # found by its annotation
from kitmsg.metrics.memory import MemoryMetrics


class Inner(Service):
    """Called by others."""

    @endpoint
    async def twice(self, n: int) -> int:
        return 2 * n


class Outer(Service):
    """Calls another."""

    def __init__(self, inner: Inner, step: int = 1) -> None:
        self.inner = inner
        self.step = step

    @endpoint
    async def next(self, n: int) -> int:
        return await self.inner.twice(n) + self.step


class Curious(Service):
    """Wants the whole kit."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    @endpoint
    async def served(self) -> int:
        return len(self.kit.hosts)


class Counted(Service):
    """Counts for itself."""

    def __init__(self, metrics: Provider) -> None:
        self.asked = metrics.counter("asked_total")

    @endpoint
    async def ask(self) -> None:
        self.asked.add()


class Needy(Service):
    """Wants what nobody can guess."""

    def __init__(self, size: int, inner: Inner) -> None: ...

    @endpoint
    async def hello(self) -> str:
        return "hello"


def make_outer(inner: Inner) -> Outer:
    return Outer(inner, step=10)


async def test_class_gets_clients_of_the_services_it_asks_for(kit):
    """What stands in the annotation is called over the bus; defaults stay."""
    await kit.serve(Inner)
    await kit.serve(Outer)
    assert await kit.client(Outer).next(4) == 9


async def test_class_gets_the_metrics_of_its_kit(kit):
    """The same for all services of a kit, so that they can be read together."""
    metrics = MemoryMetrics()
    counted = Kit(kit.bus, metrics=metrics)
    await counted.serve(Counted)
    await kit.client(Counted).ask()
    assert metrics.value("asked_total") == 1
    assert kit.metrics is not metrics


async def test_function_gets_them_too(kit):
    """A function may make the service, and say the rest."""
    await kit.serve(Inner)
    await kit.serve(make_outer)
    assert await kit.client(Outer).next(4) == 18


async def test_wrapped_function_gets_what_the_inner_one_asks_for(kit):
    """A wrapper that says whom it wraps hides nothing."""

    @functools.wraps(make_outer)
    def wrapped(**arguments):
        return make_outer(**arguments)

    await kit.serve(Inner)
    await kit.serve(wrapped)
    assert await kit.client(Outer).next(4) == 18


async def test_kit_is_given_by_its_type(kit):
    """A service that calls by name needs the kit itself."""
    await kit.serve(Curious)
    assert await kit.client(Curious).served() == 1


async def test_missing_argument_is_named(kit):
    """Nothing is guessed; the message says which argument and what to do."""
    with pytest.raises(InvalidArgument, match=r"Needy needs 'size'; .* a default"):
        await kit.serve(Needy)


async def test_restarted_instance_is_given_the_same(kit):
    """A service that is made again has its clients again."""

    class Fragile(Outer):
        supervision = Supervision(policy="restart")

        @endpoint
        async def fail(self) -> None:
            raise RuntimeError

    await kit.serve(Inner)
    host = await kit.serve(Fragile)
    first = host.service
    with pytest.raises(Exception, match="internal"):
        await kit.client(Fragile).fail()
    assert await kit.client(Fragile).next(1) == 3
    while host.service is first:
        await kit.client(Fragile).next(1)
    assert await kit.client(Fragile).next(4) == 9


async def test_what_is_no_service_is_refused_as_before(kit):
    """Other classes are no services, with or without a signature."""
    with pytest.raises(TypeError, match=r"not a kitmsg\.Service"):
        await kit.serve(dict)
