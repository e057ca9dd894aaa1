"""A gRPC service elsewhere, as endpoints here: by class, by .proto, by reflection."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
import trustme
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings, strategies as st

import kitmsg
import kitmsg_gateways.grpc
from examples.addsvc.service import AddService
from kitmsg import Context
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import (
    FailedPrecondition,
    InvalidArgument,
    KitError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unknown,
)
from kitmsg_gateways.grpc.load import Protos, load
from kitmsg_gateways.grpc.upstream import Upstream, UpstreamOptions, open_upstream
from kitmsg_gateways.upstream import Hooks
from tests.gateways.grpc.services import Cup, Shop, Size, SoldOut, Streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kitmsg_gateways.grpc.upstream import GrpcReply, GrpcRequest
    from tests.gateways.grpc.conftest import Outside

PROTO = """
syntax = "proto3";
package users;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
service Users {
  rpc GetUser(GetUserRequest) returns (User);
  rpc ListUsers(GetUserRequest) returns (stream User);
  rpc CountAll(stream User) returns (Count);
  rpc Chat(stream User) returns (stream User);
}
message GetUserRequest {
  int64 id = 1;
  google.protobuf.Timestamp at = 2;
  google.protobuf.Duration within = 3;
}
enum Role { GUEST = 0; ADMIN = 1; }
message User {
  int64 id = 1;
  optional string name = 2;
  Role role = 3;
  repeated string tags = 4;
  map<string, User> friends = 5;
  bytes photo = 6;
  google.protobuf.Timestamp at = 9;
  google.protobuf.Duration within = 10;
  oneof contact { string mail = 7; int32 phone = 8; }
}
message Count { uint32 n = 1; }
"""


@pytest.fixture
def protos(tmp_path: Path) -> Protos:
    """What the remote service offers."""
    path = tmp_path / "users.proto"
    path.write_text(PROTO)
    return load([str(path)])


class Remote:
    """A gRPC server that knows nothing of kitmsg."""

    def __init__(self, protos: Protos, port: int = 0) -> None:
        (self.service,) = protos.services
        self.metadata: dict[str, str] = {}
        self.left = 0.0
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()
        self.server = grpc.aio.server()
        make = {
            "GetUser": grpc.unary_unary_rpc_method_handler,
            "ListUsers": grpc.unary_stream_rpc_method_handler,
            "CountAll": grpc.stream_unary_rpc_method_handler,
            "Chat": grpc.stream_stream_rpc_method_handler,
        }
        handlers = {
            method.name: make[method.name](
                getattr(self, method.name),
                GetMessageClass(method.input_type).FromString,
                lambda message: message.SerializeToString(),
            )
            for method in self.service.methods
        }
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("users.Users", handlers),)
        )
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def user(self, **fields: Any) -> Any:
        message = self.service.file.message_types_by_name["User"]
        return GetMessageClass(message)(**fields)

    async def GetUser(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.metadata = dict(context.invocation_metadata())
        self.left = context.time_remaining()
        if request.id == 404:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such user")
        if request.id == 500:
            raise RuntimeError("the secret is 1234")
        if request.id == 0:
            self.begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        user = self.user(id=request.id, role="ADMIN", tags=["a"], mail="x@y.z")
        if request.HasField("at"):
            user.at.CopyFrom(request.at)
            user.within.CopyFrom(request.within)
        return user

    async def ListUsers(self, request: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802
        for number in range(request.id):
            yield self.user(id=number)

    async def CountAll(self, users: Any, _: Any) -> Any:  # noqa: N802
        count = self.service.file.message_types_by_name["Count"]
        return GetMessageClass(count)(n=len([user async for user in users]))

    async def Chat(self, users: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for user in users:
            yield self.user(id=-user.id)


@pytest.fixture
async def remote(protos: Protos) -> AsyncIterator[Remote]:
    """The server, started."""
    made = Remote(protos)
    await made.server.start()
    yield made
    await made.server.stop(None)


async def test_a_proto_becomes_endpoints_on_the_bus(
    hub: kitmsg.Kit, remote: Remote, protos: Protos
) -> None:
    """Methods in snake case, messages as plain objects, schemas in discovery."""
    async with Upstream(remote.address, protos, name="users") as users:
        await hub.serve(users)
        user = await hub.call("users.get_user", id=7)
        assert user == {
            "id": 7,
            "role": "ADMIN",
            "tags": ["a"],
            "friends": {},
            "photo": b"",
            "mail": "x@y.z",
        }
        times = {"at": "2026-01-02T05:04:05.25+02:00", "within": "-PT1M30.5S"}
        user = await hub.call("users.get_user", {"id": 7, **times})
        assert user["at"] == "2026-01-02T03:04:05.250Z"
        assert user["within"] == "-PT90.5S"
        with pytest.raises(InvalidArgument, match="RFC 3339"):
            await hub.call("users.get_user", at="yesterday")
        with pytest.raises(InvalidArgument) as caught:
            await hub.call("users.get_user", id="seven")
        assert caught.value.field == "id"
        with pytest.raises(InvalidArgument, match="not known"):
            await hub.call("users.get_user", it=7)


async def test_statuses_are_errors_and_secrets_stay(
    hub: kitmsg.Kit, remote: Remote, protos: Protos
) -> None:
    """A status is the error of its code; what a server leaks is not passed on."""
    async with Upstream(remote.address, protos, name="users") as users:
        await hub.serve(users)
        with pytest.raises(NotFound, match="no such user"):
            await hub.call("users.get_user", id=404)
        with pytest.raises(Unknown) as caught:
            await hub.call("users.get_user", id=500)
        assert "1234" not in str(caught.value)


async def test_deadline_trace_and_request_id_go_along(
    hub: kitmsg.Kit, remote: Remote, protos: Protos
) -> None:
    """The server has what is left of the time, and the caller's trace."""
    options = UpstreamOptions(metadata=("X-Api-Key: k1",))
    users = Upstream(remote.address, protos, name="users", options=options)
    async with users:
        now = asyncio.get_running_loop().time()
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ctx = Context(
            deadline=now + 2,
            metadata={
                "traceparent": trace,
                "Kit-Request-Id": "r1",
                "Kit-Idempotency-Key": "k-1",
                "X-Bad": "\u20ac",
            },
        )
        await users.endpoint("get_user")(ctx, {"id": 1})
        assert remote.metadata["traceparent"] == trace
        assert remote.metadata["x-request-id"] == "r1"
        assert remote.metadata["idempotency-key"] == "k-1"
        assert "kit-idempotency-key" not in remote.metadata
        assert remote.metadata["x-api-key"] == "k1"
        assert "x-bad" not in remote.metadata
        assert 0 < remote.left <= 2


async def test_a_caller_that_gives_up_cancels_the_call(
    hub: kitmsg.Kit, remote: Remote, protos: Protos
) -> None:
    """Cancelling here ends the work there."""
    async with Upstream(remote.address, protos, name="users") as users:
        call = asyncio.ensure_future(users.endpoint("get_user")(Context(), {"id": 0}))
        await remote.begun.wait()
        call.cancel()
        async with asyncio.timeout(10):
            await remote.cancelled.wait()


async def _ids(*numbers: int) -> AsyncIterator[dict[str, Any]]:
    for number in numbers:
        yield {"id": number}


async def test_streams_of_all_kinds(remote: Remote, protos: Protos) -> None:
    """Out, in and both are asynchronous iterators of plain objects."""
    from kitmsg.schema.calls import StreamRequest

    async with Upstream(remote.address, protos, name="users") as users:
        out = await users.endpoint("list_users")(
            Context(), StreamRequest({"id": 3}, None)
        )
        assert [user["id"] async for user in out] == [0, 1, 2]
        count = await users.endpoint("count_all")(
            Context(), StreamRequest({}, _ids(1, 2, 3))
        )
        assert count == {"n": 3}
        chat = await users.endpoint("chat")(Context(), StreamRequest({}, _ids(1, 2)))
        assert [user["id"] async for user in chat] == [-1, -2]


async def test_a_stream_that_fails_here_says_why(
    remote: Remote, protos: Protos
) -> None:
    """What the caller's own items end with is what the call ends with."""
    from kitmsg.schema.calls import StreamRequest

    async def broken() -> AsyncIterator[dict[str, Any]]:
        yield {"id": 1}
        raise KeyError("mine")

    async with Upstream(remote.address, protos, name="users") as users:
        with pytest.raises(KeyError, match="mine"):
            await users.endpoint("count_all")(Context(), StreamRequest({}, broken()))
        large = StreamRequest({}, _ids(1 << 70))
        with pytest.raises(InvalidArgument, match="does not fit"):
            await users.endpoint("count_all")(Context(), large)


async def test_the_next_address_has_the_call_where_one_is_dead(
    remote: Remote, protos: Protos
) -> None:
    """One that refuses connections is passed over; none at all is Unavailable."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{probe.getsockname()[1]}"
    async with Upstream([dead, remote.address], protos, name="users") as users:
        for _ in range(4):
            user = await users.endpoint("get_user")(Context(), {"id": 1})
            assert user["id"] == 1
    async with Upstream(dead, protos, name="users") as users:
        with pytest.raises(Unavailable, match="no instance that can be reached"):
            await users.endpoint("get_user")(Context(), {"id": 1})


async def test_a_server_that_comes_back_is_found_again(
    remote: Remote, protos: Protos
) -> None:
    """Calls fail fast while it is gone, and work again soon after it returns."""
    async with Upstream(remote.address, protos, name="users") as users:
        call = users.endpoint("get_user")
        await call(Context(), {"id": 1})
        await remote.server.stop(None)
        with pytest.raises(Unavailable):
            await call(Context(), {"id": 1})
        again = Remote(protos, remote.port)
        await again.server.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert (await call(Context(), {"id": 2}))["id"] == 2
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
        await again.server.stop(None)


async def test_hooks_run_in_go_kits_order(remote: Remote, protos: Protos) -> None:
    """Before, after, error decoder, finalizer; before may change what is sent."""
    seen: list[str] = []

    def before(_: Context, request: GrpcRequest) -> None:
        request.metadata["x-tenant"] = "t1"
        seen.append("before")

    def after(_: Context, reply: GrpcReply) -> None:
        seen.append(f"after {reply.code}")

    def decode(_: Context, reply: GrpcReply) -> Exception | None:
        seen.append("error decoder")
        return KeyError(reply.details) if reply.code else None

    hooks: Hooks[GrpcRequest, GrpcReply] = Hooks(
        before=[before],
        after=[after],
        error_decoder=decode,
        finalizer=[lambda _, error: seen.append(f"finalizer {error!r}")],
    )
    users = Upstream(remote.address, protos, name="users", hooks=hooks)
    async with users:
        await users.endpoint("get_user")(Context(), {"id": 1})
        assert remote.metadata["x-tenant"] == "t1"
        assert seen == ["before", "after 0", "error decoder", "finalizer None"]
        with pytest.raises(KeyError):
            await users.endpoint("get_user")(Context(), {"id": 404})
        assert seen[-1] == "finalizer KeyError('no such user')"


@pytest.fixture
async def far() -> AsyncIterator[kitmsg.Kit]:
    """A kit on a bus of its own, behind a gateway."""
    async with kitmsg.connect(bus=MemoryBus(seed=2)) as kit:
        yield kit


async def test_a_kitmsg_service_behind_a_gateway_by_its_class(
    hub: kitmsg.Kit, far: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """From bus to gRPC to another bus and back: typed values, typed errors, streams."""
    await far.serve(Shop())
    await far.serve(Streams())
    outside: Outside = await start(far)
    shop = Upstream(outside.server.address, Shop)
    streams = Upstream(outside.server.address, Streams)
    async with shop, streams:
        await hub.serve(shop)
        await hub.serve(streams)
        client = hub.client(Shop)
        assert await client.price("tea", 2) == 5.0
        cup = Cup("mug", Size.LARGE, 2.0, ["a"])
        assert await client.make(cup) == cup
        with pytest.raises(SoldOut) as sold:
            await client.buy("tea")
        assert (sold.value.name, sold.value.left) == ("tea", 0)
        with pytest.raises(ResourceExhausted) as busy:
            await client.busy()
        assert busy.value.retry_after == 1.5
        with pytest.raises(KitError) as failed:
            await client.fail()
        assert failed.value.request_id
        numbers = hub.client(Streams)
        assert [n async for n in numbers.count(4)] == [1, 2, 3, 4]
        assert await numbers.total(_numbers(5)) == 10
        assert [n async for n in numbers.scaled(2, _numbers(3))] == [0, 2, 4]


async def _numbers(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


async def test_reflection_tells_what_a_server_offers(
    hub: kitmsg.Kit, far: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A kitmsg gateway, known by its address alone."""
    await far.serve(Shop())
    await far.serve(AddService())
    outside: Outside = await start(far)
    where = [outside.server.address]
    with pytest.raises(ValueError, match=r"--service: addsvc.Addsvc, shop.Shop"):
        await open_upstream("sums", where, UpstreamOptions(reflection=True))
    options = UpstreamOptions(reflection=True, service="addsvc.Addsvc", only=("sum",))
    sums = await open_upstream("sums", where, options)
    async with sums:
        await hub.serve(sums)
        assert await hub.call("sums.sum", a=1, b=2) == {"value": 3}
        assert list(sums.remotes) == ["sum"]
        with pytest.raises(InvalidArgument, match="two zeroes"):
            await hub.call("sums.sum", a=0, b=0)


def test_has_a_short_name() -> None:
    """`kitmsg_gateways.grpc.Upstream` is it; a gateway need not load it."""
    assert kitmsg_gateways.grpc.Upstream is Upstream
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        kitmsg_gateways.grpc.__getattr__("Nothing")


async def test_tls_and_forwarded_credentials(
    hub: kitmsg.Kit, far: kitmsg.Kit, start: Callable[..., Any], tmp_path: Path
) -> None:
    """With a client's own certificate, and the caller's Authorization passed on."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("127.0.0.1", "client"):
        cert = authority.issue_cert(name)
        cert.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    files = {n: str(tmp_path / n) for n in ("127.0.0.1.pem", "127.0.0.1.key", "ca.pem")}
    shop = Shop()
    await far.serve(shop)
    outside: Outside = await start(
        far,
        tls_cert=files["127.0.0.1.pem"],
        tls_key=files["127.0.0.1.key"],
        tls_client_ca=files["ca.pem"],
        forward_authorization=True,
    )
    options = UpstreamOptions(
        ca_file=files["ca.pem"],
        cert_file=str(tmp_path / "client.pem"),
        key_file=str(tmp_path / "client.key"),
        forward_authorization=True,
    )
    upstream = Upstream(outside.server.url, Shop, options=options)
    async with upstream:
        await hub.serve(upstream)
        client = hub.client(Shop, metadata={"Authorization": "Bearer x"})
        await client.look()
    assert shop.seen["Authorization"] == "Bearer x"


async def test_a_server_without_reflection_is_a_sentence(remote: Remote) -> None:
    """It says what to give instead."""
    options = UpstreamOptions(reflection=True)
    with pytest.raises(FailedPrecondition, match="--proto FILE"):
        await open_upstream("users", [remote.address], options)


async def test_go_kits_business_errors_are_failures(
    hub: kitmsg.Kit, far: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A reply whose `err` is not empty raises, where that is asked for."""
    await far.serve(AddService())
    proto = ("examples/addsvc/addsvc.proto",)
    outside: Outside = await start(far, proto=proto)
    options = UpstreamOptions(proto=proto, error_field="err")
    async with await open_upstream("add", [outside.server.address], options) as add:
        sum_ = add.endpoint("sum")
        assert await sum_(Context(), {"a": 1, "b": 2}) == {"v": 3, "err": ""}
        with pytest.raises(Unknown, match="two zeroes"):
            await sum_(Context(), {})


@pytest.mark.parametrize(
    ("address", "options", "text"),
    [
        ("nonsense", {"reflection": True}, "is no address of a server"),
        ("h:70000", {"reflection": True}, "is no address of a server"),
        ("h:1", {}, "say what the server offers"),
        ("h:1", {"reflection": True, "proto": ("a",)}, "in one way"),
        ("h:1", {"timeout": 0.0}, "timeout must be positive"),
        ("h:1", {"metadata": ("secret",)}, "of the form 'key: value'"),
        ("h:1", {"cert_file": "a"}, "cert_file needs key_file"),
    ],
)
async def test_what_does_not_fit_is_refused(
    address: str, options: dict[str, Any], text: str
) -> None:
    """With a sentence each."""
    with pytest.raises(ValueError, match=text):
        await open_upstream("x", [address], UpstreamOptions(**options))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
cups = st.builds(
    Cup,
    name=texts,
    size=st.sampled_from(Size),
    price=st.floats(allow_nan=False, allow_infinity=False),
    tags=st.lists(texts, max_size=3),
    note=st.none(),
)


async def test_any_value_comes_back_equal(
    hub: kitmsg.Kit, far: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Random values, in through the upstream and the gateway, and back."""
    await far.serve(Shop())
    outside: Outside = await start(far)
    async with Upstream(outside.server.address, Shop) as upstream:
        client = upstream.client(Shop)
        loop = asyncio.get_running_loop()

        @settings(
            max_examples=60,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
        @given(cup=cups, data=st.binary(max_size=100))
        def check(cup: Cup, data: bytes) -> None:
            async def both() -> None:
                assert await client.make(cup) == cup
                assert await client.echo(data) == data

            asyncio.run_coroutine_threadsafe(both(), loop).result(20)

        await asyncio.to_thread(check)
