"""The typed client, by what it sends and says."""
# the services here are props

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Context, Kit, Service, endpoint
from kitmsg.codec import JSON
from kitmsg.errors import DeadlineExceeded, NotFound

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint
    from kitmsg.message import Message


class Shop(Service):
    """Sells."""

    @endpoint(timeout=2.0)
    async def buy(self, ctx: Context, sku: str, *, count: int = 1) -> list[str]:
        """Buy some."""
        return [sku, str(count), ctx.headers.get("Tenant", "")]

    @endpoint
    async def slow(self) -> None:
        await asyncio.sleep(3600)


def spy(kit: Kit, subject: str) -> list[Message]:
    seen: list[Message] = []
    kit.bus.subscribe(subject, seen.append)
    return seen


async def test_arguments_as_in_a_local_call(kit: Kit) -> None:
    """By position or by name, with defaults, without the context."""
    await kit.serve(Shop())
    client: Any = kit.client(Shop)
    assert await client.buy("ball") == ["ball", "1", ""]
    assert await client.buy(sku="ball", count=2) == ["ball", "2", ""]


@pytest.mark.parametrize(
    ("args", "kwargs", "sentence"),
    [
        ((), {}, "missing a required argument: 'sku'"),
        (("a", 2), {}, "too many positional arguments"),
        (("a",), {"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
async def test_wrong_arguments_are_a_type_error(
    kit: Kit, args: tuple[Any, ...], kwargs: dict[str, Any], sentence: str
) -> None:
    """As in a local call, before anything is sent."""
    seen = spy(kit, "shop.buy")
    client: Any = kit.client(Shop)
    with pytest.raises(TypeError, match=rf"Shop\.buy\(\) .*{sentence}"):
        await client.buy(*args, **kwargs)
    await asyncio.sleep(1)
    assert seen == []


async def test_metadata_goes_along(kit: Kit) -> None:
    """Headers given for the client are in every call."""
    await kit.serve(Shop())
    client: Any = kit.client(Shop, metadata={"Tenant": "blue"})
    assert await client.buy("ball") == ["ball", "1", "blue"]


async def test_codec(kit: Kit) -> None:
    """A client may speak JSON."""
    await kit.serve(Shop())
    seen = spy(kit, "shop.buy")
    client: Any = kit.client(Shop, codec=JSON)
    await client.buy("ball")
    assert seen[0].data == b'{"sku":"ball","count":1}'


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [(None, "buy", 2.0), (None, "slow", 5.0), (0.5, "buy", 0.5), (9.0, "buy", 9.0)],
)
async def test_timeouts(
    kit: Kit, given: float | None, name: str, expected: float
) -> None:
    """The client's, else the endpoint's, else 5 s."""
    kit.bus.subscribe(f"shop.{name}", lambda _: None)
    client: Any = kit.client(Shop, timeout=given)
    started = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await getattr(client, name)(*(["ball"] if name == "buy" else []))
    took = asyncio.get_running_loop().time() - started
    assert took == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_must_be_positive(kit: Kit, timeout: float) -> None:
    """Zero is not "the default"."""
    with pytest.raises(ValueError, match="timeout must be positive"):
        kit.client(Shop, timeout=timeout)


async def test_middleware_sees_name_and_request(kit: Kit) -> None:
    """The first given is the outermost; the context has the dotted name."""
    await kit.serve(Shop())
    seen: list[str] = []

    def note(word: str) -> Any:
        def wrap(call: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
            async def noted(ctx: Context, request: Any) -> Any:
                seen.append(f"{word} {ctx.endpoint} {request.sku}")
                return await call(ctx, request)

            return noted

        return wrap

    client: Any = kit.client(Shop, middleware=[note("outer"), note("inner")])
    await client.buy("ball")
    assert seen == ["outer shop.buy ball", "inner shop.buy ball"]


async def test_a_middleware_may_answer(kit: Kit) -> None:
    """Then nothing is sent, and nobody need serve."""

    def refuse(_: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
        async def refused(ctx: Context, request: Any) -> Any:
            raise NotFound("not here")

        return refused

    client: Any = kit.client(Shop, middleware=[refuse])
    with pytest.raises(NotFound):
        await client.buy("ball")


async def test_a_middleware_may_try_again(kit: Kit) -> None:
    """One call of the inner endpoint is one message, each with what is left."""
    seen = spy(kit, "shop.buy")

    def twice(call: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
        async def tried(ctx: Context, request: Any) -> Any:
            try:
                async with asyncio.timeout(0.25):
                    return await call(ctx, request)
            except TimeoutError:
                return await call(ctx, request)

        return tried

    client: Any = kit.client(Shop, timeout=1.0, middleware=[twice])
    with pytest.raises(DeadlineExceeded):
        await client.buy("ball")
    assert [m.headers["Kit-Timeout"] for m in seen] == ["1000", "750"]


def test_a_name_that_is_none(kit: Kit) -> None:
    """A typing error is told what there is."""
    client: Any = kit.client(Shop)
    with pytest.raises(
        AttributeError, match="Shop has no endpoint 'bye'; it has: buy, slow"
    ):
        _ = client.bye


def test_methods_look_like_the_originals(kit: Kit) -> None:
    """Name and documentation are those of the service."""
    client = kit.client(Shop)
    assert client.buy.__name__ == "buy"
    assert client.buy.__qualname__ == "Shop.buy"
    assert client.buy.__doc__ == "Buy some."
    assert inspect.iscoroutinefunction(client.buy)
    assert repr(client) == "<client of shop>"


@pytest.mark.parametrize("wrong", [dict, 5, None], ids=["class", "value", "none"])
def test_only_services_have_clients(kit: Kit, wrong: Any) -> None:
    """Anything else is refused with a sentence."""
    with pytest.raises(TypeError, match="is no class of a service"):
        kit.client(wrong)
