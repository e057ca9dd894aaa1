"""DNS: A and AAAA records of a name, and SRV records of a service (RFC 2782).

    dns://payments.example:8080
    srv://_grpc._tcp.payments.example?resolver=10.0.0.2:53&max_ttl=30

DNS tells no changes, so it is asked again when the shortest TTL of an answer is over, within
``min_ttl`` and ``max_ttl`` seconds.  A target of an SRV record stays a name, which whoever
connects looks up; with resolvers of one's own those look it up, since nobody else may know
it.  A name that does not exist is an error, as after a slip in a zone; one without records
is an empty set.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, TypeVar

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from kitmsg.bus import Bus
from kitmsg.discovery.address import Address, join_host_port
from kitmsg.discovery.instance import Instance
from kitmsg.errors import Unavailable

__all__ = ["DnsSource", "source"]

T = TypeVar("T")

_PORT: Final = 53
_OPTIONS: Final = ("resolver", "min_ttl", "max_ttl", "timeout")


class DnsSource:
    """Records of a name, asked for again when they may have changed.

    Args:
        address: With the scheme ``dns`` or ``srv``.

    Raises:
        ValueError: The address lacks the name or the port, or has one too many.
    """

    def __init__(self, address: Address) -> None:
        address.expect(*_OPTIONS)
        self.name = str(address)
        self._is_srv = address.scheme == "srv"
        self._min_ttl = address.number("min_ttl", 5.0, least=0.01)
        self._max_ttl = address.number("max_ttl", 60.0, least=self._min_ttl)
        self._timeout = address.number("timeout", 5.0, least=0.1)
        self._resolvers = _resolvers(address)
        self._host, self._port = _name_and_port(address)

    async def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield what the records say, each time they were asked for."""
        while True:
            found, ttl = await self._look_up(await self._resolver())
            yield found
            await asyncio.sleep(min(max(ttl, self._min_ttl), self._max_ttl))

    async def _resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=not self._resolvers)
        if self._resolvers:
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(await _ip(host), port)
                for host, port in self._resolvers
            ]
        resolver.lifetime = self._timeout
        # Every resolver gets its turn before the time is up.
        resolver.timeout = self._timeout / (len(resolver.nameservers) + 1)
        return resolver

    async def _look_up(
        self, resolver: dns.asyncresolver.Resolver
    ) -> tuple[list[Instance], float]:
        """Return the instances, and the seconds for which that is true."""
        if not self._is_srv:
            return await self._located(resolver, self._host, self._port)
        records, ttl = await _ask(resolver, self._host, "SRV")
        wanted = [each for each in records if each.target.to_text() != "."]  # RFC 2782
        if not self._resolvers:
            return [_instance(*_server(each), **_facts(each)) for each in wanted], ttl
        answers = await asyncio.gather(
            *(
                self._located(resolver, *_server(each), **_facts(each))
                for each in wanted
            ),
            return_exceptions=True,
        )
        found = _without_missing(answers)
        ttl = min([ttl, *(seconds for _, seconds in found)])
        return [instance for some, _ in found for instance in some], ttl

    async def _located(
        self, resolver: dns.asyncresolver.Resolver, host: str, port: int, **facts: Any
    ) -> tuple[list[Instance], float]:
        """Return the instances at the addresses of a host."""
        answers = await asyncio.gather(
            _ask(resolver, host, "A"), _ask(resolver, host, "AAAA")
        )
        instances = [
            _instance(record.address, port, metadata={"host": host}, **facts)
            for records, _ in answers
            for record in records
        ]
        return instances, min((ttl for records, ttl in answers if records), default=0.0)


def source(address: Address, bus: Bus | None, /) -> DnsSource:
    """Return the records that an address means; see `InstancerKind`."""
    return DnsSource(address)


def _instance(host: str, port: int, **facts: Any) -> Instance:
    return Instance(address=join_host_port(host, port), **facts)


def _name_and_port(address: Address) -> tuple[str, int]:
    if len(address.hosts) != 1 or address.path or address.user:
        example = (
            "srv://_http._tcp.example.com"
            if address.scheme == "srv"
            else "dns://example.com:8080"
        )
        raise address.wrong(f"give one name, such as {example}")
    name, port = address.servers(0)[0]
    if address.scheme == "srv" and port:
        raise address.wrong("ports stand in SRV records; take it off the name")
    if address.scheme == "dns" and not port:
        raise address.wrong(f"records have no port; give it: dns://{name}:8080")
    return name, port


def _resolvers(address: Address) -> list[tuple[str, int]]:
    given = [
        part
        for text in address.options.get("resolver", ())
        for part in text.split(",")
        if part
    ]
    return Address(scheme="resolver", hosts=tuple(given)).servers(_PORT)


async def _ip(host: str) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as exc:
        raise Unavailable(f"its resolver {host} is not known: {exc}") from exc
    return str(found[0][4][0])


class _NoName(Unavailable):
    """A name does not exist."""


def _server(record: Any) -> tuple[str, int]:
    target = str(record.target.to_text(omit_final_dot=True))
    if record.port == 0:
        raise Unavailable(f"the SRV record of {target} has port 0")
    return target, int(record.port)


def _facts(record: Any) -> dict[str, Any]:
    return {"weight": float(record.weight), "priority": int(record.priority)}


def _without_missing(answers: list[T | BaseException]) -> list[T]:
    """Return the answers without targets that do not exist, if any does.

    Raises:
        Exception: The first failure of another kind, or all targets do not exist.
    """
    failed = [each for each in answers if isinstance(each, BaseException)]
    found = [each for each in answers if not isinstance(each, BaseException)]
    for each in failed:
        if not (found and isinstance(each, _NoName)):
            raise each
    return found


async def _ask(
    resolver: dns.asyncresolver.Resolver, name: str, kind: str
) -> tuple[list[Any], float]:
    """Return the records of a kind, maybe none, and the seconds for which that is true.

    Raises:
        Unavailable: There is no such name, or no answer.
    """
    try:
        answer = await resolver.resolve(name, kind, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN as exc:
        raise _NoName(f"there is no name {name} in DNS") from exc
    except dns.resolver.LifetimeTimeout as exc:
        seconds = exc.kwargs["timeout"]
        raise Unavailable(f"no answer for {name} within {seconds:.1f} s") from exc
    except dns.exception.DNSException as exc:
        raise Unavailable(f"no use in the answer for {name}: {exc}") from exc
    ttl = float(answer.chaining_result.minimum_ttl)  # of negative answers, too
    return list(answer.rrset or ()), ttl
