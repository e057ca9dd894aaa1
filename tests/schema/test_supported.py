"""Types that may travel, in every codec, and the refusal of those that may not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import (
    Any,
)

import jsonschema
import msgspec
import pytest

from kitmsg.codec import JSON
from kitmsg.context import Context  # noqa: TC001  # read from a signature
from kitmsg.schema import signature
from tests.schema.shapes import BOTH, TYPES, Greeter, Line, Order, taking


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
