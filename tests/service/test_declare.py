"""What a service class says of itself, and the mistakes that are found when it is read."""
# the services here are props

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest

from kitmsg import BusinessError, Code, Context, Kit, Service, endpoint
from kitmsg.errors import InvalidArgument
from kitmsg.schema import header
from kitmsg.service.declare import service_name


class Base(Service):
    """A base with one endpoint."""

    @endpoint(http="GET /first/{n}", idempotent=True, timeout=2.0)
    async def first(self, n: int) -> int:
        """Return it.

        More that nobody needs to know.
        """
        return n


class Derived(Base):
    """Adds one and replaces one."""

    name = "other-name"
    version = "1.2.3-rc.1+build"

    @endpoint(name="second-one", subject="legacy.second")
    async def second(self, ctx: Context) -> str:
        return ctx.endpoint

    @endpoint
    async def first(self, n: int) -> int:
        """Return twice it."""
        return 2 * n

    async def helper(self) -> None: ...


def test_a_declaration() -> None:
    """Name, subject and what INFO says."""
    (first,) = Base.__declarations__.values()
    assert (first.name, first.attribute, first.subject) == (
        "first",
        "first",
        "base.first",
    )
    metadata = first.metadata()
    assert len(metadata.pop("kit.schema")) == 16
    assert metadata == {
        "kit.http": "GET /first/{n}",
        "kit.idempotent": "true",
        "kit.timeout": "2",
        "description": "Return it.",
    }


def test_inheritance() -> None:
    """Endpoints of bases are inherited, and may be replaced or renamed."""
    found = Derived.__declarations__
    assert {n: (d.attribute, d.subject) for n, d in found.items()} == {
        "first": ("first", "other-name.first"),
        "second-one": ("second", "legacy.second"),
    }
    assert found["first"].options.http == ""


async def test_a_derived_service_is_called(kit: Kit) -> None:
    """By its own name and subjects."""
    await kit.serve(Derived())
    client = kit.client(Derived)
    assert await client.first(4) == 8
    assert await client.second() == "other-name.second-one"
    assert await kit.call("legacy.second") == "other-name.second-one"


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("Greeter", "greeter"),
        ("OrderBook", "order_book"),
        ("HTTPProxy", "http_proxy"),
        ("My2ndService", "my2nd_service"),
    ],
)
def test_names_in_snake_case(class_name: str, name: str) -> None:
    """A class's name becomes a word of the subject."""
    assert service_name(type(class_name, (), {})) == name


def make(**attributes: Any) -> type[Service]:
    return type("Wrong", (Service,), attributes)


async def no_types(self: Any, a) -> int:  # type: ignore[no-untyped-def]
    return int(a)


async def no_result(self: Any, a: int):  # type: ignore[no-untyped-def]
    return a


async def odd_type(self: Any, a: asyncio.Event) -> int:
    return 1


async def good(self: Any, a: int) -> int:
    return a


async def dotted(self: Any, a: int) -> int:
    return a


async def also_good(self: Any, a: int) -> int:
    return a


@pytest.mark.parametrize(
    ("attributes", "error", "sentence"),
    [
        ({"name": "two words"}, ValueError, "the service Wrong is named 'two words'"),
        ({"name": ""}, ValueError, "use letters, digits"),
        ({"version": "1.0"}, ValueError, "version '1.0' is not semantic"),
        ({"version": "1.0.0\n"}, ValueError, "is not semantic"),
        ({"f": endpoint(no_types)}, TypeError, "Wrong.no_types: parameter 'a' has no"),
        ({"f": endpoint(no_result)}, TypeError, "the result has no type"),
        ({"f": endpoint(odd_type)}, TypeError, "parameter 'a'"),
        ({"f": endpoint(name="a.b")(dotted)}, ValueError, "Wrong.f is named 'a.b'"),
        (
            {"f": endpoint(good), "g": endpoint(name="f")(also_good)},
            TypeError,
            "two endpoints are named 'f'",
        ),
    ],
)
def test_mistakes_in_a_class(
    attributes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """They are found when the class is defined, and said in a sentence."""
    with pytest.raises(error, match=sentence):
        make(**attributes)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"timeout": 0}, ValueError, "timeout must be positive .*, not 0"),
        ({"timeout": float("nan")}, ValueError, "timeout must be positive .*, not nan"),
        ({"timeout": float("inf")}, ValueError, "timeout must be positive .*, not inf"),
        ({"http": "FETCH /x"}, ValueError, "write a route as 'GET /orders/{id}'"),
        ({"http": "GET x"}, ValueError, "write a route"),
        ({"http": "GET /{a"}, ValueError, "write a route"),
        ({"http": "GET /{a-b}"}, ValueError, "write a route"),
        ({"http": "GET /a?b={b}"}, ValueError, "write a route"),
        ({"http": 5}, ValueError, "write a route"),
        ({"raises": [int]}, TypeError, "raises= takes exception classes"),
        ({"middleware": [1]}, TypeError, "middleware= takes middleware, not 1"),
        ({"wire": "soap"}, ValueError, "use 'kit' or 'gokit'"),
        ({"subject": "a b"}, InvalidArgument, "is not a subject"),
        ({"subject": "a.>"}, InvalidArgument, "wildcard"),
        ({"colour": 1}, TypeError, "has no option 'colour'; it has name, http"),
    ],
)
def test_mistakes_in_the_decorator(
    options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """So are those in its arguments."""
    with pytest.raises(error, match=sentence):
        endpoint(**options)


def test_the_decorator_goes_on_methods() -> None:
    """Not on values."""
    with pytest.raises(TypeError, match="@endpoint goes on a method, not on 'x'"):
        endpoint("x")  # type: ignore[call-overload]


async def test_unknown_fields_can_be_ignored(kit: Kit) -> None:
    """An endpoint may choose to be lenient."""
    lenient = make(name="wrong", f=endpoint(unknown_fields="ignore")(good))
    await kit.serve(lenient)
    assert await kit.call("wrong.f", a=1, b=2) == 1


def test_a_service_can_be_used_without_a_bus() -> None:
    """Its methods are still its methods."""
    assert asyncio.run(Derived().first(3)) == 6


class Gone(BusinessError):
    code = Code.NOT_FOUND


class Odd(Exception):
    pass


def test_declared_errors_are_described() -> None:
    """With their codes; a change of them is a change of the hash."""

    class Failing(Service):
        @endpoint(raises=[Gone, Odd])
        async def a(self) -> None: ...

        @endpoint(raises=[Gone])
        async def b(self) -> None: ...

        @endpoint
        async def c(self) -> None: ...

    described = [d.describe() for d in Failing.__declarations__.values()]
    codes = {name: error["x-code"] for name, error in described[0]["errors"].items()}
    assert codes == {"Gone": "not_found", "Odd": "failed_precondition"}
    shown = [d.metadata()["kit.schema"] for d in Failing.__declarations__.values()]
    assert shown == [schema["hash"] for schema in described]
    assert len(set(shown)) == 3


def test_a_cache_time_is_told() -> None:
    """INFO says it, so that the HTTP gateway knows; 0 is a time too."""

    class Cached(Service):
        @endpoint(http="GET /a", cache=60)
        async def a(self) -> str:
            return ""

        @endpoint(http="GET /b", cache=0)
        async def b(self) -> str:
            return ""

    a, b = Cached.__declarations__.values()
    assert (a.metadata()["kit.cache"], b.metadata()["kit.cache"]) == ("60", "0")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache": -1, "http": "GET /a"}, "whole seconds"),
        ({"cache": 1.5, "http": "GET /a"}, "whole seconds"),
        ({"cache": True, "http": "GET /a"}, "whole seconds"),
        ({"status": 404}, "status must be a success"),
        ({"status": 204}, "204 by itself"),
        ({"cache": 60}, "needs a GET route"),
        ({"cache": 60, "http": "POST /a"}, "needs a GET route"),
    ],
)
def test_what_http_cannot_be_told_is_refused(
    options: dict[str, Any], words: str
) -> None:
    """Where it is written."""
    with pytest.raises(ValueError, match=words):
        endpoint(**options)


def test_a_route_takes_what_there_is_to_take() -> None:
    """A name in braces is a parameter, and not one that comes from a header."""
    with pytest.raises(ValueError, match=r"has \{idd\}, which is no parameter.* id, n"):

        class Misspelled(Service):
            @endpoint(http="GET /things/{idd}")
            async def get(self, id: str, n: int = 1) -> None: ...  # noqa: A002

    with pytest.raises(
        ValueError, match=r"'who' is in the route .* and also .* header"
    ):

        class Twice(Service):
            @endpoint(http="GET /things/{who}")
            async def get(self, who: Annotated[str, header("X-Who")]) -> None: ...

    class Loose(Service):
        @endpoint(http="GET /things/{any}", unknown_fields="ignore")
        async def get(self) -> None: ...
