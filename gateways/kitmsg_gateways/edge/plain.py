"""Calls for clients without streams and types: an object goes in, and one comes out.

An endpoint's items stand in the object's list ``items``, in either direction, and a result
that is no object stands under ``result``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import ENCODE_ERRORS, JSON
from kitmsg.errors import Internal, InvalidArgument, KitError
from kitmsg.schema.objects import as_object, in_object, is_object, with_list
from kitmsg_gateways.edge.answers import value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from kitmsg.context import Context
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.message import Message
    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.edge.calls import Callers, EdgeCaller
    from kitmsg_gateways.edge.visit import Visit
    from kitmsg_gateways.edge.weboptions import FollowOptions

__all__ = ["Collected", "Opening", "PlainCall", "PlainEndpoint"]

_FOLLOWED: Final = as_object(
    {
        "properties": {"count": {"type": "integer"}, "complete": {"type": "boolean"}},
        "required": ["count", "complete"],
    }
)


@dataclass(frozen=True, slots=True)
class Collected:
    """The items of a stream.

    Attributes:
        items: The last of them, undecoded.
        count: How many there were.
        is_complete: Whether the stream had ended.
    """

    items: Sequence[bytes]
    count: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """A stream to open.

    Attributes:
        caller: Of its endpoint.
        ctx: Of the call.
        data: The request.
        items: Of the client, encoded; None where the client streams none.
    """

    caller: EdgeCaller
    ctx: Context
    data: bytes
    items: Sequence[bytes] | None

    async def only(self) -> Message:
        """Return the one result of a stream of the client's items.

        Raises:
            KitError: The stream ended with an error, or without a result.
        """
        async with self._stream() as stream:
            async for message in stream:
                return message
        raise Internal(f"{self.caller.name} ended without a result")

    async def collect(
        self,
        seconds: float,
        on_item: Callable[[int, bytes], Awaitable[Any]],
        *,
        max_items: int,
        max_bytes: int,
    ) -> Collected:
        """Follow a stream until it ends, or for so long; what is kept is bounded.

        Args:
            seconds: Longest time; the service's turn is cancelled then.
            on_item: Called with each item and its number, from 1; it may be slow, and the
                stream waits for it.
            max_items: Most items to keep, the last ones.
            max_bytes: Most bytes to keep, but for one item that is longer.

        Raises:
            KitError: The stream ended with an error.
        """
        kept: deque[bytes] = deque(maxlen=max_items)
        count, is_complete = 0, True
        try:
            async with asyncio.timeout(seconds), self._stream() as stream:
                async for message in stream:
                    count += 1
                    kept.append(message.data)
                    while len(kept) > 1 and sum(map(len, kept)) > max_bytes:
                        kept.popleft()
                    await on_item(count, message.data)
        except TimeoutError as exc:
            if isinstance(exc, KitError):
                raise
            is_complete = False
        return Collected(tuple(kept), count, is_complete)

    @contextlib.asynccontextmanager
    async def _stream(self) -> AsyncIterator[Stream]:
        stream = await self.caller.open(self.ctx, self.data)
        feeder = asyncio.ensure_future(_feed(stream, self.items))
        try:
            yield stream
        except KitError as exc:
            error = self.caller.stream_error(self.ctx, stream, exc)
            if error is exc:
                raise
            raise error from exc
        finally:
            feeder.cancel()
            stream.cancel()


async def _feed(stream: Stream, items: Sequence[bytes] | None) -> None:
    """Send the client's items to the service, as fast as it takes them."""
    if items is None:
        return
    try:
        for item in items:
            await stream.send(item)
        await stream.finish()
    except KitError as exc:
        stream.fail(exc)  # who reads the stream raises it


@dataclass(frozen=True, slots=True)
class PlainEndpoint:
    """An endpoint, as such a client sees it.

    Attributes:
        endpoint: As the bus has it.
        name: ``service.endpoint``.
        request: JSON Schema of the object that goes in.
        response: JSON Schema of the object that comes out; None where there is none.
        items: The list in the request that is sent as a stream; "" for none.
        is_wrapped: Whether a result stands under ``result``.
    """

    endpoint: CatalogEndpoint
    name: str
    request: dict[str, Any]
    response: dict[str, Any] | None
    items: str
    is_wrapped: bool

    @classmethod
    def of(cls, endpoint: CatalogEndpoint) -> PlainEndpoint:
        """Return an endpoint as such a client sees it, be its schemas what they may."""
        try:
            return cls._of(endpoint)
        except (
            RecursionError
        ):  # a stranger's; it must not keep others from being served
            return cls._of(dataclasses.replace(endpoint, schema=None))

    @classmethod
    def _of(cls, endpoint: CatalogEndpoint) -> PlainEndpoint:
        schemas, name = endpoint.schema or {}, f"{endpoint.service}.{endpoint.name}"
        request, items = as_object(schemas.get("request")), ""
        if endpoint.stream in ("in", "both"):
            items = "items"
            while items in request["properties"]:
                items += "_"
            request = with_list(request, items, schemas.get("items"))
        found, is_wrapped = schemas.get("response"), False
        response = None
        if endpoint.stream in ("out", "both"):
            response = with_list(_FOLLOWED, "items", found)
        elif isinstance(found, dict) and found != {"type": "null"}:
            is_wrapped = not is_object(found)
            response = in_object("result", found) if is_wrapped else as_object(found)
        return cls(endpoint, name, request, response, items, is_wrapped)

    def wrapped(self, result: Any) -> dict[str, Any]:
        """Return the object that a result is, or stands in."""
        if isinstance(result, dict) and not self.is_wrapped:
            return result
        return {"result": result}


@dataclass(frozen=True, slots=True)
class PlainCall:
    """One call.

    Attributes:
        to: The endpoint.
        given: The object that goes in.
        asked: Seconds that the client gives; None if it does not say.
        visit: Who calls, and with which headers.
        own: What the call itself says beside the request that it is in; see `Visit.fields`.
        options: How a stream is followed.
        on_item: Called with each item of a stream, encoded, and its number.
    """

    to: PlainEndpoint
    given: dict[str, Any]
    asked: Any
    visit: Visit
    own: Mapping[str, object]
    options: FollowOptions
    on_item: Callable[[int, bytes], Awaitable[Any]]

    async def ask(self, callers: Callers) -> Any:
        """Return the result: plain values, or bytes where it is no text.

        That of a stream is an object with ``count``, ``items`` (the last ones), and
        ``complete``: whether the stream had ended when the time was over.

        Raises:
            KitError: The call failed, or the service answered with an error.
        """
        endpoint, asked = self.to.endpoint, self._seconds()
        caller, stream = callers.of(endpoint), endpoint.stream
        data, items = self._encoded()
        seconds = callers.seconds(asked, endpoint)
        if stream in ("out", "both"):
            ctx = self._context(callers, caller, None)
            follow = self.options.stream_timeout if asked is None else seconds
            return await self._followed(Opening(caller, ctx, data, items), follow)
        ctx = self._context(callers, caller, seconds)
        if stream:
            reply = await Opening(caller, ctx, data, items).only()
        else:
            reply = await caller.ask(ctx, data)
        try:
            return value(reply, JSON, endpoint)
        except KitError as exc:
            raise caller.explained(ctx, exc) from exc

    def _context(
        self, callers: Callers, caller: EdgeCaller, seconds: float | None
    ) -> Context:
        visit, own = self.visit, self.own
        fields, sent = visit.fields(own), visit.given(callers, own)
        return callers.context(caller, JSON, seconds, fields, visit.principal, sent)

    async def _followed(self, opening: Opening, seconds: float) -> dict[str, Any]:
        found = await opening.collect(
            seconds,
            self.on_item,
            max_items=self.options.max_items,
            max_bytes=self.options.max_result_bytes,
        )
        items = [msgspec.json.decode(item) for item in found.items]
        return {"count": found.count, "complete": found.is_complete, "items": items}

    def _seconds(self) -> float | None:
        asked = self.asked
        is_number = isinstance(asked, int | float) and not isinstance(asked, bool)
        if asked is not None and not (is_number and asked > 0):
            raise InvalidArgument("a timeout must be positive seconds", field="timeout")
        return None if asked is None else float(asked)

    def _encoded(self) -> tuple[bytes, list[bytes] | None]:
        """Return the request, and the items of the client; None for no stream."""
        name = self.to.items
        request = {key: each for key, each in self.given.items() if key != name}
        items = self.given.get(name, []) if name else None
        if not isinstance(items, list | None):
            raise InvalidArgument(f"{name} must be a list", field=name)
        encode = msgspec.json.encode
        try:
            return encode(request), None if items is None else [*map(encode, items)]
        except ENCODE_ERRORS as exc:
            text = f"the request of {self.to.name} cannot be sent"
            raise InvalidArgument(text) from exc
