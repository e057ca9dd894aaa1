"""Consul: passing instances of a service, by blocking queries; entries with a TTL check.

    consul://127.0.0.1:8500/payments?tag=v2&dc=eu

Options: ``tag`` (several: all of them), ``dc``, ``passing=false`` for those with failing
checks too, ``token`` (else ``CONSUL_HTTP_TOKEN``), ``wait`` and ``timeout`` in seconds, TLS.
An entry has ``ttl`` and ``deregister_after``, in seconds: without a renewal it does not pass
after the one and is removed after the other, which Consul takes for a minute at least.

Source: Consul's HTTP API, "Blocking Queries", "Health" and "Agent".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from kitmsg.bus import Bus
from kitmsg.discovery.address import TLS_OPTIONS, Address, join_host_port
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.rest import Answer, Rest, decode
from kitmsg.errors import Unavailable

__all__ = ["ConsulEntry", "ConsulSource", "entry", "source"]

_PORT: Final = 8500
_COMMON: Final = ("dc", "token", "timeout", *TLS_OPTIONS)
_SHORTEST: Final = 0.1  # seconds from one query to the next, whatever the index does
_NOT_FOUND: Final = 404


class _Weights(msgspec.Struct, rename="pascal"):
    passing: int = 1


class _Service(msgspec.Struct, rename="pascal"):
    port: int = 0  # a service needs none
    address: str = ""
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    weights: _Weights = msgspec.field(default_factory=_Weights)


class _Node(msgspec.Struct, rename="pascal"):
    address: str = ""
    datacenter: str = ""


class _Healthy(msgspec.Struct, rename="pascal"):
    node: _Node
    service: _Service


class ConsulSource:
    """Instances of a service in Consul.

    Args:
        address: With the scheme ``consul``.

    Raises:
        ValueError: The address lacks the service, or has something Consul does not.
    """

    def __init__(self, address: Address) -> None:
        address.expect("tag", "passing", "wait", *_COMMON)
        self.name = str(address)
        self._path = f"/v1/health/service/{quote(_service(address), safe='')}"
        self._wait = address.number("wait", 30.0, least=0.1)
        self._params = [("tag", tag) for tag in address.options.get("tag", ())]
        if address.text("dc"):
            self._params.append(("dc", address.text("dc")))
        if "passing" not in address.options or address.flag("passing"):
            self._params.append(("passing", "1"))
        self._address = address
        _rest(address)  # says now what is wrong

    async def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield the instances after every blocking query."""
        index, loop = 0, asyncio.get_running_loop()
        async with _rest(self._address) as rest:
            while True:
                began = loop.time()
                answer = await self._query(rest, index)
                found = decode(answer.data, list[_Healthy])
                index = _index(answer, index)
                yield [_instance(each) for each in found if each.service.port]
                await asyncio.sleep(max(0.0, began + _SHORTEST - loop.time()))

    async def _query(self, rest: Rest, index: int) -> Answer:
        """Return the answer when it is another than that of `index`, or time is up."""
        params, seconds = [*self._params], rest.timeout
        if index:
            params += [("index", str(index)), ("wait", f"{self._wait * 1000:.0f}ms")]
            seconds += self._wait * 17 / 16  # Consul adds up to a sixteenth
        answer = await rest.call("GET", self._path, params=params, timeout=seconds)
        rest.check(answer)
        return answer


class ConsulEntry:
    """An instance as a service of the local agent, with a TTL check.

    Args:
        address: With the scheme ``consul``; its path is the service.
        instance: The instance; weights are whole numbers there.

    Raises:
        ValueError: The address lacks the service, or has something Consul does not.
    """

    def __init__(self, address: Address, instance: Instance) -> None:
        address.expect("ttl", "deregister_after", "tag", *_COMMON)
        ttl = address.number("ttl", 10.0, least=0.1)
        service = _service(address)
        self.name = f"{address} ({instance})"
        self.every = ttl / 3
        self._id = f"{service}-{instance}"
        self._rest = _rest(address)
        facts = {"zone": instance.zone, "version": instance.version}
        host, _, port = instance.address.rpartition(":")
        self._body = {
            "ID": self._id,
            "Name": service,
            "Address": host.strip("[]"),
            "Port": int(port),
            "Tags": [*instance.tags, *address.options.get("tag", ())],
            "Meta": {**{k: v for k, v in facts.items() if v}, **instance.metadata},
            "Weights": {"Passing": max(1, round(instance.weight)), "Warning": 1},
            "Check": {
                "CheckID": f"service:{self._id}",
                "Name": "announces itself",
                "TTL": f"{ttl * 1000:.0f}ms",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": (
                    f"{address.number('deregister_after', 60.0):.0f}s"
                ),
            },
        }

    async def announce(self) -> None:
        """Register the service with its check passing."""
        params = {"replace-existing-checks": "true"}
        path = "/v1/agent/service/register"
        self._rest.check(
            await self._rest.call("PUT", path, params=params, body=self._body)
        )

    async def renew(self) -> bool:
        """Pass the check."""
        path = f"/v1/agent/check/update/{quote(f'service:{self._id}', safe='')}"
        answer = await self._rest.call("PUT", path, body={"Status": "passing"})
        if answer.status == _NOT_FOUND or b"unknown check" in answer.data.lower():
            return False
        self._rest.check(answer)
        return True

    async def withdraw(self) -> None:
        """Deregister the service."""
        path = f"/v1/agent/service/deregister/{quote(self._id, safe='')}"
        answer = await self._rest.call("PUT", path)
        if (
            answer.status != _NOT_FOUND
            and b"unknown service" not in answer.data.lower()
        ):
            self._rest.check(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()


def source(address: Address, bus: Bus | None, /) -> ConsulSource:
    """Return the service that an address means; see `InstancerKind`."""
    return ConsulSource(address)


def entry(address: Address, instance: Instance, /) -> ConsulEntry:
    """Return the entry that an address means; see `RegistrarKind`."""
    return ConsulEntry(address, instance)


def _service(address: Address) -> str:
    if not address.path or "/" in address.path:
        raise address.wrong("name one service, as in consul://127.0.0.1:8500/payments")
    return address.path


def _rest(address: Address) -> Rest:
    token = address.text("token") or os.environ.get("CONSUL_HTTP_TOKEN", "")
    return Rest(
        address,
        _PORT,
        headers={"X-Consul-Token": token} if token else {},
        timeout=address.number("timeout", 5.0, least=0.1),
        secrets=(token,),
    )


def _index(answer: Answer, before: int) -> int:
    """Return the index to wait from.

    Raises:
        Unavailable: There is none, or it went back: Consul has forgotten what it knew.
    """
    text = answer.headers.get("X-Consul-Index", "")
    if not (text.isascii() and text.isdigit()):
        raise Unavailable("its answer has no X-Consul-Index")
    if int(text) < before:
        raise Unavailable(f"its index went back from {before} to {text}")
    return max(1, int(text))


def _instance(found: _Healthy) -> Instance:
    service, facts = found.service, found.service.meta or {}
    return Instance(
        address=join_host_port(service.address or found.node.address, service.port),
        weight=float(service.weights.passing),
        zone=facts.get("zone", "") or found.node.datacenter,
        version=facts.get("version", ""),
        tags=tuple(sorted(service.tags or ())),
        metadata=facts,
    )
