"""Testing one service: the fixture `kit` comes with kitmsg, there is nothing to set up."""

import asyncio

import pytest

from examples.greeter import Greeter
from kitmsg import Kit
from kitmsg.errors import InvalidArgument, NoResponders


async def test_hello(kit: Kit) -> None:
    """A service is called as over the network, with no server and no ports."""
    await kit.serve(Greeter())
    assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"


def test_method_is_a_method() -> None:
    """An endpoint is a plain method too: a unit test needs no bus at all."""
    assert asyncio.run(Greeter().hello("Ann")) == "Hello, Ann!"


async def test_wrong_field_is_named(kit: Kit) -> None:
    """A request that does not fit is refused by name; try it as a stranger would."""
    await kit.serve(Greeter())
    with pytest.raises(InvalidArgument, match="field 'who' is not known"):
        await kit.call("greeter.hello", who="Ann")


async def test_typing_error_gets_a_hint(kit: Kit) -> None:
    """Calling what nobody serves fails at once."""
    await kit.serve(Greeter())
    with pytest.raises(NoResponders, match=r"did you mean 'greeter\.hello'"):
        await kit.call("greeter.helo", name="Ann")
