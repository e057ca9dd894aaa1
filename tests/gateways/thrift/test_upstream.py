"""A Thrift server elsewhere as a service: thriftpy2's own server, and our gateway."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from thriftpy2.contrib.aio.processor import TAsyncProcessor
from thriftpy2.contrib.aio.protocol import (
    TAsyncBinaryProtocolFactory,
    TAsyncCompactProtocolFactory,
)
from thriftpy2.contrib.aio.server import TAsyncServer
from thriftpy2.contrib.aio.socket import StreamHandler
from thriftpy2.contrib.aio.transport import (
    TAsyncBufferedTransportFactory,
    TAsyncFramedTransportFactory,
)

import kitmsg
import kitmsg.bus.memory
from examples.addsvc.service import AddService, IntOverflow
from kitmsg.context import Context
from kitmsg.errors import (
    BusinessError,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    KitError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from kitmsg_gateways.thrift.load import parse
from kitmsg_gateways.thrift.upstream import (
    ThriftReply,
    ThriftRequest,
    Upstream,
    UpstreamOptions,
    open_upstream,
)
from kitmsg_gateways.upstream import Hooks
from tests.gateways.thrift.conftest import parsed
from tests.gateways.thrift.messages import call
from tests.gateways.thrift.services import Archive, Greeter, Kind, Rude, Scroll

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

IDL = """
enum Color { RED = 1, BLUE = 3 }
struct Item { 1: required string name, 2: i32 count, 3: Color color, 4: binary data,
  5: map<i32, i64> sizes, 6: list<Item> parts, 7: double price, 8: bool sold }
exception Gone { 1: string message, 2: string what, 3: i64 code }
struct Reply { 1: i64 value, 2: string err }
service Store {
  Item same(1: Item item),
  void buy(1: string what, 2: i64 count) throws (1: Gone gone),
  Reply divide(1: i64 a, 2: i64 b),
  string hang(),
  oneway void note(1: string text),
}
"""


class Handler:
    """What the server does."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.notes: list[str] = []
        self.busy = 0
        self.most = 0

    async def same(self, item: Any) -> Any:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0)
        self.busy -= 1
        return item

    async def buy(self, what: str, count: int) -> None:
        if what == "teapot":
            raise self.module.Gone(message="sold out", what=what, code=7)

    async def divide(self, a: int, b: int) -> Any:
        if b == 0:
            return self.module.Reply(value=0, err="division by zero")
        return self.module.Reply(value=a // b, err="")

    async def hang(self) -> str:
        await asyncio.Event().wait()
        return ""

    async def note(self, text: str) -> None:
        self.notes.append(text)


class Server:
    """thriftpy2's server on a loopback port."""

    def __init__(self, protocol: str = "binary", transport: str = "buffered") -> None:
        module = parsed(IDL)
        self.handler = Handler(module)
        self.connections: list[asyncio.StreamWriter] = []
        transports = {
            "buffered": TAsyncBufferedTransportFactory,
            "framed": TAsyncFramedTransportFactory,
        }
        protocols = {
            "binary": TAsyncBinaryProtocolFactory,
            "compact": TAsyncCompactProtocolFactory,
        }
        processor: Any = TAsyncProcessor  # it has no types
        self._server: Any = TAsyncServer(
            processor(module.Store, self.handler),
            None,
            itrans_factory=transports[transport](),
            iprot_factory=protocols[protocol](),
        )

    async def __aenter__(self) -> Server:
        self.socket = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections.append(writer)
        stream: Any = StreamHandler  # it has no types
        with contextlib.suppress(asyncio.CancelledError):
            await self._server.handle(stream(reader, writer))

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()
        for writer in self.connections:
            writer.transport.abort()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.socket.sockets[0].getsockname()[1]}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that speaks as Go kit's does."""
    async with Server() as running:
        yield running


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Callable[..., Upstream]]:
    """Give a function that makes an upstream of the server."""
    async with contextlib.AsyncExitStack() as stack:

        def make(*, to: Any = None, hooks: Any = None, **options: Any) -> Upstream:
            made = Upstream(
                to or server.address,
                parse(IDL, "store"),
                name="store",
                options=UpstreamOptions(**options),
                hooks=hooks,
            )
            stack.push_async_callback(made.close)
            return made

        yield make


ITEM = {
    "name": "tea",
    "count": 2,
    "color": "BLUE",
    "data": b"\xff\0",
    "sizes": {"-5": 1},
    "parts": [{"name": "leaf"}],
    "price": 0.5,
    "sold": False,
}


@pytest.mark.parametrize("protocol", ["binary", "compact"])
@pytest.mark.parametrize("transport", ["buffered", "framed"])
async def test_what_goes_there_comes_back(connect, protocol, transport):
    """In every way to speak, with every kind of type."""
    async with Server(protocol, transport) as running:
        upstream = connect(to=running.address, protocol=protocol, transport=transport)
        same = upstream.endpoint("same")
        assert await same(Context(), {"item": ITEM}) == ITEM


def an_item(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    """Return a random item."""
    item: dict[str, Any] = {
        "name": "".join(rng.choices("aé€😀\0", k=rng.randint(0, 5))),
        "count": rng.choice([0, -1, 2**31 - 1, -(2**31)]),
        "color": rng.choice(["RED", "BLUE"]),
        "data": rng.randbytes(rng.randint(0, 300)),
        "sizes": {
            str(rng.randint(-(2**31), 2**31 - 1)): rng.randint(-(2**63), 2**63 - 1)
        },
        "parts": [an_item(rng, depth - 1) for _ in range(rng.randint(0, depth))],
        "price": rng.choice([0.0, -1.5, 1e300, 5e-324]),
        "sold": rng.random() < 0.5,
    }
    left_out = rng.sample(
        [name for name in item if name != "name"], k=rng.randint(0, 4)
    )
    return {name: value for name, value in item.items() if name not in left_out}


@pytest.mark.parametrize("protocol", ["binary", "compact"])
async def test_random_values_come_back_equal(hub, connect, protocol):
    """200 of them: from the bus, to thriftpy2's server, and back."""
    rng = random.Random(protocol)
    async with Server(protocol) as running:
        await hub.serve(connect(to=running.address, protocol=protocol))
        for _ in range(100):
            item = an_item(rng)
            assert await hub.call("store.same", {"item": item}) == item


async def test_on_the_bus_it_is_a_service_like_any_other(connect):
    """With schemas; bytes are base64 in JSON, a wrong type names its field."""
    async with kitmsg.connect(bus=kitmsg.bus.memory.MemoryBus()) as kit:
        await kit.serve(connect())
        reply = await kit.call("store.divide", {"a": 7, "b": 2})
        assert reply == 3
        found = await kit.call("store.same", {"item": ITEM})
        assert found == ITEM
        with pytest.raises(InvalidArgument) as caught:
            await kit.call("store.same", {"item": {"name": 5}})
        assert caught.value.field == "item.name"
        with pytest.raises(InvalidArgument, match="name"):
            await kit.call("store.same", {"item": {"count": 5}})


async def test_an_exception_is_a_typed_error(connect):
    """Its fields are attributes, its message is the text; names that are ours give way."""
    with pytest.raises(BusinessError) as caught:
        await connect().endpoint("buy")(Context(), {"what": "teapot", "count": 1})
    error: Any = caught.value
    assert (type(error).__name__, str(error)) == ("Gone", "sold out")
    assert (error.what, error.code_) == ("teapot", 7)
    assert await connect().endpoint("buy")(Context(), {"what": "x", "count": 1}) is None


async def test_go_kit_s_business_error_is_an_error(connect):
    """What is in ``err`` is raised; else the result is what stands beside it."""
    divide = connect().endpoint("divide")
    assert await divide(Context(), {"a": 7, "b": 2}) == 3
    with pytest.raises(FailedPrecondition, match="division by zero"):
        await divide(Context(), {"a": 7, "b": 0})


async def test_a_oneway_call_does_not_wait(connect, server, until):
    """The connection is used again at once."""
    upstream = connect()
    assert await upstream.endpoint("note")(Context(), {"text": "psst"}) is None
    assert await upstream.endpoint("divide")(Context(), {"a": 4, "b": 2}) == 2
    assert server.handler.notes == ["psst"]
    assert len(server.connections) == 1


async def test_connections_are_shared_and_bounded(connect, server):
    """No more than `max_connections`; more calls wait, and none is lost."""
    same = connect(max_connections=3).endpoint("same")
    calls = [same(Context(), {"item": {"name": str(n)}}) for n in range(50)]
    found = await asyncio.gather(*calls)
    assert [item["name"] for item in found] == [str(n) for n in range(50)]
    assert len(server.connections) == 3


async def test_a_call_that_takes_too_long_ends(connect, server):
    """Its connection is closed, because the answer may still come; the next call works."""
    upstream = connect(timeout=0.05)
    with pytest.raises(DeadlineExceeded, match="store: the server did not answer"):
        await upstream.endpoint("hang")(Context(), {})
    assert await upstream.endpoint("divide")(Context(), {"a": 4, "b": 2}) == 2
    assert len(server.connections) == 2


async def test_the_caller_s_deadline_is_kept(connect):
    """The nearer one counts."""
    context = Context(deadline=asyncio.get_running_loop().time() + 0.05)
    with pytest.raises(DeadlineExceeded):
        await connect(timeout=60.0).endpoint("hang")(context, {})


async def test_a_server_that_comes_back_is_found_again(connect, server, until):
    """A connection that was closed meanwhile is not used."""
    divide = connect().endpoint("divide")
    assert await divide(Context(), {"a": 4, "b": 2}) == 2
    server.connections[0].close()
    await server.connections[0].wait_closed()
    await asyncio.sleep(0)
    assert await divide(Context(), {"a": 4, "b": 2}) == 2


async def test_several_servers_take_turns_and_a_dead_one_is_passed_over(
    connect, server
):
    """Nothing is lost, since nothing was sent there."""
    async with Server() as gone:
        dead = gone.address
    upstream = connect(to=[dead, server.address])
    for _ in range(4):
        assert await upstream.endpoint("divide")(Context(), {"a": 4, "b": 2}) == 2
    with pytest.raises(Unavailable, match="store has no instance that can be reached"):
        await connect(to=dead).endpoint("divide")(Context(), {"a": 4, "b": 2})


async def test_hooks_run_in_go_kit_s_order(connect):
    """Before, after, finalizer; they see the call and the answer, and may change both."""
    seen: list[Any] = []

    def before(_: Context, request: ThriftRequest) -> None:
        seen.append(dict(request.args))
        request.args["b"] = 3

    def after(_: Context, reply: ThriftReply) -> None:
        seen.append(reply.fields["success"]["value"])

    hooks: Hooks[ThriftRequest, ThriftReply] = Hooks(
        before=[before], after=[after], finalizer=[lambda _, error: seen.append(error)]
    )
    divide = connect(hooks=hooks).endpoint("divide")
    assert await divide(Context(), {"a": 6, "b": 2}) == 2
    assert seen == [{"a": 6, "b": 2}, 2, None]


async def test_an_error_decoder_replaces_ours(connect):
    """It sees the answer and says what is wrong with it."""
    hooks: Hooks[ThriftRequest, ThriftReply] = Hooks(
        error_decoder=lambda _, reply: NotFound(str(reply.fields))
    )
    with pytest.raises(NotFound, match="success"):
        await connect(hooks=hooks).endpoint("divide")(Context(), {"a": 6, "b": 2})


@contextlib.asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[str]:
    """Give the address of a server that answers anything with `data`."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(1000)
        writer.write(data)
        if not data:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{running.sockets[0].getsockname()[1]}"
    running.close()
    for writer in writers:
        writer.transport.abort()


def failed(message: str, type_: int) -> bytes:
    """Return a TApplicationException."""
    data = message.encode()
    body = (
        struct.pack(">bhi", 11, 1, len(data)) + data + struct.pack(">bhi", 8, 2, type_)
    )
    return call(b"divide", 1, body + b"\0", kind=3)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (failed("no such method", 1), Unimplemented, "no such method"),
        (failed("oops", 6), Internal, "oops"),
        (failed("not_found: no such thing", 6), NotFound, "^no such thing$"),
        (failed("what: is this", 7), InvalidArgument, "^what: is this$"),
        (call(b"divide", 1, b"\0", kind=2), DataLoss, "the answer has no result"),
        (call(b"divide", 2, b"\0", kind=2), DataLoss, "it answers another message"),
        (call(b"divide", 1, b"\0", kind=1), DataLoss, "it answers another message"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ResourceExhausted, "a length of"),
        (b"\x80\x02\0\0\0\0\0\0", DataLoss, "no version of the binary protocol"),
        (b"", Unavailable, "the connection to the server broke"),
    ],
)
async def test_any_answer_is_a_result_or_a_kit_error(connect, data, error, text):
    """By the table of types; a text that begins with a code has that code."""
    async with answering(data) as address:
        divide = connect(to=address).endpoint("divide")
        with pytest.raises(KitError, match=text) as caught:
            await divide(Context(), {"a": 1, "b": 2})
    assert type(caught.value) is error


async def test_our_gateway_and_our_upstream_understand_each_other(hub, start):
    """Errors arrive as the classes that were raised; names go in front where wanted."""
    await hub.serve(AddService())
    outside = await start(hub)
    idl = parse(outside.idl(), "addsvc")
    options = UpstreamOptions(multiplexed=True, protocol="compact", transport="framed")
    address = f"127.0.0.1:{outside.server.port}"
    async with Upstream(address, idl, name="addsvc", options=options) as upstream:
        adder = upstream.client(AddService)
        with pytest.raises(InvalidArgument, match="does not fit"):
            await upstream.endpoint("sum")(Context(), {"a": 2**70, "b": 1})
        async with kitmsg.connect(bus=kitmsg.bus.memory.MemoryBus()) as other:
            await other.serve(upstream)
            adder = other.client(AddService)
            assert await adder.sum(1, 2) == 3
            with pytest.raises(IntOverflow) as caught:
                await adder.sum(2**31 - 1, 1)
            assert (caught.value.a, caught.value.b) == (2**31 - 1, 1)


SCROLL = Scroll(
    id=UUID(int=7),
    kind=Kind.NEW,
    price=Decimal("9.50"),
    written=datetime(2026, 11, 28, 12, 30, tzinfo=UTC),
    data=b"\xff\0",
    words={"a": [1, 2], "": []},
    copy=Scroll(
        UUID(int=8), Kind.OLD, Decimal(1), datetime(2000, 1, 1, tzinfo=UTC), b""
    ),
)


async def test_a_class_is_a_description_too(hub, start):
    """A kitmsg service behind a gateway, without an IDL: typed values, errors, settings."""
    await hub.serve(Archive())
    outside = await start(hub)
    address = f"127.0.0.1:{outside.server.port}"
    async with (
        Upstream(address, Archive) as upstream,
        kitmsg.connect(bus=kitmsg.bus.memory.MemoryBus()) as other,
    ):
        host = await other.serve(upstream)
        assert (host.info.version, host.info.description) == ("2.1.0", "Keeps scrolls.")
        for archive in (upstream.client(Archive), other.client(Archive)):
            assert await archive.same(SCROLL, 2) == [SCROLL, SCROLL]
            assert await archive.find() is None
            assert await archive.any({"a": 0.5}) == {"a": 0.5}
            with pytest.raises(Rude, match="Ann was rude 2 times") as rude:
                await archive.refuse("Ann")
            assert (rude.value.name, rude.value.times) == ("Ann", 2)
            with pytest.raises(NotFound, match="there is no scroll"):
                await archive.missing()
            with pytest.raises(DeadlineExceeded):
                await archive.hang()


async def test_a_class_that_streams_has_no_form_in_thrift():
    """It is refused when the upstream is made, with the endpoint's name."""
    with pytest.raises(FailedPrecondition, match=r"greeter\.watch"):
        Upstream("x:1", Greeter)


@pytest.mark.parametrize(
    ("addresses", "options", "sentence"),
    [
        (["localhost"], {}, "'localhost' is no address of a Thrift server"),
        (["localhost:0"], {}, "no address"),
        ([], {}, "give the address of the server"),
        (["x:1"], {"only": ("same", "sam")}, "store has no endpoint 'sam'; it has buy"),
        (["x:1"], {"service": "Shop"}, "has no service 'Shop'; it has Store"),
        (
            ["x:1"],
            {"tls": True, "ca_file": "nowhere"},
            "the files for TLS cannot be used",
        ),
        (["x:1"], {"thrift": ""}, "say what the server offers: --thrift FILE"),
        (["x:1"], {"thrift": "nowhere.thrift"}, "nowhere.thrift cannot be read"),
    ],
)
async def test_what_cannot_be_is_said(write, addresses, options, sentence):
    """Before anything is served."""
    given = {"thrift": write(IDL), **options}
    with pytest.raises((ValueError, KitError), match=sentence):
        await open_upstream("store", addresses, UpstreamOptions(**given))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"protocol": "json"}, "protocol must be one of binary, compact"),
        ({"timeout": 0}, "timeout must be positive"),
        ({"max_connections": 0}, "max_connections must be positive"),
        ({"ca_file": "x"}, "ca_file needs tls"),
        ({"key_file": "x", "tls": True}, "key_file needs cert_file"),
    ],
)
def test_options_that_do_not_fit_are_said(options, sentence):
    """At once."""
    with pytest.raises(ValueError, match=sentence):
        UpstreamOptions(**options)


async def test_an_answer_over_the_limit_is_refused(connect, server):
    """It is not read to its end."""
    same = connect(max_message_bytes=1000).endpoint("same")
    with pytest.raises(ResourceExhausted):
        await same(Context(), {"item": {"name": "x" * 2000}})
