"""``allow=``: who may call an endpoint, where it is served."""

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003  # of an endpoint

import pytest

from kitmsg import Context, Kit, Service, endpoint
from kitmsg.auth import Principal, Refused
from kitmsg.auth.allow import anyone, known, role, scope
from kitmsg.errors import PermissionDenied, Unauthenticated
from kitmsg.middleware import auth, cache
from kitmsg.testing import caller
from kitmsg.wire import PRINCIPAL, Meta
from tests.trust import SIGNER, TRUST

ANN = Principal("ann", "jwt", {"scope": "orders:write"})
BOB = Principal("bob", "jwt", {"role": "admin"})
EVE = Principal("eve", "jwt", {"scope": "orders:read"})


class Orders(Service):
    """Takes orders."""

    allow = known

    def __init__(self) -> None:
        self.calls = 0

    @endpoint(allow=scope("orders:write") | role("admin"))
    async def place(self) -> str:
        self.calls += 1
        return "placed"

    @endpoint
    async def status(self) -> str:
        return "open"

    @endpoint(allow=anyone)
    async def hours(self) -> str:
        return "9 to 5"

    @endpoint(allow=lambda ctx: ctx.principal.name == "eve")
    async def eves(self) -> str:
        return "eve's"

    @endpoint(allow=scope("orders:write"))
    async def watch(self) -> AsyncIterator[int]:
        self.calls += 1
        yield 1

    @endpoint(allow=scope("orders:write"), wire="gokit")
    async def legacy(self) -> str:
        return "legacy"


def client(kit: Kit, who: Principal | None, service: type[Orders] = Orders) -> Orders:
    fields = {} if who is None else {PRINCIPAL: SIGNER.text(who)}
    return kit.client(service, metadata=fields)


async def test_only_those_whom_the_policy_lets_in(kit):
    """A stranger is unauthenticated, somebody else is denied; the method never runs."""
    kit.trust = TRUST
    orders = Orders()
    await kit.serve(orders)
    for who in (ANN, BOB):
        assert await client(kit, who).place() == "placed"
    with pytest.raises(PermissionDenied, match=r"^you may not call orders\.place$"):
        await client(kit, EVE).place()
    with pytest.raises(Unauthenticated, match="for callers that are known"):
        await client(kit, None).place()
    forged = kit.client(Orders, metadata={PRINCIPAL: ANN.text})
    with pytest.raises(Unauthenticated):
        await forged.place()
    assert orders.calls == 2


async def test_the_services_policy_is_for_endpoints_without_one(kit):
    """`anyone` opens one endpoint again; a function decides with the context."""
    kit.trust = TRUST
    await kit.serve(Orders())
    assert await client(kit, EVE).status() == "open"
    assert await client(kit, EVE).eves() == "eve's"
    assert await client(kit, None).hours() == "9 to 5"
    with pytest.raises(Unauthenticated):
        await client(kit, None).status()
    with pytest.raises(PermissionDenied):
        await client(kit, ANN).eves()


async def test_it_holds_for_streams_and_for_go_kits_wire_too(kit):
    """Through every door of a service."""
    kit.trust = TRUST
    orders = Orders()
    await kit.serve(orders)
    assert [n async for n in client(kit, ANN).watch()] == [1]
    assert await client(kit, ANN).legacy() == "legacy"
    for who, error in ((EVE, PermissionDenied), (None, Unauthenticated)):
        with pytest.raises(error):
            async for _ in client(kit, who).watch():
                pass
        with pytest.raises(Exception, match="may not call|callers that are known"):
            await client(kit, who).legacy()
    assert orders.calls == 1


async def test_a_test_makes_up_its_callers(kit):
    """Without a key or a door."""
    await kit.serve(Orders())
    assert await kit.client(Orders, auth=caller("x", scope="orders:write")).place()
    with pytest.raises(PermissionDenied):
        await kit.client(Orders, auth=caller("x", roles=["clerk"])).place()


async def test_refusals_are_counted(kit):
    """Under their codes."""
    kit.trust = TRUST
    host = await kit.serve(Orders())
    for who in (EVE, None):
        with pytest.raises((PermissionDenied, Unauthenticated)):
            await client(kit, who).place()
    codes = host.snapshots()["orders.place"].codes
    assert codes == {"permission_denied": 1, "unauthenticated": 1}


class Word:
    """Knows one word."""

    scheme = "Bearer"

    async def verify(self, credentials: str) -> Principal:
        if credentials != "sesame":
            raise Refused("the credentials are not valid", "wrong word")
        return ANN

    def challenge(self, realm: str, *, failed: bool) -> str:
        return f"{realm} {failed}"


async def test_a_cache_answers_nobody_whom_the_policy_refuses(kit):
    """Where it stands inside; the policy is asked right after the caller is found."""
    kit.trust = TRUST

    class Inner(Orders):
        name = "inner"
        middleware = (cache(ttl=60),)

    await kit.serve(Inner())
    assert await client(kit, ANN, Inner).place() == "placed"
    with pytest.raises(PermissionDenied):
        await client(kit, EVE, Inner).place()
    with pytest.raises(Unauthenticated):
        await client(kit, None, Inner).place()


async def test_a_caller_may_be_found_by_middleware(kit):
    """Of the service or of the endpoint."""

    class Own(Orders):
        name = "own"
        middleware = (auth(Word()),)

        @endpoint(allow=scope("orders:write"), middleware=[auth(Word())])
        async def inner(self, ctx: Context) -> str:
            return str(ctx.principal.name)

    kit.trust = None
    await kit.serve(Own())
    good = {"Authorization": "Bearer sesame"}
    assert await kit.client(Own, metadata=good).place() == "placed"
    assert await kit.client(Own, metadata=good).inner() == "ann"
    with pytest.raises(Unauthenticated):
        await kit.client(Own).place()


async def test_a_service_that_can_know_nobody_says_so(kit, caplog):
    """It refuses everybody; the log names what to do."""
    kit.trust = None
    await kit.serve(Orders())
    assert "nobody can be known: give the worker --trusted-keys" in caplog.text
    with pytest.raises(Unauthenticated):
        await client(kit, ANN).place()


async def test_info_tells_it(kit):
    """As text, for doors and documents."""
    host = await kit.serve(Orders())
    told = {each.name: each.metadata.get(Meta.ALLOW) for each in host.info.endpoints}
    assert told == {
        "place": "scope:orders:write | role:admin",
        "status": "known",
        "hours": "anyone",
        "eves": "custom",
        "watch": "scope:orders:write",
        "legacy": "scope:orders:write",
    }


def test_a_mistake_is_a_sentence_where_the_class_is_defined():
    """Of the decorator and of the service."""
    with pytest.raises(TypeError, match="allow takes a policy"):
        endpoint(allow="admin")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"Wrong\.allow: allow takes a policy"):
        type("Wrong", (Service,), {"allow": "admin"})
    with pytest.raises(TypeError, match=r"call it, as scope\(\.\.\.\)"):
        endpoint(allow=scope)  # type: ignore[arg-type]


def test_a_subclass_inherits_and_may_change_it():
    """The policy of the class counts where an endpoint has none of its own."""

    class Wide(Orders):
        name = "wide"
        allow = anyone

    class Narrow(Orders):
        name = "narrow"
        allow = role("admin")

    def of(cls: type[Orders], name: str) -> str | None:
        return cls.__declarations__[name].metadata().get(Meta.ALLOW)

    assert (of(Wide, "status"), of(Narrow, "status")) == ("anyone", "role:admin")
    assert of(Wide, "place") == of(Narrow, "place") == of(Orders, "place")
