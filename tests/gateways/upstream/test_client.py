"""Go kit's client phases, with a protocol whose server is in this process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from kitmsg.context import Context
from kitmsg.errors import DeadlineExceeded, InvalidArgument, Unavailable, Unimplemented
from kitmsg.schema.calls import StreamRequest
from kitmsg.service.described import describe
from kitmsg_gateways.upstream import (
    CannotConnect,
    Client,
    CommonOptions,
    Hooks,
    Transport,
    fixed,
)
from tests.discovery.changing import Changing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kitmsg.service.declare import Declaration
    from kitmsg_gateways.upstream import Outgoing

Toy: TypeAlias = "Client[Shout, Said, Said]"
OBJECT = {"type": "object", "properties": {"text": {"type": "string"}}}


@dataclass
class Said:
    """Request and reply of the protocol."""

    text: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shout:
    """The one method there is."""

    declaration: Declaration
    seen: list[str]

    def encode(self, request: dict[str, Any]) -> Said:
        self.seen.append("encode")
        return Said(request["text"])

    def error(self, reply: Said) -> Exception | None:
        self.seen.append("error")
        return InvalidArgument("no text") if not reply.text else None

    def decode(self, reply: Said) -> str:
        self.seen.append("decode")
        return reply.text


class Items:
    """Replies that stream."""

    def __init__(
        self, head: Said | None, texts: Sequence[str], seen: list[str]
    ) -> None:
        self.head = head
        self._texts = texts
        self._seen = seen

    async def __aiter__(self) -> AsyncIterator[Said]:
        for text in self._texts:
            yield Said(text)

    async def aclose(self) -> None:
        self._seen.append("close")


class Wire(Transport[Shout, Said, Said]):
    """Connections; those to ``dead`` cannot be had."""

    def __init__(self, seen: list[str], head: Said | None = None) -> None:
        self.seen = seen
        self.head = head
        self.closed: list[str] = []
        self.limits: list[float | None] = []

    def propagate(self, request: Said, along: Outgoing, *, is_endless: bool) -> None:
        request.headers = {**along.web_headers(), "endless": str(is_endless)}

    async def send(
        self, address: str, method: Shout, request: Said, limit: float
    ) -> Said:
        if address == "dead":
            raise CannotConnect("refused")
        self.seen.append("send")
        self.limits.append(limit)
        return Said(request.text.upper(), request.headers)

    async def stream(
        self,
        address: str,
        method: Shout,
        request: Said,
        limit: float | None,
        items: AsyncIterator[Any] | None,
    ) -> Said | Items:
        self.limits.append(limit)
        if items is not None:
            return Said(" ".join([item async for item in items]))
        return Items(self.head, [*request.text.split()], self.seen)

    async def close(self, address: str = "") -> None:
        self.closed.append(address or "all")


def method(seen: list[str], **given: Any) -> Shout:
    """Return the method, as one that streams where that is given."""
    declared = describe(
        "toy", "shout", request=OBJECT, response={"type": "string"}, **given
    )
    return Shout(declared, seen)


def hooks(seen: list[str]) -> Hooks[Said, Said]:
    """Return hooks that say when they run."""
    return Hooks(
        before=[lambda _, said: seen.append(f"before {said.text}")],
        after=[lambda _, said: seen.append(f"after {said.text}")],
        finalizer=[lambda _, error: seen.append(f"finalizer {error}")],
    )


def client(
    wire: Wire, addresses: Any = "here", given: Hooks[Said, Said] | None = None
) -> Toy:
    """Return a client of the toy."""
    where = fixed(addresses)
    return Client("toy", where, wire, CommonOptions(timeout=2.0), given or Hooks())


async def test_phases_run_in_go_kits_order() -> None:
    """Encode, before, send, after, error, decode, finalizer."""
    seen: list[str] = []
    call = client(Wire(seen), given=hooks(seen)).endpoint(method(seen))
    assert await call(Context(), {"text": "tea"}) == "TEA"
    phases = ["encode", "before tea", "send", "after TEA", "error", "decode"]
    assert seen == [*phases, "finalizer None"]
    seen.clear()
    with pytest.raises(InvalidArgument):
        await call(Context(), {"text": ""})
    assert seen[-2:] == ["error", "finalizer no text"]


async def test_a_request_has_the_headers_before_the_hooks_see_it() -> None:
    """So that a hook may change what the toolkit would send."""
    seen: list[str] = []
    sent: list[dict[str, str]] = []
    given: Hooks[Said, Said] = Hooks(before=[lambda _, said: sent.append(said.headers)])
    ctx = Context(metadata={"tenant": "a", "bad": "\n"})
    await client(Wire(seen), given=given).endpoint(method(seen))(ctx, {"text": "x"})
    assert sent == [{"tenant": "a", "endless": "False"}]


async def test_a_dead_address_is_passed_over_within_the_limit() -> None:
    """The next one has the call, in what is left; no time, or no address, is an error."""
    seen: list[str] = []
    wire = Wire(seen)
    call = client(wire, ["dead", "here"]).endpoint(method(seen))
    for _ in range(2):
        assert await call(Context(), {"text": "tea"}) == "TEA"
    assert all(limit is not None and 0 < limit <= 2.0 for limit in wire.limits)
    gone = Context(deadline=asyncio.get_running_loop().time() - 1)
    with pytest.raises(DeadlineExceeded):
        await call(gone, {"text": "tea"})
    one = method(seen)
    caller = Context(endpoint="shop.buy")  # a service that calls it, and has begun
    with pytest.raises(Unavailable, match="toy has no instance") as caught:
        await client(wire, ["dead"]).endpoint(one)(caller, {"text": "tea"})
    assert caught.value.refused == f"toy.{one.declaration.name}"


@pytest.mark.parametrize("head", [None, Said("head")])
async def test_each_reply_of_a_stream_is_decoded(head: Said | None) -> None:
    """`after` sees its head, or each reply where there is none; it is closed at the end."""
    seen: list[str] = []
    wire = Wire(seen, head)
    one = method(seen, gives_items=True)
    call = client(wire, given=hooks(seen)).endpoint(one)
    items = await call(Context(), StreamRequest({"text": "a b"}, None))
    assert [item async for item in items] == ["a", "b"]
    after = ["after a", "after b"] if head is None else ["after head"]
    assert [each for each in seen if each.startswith("after")] == after
    assert seen[-2:] == ["close", "finalizer None"]
    assert wire.limits == [None]


async def test_items_in_have_one_reply() -> None:
    """A method that only takes items gives a result, in the time of the deadline."""
    seen: list[str] = []
    wire = Wire(seen)

    async def items() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    one = method(seen, items={"type": "string"})
    ctx = Context(deadline=asyncio.get_running_loop().time() + 1)
    call = client(wire).endpoint(one)
    assert await call(ctx, StreamRequest({"text": ""}, items())) == "a b"
    (limit,) = wire.limits
    assert limit is not None
    assert 0 < limit <= 1


async def test_a_protocol_without_streams_says_so() -> None:
    """The default of a transport, with the endpoint's name."""

    class Plain(Wire):
        stream = Transport.stream  # type: ignore[assignment]  # the default

    one = method([], gives_items=True)
    with pytest.raises(Unimplemented, match=r"toy\.shout: the server has no streams"):
        await client(Plain([])).endpoint(one)(
            Context(), StreamRequest({"text": ""}, None)
        )


async def test_an_address_that_leaves_is_closed() -> None:
    """And all of them with the client, which then watches no more."""
    source = Changing("a", "b")
    wire = Wire([])
    made: Toy = Client("toy", source, wire, CommonOptions(), Hooks())
    await made.endpoint(method([]))(Context(), {"text": "tea"})
    source.become("b")
    await asyncio.sleep(0)
    assert wire.closed == ["a"]
    await made.close()
    assert wire.closed == ["a", "all"]
    assert source.watchers == []


def test_only_what_is_wanted_is_served() -> None:
    """The options choose among methods of any origin; a wrong name is a sentence."""
    options = CommonOptions(only=("shout",))
    made: Toy = Client("toy", fixed("x"), Wire([]), options, Hooks())
    assert [each.declaration.name for each in made.remotes([method([])])] == ["shout"]
    wrong: Toy = Client(
        "toy", fixed("x"), Wire([]), CommonOptions(only=("sing",)), Hooks()
    )
    with pytest.raises(ValueError, match="toy has no endpoint 'sing'; it has shout"):
        wrong.remotes([method([])])


@pytest.mark.parametrize("kind", ["http", "grpc", "thrift"])
def test_every_gateway_names_its_upstream(kind: str) -> None:
    """As ``kitmsg_gateways.KIND.Upstream``, without a load of it for a gateway."""
    package = f"kitmsg_gateways.{kind}"
    upstream = import_module(f"{package}.upstream").Upstream
    assert import_module(package).Upstream is upstream
    code = f"import sys, {package}; print('{package}.upstream' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert ran.stdout == "False\n"
