"""One call to each instance of a service on the bus, and all their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from kitmsg.bus import Bus
from kitmsg.discovery.bus import instance_of, is_direct
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.subject import ServiceInfo, find_services
from kitmsg.errors import DeadlineExceeded, NoResponders, Unimplemented

__all__ = ["Answer", "Everyone", "ask_everyone", "everyone"]

_ASK_SECONDS = 1.0  # longest wait for who is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of one instance.

    Attributes:
        instance: The instance; its address is its id.
        value: What the endpoint returned; None beside an error.
        error: Why there is no value; None if there is one.
    """

    instance: Instance
    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Everyone:
    """The endpoints of a service, called on all its instances; see `everyone`."""

    def __init__(
        self, bus: Bus, service: str, client: Callable[[str], Any], timeout: float
    ) -> None:
        self._bus = bus
        self._service = service
        self._client = client
        self._timeout = timeout

    def __getattr__(self, name: str) -> Callable[..., AsyncIterator[Answer]]:
        getattr(self._client(""), name)  # an endpoint that is not there is told at once

        def method(*args: Any, **kwargs: Any) -> AsyncIterator[Answer]:
            def ask(instance: str) -> Any:
                return getattr(self._client(instance), name)(*args, **kwargs)

            return ask_everyone(
                self._bus, self._service, ask, timeout=self._timeout, endpoint=name
            )

        return method


async def ask_everyone(
    bus: Bus,
    service: str,
    ask: Callable[[str], Any],
    *,
    timeout: float,
    endpoint: str,
) -> AsyncIterator[Answer]:
    """Yield the answer of each instance, as they come.

    Args:
        bus: Where the service is.
        service: Its name.
        ask: Begins the call of an instance, by its id.
        timeout: Seconds for all answers together.
        endpoint: Name of the endpoint, for the error.

    Raises:
        NoResponders: No instance is there.
    """
    end = asyncio.get_running_loop().time() + timeout
    infos = await find_services(bus, service, timeout=min(timeout, _ASK_SECONDS))
    if not infos:
        raise NoResponders(f"{service}.{endpoint}")
    tasks = [asyncio.ensure_future(_answer(info, ask, end)) for info in infos]
    try:
        for next_ in asyncio.as_completed(tasks):
            yield await next_
    finally:
        for task in tasks:
            task.cancel()


async def _answer(info: ServiceInfo, ask: Callable[[str], Any], end: float) -> Answer:
    instance = instance_of(info)
    if not is_direct(info):
        text = f"instance {info.id} of {info.name} has no subject of its own"
        return Answer(instance=instance, error=Unimplemented(text))
    try:
        async with asyncio.timeout_at(end):
            return Answer(instance=instance, value=await ask(info.id))
    except TimeoutError:
        late = DeadlineExceeded(f"instance {info.id} did not answer in time")
        return Answer(instance=instance, error=late)
    except Exception as exc:  # noqa: BLE001  it is the answer
        return Answer(instance=instance, error=exc)


def everyone(
    bus: Bus, service: str, client: Callable[[str], Any], timeout: float
) -> Everyone:
    """Return an object whose methods call all instances and give an `Answer` of each.

    Args:
        bus: Where the service is.
        service: Its name.
        client: Makes the client of one instance, by its id; of the queue group for "".
        timeout: Seconds for all answers together.
    """
    return Everyone(bus, service, client, timeout)
