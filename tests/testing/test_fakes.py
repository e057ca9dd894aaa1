"""Fakes of remote services."""
# the services here are props

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import BusinessError, Context, Service, endpoint
from kitmsg.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NoResponders,
    NotFound,
    Unimplemented,
)
from kitmsg.testing import Call, fake, fake_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg import Kit
    from kitmsg.endpoints import Endpoint, Middleware


class OutOfStock(BusinessError):
    """There is not enough."""

    sku: str


@dataclass
class Order:
    """What is ordered."""

    sku: str
    count: int = 1


def refuse(_: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
    async def refused(_ctx: Context, _request: object) -> None:
        raise NotFound("the service's own middleware ran")

    return refused


class Inventory(Service):
    """Knows what is there; its constructor and `start` need things a test lacks."""

    middleware: Sequence[Middleware] = (refuse,)

    def __init__(self, database: object) -> None:
        raise AssertionError("a fake needs no database")

    async def start(self) -> None:
        raise AssertionError("a fake does not start")

    @endpoint(raises=[OutOfStock])
    async def reserve(self, sku: str, count: int = 1) -> int: ...  # type: ignore[empty-body]

    @endpoint
    async def place(self, order: Order) -> str: ...  # type: ignore[empty-body]

    @endpoint(middleware=[refuse])
    async def look(self, ctx: Context, *, sku: str) -> list[str]: ...  # type: ignore[empty-body]

    @endpoint
    def count(self) -> int: ...  # type: ignore[empty-body]


async def test_function(kit: Kit) -> None:
    """A function answers, called with the arguments by name; its calls are kept."""
    inventory = await fake(kit, Inventory, reserve=lambda sku, count: len(sku) + count)
    client = kit.client(Inventory)
    assert await client.reserve("ball", 2) == 6
    assert await client.reserve("ball") == 5
    assert inventory.reserve.calls == [
        Call("reserve", {"sku": "ball", "count": 2}),
        Call("reserve", {"sku": "ball", "count": 1}),
    ]


async def test_coroutine_function(kit: Kit) -> None:
    """So does a coroutine function."""

    async def reserve(sku: str, count: int) -> int:
        return count

    await fake(kit, Inventory, reserve=reserve)
    assert await kit.client(Inventory).reserve("ball", 3) == 3


async def test_value(kit: Kit) -> None:
    """A value is the answer to every call, plain ``def`` endpoints included."""
    await fake(kit, Inventory, reserve=7, count=3)
    client = kit.client(Inventory)
    assert [await client.reserve("a"), await client.reserve("b")] == [7, 7]
    assert await client.count() == 3


async def test_errors_are_raised(kit: Kit) -> None:
    """An exception travels as from the real service: typed if declared, else hidden."""
    await fake(
        kit,
        Inventory,
        reserve=OutOfStock("ball"),
        place=NotFound,
        count=ValueError("secret"),
    )
    client = kit.client(Inventory)
    with pytest.raises(OutOfStock) as caught:
        await client.reserve("ball")
    assert caught.value.sku == "ball"
    with pytest.raises(NotFound):
        await client.place(Order("ball"))
    with pytest.raises(Internal) as hidden:
        await client.count()
    assert "secret" not in str(hidden.value)


async def test_list_gives_one_after_the_other(kit: Kit) -> None:
    """A list is used up, and says so when it is."""
    await fake(
        kit, Inventory, reserve=[1, OutOfStock("ball"), lambda sku, count: count]
    )
    client = kit.client(Inventory)
    assert await client.reserve("ball") == 1
    with pytest.raises(OutOfStock):
        await client.reserve("ball")
    assert await client.reserve("ball", 9) == 9
    with pytest.raises(FailedPrecondition, match="had 3 answers for 'reserve'"):
        await client.reserve("ball")


async def test_unnamed_endpoints_are_unimplemented(kit: Kit) -> None:
    """A call the test did not expect fails with a sentence, and is kept too."""
    inventory = await fake(kit, Inventory)
    with pytest.raises(Unimplemented, match="no answer for 'reserve'"):
        await kit.client(Inventory).reserve("ball")
    assert inventory.calls == [Call("reserve", {"sku": "ball", "count": 1})]


async def test_calls_of_all_endpoints_in_order(kit: Kit) -> None:
    """The fake keeps every call; a struct stands under its parameter's name."""
    inventory = await fake(
        kit, Inventory, reserve=1, place="ok", look=lambda sku: [sku]
    )
    client = kit.client(Inventory)
    await client.place(Order("ball"))
    await client.reserve("bat")
    assert await kit.call("inventory.look", sku="net") == ["net"]
    assert inventory.calls == [
        Call("place", {"order": Order("ball")}),
        Call("reserve", {"sku": "bat", "count": 1}),
        Call("look", {"sku": "net"}),
    ]


async def test_requests_are_checked_as_by_the_service(kit: Kit) -> None:
    """A wrong type or an unknown field never reaches the fake."""
    inventory = await fake(kit, Inventory, reserve=1)
    with pytest.raises(InvalidArgument) as wrong:
        await kit.client(Inventory).reserve("ball", "two")  # type: ignore[arg-type]
    assert wrong.value.field == "count"
    with pytest.raises(InvalidArgument):
        await kit.call("inventory.reserve", sku="ball", colour="red")
    assert inventory.calls == []


async def test_answer_can_change(kit: Kit) -> None:
    """A test may change the answer on the way."""
    inventory = await fake(kit, Inventory, reserve=1)
    client = kit.client(Inventory)
    assert await client.reserve("ball") == 1
    inventory.reserve.answer([2, 3])
    assert [await client.reserve("ball"), await client.reserve("ball")] == [2, 3]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"resrve": 1}, "Inventory has no endpoint 'resrve'; it has: reserve, place"),
        ({"reserve": "seven"}, "'seven' is no answer of inventory.reserve"),
        ({"reserve": [1, "two"]}, "'two' is no answer of inventory.reserve"),
        ({"reserve": lambda s, n: 1}, "by name with .sku, count."),
        ({"reserve": object()}, "is no answer of inventory.reserve"),
    ],
)
async def test_answers_are_checked_at_once(
    kit: Kit, answers: dict[str, Any], sentence: str
) -> None:
    """An answer that no call could get is refused when the fake is made."""
    with pytest.raises(TypeError, match=sentence):
        await fake(kit, Inventory, **answers)


async def test_no_such_attribute(kit: Kit) -> None:
    """A typing error in the test is a sentence, not an empty list of calls."""
    inventory = await fake(kit, Inventory)
    with pytest.raises(AttributeError, match="no endpoint 'resrve'; it has: reserve"):
        _ = inventory.resrve


async def test_subject(kit: Kit) -> None:
    """Something that is no class of ours is faked by its subject."""
    charge = await fake_subject(kit, "payments.charge", {"id": 5})
    assert await kit.call("payments.charge", amount=3) == {"id": 5}
    charge.answer(lambda amount: amount * 2)
    assert await kit.call("payments.charge", amount=3) == 6
    charge.answer(NotFound("no such card"))
    with pytest.raises(NotFound, match="no such card"):
        await kit.call("payments.charge")
    assert charge.calls == [
        Call("payments.charge", {"amount": 3}),
        Call("payments.charge", {"amount": 3}),
        Call("payments.charge", {}),
    ]


async def test_subject_answers_in_json(kit: Kit) -> None:
    """A caller that speaks JSON is answered in JSON."""
    await fake_subject(kit, "payments.charge", {"id": 5})
    reply = await kit.bus.request("payments.charge", b'{"amount":1}', 1.0)
    assert reply.data == b'{"id":5}'


async def test_subject_refuses_what_is_no_map(kit: Kit) -> None:
    """A body that is not fields is an invalid argument."""
    await fake_subject(kit, "payments.charge", 1)
    reply = await kit.bus.request("payments.charge", b"{", 1.0)
    assert reply.headers["Kit-Code"] == "invalid_argument"


async def test_subject_can_stop(kit: Kit) -> None:
    """A fake subject is gone after `stop`."""
    charge = await fake_subject(kit, "payments.charge", 1)
    await charge.stop()
    with pytest.raises(NoResponders):
        await kit.call("payments.charge")
