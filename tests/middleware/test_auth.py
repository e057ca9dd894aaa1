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


async def test_a_caller_that_was_vouched_for_is_known_already() -> None:
    """The server has verified the signature; credentials are looked at without one."""
    told = asked(Authorization="bearer sesame")
    told.principal = Principal("ann", "tls")
    assert await auth(Door())(who)(told, "") == "ann"
    assert await auth()(who)(told, "") == "ann"


async def test_a_bare_principal_is_nobody() -> None:
    """Anybody on the bus can write that header."""
    told = asked(Kit_Principal=Principal("ann", "jwt").text)
    for middleware in (auth(Door()), auth()):
        with pytest.raises(Unauthenticated):
            await middleware(who)(told, "")
