"""Requests: what a signature reads, and what `bind` makes of arguments."""

from __future__ import annotations

from typing import (
    Any,
)

import msgspec
import pytest

from kitmsg.codec import RAW
from kitmsg.context import Context
from kitmsg.errors import (
    InvalidArgument,
)
from kitmsg.schema import signature
from tests.schema.shapes import (
    BOTH,
    GREETER,
    Greeter,
    Item,
    Line,
    Order,
    Page,
    Point,
    refused,
    taking,
)


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


def test_bind_says_what_a_single_parameter_takes() -> None:
    """Another thing than the struct is refused where it is passed, not by the service."""

    class Line(msgspec.Struct):
        sku: str

    async def reserve(line: Line) -> None: ...

    with pytest.raises(TypeError, match=r"Shop\.reserve\(\) takes a Line, not a str"):
        signature(reserve, owner="Shop").bind("teapot")
