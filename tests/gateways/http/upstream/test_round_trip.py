"""Through the HTTP gateway and out through the HTTP upstream: what arrives is what was sent.

A caller, an upstream made of the gateway's own OpenAPI document or of the service's class,
HTTP, the gateway, and the service, which keeps what it was given and gives it back.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import uuid  # noqa: TC003  # read when a class is defined
from collections.abc import AsyncIterator  # noqa: TC003
from decimal import Decimal  # noqa: TC003
from typing import TYPE_CHECKING, Annotated, Any

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

import kitmsg
import kitmsg_gateways.http
from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import InvalidArgument, KitError
from kitmsg.schema import header
from kitmsg_gateways.http.upstream import OpenApi, Upstream

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class Colour(enum.Enum):
    RED = "red"
    NULL = "null"


class Inner(msgspec.Struct):
    text: str
    data: bytes = b"default"
    more: list[Inner] = []


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: int


class All(msgspec.Struct):
    """Every kind of value."""

    flag: bool
    count: int
    ratio: float
    text: str
    data: bytes
    at: datetime.datetime
    day: datetime.date
    exact: Decimal
    id: uuid.UUID
    colour: Colour
    shape: Circle | Square
    either: int | str | None
    table: dict[str, Inner]
    maybe: Inner | None = None


class Echo(Service):
    """Gives back what it gets."""

    @endpoint
    async def body(self, all: All) -> All:  # noqa: A002
        return all

    @endpoint(http="PUT /parts/{key}")
    async def parts(self, key: str, inner: Inner, numbers: list[int]) -> dict[str, Any]:
        return {"key": key, "inner": inner, "numbers": numbers}

    @endpoint(http="GET /query/{number}/{word}")
    async def query(
        self,
        number: int,
        word: str,
        mark: Annotated[str, header("X-Mark")],
        flag: bool,
        ratio: float,
        colour: Colour,
        at: datetime.datetime,
        data: bytes,
        inner: Inner,
        tags: list[str],
        either: int | str,
        maybe: str | None = None,
        numbers: list[int] | None = None,
        preset: list[int] = [1],  # noqa: B006
    ) -> list[Any]:
        return [
            *(number, word, mark, flag, ratio, colour, at, data, inner, tags, either),
            *(maybe, numbers, preset),
        ]


_text = st.text(max_size=12)
_int = st.integers(-(2**63), 2**63 - 1)
_float = st.floats(allow_nan=False, allow_infinity=False)
_inner: SearchStrategy[Inner] = st.deferred(
    lambda: st.builds(Inner, _text, st.binary(max_size=8), st.lists(_inner, max_size=2))
)
_at = st.datetimes(timezones=st.just(datetime.UTC))
_all = st.builds(
    All,
    st.booleans(),
    _int,
    _float,
    _text,
    st.binary(max_size=20),
    _at,
    st.dates(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.sampled_from(Colour),
    st.builds(Circle, _float) | st.builds(Square, _int),
    _int | _text | st.none(),
    st.dictionaries(_text, _inner, max_size=2),
    _inner | st.none(),
)
_segment = _text.filter(lambda text: text not in ("", ".", ".."))
_mark = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)


class Path:
    """Two ways to the service, both over HTTP."""

    def __init__(self, typed: Echo, plain: kitmsg.Kit) -> None:
        self.typed = typed
        self.plain = plain


@pytest.fixture
async def path() -> AsyncIterator[Path]:
    """The service on one bus, a gateway, and upstreams of it on another bus."""
    async with contextlib.AsyncExitStack() as stack:
        there = await stack.enter_async_context(kitmsg.connect(bus=MemoryBus()))
        here = await stack.enter_async_context(kitmsg.connect(bus=MemoryBus()))
        await there.serve(Echo())
        server = await kitmsg_gateways.http.serve(there, port=0)
        stack.push_async_callback(server.stop)
        session = await stack.enter_async_context(aiohttp.ClientSession(server.url))
        async with session.get("/openapi.json") as response:
            document = await response.json()
        typed = await stack.enter_async_context(Upstream(server.url, Echo))
        plain = Upstream(server.url, OpenApi(document), name="plain")
        await here.serve(plain)
        yield Path(typed.client(Echo), here)


_few = settings(
    max_examples=50,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_few
@given(value=_all)
async def test_every_kind_of_value_in_a_body(path: Path, value: All) -> None:
    """Typed, and as the document describes it over msgpack with bytes as bytes."""
    assert await path.typed.body(value) == value
    request = msgspec.to_builtins(value, builtin_types=(bytes,))
    answer = await path.plain.call("plain.echo_body", request)
    assert msgspec.convert(answer, All, strict=False) == value


@_few
@given(key=_segment, inner=_inner, numbers=st.lists(_int, max_size=3))
async def test_path_and_body_together(
    path: Path, key: str, inner: Inner, numbers: list[int]
) -> None:
    """A field in the path, whatever characters it has, and the others in the body."""
    answer = await path.typed.parts(key, inner, numbers)
    plain = msgspec.to_builtins(inner)  # the result says nothing of bytes
    assert answer == {"key": key, "inner": plain, "numbers": numbers}


_NAMES = Echo.__declarations__["query"].signature.parameters
_query = st.fixed_dictionaries(
    {
        "number": _int,
        "word": _segment,
        "mark": _mark,
        "flag": st.booleans(),
        "ratio": _float,
        "colour": st.sampled_from(Colour),
        "at": _at,
        "data": st.binary(max_size=8),
        "inner": st.builds(Inner, _text, st.binary(max_size=8)),
        "tags": st.lists(_text, max_size=2),
        "either": _int | _text,
        "maybe": _text | st.none(),
        "numbers": st.none() | st.lists(_int, max_size=2),
        "preset": st.lists(_int, max_size=2),
    }
)


@_few
@given(sent=_query)
async def test_path_query_and_header_or_a_refusal(
    path: Path, sent: dict[str, Any]
) -> None:
    """Each value comes back equal; one that its place cannot hold is refused by name."""
    unfit = _unfit(**sent)
    if not unfit:
        answer = await path.typed.query(**sent)
        assert answer == msgspec.to_builtins([sent[name] for name in _NAMES])
        request = msgspec.to_builtins(sent, builtin_types=(bytes,))
        request["X-Mark"] = request.pop("mark")  # as the document calls it
        assert await path.plain.call("plain.echo_query_get", request) == answer
        return
    with pytest.raises(InvalidArgument) as caught:
        await path.typed.query(**sent)
    assert caught.value.field in unfit


def _unfit(
    *, tags: Any, either: Any, maybe: Any, numbers: Any, preset: Any, **_: Any
) -> set[str]:
    """Return the fields whose text in a query would mean something else."""
    found = set()
    if isinstance(either, str) and _is_int(either):
        found.add("either")
    if maybe == "null":
        found.add("maybe")
    for name, items in (("tags", tags), ("numbers", numbers), ("preset", preset)):
        if items == []:
            found.add(name)
    return found


def _is_int(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text and text == text.strip()


class OutOfStock(BusinessError):
    """It is sold out."""

    code = Code.OUT_OF_RANGE
    template = "only {left} of {sku} left"
    sku: str
    left: int
    blob: bytes
    note: str | None = None


class Shop(Service):
    """Refuses everything."""

    @endpoint(raises=[OutOfStock])
    async def buy(self, sku: str) -> None:
        raise OutOfStock(sku, 3, b"\xff")


class Far(Service):
    """The shop, as an upstream made of its gateway's document calls it."""

    @endpoint(raises=[OutOfStock])
    async def shop_buy(self, sku: str) -> None:
        raise NotImplementedError


async def test_typed_errors_of_a_document_are_typed_on_the_bus() -> None:
    """Name, fields, code and text go from one bus to the other, and into INFO's schemas."""
    async with (
        kitmsg.connect(bus=MemoryBus()) as there,
        kitmsg.connect(bus=MemoryBus()) as here,
    ):
        await there.serve(Shop())
        server = await kitmsg_gateways.http.serve(there, port=0)
        async with (
            aiohttp.ClientSession(server.url) as session,
            session.get("/openapi.json") as response,
        ):
            document = await response.json()
        await here.serve(Upstream(server.url, OpenApi(document), name="far"))
        with pytest.raises(OutOfStock, match="only 3 of tea left") as caught:
            await here.client(Far).shop_buy("tea")
        error = caught.value
        assert (error.sku, error.left, error.blob, error.note) == (
            "tea",
            3,
            b"\xff",
            None,
        )
        with pytest.raises(KitError) as plain:
            await here.call("far.shop_buy", sku="tea")
        assert plain.value.code is Code.OUT_OF_RANGE
        assert str(plain.value) == "only 3 of tea left"
        reply = await here.bus.request("far._schema", b"", 1.0)
        described = msgspec.json.decode(reply.data)["shop_buy"]["errors"]["OutOfStock"]
        assert described["$defs"]["OutOfStock"]["required"] == ["sku", "left", "blob"]
        await server.stop()
