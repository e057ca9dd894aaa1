"""Authentication of gRPC clients: the edge's, with the same principals as at other doors."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import kitmsg_gateways.grpc
from kitmsg import Context, Service, endpoint
from kitmsg.auth.apikeys import digest
from kitmsg.auth.basic import make_hash
from kitmsg.middleware import auth
from kitmsg_gateways.grpc import GatewayOptions
from tests.auth.tokens import SECRET, sign
from tests.trust import SIGNING_KEY, TRUST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import kitmsg

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Mirror(Service):
    """Says who asks."""

    middleware = (auth(),)

    @endpoint
    async def me(self, ctx: Context) -> str:
        return f"{ctx.principal.method} {ctx.principal.name}"

    @endpoint
    async def count(self, ctx: Context) -> AsyncIterator[str]:
        yield ctx.principal.name


@pytest.fixture
async def guarded(
    hub: kitmsg.Kit, start: Callable[..., Any], tmp_path: Path
) -> Callable[..., Any]:
    """Give a function that starts a gateway which takes tokens, passwords and keys."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    files = {
        "secret": SECRET,
        "users": f"ann:{make_hash('sesame')}",
        "keys": f"billing:$sha256${digest('kit_1')}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    async def begin(**options: Any) -> Any:
        chosen = {
            "jwt_key": str(tmp_path / "secret"),
            "jwt_algorithms": ("HS256",),
            "basic_file": str(tmp_path / "users"),
            "api_keys": str(tmp_path / "keys"),
            "signing_key": SIGNING_KEY,
            **options,
        }
        return await start(hub, **chosen)

    return begin


def metadata(authorization: str) -> dict[str, Any]:
    """Return the options of a call with credentials."""
    return {"metadata": (("authorization", authorization),)}


async def test_each_kind_of_credentials_becomes_the_principal(guarded):
    """As at the HTTP door: the service cannot tell by which door a caller came."""
    call = await guarded()
    token = sign(SECRET, "HS256")
    basic = base64.b64encode(b"ann:sesame").decode()
    for given, who in [
        (metadata(f"Bearer {token}"), "jwt ann"),
        (metadata(f"Basic {basic}"), "basic ann"),
        (metadata("ApiKey kit_1"), "key billing"),
        ({"metadata": (("x-api-key", "kit_1"),)}, "key billing"),
    ]:
        assert (await call("mirror.Mirror/Me", with_=given)).value == who


@pytest.mark.parametrize(
    "given",
    [
        {},
        metadata("Bearer x"),
        metadata("Basic eA=="),
        {"metadata": (("authorization", "ApiKey kit_1"),) * 2},
        {"metadata": (("x-api-key", "kit_2"),)},
        {"metadata": (("kit-principal", '{"name":"ann","method":"jwt"}'),)},
    ],
)
async def test_strangers_are_refused_alike(guarded, given):
    """At a method that is there as at one that is not; streams too."""
    call = await guarded()
    codes = [(await call.failure("mirror.Mirror/Me", with_=given)).code()]
    stream = call.stub("mirror.Mirror/Count")(
        call.request("mirror.Mirror/Count"), timeout=10, **given
    )
    codes.append(await stream.code())
    unknown = call.keep(
        call.channel.unary_unary("/no/Method")(b"", timeout=10, **given)
    )
    codes.append(await unknown.code())
    assert codes == [UNAUTHENTICATED] * 3
    assert "Mirror" not in await unknown.details()


async def test_reflection_and_services_health_are_not_for_strangers(guarded):
    """Whether the gateway is well is for everybody: platforms have no credentials."""
    call = await guarded()
    check = call.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    reflect = call.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    overall, one = (health_pb2.HealthCheckRequest(service=s) for s in ("", "mirror"))
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    assert (await check(overall)).status == health_pb2.HealthCheckResponse.SERVING
    assert await call.keep(check(one)).code() == UNAUTHENTICATED
    code = grpc.StatusCode.INTERNAL
    for _ in range(3):
        code = await call.keep(reflect(iter([asked]))).code()
        if code is not grpc.StatusCode.INTERNAL:
            break  # or else the call was over before grpcio had sent our message
    assert code == UNAUTHENTICATED
    known = metadata("ApiKey kit_1")["metadata"]
    assert (await check(one, metadata=known)).status == 1
    answers = [each async for each in reflect(iter([asked]), metadata=known)]
    assert len(answers) == 1


async def test_methods_can_be_named_open(guarded, hub):
    """By path; everything else stays closed."""

    class Open(Service):
        @endpoint
        async def hello(self) -> str:
            return "hello"

    await hub.serve(Open())
    call = await guarded(auth_public=("/open.Open/*",))
    assert (await call("open.Open/Hello")).value == "hello"
    assert (await call.failure("mirror.Mirror/Me")).code() == UNAUTHENTICATED


async def test_a_principal_has_a_rate(guarded):
    """Its calls are counted, whatever connection they come by."""
    call = await guarded(principal_rate_limit=0.01, principal_rate_burst=2)
    given = metadata("ApiKey kit_1")
    for _ in range(2):
        await call("mirror.Mirror/Me", with_=given)
    failure = await call.failure("mirror.Mirror/Me", with_=given)
    assert failure.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    other = metadata(f"Bearer {sign(SECRET, 'HS256')}")
    assert (await call("mirror.Mirror/Me", with_=other)).value == "jwt ann"


async def test_a_certificate_is_who_calls(hub, tmp_path):
    """Under the name that the other doors give it: RFC 4514, beyond ASCII too."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    ours, club = trustme.CA(), trustme.CA()
    server_cert = ours.issue_cert("localhost")
    server_cert.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    club.cert_pem.write_to_path(tmp_path / "club")
    pem, authorities = str(tmp_path / "pem"), str(tmp_path / "club")
    options = GatewayOptions(
        port=0, tls_cert=pem, tls_client_ca=authorities, signing_key=SIGNING_KEY
    )
    server = await kitmsg_gateways.grpc.serve(hub, options, host="localhost")
    names = []
    for mine in (
        club.issue_cert("a.example", common_name="Änn, A.", organization_name="Öl"),
        club.issue_cert("b.example"),
    ):
        secret = grpc.ssl_channel_credentials(
            ours.cert_pem.bytes(),
            mine.private_key_pem.bytes(),
            mine.cert_chain_pems[0].bytes(),
        )
        async with grpc.aio.secure_channel(server.address, secret) as channel:
            answer = await channel.unary_unary("/mirror.Mirror/Me")(b"", timeout=10)
            names.append(answer[2:].decode())
    await server.stop()
    assert names[0].startswith(r"tls CN=Änn\, A.,OU=")
    assert names[0].endswith(",O=Öl")
    assert names[1].startswith("tls OU=")


def test_an_optional_certificate_is_not_grpcs(tmp_path):
    """Its core asks for one always or never, so the option is refused, not forgotten."""
    with pytest.raises(ValueError, match="tls_client_optional"):
        GatewayOptions(tls_cert="c", tls_client_ca="a", tls_client_optional=True)


async def test_outsiders_choose_neither_ids_nor_baggage(hub, start):
    """At a public edge; inside they do."""

    class Told(Service):
        @endpoint
        async def headers(self, ctx: Context) -> str:
            return f"{ctx.headers.get('Kit-Request-Id')} {ctx.headers.get('baggage')}"

    await hub.serve(Told())
    given = {"metadata": (("x-request-id", "mine"), ("baggage", "role=admin"))}
    inside = await (await start(hub))("told.Told/Headers", with_=given)
    assert inside.value == "mine role=admin"
    call = await start(hub, public=True)
    outside = (await call("told.Told/Headers", with_=given)).value
    assert "mine" not in outside
    assert "admin" not in outside
