"""Fakes of remote services: answers given endpoint by endpoint, calls kept as plain data.

    inventory = await fake(kit, Inventory, reserve=lambda sku, count: 7)
    ...
    assert inventory.reserve.calls == [Call("reserve", {"sku": "ball", "count": 2})]

A fake is served on the bus like the service it stands for: same subjects, same checks of
the request, same typed errors.  Only the answers are yours.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, translate
from kitmsg.context import Context
from kitmsg.errors import DataLoss, FailedPrecondition, Unimplemented
from kitmsg.schema import Signature
from kitmsg.service import Kit, Service, Supervision
from kitmsg.transport.server import Server
from kitmsg.transport.typed import request_codec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from kitmsg.message import Message
    from kitmsg.service.declare import Declaration

__all__ = ["Call", "Fake", "FakeEndpoint", "fake", "fake_subject"]

_NOTHING = object()


@dataclasses.dataclass(frozen=True)
class Call:
    """One call that a fake received.

    Attributes:
        endpoint: Name of the endpoint, or the subject of a `fake_subject`.
        arguments: What it was given, by name.
    """

    endpoint: str
    arguments: dict[str, Any]


class FakeEndpoint:
    """One endpoint of a fake: what it answers, and the calls it received.

    Attributes:
        name: Name of the endpoint, or the subject.
        calls: What it was asked so far, oldest first.
    """

    def __init__(self, name: str, where: str, signature: Signature | None) -> None:
        self.name = name
        self.calls: list[Call] = []
        self._where = where
        self._signature = signature
        self._next: deque[Any] | None = None
        self._answer: Any = _NOTHING
        self._server: Server | None = None

    def answer(self, answer: Any) -> None:
        """Answer like this from now on; the forms are those of `fake`.

        Raises:
            TypeError: It does not fit the endpoint.
        """
        self._next = deque(answer) if isinstance(answer, list) else None
        self._answer = answer
        for one in answer if isinstance(answer, list) else [answer]:
            self._check(one)

    async def stop(self) -> None:
        """Serve a `fake_subject` no more; other fakes end with their kit."""
        if self._server is not None:
            await self._server.drain(0)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Answer one call; it arrives here through the bus."""
        arguments = self._named(args, kwargs)
        call = Call(self.name, arguments)
        self.calls.append(call)
        return await self._say(self._choose(), arguments)

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = self._signature.names if self._signature else ()
        given = {k: v for k, v in kwargs.items() if not isinstance(v, Context)}
        return {**dict(zip(names, args, strict=False)), **given}

    def _choose(self) -> Any:
        if self._answer is _NOTHING:
            raise Unimplemented(
                f"the fake of {self._where} was given no answer for {self.name!r}"
            )
        if self._next is None:
            return self._answer
        if not self._next:
            n = len(self._answer)
            raise FailedPrecondition(
                f"the fake of {self._where} had {n} answers for {self.name!r}"
                f" and this is call {len(self.calls)}"
            )
        return self._next.popleft()

    async def _say(self, answer: Any, arguments: dict[str, Any]) -> Any:
        if _is_error(answer):
            raise answer
        if not callable(answer):
            return _each(answer) if self._streams else answer
        result = answer(**arguments)
        return await result if inspect.isawaitable(result) else result

    def _check(self, answer: Any) -> None:
        """Refuse an answer that no call could get."""
        if self._signature is None or _is_error(answer):
            return
        if callable(answer):
            self._check_function(answer, self._signature.names)
            return
        if self._streams and not isinstance(answer, tuple):
            raise TypeError(
                f"{self._where}.{self.name} streams: answer with a tuple of items, or"
                f" with an async generator, not with {answer!r}"
            )
        encode = self._signature.response_encoder(MSGPACK)
        decode = self._signature.response_decoder(MSGPACK)
        try:
            for item in answer if self._streams else (answer,):
                decode(encode(item))
        except (DataLoss, TypeError, ValueError) as exc:
            raise TypeError(
                f"{answer!r} is no answer of {self._where}.{self.name}: {exc}"
            ) from exc

    @property
    def _streams(self) -> bool:
        return self._signature is not None and self._signature.gives_items

    def _check_function(
        self, function: Callable[..., Any], names: Sequence[str]
    ) -> None:
        try:
            inspect.signature(function).bind(**dict.fromkeys(names))
        except TypeError as exc:
            wanted = ", ".join(names) or "no arguments"
            raise TypeError(
                f"{self._where}.{self.name} calls its fake by name with ({wanted});"
                f" the function given does not take that: {exc}"
            ) from None


class Fake:
    """A faked service; its attributes are the endpoints, as `FakeEndpoint`.

    Attributes:
        calls: What it was asked so far, on any endpoint, oldest first.
    """

    def __init__(self, name: str, endpoints: dict[str, FakeEndpoint]) -> None:
        self._name = name
        self._endpoints = endpoints
        self.calls: list[Call] = []
        for endpoint in endpoints.values():
            endpoint.calls = _Calls(self.calls)

    def __getattr__(self, name: str) -> FakeEndpoint:
        try:
            return self._endpoints[name]
        except KeyError:
            raise AttributeError(_no_such(self._name, name, self._endpoints)) from None


class _Calls(list[Call]):
    """Calls of one endpoint, which are also calls of its service."""

    def __init__(self, all_calls: list[Call]) -> None:
        super().__init__()
        self._all = all_calls

    def append(self, call: Call) -> None:
        super().append(call)
        self._all.append(call)


async def fake(kit: Kit, service: type[Service], /, **answers: Any) -> Fake:
    """Serve a fake of `service` on the bus of `kit`, until the kit closes.

    Args:
        kit: Where to serve it.
        service: The class it stands for; its ``__init__``, `start` and middlewares do not
            run.
        answers: By endpoint (the method's name): a value; a function of the endpoint's
            arguments by name, ``async`` or not, that returns one; an exception or a class
            of exceptions to raise; or a list of these, one for each call.  An endpoint
            that is not named answers `Unimplemented`.  To answer with a list, wrap it in
            a list or in a function.  An endpoint that streams is given a tuple of items,
            or an async generator function.

    Returns:
        What was called, and how to change the answers.

    Raises:
        TypeError: There is no such endpoint, or the answer does not fit it.
    """
    declared = {d.attribute: d for d in service.__declarations__.values()}
    endpoints = {
        name: FakeEndpoint(name, service.name, d.signature)
        for name, d in declared.items()
    }
    for name, answer in answers.items():
        if name not in endpoints:
            raise TypeError(_no_such(service.__name__, name, endpoints))
        endpoints[name].answer(answer)
    faked = Fake(service.name, endpoints)
    await kit.serve(_stand_in(service, endpoints))
    return faked


async def fake_subject(kit: Kit, subject: str, answer: Any, /) -> FakeEndpoint:
    """Serve a fake of something that is no class of ours, such as a Go service.

    Args:
        kit: On whose bus; it stops with that, or with `FakeEndpoint.stop`.
        subject: Where requests arrive.
        answer: As for `fake`; a function takes the fields of the request by name.

    Returns:
        What was called, and how to change the answer.
    """
    endpoint = FakeEndpoint(subject, subject, None)
    endpoint.answer(answer)

    async def call(_: Context, request: dict[str, Any]) -> Any:
        return await endpoint(**request)

    server = Server(
        kit.bus, subject, call, decode=_decode_map, encode=_encode_any, queue="q"
    )
    endpoint._server = server  # noqa: SLF001  # `stop` needs it
    await server.start()
    return endpoint


def _stand_in(service: type[Service], endpoints: dict[str, FakeEndpoint]) -> Service:
    """Return an instance whose endpoints are fakes; its own ``__init__`` never ran."""
    own = {
        "name": service.name,
        "middleware": (),
        "supervision": Supervision(),
        "start": Service.start,
        "stop": Service.stop,
    }
    class_: type[Service] = type(service.__name__, (service,), own)
    class_.__declarations__ = {
        name: _bare(declaration)
        for name, declaration in service.__declarations__.items()
    }
    instance: Service = object.__new__(class_)
    instance.__dict__.update(endpoints)
    return instance


def _bare(declaration: Declaration) -> Declaration:
    options = dataclasses.replace(declaration.options, middleware=())
    return dataclasses.replace(declaration, options=options)


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def _is_error(answer: Any) -> bool:
    return isinstance(answer, BaseException) or (
        isinstance(answer, type) and issubclass(answer, BaseException)
    )


def _no_such(service: str, name: str, endpoints: dict[str, FakeEndpoint]) -> str:
    known = ", ".join(endpoints) or "none"
    return f"{service} has no endpoint {name!r}; it has: {known}"


_decoders = {c.name: c.decoder(dict[str, Any]) for c in (MSGPACK, JSON)}
_encoders = {c.name: c.encoder(Any) for c in (MSGPACK, JSON)}


def _decode_map(ctx: Context, message: Message) -> dict[str, Any]:
    codec = ctx.codec = request_codec(message)
    try:
        fields: dict[str, Any] = _decoders[codec.name](message.data or b"{}")
    except DECODE_ERRORS as exc:
        raise translate(exc, codec.name) from exc
    return fields


def _encode_any(ctx: Context, response: Any) -> bytes:
    return _encoders[(ctx.codec or MSGPACK).name](response)
