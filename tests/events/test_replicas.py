"""Servers that keep what a service is told, its schedules and its dead letters."""

from __future__ import annotations

from kitmsg import Event, Service, Stream, endpoint, every, subscribe
from kitmsg.service.stored import declared_by


class Moved(Event, subject="stock.moved.{item}", stream=Stream(replicas=3)):
    item: str


class Told(Service):
    @endpoint(durable=True)
    async def told(self) -> None: ...

    @every(60)
    async def tick(self) -> None: ...


def replicas(*classes: type[Service]) -> dict[str, int]:
    found = declared_by(*classes).streams.values()
    return {stream.name: stream.replicas for stream in found}


def test_one_server_keeps_what_is_not_said_otherwise() -> None:
    assert replicas(Told) == {"tell-told": 1, "tick-told": 1, "dead": 1}


def test_a_service_says_how_many_servers_keep_its_tells_and_ticks() -> None:
    class Kept(Told):
        replicas = 3

    assert replicas(Kept) == {"tell-kept": 3, "tick-kept": 3, "dead": 3}


def test_a_service_is_kept_as_well_as_the_events_that_it_takes() -> None:
    class Heard(Told):
        @subscribe(Moved)
        async def note(self, event: Moved) -> None: ...

    kept = replicas(Told, Heard)
    assert (
        kept["stock"] == kept["tell-heard"] == kept["tick-heard"] == kept["dead"] == 3
    )
    assert kept["tell-told"] == 1
