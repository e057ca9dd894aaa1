"""Authentication of Thrift clients: by THeader, with Apache's own, and by certificate."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from thrift.protocol.THeaderProtocol import THeaderProtocol
from thrift.Thrift import TApplicationException, TMessageType, TType
from thrift.transport.THeaderTransport import (
    THeaderClientType,
    THeaderSubprotocolID,
    THeaderTransformID,
)
from thrift.transport.TSocket import TSocket
from thrift.transport.TSSLSocket import TSSLSocket
from thrift.transport.TTransport import TTransportException
from thriftpy2.thrift import TApplicationException as TheirException

from kitmsg import Context, Service, endpoint
from kitmsg.auth.allow import role
from kitmsg.auth.apikeys import digest
from kitmsg.middleware import auth
from kitmsg_gateways.thrift.protocol.base import Malformed
from kitmsg_gateways.thrift.protocol.header import parse_header
from tests.auth.tokens import SECRET, sign
from tests.trust import SIGNING_KEY, TRUST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PROTOCOLS = {
    "binary": THeaderSubprotocolID.BINARY,
    "compact": THeaderSubprotocolID.COMPACT,
}


class Mirror(Service):
    """Says who asks."""

    middleware = (auth(),)

    @endpoint
    async def me(self, ctx: Context) -> str:
        return f"{ctx.principal.method} {ctx.principal.name}"

    @endpoint
    async def trace(self, ctx: Context) -> str:
        return ctx.headers.get("traceparent", "")

    @endpoint(allow=role("admin"))
    async def rule(self) -> str:
        return "done"


class Open(Service):
    """Asks nobody."""

    @endpoint
    async def hello(self) -> str:
        return "hello"

    @endpoint
    async def seen(self, ctx: Context) -> str:
        return ctx.headers.get("traceparent", "")


class Speaker:
    """A client of THeader: Apache's transport and protocol, messages by hand."""

    def __init__(self, socket: Any, protocol: str) -> None:
        allowed = (THeaderClientType.HEADERS,)
        self._protocol = THeaderProtocol(socket, allowed, PROTOCOLS[protocol])
        self._protocol.trans.open()

    def close(self) -> None:
        """Close the connection."""
        self._protocol.trans.close()

    def add_transform(self, transform: int) -> None:
        """Compress what is sent from now on."""
        self._protocol.trans.add_transform(transform)

    def call(
        self, name: str, headers: Mapping[str, str], kind: int = TMessageType.CALL
    ) -> str:
        """Send a call without arguments; return its result, a string."""
        out = self._protocol
        for key, value in headers.items():
            out.trans.set_header(key.encode(), value.encode())
        out.writeMessageBegin(name, kind, 7)
        out.writeStructBegin("args")
        out.writeFieldStop()
        out.writeStructEnd()
        out.writeMessageEnd()
        out.trans.flush()
        return self.result() if kind == TMessageType.CALL else ""

    def result(self) -> str:
        """Return the result of the next answer."""
        back = self._protocol
        _, kind, number = back.readMessageBegin()
        assert number == 7
        if kind == TMessageType.EXCEPTION:
            error = TApplicationException()
            error.read(back)
            back.readMessageEnd()
            raise error
        back.readStructBegin()
        text, (_, type_, _) = "", back.readFieldBegin()
        while type_ != TType.STOP:
            text = back.readString()
            back.readFieldEnd()
            _, type_, _ = back.readFieldBegin()
        back.readStructEnd()
        back.readMessageEnd()
        return text


@pytest.fixture
async def guarded(
    hub: Any, start: Callable[..., Any], tmp_path: Path
) -> Callable[..., Any]:
    """Give a function that starts a gateway that takes tokens and API keys."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    await hub.serve(Open())
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "keys").write_text(f"billing:$sha256${digest('kit_1')}")

    async def begin(**options: Any) -> Any:
        chosen = {
            "jwt_key": str(tmp_path / "secret"),
            "jwt_algorithms": ("HS256",),
            "api_keys": str(tmp_path / "keys"),
            "signing_key": SIGNING_KEY,
            **options,
        }
        return await start(hub, **chosen)

    return begin


async def speak(
    port: int, calls: list[tuple[str, dict[str, str]]], protocol: str = "binary"
) -> list[str]:
    """Return what calls on one connection answer, be it an error."""

    def work() -> list[str]:
        speaker, found = Speaker(TSocket("127.0.0.1", port), protocol), []
        for name, headers in calls:
            try:
                found.append(speaker.call(name, headers))
            except TApplicationException as exc:
                found.append(str(exc.message).partition(":")[0])
        speaker.close()
        return found

    return await asyncio.to_thread(work)


def bearer() -> dict[str, str]:
    """Return the header of a good token."""
    return {"Authorization": f"Bearer {sign(SECRET, 'HS256')}"}


@pytest.mark.parametrize("protocol", ["binary", "compact"])
async def test_credentials_come_in_theader(guarded, protocol):
    """Each call has its own; the service sees the principal of any other door."""
    outside = await guarded()
    calls = [
        ("Mirror:me", bearer()),
        ("me", {"x-api-key": "kit_1"}),
        ("me", {"authorization": "ApiKey kit_1"}),
        ("me", {}),
        ("me", bearer()),
    ]
    assert await speak(outside.server.port, calls, protocol) == [
        *("jwt ann", "key billing", "key billing"),
        *("unauthenticated", "jwt ann"),
    ]


async def test_strangers_are_refused_alike(guarded):
    """At a method that is there as at one that is not."""
    outside = await guarded()
    wrong = {"authorization": "Bearer x"}
    calls = [(name, headers) for name in ("me", "no") for headers in ({}, wrong)]
    found = await speak(outside.server.port, calls)
    assert found == ["unauthenticated"] * 4


async def test_clients_without_theader_are_strangers(guarded):
    """They can show a certificate, or call what is open to all."""
    outside = await guarded(auth_public=("open.*",))
    client, _ = await outside.client("Mirror")
    with pytest.raises(TheirException, match="unauthenticated"):
        await client.me()
    hello, _ = await outside.client("Open")
    assert await hello.hello() == "hello"


async def test_what_nobody_waits_for_is_refused_too(guarded):
    """Without an answer; those behind it get theirs."""
    outside = await guarded()

    def work() -> str:
        speaker = Speaker(TSocket("127.0.0.1", outside.server.port), "binary")
        speaker.call("me", {}, TMessageType.ONEWAY)
        speaker.call("no", {}, TMessageType.ONEWAY)
        found = speaker.call("me", bearer())
        speaker.close()
        return found

    assert await asyncio.to_thread(work) == "jwt ann"
    assert "unauthenticated" in outside.server.exposition()


async def test_a_trace_comes_in_theader(guarded):
    """As in the headers of any other door."""
    outside = await guarded()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    calls = [("trace", {**bearer(), "Traceparent": parent})]
    assert await speak(outside.server.port, calls) == [parent]


async def test_a_trace_comes_in_where_nobody_is_asked(hub, start):
    """Traces pass for any caller; a header that came twice is dropped."""
    await hub.serve(Open())
    outside = await start(hub)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    calls = [("seen", {"traceparent": parent}), ("seen", {"traceparent": "\n"})]
    assert await speak(outside.server.port, calls) == [parent, ""]


async def test_who_may_not_call_is_answered(guarded):
    """And the connection goes on."""
    outside = await guarded()
    calls = [("rule", bearer()), ("me", bearer())]
    found = await speak(outside.server.port, calls)
    assert found == ["permission_denied", "jwt ann"]


async def test_transforms_are_refused(guarded):
    """Nothing is unpacked for strangers."""
    outside = await guarded()

    def work() -> None:
        speaker = Speaker(TSocket("127.0.0.1", outside.server.port), "binary")
        speaker.add_transform(THeaderTransformID.ZLIB)
        try:
            speaker.call("me", bearer())
        finally:
            speaker.close()

    with pytest.raises(TTransportException):
        await asyncio.to_thread(work)


async def test_a_certificate_is_who_calls(hub, start, tmp_path):
    """In any protocol: it is the connection's."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    ours, club = trustme.CA(), trustme.CA()
    ours.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "pem"
    )
    club.cert_pem.write_to_path(tmp_path / "club")
    mine = club.issue_cert("shop.example", common_name="shop")
    mine.private_key_and_cert_chain_pem.write_to_path(tmp_path / "mine")
    outside = await start(
        hub,
        tls_cert=str(tmp_path / "pem"),
        tls_client_ca=str(tmp_path / "club"),
        signing_key=SIGNING_KEY,
    )
    context = ssl.create_default_context()
    ours.configure_trust(context)
    context.load_cert_chain(tmp_path / "mine")

    def work() -> str:
        port = outside.server.port
        socket = TSSLSocket("localhost", port, ssl_context=context)
        speaker = Speaker(socket, "compact")
        found = speaker.call("me", {})
        speaker.close()
        return found

    assert (await asyncio.to_thread(work)).startswith("tls CN=shop,")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "does not begin"),
        (b"\x0f\xfe" + bytes(20), "does not begin"),
        (b"\x0f\xff" + bytes(6) + b"\xff\xff\0", "longer than its frame"),
        (b"\x0f\xff" + bytes(6) + b"\0\x01\x07\0\0\0", "protocol 7"),
        (b"\x0f\xff" + bytes(6) + b"\0\x01\0\x01\x01\0", "transforms"),
        (b"\x0f\xff" + bytes(6) + b"\0\x01\xff\xff\xff\xff", "middle of a number"),
        (b"\x0f\xff" + bytes(6) + b"\0\x02\0\0\x01\x7f\x7f\0\0\0", "middle of a text"),
        (b"\x0f\xff" + bytes(6) + b"\0\x02\0\0\x01\xff\x7f\0\0\0", "16383 headers"),
    ],
)
def test_a_broken_header_is_said(frame, said):
    """And ends the connection."""
    with pytest.raises(Malformed, match=said):
        parse_header(frame)
