"""Signatures: what a method takes and gives, on the wire and in JSON Schema."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime
import enum
import functools
import json
import math
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import jsonschema
import msgspec
import pydantic
import pytest
from msgspec import Meta

from kitmsg.codec import JSON, MSGPACK, RAW, Codec
from kitmsg.context import Context
from kitmsg.errors import (
    BusinessError,
    Code,
    DataLoss,
    InvalidArgument,
    NotFound,
)
from kitmsg.schema import error_codec, error_schema, signature

BOTH = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)


class Color(enum.Enum):
    """An enum by value."""

    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Line:
    """A dataclass."""

    sku: str
    count: int = 1
    price: float = 0.0


class Order(msgspec.Struct):
    """A Struct that forbids nothing by itself."""

    lines: list[Line]
    note: str | None = None
    extra: Any = None


class Cat(msgspec.Struct, tag=True):
    """One side of a tagged union."""

    lives: int


class Dog(msgspec.Struct, tag=True):
    """The other side."""

    name: str


class Point(msgspec.Struct, array_like=True):
    """A Struct that travels as a list."""

    x: int
    y: float


class Node(msgspec.Struct):
    """A recursive Struct."""

    value: int
    next: Node | None = None


class Address(TypedDict):
    """A typed dict."""

    street: str
    number: int


class Pair(NamedTuple):
    """A named tuple."""

    left: int
    right: str


class Item(pydantic.BaseModel):
    """A pydantic model."""

    sku: str
    when: datetime.date | None = None
    count: int = 1


class Cart(pydantic.BaseModel):
    """A pydantic model in another."""

    items: list[Item]
    owner: UUID


T = TypeVar("T")


class Page(msgspec.Struct, Generic[T]):
    """A generic Struct."""

    rows: list[T]


UserId = NewType("UserId", int)
UTC = datetime.UTC


class Greeter:
    """The service most tests read."""

    async def hello(self, name: str, times: int = 1) -> str:
        """Say hello.

        At length.
        """
        return f"Hello, {name}!" * times

    async def place(self, order: Order) -> Order:
        """Take one Struct."""
        return order

    async def mixed(self, order: Order, ctx: Context, urgent: bool = False) -> str:
        """Take a Struct among others, and the context."""
        return f"{len(order.lines)} {ctx.endpoint} {urgent}"

    async def keywords(self, *, b: int = 2, a: int) -> int:
        """Take keywords only."""
        return a * 10 + b

    async def nothing(self) -> None:
        """Take and give nothing."""

    def blocking(self, name: str) -> tuple[str, str]:
        """Run in a thread."""
        return name, threading.current_thread().name


GREETER = Greeter()


def refused(
    function: Callable[..., Any], body: Any, codec: Codec = JSON
) -> InvalidArgument:
    """Return the error for a request body; bytes go as they are."""
    data = body if isinstance(body, bytes) else codec.encoder()(body)
    with pytest.raises(InvalidArgument) as caught:
        signature(function).request_decoder(codec)(data)
    return caught.value


def taking(annotation: Any, default: Any = ...) -> Callable[..., Any]:
    """Return a function with one parameter `x` of that type, which it returns."""

    async def echo(x: Any) -> Any:
        return x

    echo.__annotations__ = {"x": annotation, "return": annotation}
    if default is not ...:
        echo.__defaults__ = (default,)
    return echo


# Types


TYPES: list[tuple[Any, Any]] = [
    (None, None),
    (bool, True),
    (int, -(2**63)),
    (int, 2**63 - 1),
    (float, 1e300),
    (str, "Grüße 🌍"),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"\x00\xff")),
    (Any, {"a": [1, None]}),
    (datetime.datetime, datetime.datetime(2024, 2, 29, 1, 2, 3, 4, UTC)),
    (datetime.datetime, datetime.datetime(2024, 2, 29)),
    (datetime.date, datetime.date(2024, 2, 29)),
    (datetime.time, datetime.time(1, 2, 3)),
    (datetime.timedelta, datetime.timedelta(seconds=1.5)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=5)),
    (Color, Color.BLUE),
    (Literal["a", 1], 1),
    (UserId, UserId(3)),
    (Annotated[int, Meta(ge=0)], 3),
    (list[int], [1, 2]),
    (set[str], {"a"}),
    (frozenset[int], frozenset({1})),
    (tuple[int, str], (1, "a")),
    (tuple[float, ...], (1.0, 2.0)),
    (dict[str, list[float]], {"a": [1.5]}),
    (dict[int, str], {1: "a"}),
    (list, [1]),
    (dict, {"a": 1}),
    (Sequence[int], [1]),
    (Mapping[str, int], {"a": 1}),
    (Optional[int], None),  # noqa: UP045
    (int | str | None, "a"),
    (int | float, 1.5),
    (Line, Line("a", 2, 1.5)),
    (Order, Order([Line("a")], "n", [1])),
    (list[Order], [Order([])]),
    (Cat | Dog, Dog("Rex")),
    (list[Cat | Dog], [Cat(9), Dog("Rex")]),
    (Point, Point(1, 2.0)),
    (Node, Node(1, Node(2))),
    (Page[int], Page([1])),
    (Address, {"street": "a", "number": 1}),
    (Pair, Pair(1, "a")),
    (Item, Item(sku="a", when=datetime.date(2024, 2, 29))),
    (list[Item] | None, [Item(sku="a")]),
    (dict[str, Cart], {"a": Cart(items=[Item(sku="b")], owner=UUID(int=1))}),
]


@BOTH
@pytest.mark.parametrize(("annotation", "value"), TYPES, ids=str)
def test_every_supported_type_makes_the_round_trip(codec, annotation, value):
    """What a client passes is what the method gets, and what it returns comes back."""
    echo = signature(taking(annotation))
    request = echo.bind(value)
    received = echo.request_decoder(codec)(echo.request_encoder(codec)(request))
    got = asyncio.run(_call(echo.adapter(taking(annotation)), received))
    assert got == value
    assert type(got) is type(value)
    data = echo.response_encoder(codec)(got)
    assert echo.response_decoder(codec)(data) == value


async def _call(adapter: Callable[..., Any], request: Any, ctx: Any = None) -> Any:
    return await adapter(ctx, request)


@pytest.mark.parametrize(("annotation", "value"), TYPES, ids=str)
def test_json_schema_of_every_supported_type_fits_its_values(annotation, value):
    """The published schema is valid, refers to nothing missing, accepts the request."""
    echo = signature(taking(annotation))
    body = json.loads(echo.request_encoder(JSON)(echo.bind(value)))
    for schema in (echo.request_schema(), echo.response_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "e+308" not in json.dumps(schema)
        assert "9223372036854775807" not in json.dumps(schema)
    jsonschema.validate(body, echo.request_schema())


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (socket.socket, "has the type socket.socket, which has no wire form; use"),
        (list[socket.socket], "in which socket.socket has no wire form"),
        (object, "has the type object, which has no wire form"),
        (complex, "has the type complex, which has no wire form"),
        (Order | Line, "has no wire form: Type unions"),
        (dict[str, Callable[[], int]], "has no wire form"),
        (AsyncIterator[object], "has the type object, which has no wire form"),
        (list[AsyncIterator[int]], "has no wire form"),
    ],
)
def test_unsupported_type_fails_when_it_is_read(annotation, message):
    """The error names the endpoint, the parameter, the type and the way out."""

    async def f(x: Any) -> None: ...

    f.__annotations__["x"] = annotation
    with pytest.raises(TypeError) as caught:
        signature(f, owner="Greeter")
    assert str(caught.value).startswith("Greeter.f: ")
    assert message in str(caught.value)

    async def g() -> None: ...

    g.__annotations__["return"] = annotation
    with pytest.raises(TypeError, match=r"^Greeter\.g: (the result|streaming)"):
        signature(g, owner="Greeter")


def test_missing_annotations_fail_when_they_are_read():
    """A parameter or a result without a type is said at once."""

    class Bad:
        async def a(self, name) -> str: ...  # type: ignore[empty-body,no-untyped-def]
        async def b(self, name: str): ...  # type: ignore[no-untyped-def]
        async def c(self, name: Nowhere) -> str: ...  # type: ignore[name-defined,empty-body]  # noqa: F821

    with pytest.raises(TypeError, match=r"^Bad\.a: parameter 'name' has no type; ann"):
        signature(Bad.a)
    with pytest.raises(TypeError, match=r"^Bad\.b: the result has no type; annotate"):
        signature(Bad.b)
    with pytest.raises(TypeError, match=r"^Bad\.c: name 'Nowhere' is not defined"):
        signature(Bad.c)


def test_kinds_of_parameters_and_functions_that_cannot_travel():
    """Stars, positional-only parameters, a second context and streams are refused."""

    class Bad:
        async def a(self, *names: str) -> None: ...
        async def b(self, **names: str) -> None: ...
        async def c(self, name: str, /) -> None: ...
        async def d(self, one: Context, two: Context) -> None: ...
        async def e(self) -> int:  # type: ignore[misc]
            yield 1

    cases: list[tuple[Callable[..., Any], str]] = [
        (Bad.a, "Bad.a: parameter 'names' takes any number of values"),
        (Bad.b, "Bad.b: parameter 'names' takes any number of values"),
        (Bad.c, "Bad.c: parameter 'name' is positional-only"),
        (Bad.d, "Bad.d: parameter 'two' is a second Context"),
        (Bad.e, "Bad.e yields, so its result is AsyncIterator[...], not int"),
    ]
    for function, message in cases:
        with pytest.raises(TypeError) as caught:
            signature(function)
        assert str(caught.value).startswith(message)


def test_classes_local_to_a_function_are_found():
    """Annotations as text may name what the defining function can see."""

    class Local(msgspec.Struct):
        a: int

    class Service:
        async def use(self, local: Local) -> list[Local]: ...  # type: ignore[empty-body]

    use = signature(Service.use)
    assert use.request is Local
    assert use.response == list[Local]


def test_context_may_be_imported_for_type_checkers_only():
    """Its name is known even where the module does not have it at run time."""
    module: dict[str, Any] = {}
    exec("async def f(ctx: 'Context', a: 'int') -> 'int': ...", module)
    assert signature(module["f"]).context_parameter == "ctx"


def test_names_in_a_callers_frame_do_not_reach_a_function_of_the_module():
    """Only a function inside another sees local names."""
    Order = Line  # noqa: F841, N806  # would be found by a careless search

    assert signature(Greeter.place).response.__name__ == "Order"


# Requests


def test_signature_tells_what_was_read():
    """Names, first paragraph, types, in the order of the parameters."""
    hello = signature(GREETER.hello)
    assert (hello.owner, hello.name, hello.where) == (
        "Greeter",
        "hello",
        "Greeter.hello",
    )
    assert hello.doc == "Say hello."
    assert hello.parameters == ("name", "times")
    assert hello.request.__name__ == "GreeterHelloRequest"
    assert hello.response is str
    assert hello.is_async
    assert not signature(GREETER.blocking).is_async
    assert signature(Greeter.hello).parameters == hello.parameters


def test_one_object_is_the_request_itself():
    """A lone Struct, dataclass or model is not wrapped; anything else is."""
    for kind in (Order, Line, Item, Page[int]):
        single = signature(taking(kind))
        assert single.is_single
        assert single.request is kind or single.request == kind
    for other in (Point, dict[str, int], str, Order | None):
        assert not signature(taking(other)).is_single
    assert signature(GREETER.mixed).parameters == ("order", "urgent")


def test_bind_accepts_what_the_method_accepts():
    """Positions, names and defaults work as in a local call."""
    hello = signature(GREETER.hello)
    assert hello.bind("Ann") == hello.bind(name="Ann") == hello.bind("Ann", times=1)
    keywords = signature(GREETER.keywords)
    assert keywords.bind(a=1) == keywords.bind(b=2, a=1)
    order = Order([])
    place = signature(GREETER.place)
    assert place.bind(order) is place.bind(order=order) is order
    assert signature(taking(Line, Line("x"))).bind() == Line("x")


def test_bind_leaves_a_context_out():
    """A caller may pass the context that the signature shows; it is not sent."""
    mixed = signature(GREETER.mixed)
    order = Order([])
    assert (
        mixed.bind(order, Context(), True)
        == mixed.bind(order, urgent=True, ctx=Context())
        == mixed.bind(order, True)
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'name'"),
        (("a", 1, 2), {}, "too many positional arguments"),
        (("a",), {"bogus": 1}, "got an unexpected keyword argument 'bogus'"),
        (("a",), {"name": "b"}, "multiple values for argument 'name'"),
    ],
)
def test_bind_refuses_what_the_method_refuses(args, kwargs, message):
    """Wrong arguments are a TypeError before anything is sent."""
    with pytest.raises(TypeError) as caught:
        signature(GREETER.hello).bind(*args, **kwargs)
    assert str(caught.value).startswith("Greeter.hello() ")
    assert message in str(caught.value)
    with pytest.raises(TypeError, match=r"Greeter\.keywords\(\) too many positional"):
        signature(GREETER.keywords).bind(1)


@pytest.mark.parametrize("default", [[], [1], {}, {"a": [1]}, Line("a"), Order([])])
def test_mutable_default_is_not_shared_between_requests(default):
    """Each request gets a default of its own."""
    echo = signature(taking(Any, [default]))
    one, two = echo.bind(), echo.bind()
    assert one.x == two.x == [default]
    assert one.x[0] is not two.x[0]
    bare = signature(taking(type(default), default))
    if not bare.is_single:
        assert bare.bind().x is not bare.bind().x


@BOTH
def test_empty_body_is_a_request_without_fields(codec):
    """A body of no bytes is an empty map: defaults, or the first missing field."""
    nothing = signature(GREETER.nothing)
    assert nothing.request_decoder(codec)(b"") == nothing.bind()
    error = refused(GREETER.hello, b"", codec)
    assert (error.field, str(error)) == ("name", "field 'name' is missing")


def test_raw_carries_the_one_parameter_of_bytes():
    """An upload needs no map around it, and other requests say what they take."""
    put = signature(taking(bytes))
    assert put.request_decoder(RAW)(b"\xff").x == b"\xff"
    assert put.request_decoder(RAW)(b"").x == b""
    assert put.request_encoder(RAW)(put.bind(b"\xff")) == b"\xff"
    with pytest.raises(InvalidArgument, match=r"hello takes \(name, times\)") as caught:
        signature(GREETER.hello).request_decoder(RAW)(b"x")
    assert caught.value.field == "Content-Type"


# Adapters


async def test_adapter_calls_the_method_with_the_fields():
    """Each shape of signature gets its arguments, and the context where it asks."""
    ctx = Context(endpoint="greeter.mixed")
    cases: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = [
        (GREETER.hello, ("Ann", 2), {}, "Hello, Ann!Hello, Ann!"),
        (GREETER.place, (Order([]),), {}, Order([])),
        (GREETER.mixed, (Order([]), True), {}, "0 greeter.mixed True"),
        (GREETER.keywords, (), {"a": 3}, 32),
        (GREETER.nothing, (), {}, None),
    ]
    for method, args, kwargs, expected in cases:
        sig = signature(method)
        assert await sig.adapter(method)(ctx, sig.bind(*args, **kwargs)) == expected


async def test_adapter_passes_a_single_struct_beside_the_context():
    """The struct stays the request when only the context is with it."""

    async def f(ctx: Context, order: Order) -> str:
        return f"{ctx.endpoint} {order.note}"

    sig = signature(f)
    assert sig.request is Order
    ctx = Context(endpoint="e")
    assert await sig.adapter(f)(ctx, Order([], "n")) == "e n"

    async def g(order: Order, ctx: Context) -> str:
        return await f(ctx, order)

    async def h(*, order: Order, ctx: Context) -> str:
        return await f(ctx, order)

    for other in (g, h):
        assert await signature(other).adapter(other)(ctx, Order([], "n")) == "e n"


async def test_plain_function_runs_in_a_thread_with_the_context_variables():
    """Blocking code neither blocks the loop nor loses the context."""
    variable = contextvars.ContextVar("variable", default="")
    variable.set("seen")

    def f(x: int) -> tuple[str, bool]:
        return variable.get(), threading.current_thread() is threading.main_thread()

    sig = signature(f)
    assert await sig.adapter(f)(None, sig.bind(1)) == ("seen", False)


async def test_async_method_under_a_plain_decorator_is_awaited():
    """A wrapper that is not async itself gives the result, not a coroutine."""

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @logged
    async def f(a: int) -> int:
        return a

    sig = signature(f)
    assert await sig.adapter(f)(None, sig.bind(3)) == 3


async def test_plain_function_that_raises_stop_iteration_is_answered():
    """The one exception a future cannot hold does not hang the caller."""

    def f() -> None:
        next(iter(()))

    sig = signature(f)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(sig.adapter(f)(None, sig.bind()), 5)


# Bad input


class Deep(msgspec.Struct):
    """Everything nested that can hide a bad number or name."""

    line: Line
    node: Node
    address: Address
    pet: Cat | Dog
    pair: Pair
    point: Point
    page: Page[Line]
    item: Item
    by_key: dict[str, Line]
    by_int: dict[int, int]
    any: Any
    amount: Decimal
    maybe: float | None
    either: int | list[int]


DEEP: dict[str, Any] = {
    "line": {"sku": "a"},
    "node": {"value": 1, "next": {"value": 2}},
    "address": {"street": "a", "number": 1},
    "pet": {"type": "Cat", "lives": 9},
    "pair": [1, "a"],
    "point": [1, 2.0],
    "page": {"rows": [{"sku": "a"}]},
    "item": {"sku": "a"},
    "by_key": {"k": {"sku": "a"}},
    "by_int": {"1": 1},
    "any": None,
    "amount": "1.5",
    "maybe": 1.5,
    "either": [1],
}
BIG = 2**63
NO_FINITE = "expected a finite number"
NO_INT = "expected a 64-bit integer"


def test_deep_request_is_fine_as_it_is():
    """The request that the cases below spoil is accepted."""
    for codec in (JSON, MSGPACK):
        body = {**DEEP, "by_int": {1: 1}} if codec is MSGPACK else DEEP
        decode = signature(taking(Deep)).request_decoder(codec)
        assert decode(codec.encoder()(body)).pet == Cat(9)


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"x": 1}, "x", "is not known; known fields: line, node, address, "),
        ({"line": {"sku": "a", "x": 1}}, "line.x", "known fields: sku, count, price"),
        ({"line": {"sku": "a", "count": BIG}}, "line.count", NO_INT),
        ({"line": {"sku": "a", "price": math.nan}}, "line.price", NO_FINITE),
        ({"line": {"sku": "a", "price": -math.inf}}, "line.price", NO_FINITE),
        ({"line": {"sku": "a", "count": "1"}}, "line.count", "expected int, got str"),
        ({"line": {"count": 1}}, "line.sku", "is missing"),
        ({"node": {"value": 1, "next": {"value": BIG}}}, "node.next.value", NO_INT),
        (
            {"node": {"value": 1, "next": {"value": 1, "x": 1}}},
            "node.next.x",
            "known fields: value, next",
        ),
        ({"address": {"street": "a"}}, "address.number", "is missing"),
        (
            {"address": {"street": "a", "number": 1, "x": 1}},
            "address.x",
            "known fields: number, street",
        ),
        ({"pet": {"type": "Cow"}}, "pet.type", "nvalid value 'Cow'"),
        ({"pet": {"type": "Cat", "lives": BIG}}, "pet.lives", NO_INT),
        ({"pet": {"type": "Dog", "name": "a", "lives": 1}}, "pet.lives", "not known"),
        ({"pair": [BIG, "a"]}, "pair[0]", NO_INT),
        ({"point": [1, math.inf]}, "point[1]", NO_FINITE),
        ({"point": [1, 2.0, 3]}, "point", "expected 2 items, got 3"),
        ({"page": {"rows": [{"sku": "a", "x": 1}]}}, "page.rows[0].x", "not known"),
        ({"item": {"sku": 1}}, "item.sku", "nput should be a valid string"),
        ({"item": {"sku": "a", "count": "1"}}, "item.count", "valid integer"),
        ({"item": {"sku": "a", "count": BIG}}, "item.count", NO_INT),
        ({"item": {}}, "item.sku", "is missing"),
        ({"item": {"sku": "a", "x": 1}}, "item.x", "known fields: sku, when, count"),
        ({"by_key": {"k": {"sku": "a", "x": 1}}}, "by_key[k].x", "not known"),
        ({"by_int": {BIG: 1}}, f"by_int[{BIG}]", NO_INT),
        ({"any": [{"a": [BIG]}]}, "any[0][a][0]", NO_INT),
        ({"any": {"a": math.nan}}, "any[a]", NO_FINITE),
        ({"amount": "NaN"}, "amount", NO_FINITE),
        ({"amount": "-Infinity"}, "amount", NO_FINITE),
        ({"maybe": math.nan}, "maybe", NO_FINITE),
        ({"either": BIG}, "either", NO_INT),
        ({"either": [BIG]}, "either[0]", NO_INT),
        ({"either": "1"}, "either", "expected int | array, got str"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_bad_field_at_any_depth_is_refused_by_its_path(change, field, problem):
    """Unknown, missing, wrong, huge and not finite: all are named, however deep."""
    body = {**DEEP, "by_int": {1: 1}, **change}
    error = refused(taking(Deep), body, MSGPACK)
    assert (error.field, problem in str(error)) == (field, True), str(error)
    text = json.dumps(body)
    if "NaN" in text.replace('"NaN"', "") or "Infinity" in text.replace('"-I', ""):
        return
    error = refused(taking(Deep), text.encode())
    assert (error.field, problem in str(error)) == (field, True), str(error)


@pytest.mark.parametrize(
    ("annotation", "value", "field", "problem"),
    [
        (int, "1", "x", "expected int, got str"),
        (int, 1.5, "x", "expected int, got float"),
        (int, True, "x", "expected int, got bool"),
        (int, None, "x", "expected int, got null"),
        (int, BIG, "x", NO_INT),
        (int, -(2**63), "", ""),
        (float, math.nan, "x", NO_FINITE),
        (float, "1", "x", "expected float, got str"),
        (bool, 1, "x", "expected bool, got int"),
        (str, 1, "x", "expected str, got int"),
        (Color, "green", "x", "expected one of red, blue"),
        (Literal["s", "m"], "xl", "x", "expected one of"),
        (UserId, BIG, "x", NO_INT),
        (list[int], [1, BIG], "x[1]", NO_INT),
        (dict[str, float], {"a": math.inf}, "x[...]", NO_FINITE),
        (int | None, BIG, "x", NO_INT),
        (Annotated[int, Meta(ge=0)], -1, "x", "expected int >= 0"),
        (Annotated[int, Meta(gt=0)], BIG, "x", NO_INT),
        (Annotated[float, Meta(lt=1)], 1.0, "x", "expected float < 1"),
        (Annotated[list[int], Meta(max_length=1)], [1, 2], "x", "length <= 1"),
        (datetime.date, "tomorrow", "x", "nvalid"),
        (UUID, "1", "x", "nvalid UUID"),
    ],
    ids=str,
)
def test_bad_parameter_is_refused_by_its_name(annotation, value, field, problem):
    """Plain parameters follow the same rules, with a user's own bounds kept."""
    if not field:
        decode = signature(taking(annotation)).request_decoder(MSGPACK)
        assert decode(MSGPACK.encoder()({"x": value})).x == value
        return
    error = refused(taking(annotation), {"x": value}, MSGPACK)
    assert (error.field, problem in str(error)) == (field, True), str(error)


def test_text_of_digits_is_a_fine_key_where_keys_are_text():
    """Only keys that are numbers are held to 64 bits."""
    key = "9" * 40
    for annotation in (Any, dict, dict[str, Line], dict[str, int]):
        value = {key: {"sku": "a"} if annotation == dict[str, Line] else 1}
        for codec in (JSON, MSGPACK):
            decode = signature(taking(annotation)).request_decoder(codec)
            assert list(decode(codec.encoder()({"x": value})).x) == [key]
    error = refused(taking(dict[str, dict[int, Line]]), {"x": {"a": {key: {}}}})
    assert NO_INT in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"name":"a","bogus":1}',
            "field 'bogus' is not known; known fields: name, t",
        ),
        (b"{}", "field 'name' is missing"),
        (b"[1]", "the request: expected object, got array"),
        (b'{"name":', "the body is not valid json: input data was truncated"),
        (b'{"name":"\xff"}', "the body is not valid json: a text is not UTF-8"),
        (b'{"name":"a","times":1e999}', "field 'times'"),
        (b'{"name":"a","times":' + b"9" * 400 + b"}", f"field 'times': {NO_INT}"),
        (b'{"name":"a","times":' + b"9" * 9000 + b"}", f"field 'times': {NO_INT}"),
        (b"{" + b'"a":{' * 5000, "field 'a' is not known"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_bad_body_is_refused_in_words(body, message):
    """No body gets anything but an answer that says what is wrong with it."""
    assert str(refused(GREETER.hello, body)).startswith(message)


@BOTH
def test_100_deep_body_is_fine_and_9999_deep_is_refused(codec):
    """Depth is bounded by an answer, not by a crash."""
    decode = signature(taking(Any)).request_decoder(codec)
    deep = {"json": (b'{"x":', b"[", b"]", b"}"), "msgpack": (b"\x81\xa1x", b"\x91")}
    head, open_, *tail = deep[codec.name]
    close, end = tail or (b"", b"")
    last = b"1" if tail else b"\x01"
    assert decode(head + open_ * 100 + last + close * 100 + end)
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        decode(head + open_ * 9999 + last + close * 9999 + end)


def test_unknown_fields_may_be_ignored():
    """The option lets them pass at any depth, and keeps the rules for numbers."""
    body: dict[str, Any] = {
        "order": {"lines": [{"sku": "a", "x": 1}], "x": 1},
        "x": 1,
    }
    lax = signature(GREETER.mixed, unknown_fields="ignore")
    assert lax.request_decoder(JSON)(JSON.encoder()(body)).order.lines[0].sku == "a"
    body["order"]["lines"][0]["count"] = BIG
    with pytest.raises(InvalidArgument, match="64-bit"):
        lax.request_decoder(JSON)(JSON.encoder()(body))


def test_error_inside_a_users_own_check_is_an_invalid_argument():
    """A ``__post_init__`` that raises ValueError refuses the request."""

    class Range(msgspec.Struct):
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is over high")

    error = refused(taking(list[Range]), {"x": [{"low": 2, "high": 1}]})
    assert (error.field, str(error)) == ("x[0]", "field 'x[0]': low is over high")


# Responses


@BOTH
def test_reply_may_have_fields_that_the_client_does_not_know(codec):
    """A service that grows does not break its callers."""
    decode = signature(GREETER.place).response_decoder(codec)
    assert decode(codec.encoder()({"lines": [], "new": 1})) == Order([])


@BOTH
def test_reply_that_does_not_fit_is_data_loss(codec):
    """The error names the type and the field."""
    decode = signature(GREETER.place).response_decoder(codec)
    with pytest.raises(DataLoss, match=r"does not fit .*Order: field 'lines' is miss"):
        decode(codec.encoder()({}))
    with pytest.raises(DataLoss, match="is not valid"):
        decode(b"\xc1")


@BOTH
def test_value_that_cannot_be_encoded_names_its_type(codec):
    """The server can answer Internal and log what it was."""
    encode = signature(taking(Any)).response_encoder(codec)
    with pytest.raises(
        TypeError, match="cannot encode object as Any: an object of typ"
    ):
        encode(object())
    loop: list[Any] = []
    loop.append(loop)
    for bad in (loop, "\ud800"):
        with pytest.raises(ValueError, match="cannot encode"):
            encode(bad)


# JSON Schema


def test_schema_says_what_is_required_and_describes_it():
    """Defaults, descriptions and bounds of the user's own are published."""

    async def f(
        name: Annotated[str, Meta(description="Whom to greet.", max_length=9)],
        times: Annotated[int, Meta(ge=1)] = 1,
        weight: float = 0.5,
    ) -> None: ...

    schema = signature(f, owner="Greeter").request_schema()
    assert schema["$ref"] == "#/$defs/GreeterFRequest"
    assert schema["$defs"]["GreeterFRequest"] == {
        "title": "GreeterFRequest",
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 9,
                "description": "Whom to greet.",
            },
            "times": {"type": "integer", "minimum": 1, "default": 1, "format": "int64"},
            "weight": {"type": "number", "default": 0.5},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_schema_hash_changes_with_the_schema_only():
    """Same types, same hash; another default or type, another hash."""

    def made(annotation: Any, default: Any = ...) -> str:
        return signature(taking(annotation, default)).schema_hash

    assert made(int) == made(int)
    assert len({made(int), made(str), made(int, 1), made(int, 2)}) == 4
    assert len(made(int)) == 16
    assert signature(GREETER.hello).describe() == {
        "request": signature(GREETER.hello).request_schema(),
        "response": {"type": "string"},
        "hash": signature(GREETER.hello).schema_hash,
    }


def test_field_named_like_a_keyword_of_json_schema_stays():
    """A property called ``minimum`` or ``type`` is not taken for a bound."""

    class Bounds(msgspec.Struct):
        minimum: int
        type: str

    properties = signature(taking(Bounds)).request_schema()["$defs"]["Bounds"]
    assert set(properties["properties"]) == {"minimum", "type"}


# Declared errors


class OutOfStock(BusinessError):
    """Not enough left."""

    code = Code.FAILED_PRECONDITION
    template = "only {left} of {sku} left"
    sku: str
    left: int = 0
    lines: list[Line] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Refused(Exception):
    """A dataclass that is no `KitError`."""

    until: datetime.date


class Custom(Exception):
    """An ``__init__`` that is not about ``args``."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")


@BOTH
@pytest.mark.parametrize(
    "error",
    [
        OutOfStock("pear", 2, [Line("a")]),
        Refused(datetime.date(2024, 1, 1)),
        Custom(3),
        KeyError("k"),
        ValueError("bad", 1, None, 1.5, True),
        NotFound("no pear"),
        OSError(2, "No such file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_declared_error_crosses_the_wire(codec, error):
    """Class, text and fields are the same on the other side."""
    encode, decode = error_codec(type(error), codec)
    twin = decode(encode(error))
    assert type(twin) is type(error)
    assert (str(twin), twin.args) == (str(error), error.args)
    assert {k: v for k, v in vars(twin).items() if k[0] != "_"} == vars(error)


def test_declared_error_is_a_map_of_its_fields():
    """A client in another language reads the fields by name."""
    encode, _ = error_codec(OutOfStock, JSON)
    assert json.loads(encode(OutOfStock("pear", 2))) == {
        "sku": "pear",
        "left": 2,
        "lines": [],
    }
    encode_plain, _ = error_codec(ValueError, JSON)
    assert encode_plain(ValueError("a", object, 2**70, math.nan)) == (
        b'{"args":["a","<class \'object\'>","1180591620717411303424","nan"]}'
    )


def test_declared_error_that_does_not_fit_is_data_loss():
    """A broken body of a declared error is said to be one; new fields are ignored."""
    _, decode = error_codec(OutOfStock, JSON)
    with pytest.raises(DataLoss, match="OutOfStock: field 'sku' is missing"):
        decode(b"{}")
    assert decode(b'{"sku":"a","new":1}').sku == "a"


def test_declared_error_with_an_unsupported_field_fails_when_declared():
    """The sentence is the one for parameters."""

    class Bad(BusinessError):
        where: socket.socket

    with pytest.raises(TypeError, match=r"^Bad: field 'where' has the type socket\.s"):
        error_codec(Bad, JSON)
    with pytest.raises(TypeError, match=r"raises= takes exception classes, not 3"):
        error_codec(3, JSON)  # type: ignore[arg-type]


def test_declared_error_has_a_schema():
    """Gateways can describe what may come back."""
    schema = error_schema(OutOfStock)
    assert schema["$ref"] == "#/$defs/OutOfStock"
    assert schema["$defs"]["OutOfStock"]["required"] == ["sku"]
    jsonschema.Draft202012Validator.check_schema(error_schema(KeyError))


class Inner(msgspec.Struct):
    x: int


class Outer(msgspec.Struct):
    inner: Inner
    extra: dict[str, Inner]


def test_request_schema_refuses_what_the_service_refuses() -> None:
    """Objects at any depth are closed in the request's schema, and open in a response's."""

    async def method(outer: Outer) -> Outer:
        return outer

    def is_closed(schema: Any) -> bool | None:
        return schema.get("additionalProperties")  # type: ignore[no-any-return]

    sig = signature(method)
    closed = sig.request_schema()["$defs"]
    opened = sig.response_schema()["$defs"]
    assert is_closed(closed["Inner"]) is False
    assert is_closed(closed["Outer"]) is False
    assert closed["Outer"]["properties"]["extra"]["additionalProperties"] != False  # noqa: E712
    assert "additionalProperties" not in opened["Inner"]


def test_bind_says_what_a_single_parameter_takes() -> None:
    """Another thing than the struct is refused where it is passed, not by the service."""

    class Line(msgspec.Struct):
        sku: str

    async def reserve(line: Line) -> None: ...

    with pytest.raises(TypeError, match=r"Shop\.reserve\(\) takes a Line, not a str"):
        signature(reserve, owner="Shop").bind("teapot")
