"""Types of every kind that may travel, and what the tests say of them."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import threading
from collections.abc import Callable, Mapping, Sequence
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

import msgspec
import pydantic
import pytest
from msgspec import Meta

from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.context import Context  # noqa: TC001  # read from a signature
from kitmsg.errors import (
    InvalidArgument,
)
from kitmsg.schema import signature

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
