"""kitmsg.service.proxy: what a client may send along."""

import pytest

from kitmsg import Kit, Service, current, endpoint
from kitmsg.errors import InvalidArgument, NoResponders


class Echo(Service):
    """Says what came."""

    @endpoint
    async def tenant(self) -> str:
        return current().headers.get("Tenant", "")

    @endpoint
    async def say(self, word: str) -> str:
        return word


async def test_metadata_goes_along(kit: Kit) -> None:
    """A header of the user's own reaches the service."""
    await kit.serve(Echo())
    assert await kit.client(Echo, metadata={"Tenant": "blue"}).tenant() == "blue"


@pytest.mark.parametrize(
    "name", ["Kit-Timeout", "kit-caller", "content-type", "Nats-Service-Error"]
)
async def test_metadata_may_not_say_what_a_call_says_itself(
    kit: Kit, name: str
) -> None:
    """Such a header is refused when the client is made, in any case."""
    with pytest.raises(ValueError, match=f"may not set {name}"):
        kit.client(Echo, metadata={name: "1"})


async def test_metadata_may_not_break_a_line(kit: Kit) -> None:
    """Nor may a value forge another header."""
    with pytest.raises(InvalidArgument, match="line break"):
        kit.client(Echo, metadata={"Tenant": "a\r\nKit-Timeout: 1"})


async def test_a_value_without_a_wire_form_is_an_invalid_argument(kit: Kit) -> None:
    """A caller's own mistake is a `KitError` too, and nothing is sent."""
    await kit.serve(Echo())
    with pytest.raises(InvalidArgument, match=r"echo\.say: cannot encode"):
        await kit.client(Echo).say("\ud800")


async def test_an_instance_that_is_not_there_is_said(kit: Kit) -> None:
    """It is the instance that is wrong, not the name."""
    await kit.serve(Echo())
    with pytest.raises(NoResponders, match="no instance with that id"):
        await kit.client(Echo, instance="nope").say("Ann")


def test_the_toolkits_own_names_are_refused() -> None:
    """A service cannot stand where the toolkit's own subjects are."""
    with pytest.raises(ValueError, match="the toolkit's own"):
        type("Ours", (Service,), {"name": "_kit"})


@pytest.mark.parametrize("setting", ["name", "queue", "start"])
def test_a_setting_is_no_endpoint(setting: str) -> None:
    """A method named like a setting of every service is refused, with a way out."""

    async def method(self: Service) -> None:
        """Do nothing."""

    with pytest.raises(
        TypeError, match=rf"Odd\.{setting} is a setting of every service"
    ):
        type("Odd", (Service,), {setting: endpoint(method)})
