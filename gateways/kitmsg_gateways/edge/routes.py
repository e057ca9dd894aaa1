"""Routes of a gateway's calls: rules that say which instances of a service get them.

::

    orders=direct                  the instance where a call waits least
    orders.get=sticky:id           the same instance for the same field of the request
    orders=sticky:@x-user          the same instance for the same header of the client
    orders=version:~=1.4           instances of some versions
    orders=version:@x-kit-version  instances of the version that a header asks for
    split:1.4=95,1.5=5             shares of the calls, of every service

A rule is for a service, for one endpoint, or for all where it names neither.  The first one
that fits a call counts, and a rule that goes by a header fits the calls that bring it; a
call that none fits goes to the queue group.  A header is one of HTTP or THeader, a key of
gRPC metadata, or of ``_meta`` in MCP; it goes no further than the gateway.

Left out: the routes themselves, which are `kitmsg.balance.routes`'s.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakValueDictionary

import msgspec

from kitmsg.balance.fleet import Fleet
from kitmsg.balance.routes import Key, Route, parse_route, sticky, version
from kitmsg.errors import InvalidArgument
from kitmsg_gateways.edge.given import given

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.context import Context
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.discovery.instance import Instance
    from kitmsg.endpoints import Endpoint
    from kitmsg.message import Message
    from kitmsg.transport.caller import Caller
    from kitmsg.transport.stream import Stream

__all__ = ["RoutedCaller", "Routes", "Rule", "parse_rule"]

_WHERE: Final = re.compile(r"([\w-]+)(\.(?:[\w-]+|\*))?|\*", re.ASCII)
_HEADER: Final = re.compile(r"[a-z0-9_.-]{1,64}")
_MOST_CHARS: Final = 64  # of a version that a client asks for
_MOST_MADE: Final = 64  # calls of one endpoint by version and verb that are kept

_Verb = Literal["ask", "open", "publish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; see the module, and `parse_rule`.

    Attributes:
        service: Whose calls; "" for all.
        endpoint: Which of its endpoints; "" for all.
        header: That a call must bring, in lower case; "" for none.
        route: Chooses the instance; None where the header names a version.
    """

    service: str = ""
    endpoint: str = ""
    header: str = ""
    route: Route | None = None

    def covers(self, service: str, endpoint: str) -> bool:
        """Tell whether it is for the calls of an endpoint."""
        is_service = self.service in ("", service)
        return is_service and self.endpoint in ("", endpoint)

    def of(self, ctx: Context) -> Route | None:
        """Return the route of a call; None where the rule does not fit.

        Raises:
            InvalidArgument: The version that the header asks for is none.
        """
        if not self.header:
            return self.route
        value = given(ctx, self.header)
        if not value or self.route is not None:
            return self.route if value else None
        try:
            return _of_version(value)
        except ValueError:
            shown = value[:_MOST_CHARS]
            text = f"header {self.header} must be a version, such as 1.4, not {shown!r}"
            raise InvalidArgument(text, field=self.header) from None


def parse_rule(text: str) -> Rule:
    """Return the rule that a text means.

    Raises:
        ValueError: It means none.
    """
    where, found, said = text.partition("=")
    place = _WHERE.fullmatch(where) if found else None
    if place is None:  # that `=` is the route's own
        place, said = _WHERE.fullmatch("*"), text
    service, endpoint = (place[1], place[2]) if place is not None else ("", "")
    endpoint = (endpoint or "")[1:].replace("*", "")
    kind, at, name = said.partition(":@")
    header = name.strip().lower()
    try:
        route = _by_header(kind, header) if at else _by_field(parse_route(said))
    except ValueError as exc:
        raise ValueError(f"route {text!r}: {exc}") from None
    return Rule(service=service or "", endpoint=endpoint, header=header, route=route)


def _by_header(kind: str, header: str) -> Route | None:
    if not _HEADER.fullmatch(header):
        raise ValueError(f"{header!r} is no name of a header")
    if kind == "version":
        return None
    if kind != "sticky":
        raise ValueError("only sticky and version go by a header: write sticky:@NAME")

    def key(ctx: Context, _: Any) -> str:
        return given(ctx, header)

    return replace(sticky(f"@{header}"), key=key)


def _by_field(route: Route) -> Route:
    """Return a route that finds the field of its key in a request that is encoded."""
    if route.name != "sticky":
        return route
    return replace(route, key=_field_key(route.spec.partition(":")[2]))


def _field_key(name: str) -> Key:
    one = msgspec.defstruct("One", [("value", Any, None)], rename={"value": name})
    decoders: dict[str, Callable[[bytes], Any]] = {
        "json": msgspec.json.Decoder(one).decode,
        "msgpack": msgspec.msgpack.Decoder(one).decode,
    }

    def key(ctx: Context, data: Any) -> str:
        decode = decoders.get(ctx.codec.name) if ctx.codec is not None else None
        if decode is None:
            return ""
        try:
            value = decode(data).value
        except (msgspec.DecodeError, UnicodeDecodeError):  # the service says so
            return ""
        return "" if value is None else str(value)

    return key


@functools.lru_cache(1024)
def _of_version(text: str) -> Route:
    if len(text) > _MOST_CHARS:
        raise ValueError("it is too long for a version")
    return version(text)


class RoutedCaller:
    """The calls of one endpoint, each by the first rule that fits it.

    The same verbs as those of `Caller`, which has the calls that no rule fits.

    Args:
        rules: That are for the endpoint.
        fleet: Of its service.
        endpoint: The endpoint.
        group: Calls the queue group.
        make: Makes the caller of a subject.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        fleet: Fleet,
        endpoint: CatalogEndpoint,
        group: Caller,
        make: Callable[[str], Caller],
    ) -> None:
        self._rules = rules
        self._fleet = fleet
        self._endpoint = endpoint
        self._group = group
        self._make = make
        # One caller for each subject, whatever routes and verbs lead there.
        self._callers: WeakValueDictionary[str, Caller] = WeakValueDictionary()
        # By identity of the route, which each has beside it.
        self._calls: dict[tuple[int, _Verb], tuple[Route, Endpoint[Any, Any]]] = {}

    def ask(self, ctx: Context, data: bytes) -> Awaitable[Message]:
        """Send a request and return its reply; see `Caller.ask`."""
        return self._call(ctx, "ask")(ctx, data)

    def open(self, ctx: Context, data: bytes) -> Awaitable[Stream]:
        """Ask for a stream; see `Caller.open`."""
        return self._call(ctx, "open")(ctx, data)

    async def publish(self, ctx: Context, data: bytes) -> None:
        """Send a request whose reply nobody waits for; see `Caller.publish`."""
        await self._call(ctx, "publish")(ctx, data)

    def _call(self, ctx: Context, verb: _Verb) -> Endpoint[Any, Any]:
        for rule in self._rules:
            route = rule.of(ctx)
            if route is not None:
                found = self._calls.get((id(route), verb))
                return self._routed(route, verb) if found is None else found[1]
        return _endpoint(self._group, verb)

    def _routed(self, route: Route, verb: _Verb) -> Endpoint[Any, Any]:
        def at(subject: str) -> Endpoint[Any, Any]:
            return _endpoint(self._at(subject), verb)

        if len(self._calls) >= _MOST_MADE:  # clients may ask for any version
            self._calls.clear()
        subject, name = self._endpoint.subject, self._group.name
        made = self._fleet.routed(self._allowed(route), subject, name, at)
        self._calls[id(route), verb] = route, made
        return made

    def _at(self, subject: str) -> Caller:
        if subject == self._endpoint.subject:
            return self._group
        found = self._callers.get(subject)
        if found is None:
            found = self._callers[subject] = self._make(subject)
        return found

    def _allowed(self, route: Route) -> Route:
        """Return a route to the instances that serve the endpoint as it is shown."""
        chosen, serves = frozenset(self._endpoint.instances), route.serves
        if not chosen:
            return route

        def is_one(instance: Instance) -> bool:
            return instance.address in chosen and (serves is None or serves(instance))

        return replace(route, serves=is_one)


def _endpoint(caller: Caller, verb: _Verb) -> Endpoint[Any, Any]:
    if verb != "publish":
        return caller.ask if verb == "ask" else caller.open

    async def publish(ctx: Context, data: bytes) -> None:
        caller.publish(ctx, data)

    return publish


class Routes:
    """The rules of one gateway, and the instances of the services that they are for.

    Args:
        bus: Where these are.
        rules: As texts.

    Raises:
        ValueError: One is no rule.
    """

    def __init__(self, bus: Bus, rules: Sequence[str]) -> None:
        self._bus = bus
        self._rules = [parse_rule(each) for each in rules]
        # Callers hold them: services come and go.
        self._fleets: WeakValueDictionary[str, Fleet] = WeakValueDictionary()

    def of(
        self,
        endpoint: CatalogEndpoint,
        group: Caller,
        make: Callable[[str], Caller],
    ) -> RoutedCaller | None:
        """Return the calls of an endpoint by its rules; None when none is for it.

        Args:
            endpoint: The endpoint.
            group: Calls the queue group.
            make: Makes the caller of a subject.
        """
        service, name = endpoint.service, endpoint.name
        rules = [each for each in self._rules if each.covers(service, name)]
        if not rules:
            return None
        fleet = self._fleets.get(service)
        if fleet is None:
            fleet = self._fleets[service] = Fleet(self._bus, service)
        return RoutedCaller(rules, fleet, endpoint, group, make)

    async def close(self) -> None:
        """Follow the instances no more."""
        for fleet in list(self._fleets.values()):
            await fleet.close()
