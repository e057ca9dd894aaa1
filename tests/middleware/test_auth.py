"""Only somebody who is known."""

from __future__ import annotations

import pytest

from kitmsg.auth import Principal, Refused
from kitmsg.context import Context
from kitmsg.errors import Unauthenticated
from kitmsg.message import Message, encode_headers
from kitmsg.middleware import auth


class Door:
    """Takes one word."""

    scheme = "Bearer"

    async def verify(self, credentials: str) -> Principal:
        """Take "sesame"."""
        if credentials != "sesame":
            raise Refused("the credentials are not valid", "wrong word")
        return Principal("ali", "jwt")

    def challenge(self, realm: str, *, failed: bool) -> str:
        """Say nothing."""
        return f"{realm} {failed}"


async def who(ctx: Context, _request: str) -> str:
    assert isinstance(ctx.principal, Principal)
    return ctx.principal.name


def asked(**headers: str) -> Context:
    block = encode_headers({name.replace("_", "-"): v for name, v in headers.items()})
    return Context(message=Message("a.b", b"", header_block=block))


async def test_credentials_become_the_principal() -> None:
    """The endpoint sees who calls."""
    assert await auth(Door())(who)(asked(Authorization="Bearer sesame"), "") == "ali"


@pytest.mark.parametrize("value", ["", "Bearer x", "Basic sesame"])
async def test_without_good_ones_it_is_not_called(value: str) -> None:
    """And the caller is told no more."""
    with pytest.raises(Unauthenticated):
        await auth(Door())(who)(asked(Authorization=value), "")
    with pytest.raises(Unauthenticated, match="credentials are needed"):
        await auth(Door())(who)(asked(), "")


async def test_a_gateway_is_trusted_only_when_told_to() -> None:
    """Anybody on the bus can write its header."""
    told = asked(Kit_Principal=Principal("ann", "jwt").text)
    assert await auth(trust_gateway=True)(who)(told, "") == "ann"
    with pytest.raises(Unauthenticated):
        await auth(Door())(who)(told, "")
    for broken in ("ann", "{}"):
        with pytest.raises(Unauthenticated):
            await auth(trust_gateway=True)(who)(asked(Kit_Principal=broken), "")


async def test_either_will_do() -> None:
    """A call through the gateway, or one with credentials of its own."""
    both = auth(Door(), trust_gateway=True)(who)
    assert await both(asked(Kit_Principal=Principal("ann", "tls").text), "") == "ann"
    assert await both(asked(Authorization="bearer sesame"), "") == "ali"


def test_something_must_check() -> None:
    """Nothing at all would let everybody in, or nobody."""
    with pytest.raises(ValueError, match="needs a verifier"):
        auth()
