"""The door itself: who is let in, how often, how long; start and stop."""

from __future__ import annotations

import asyncio
import ssl

import httpx2
import pytest
import trustme

import kitmsg_gateways.mcp
from kitmsg import Context, Service, endpoint
from kitmsg.auth.basic import make_hash
from kitmsg.errors import FailedPrecondition
from kitmsg.middleware import auth
from kitmsg_gateways.mcp import GatewayOptions
from kitmsg_gateways.mcp.errors import ERROR
from tests.auth.tokens import SECRET, sign
from tests.gateways.mcp.services import Shop
from tests.trust import SIGNING_KEY, TRUST


class Mirror(Service):
    """Says who asks."""

    middleware = (auth(),)

    @endpoint
    async def me(self, ctx: Context) -> str:
        return f"{ctx.principal.method} {ctx.principal.name}"


@pytest.fixture
async def guarded(hub, start, tmp_path):
    """Give a function that starts a gateway that takes tokens signed with a secret."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    key = tmp_path / "secret"
    key.write_text(SECRET)

    async def begin(**options):
        chosen = {"jwt_key": str(key), "jwt_algorithms": ("HS256",), **options}
        chosen["signing_key"] = SIGNING_KEY
        return await start(hub, **chosen)

    return begin


def bearer(name: str) -> dict[str, str]:
    """Return the header of a good token."""
    return {"Authorization": f"Bearer {sign(SECRET, 'HS256', sub=name)}"}


async def test_a_token_says_who_calls(guarded, mode):
    """The service sees the principal."""
    async with (await guarded()).client(mode, headers=bearer("ann")) as client:
        found = await client.call_tool("mirror.me")
        assert found.structured_content == {"result": "jwt ann"}


async def test_without_a_token_it_is_401(guarded):
    """And says how to ask; nothing of the protocol is answered."""
    outside = await guarded(name="our shop")
    response = await outside.post()
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="our shop"'
    assert response.json()["error"]["data"]["code"] == "unauthenticated"
    assert response.headers["X-Request-Id"]
    response = await outside.post(Authorization="Bearer nonsense")
    assert response.status_code == 401


async def test_a_session_belongs_to_who_began_it(guarded):
    """Its id is of no use to another principal."""
    outside = await guarded()
    response = await outside.post(**bearer("ann"))
    session = response.headers["Mcp-Session-Id"]
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    headers = {"Mcp_Session_Id": session, "MCP_Protocol_Version": "2025-11-25"}
    assert (await outside.post(ping, **headers, **bearer("ann"))).status_code == 200
    assert (await outside.post(ping, **headers, **bearer("eve"))).status_code == 404


async def test_a_password_says_who_calls(hub, start, tmp_path, mode):
    """From a file."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    passwords = tmp_path / "passwords"
    passwords.write_text(f"ann:{make_hash('secret')}\n")
    outside = await start(hub, basic_file=str(passwords), signing_key=SIGNING_KEY)
    headers = {"Authorization": "Basic YW5uOnNlY3JldA=="}
    async with outside.client(mode, headers=headers) as client:
        found = await client.call_tool("mirror.me")
        assert found.structured_content == {"result": "basic ann"}


async def test_a_certificate_says_who_calls(hub, start, tmp_path):
    """Over TLS, which is asked for both ways."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    ours, theirs = trustme.CA(), trustme.CA()
    leaf = ours.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    theirs.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    outside = await start(
        hub,
        signing_key=SIGNING_KEY,
        tls_cert=str(tmp_path / "server.pem"),
        tls_client_ca=str(tmp_path / "clients.pem"),
    )
    assert outside.server.url.startswith("https://")
    trust = ssl.create_default_context()
    ours.configure_trust(trust)
    theirs.issue_cert("ann@shop.example").configure_cert(trust)
    async with outside.client(verify=trust) as client:
        found = await client.call_tool("mirror.me")
        assert found.structured_content["result"].startswith("tls ")


async def test_authorization_goes_along_only_if_told_to(hub, start):
    """Services do not get it otherwise."""
    await hub.serve(Shop())
    headers = {"Authorization": "Bearer x"}
    async with (await start(hub)).client(headers=headers) as client:
        found = await client.call_tool("shop.echo")
        assert "authorization" not in found.structured_content
    outside = await start(hub, forward_authorization=True)
    async with outside.client(headers=headers) as client:
        found = await client.call_tool("shop.echo")
        assert found.structured_content["authorization"] == "Bearer x"


async def test_too_many_requests_are_refused(hub, start):
    """With the time to wait."""
    outside = await start(hub, rate_limit=0.1, rate_burst=1)
    assert (await outside.post()).status_code == 200
    response = await outside.post()
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1


async def test_a_proxy_says_who_asks(hub, start):
    """If it is ours; so each client has a limit of its own."""
    chosen = {"rate_limit": 0.1, "rate_burst": 1}
    ours = await start(hub, trusted_proxies=("127.0.0.1",), **chosen)
    for client, status in (("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)):
        assert (await ours.post(X_Forwarded_For=client)).status_code == status
    strange = await start(hub, **chosen)
    for client, status in (("192.0.2.1", 200), ("192.0.2.2", 429)):
        assert (await strange.post(X_Forwarded_For=client)).status_code == status


async def test_sessions_are_limited(hub, start):
    """Those that are open go on."""
    outside = await start(hub, max_sessions=1)
    async with outside.client("legacy") as client:
        assert (await outside.post()).status_code == 503
        assert (await client.list_tools()).tools == []
    assert (await outside.post()).status_code == 200


async def test_a_full_gateway_says_when_to_come_back(hub, start, mode):
    """As all doors do."""
    shop = Shop()
    await hub.serve(shop)
    outside = await start(hub, max_concurrent=1)
    async with outside.client(mode) as client:
        running = asyncio.create_task(client.call_tool("shop.wait"))
        await shop.begun.wait()
        found = await client.call_tool("shop.forget")
        assert found.meta[ERROR]["code"] == "resource_exhausted"
        assert found.meta[ERROR]["retry_after"] == 1
        running.cancel()


async def test_pages_of_strangers_may_not_call(hub, start):
    """A browser would do it for them; pages of this machine may, and those named."""
    outside = await start(hub, origins=("https://shop.example",))
    for origin, status in (
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost:3000", 200),
        ("https://shop.example", 200),
    ):
        assert (await outside.post(Origin=origin)).status_code == status
    response = await outside.post(Origin="https://shop.example")
    assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Mcp-Session-Id" in response.headers["Access-Control-Expose-Headers"]


async def test_there_is_one_path(hub, start):
    """Others are not found."""
    outside = await start(hub)
    assert (await outside.post(path="/other")).status_code == 404
    assert (await outside.post(path="/")).status_code == 200


async def test_long_bodies_are_refused(hub, start):
    """By their length, before they are read."""
    outside = await start(hub, max_body_bytes=1000)
    assert (await outside.post({"x": "y" * 2000})).status_code == 413


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"header_timeout": 0.1}, b""),
        ({"header_timeout": 0.1}, b"POST /mcp HTTP/1.1\r\nHost: x\r\n"),
        (
            {"body_timeout": 0.1},
            b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        ),
    ],
)
async def test_slow_clients_lose_their_connection(hub, start, options, sent):
    """Be it headers or a body that does not come."""
    outside = await start(hub, **options)
    reader, writer = await asyncio.open_connection("127.0.0.1", outside.server.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()
    assert outside.server.metrics.closed["slow"] == 1


async def test_connections_are_limited(hub, start, until):
    """And a place is free again when one ends."""
    outside = await start(hub, max_connections=1)
    _, first = await asyncio.open_connection("127.0.0.1", outside.server.port)
    await until(lambda: outside.server.connections.open == 1)
    reader, second = await asyncio.open_connection("127.0.0.1", outside.server.port)
    assert await reader.read() == b""
    second.close()
    first.close()
    await until(lambda: outside.server.connections.open == 0)
    assert (await outside.post()).status_code == 200


async def test_calls_are_counted_and_logged(hub, start, caplog):
    """Under the endpoint's name, with who called."""
    caplog.set_level("INFO", "kitmsg_gateways.mcp.access")
    await hub.serve(Shop())
    outside = await start(hub, access_log=True)
    async with outside.client(headers={"X-Request-Id": "mine"}) as client:
        await client.call_tool("shop.forget")
        await client.call_tool("shop.buy", {"sku": "tea"})
    records = [each for each in caplog.records if each.name.endswith(".access")]
    assert [each.getMessage() for each in records] == [
        "shop.forget ok",
        "shop.buy failed_precondition",
    ]
    assert records[0].client == "127.0.0.1"
    assert records[0].request_id == "mine"
    assert outside.server.metrics.count("shop.forget", "ok") == 1
    assert 'gateway="mcp"' in outside.server.exposition()


async def test_an_access_log_may_be_as_web_servers_write_it(hub, start, capsys):
    """Common Log Format, on standard output."""
    await hub.serve(Shop())
    outside = await start(hub, access_log="common")
    async with outside.client() as client:
        await client.call_tool("shop.forget")
    line = capsys.readouterr().out
    assert line.endswith('] "CALL /shop.forget MCP" 200 -\n')


async def test_stopping_finishes_what_runs(hub, start, until, mode):
    """The answer still comes; new requests are refused, then the port is closed."""

    class Slow(Service):
        def __init__(self) -> None:
            self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        @endpoint
        async def go(self) -> str:
            self.begun.set()
            await self.go_on.wait()
            return "done"

    slow = Slow()
    await hub.serve(slow)
    outside = await start(hub, drain_timeout=20.0)
    port = outside.server.port
    async with outside.client(mode) as client:
        await client.list_tools()
        running = asyncio.create_task(client.call_tool("slow.go"))
        await slow.begun.wait()
        stopping = asyncio.create_task(outside.server.stop())
        await until(lambda: outside.server.is_draining)
        slow.go_on.set()
        found = await running
        assert found.structured_content == {"result": "done"}
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_stopping_cancels_what_does_not_end(hub, start, mode):
    """When its time is over; the client is told."""
    shop = Shop()
    await hub.serve(shop)
    outside = await start(hub, drain_timeout=0.1)
    async with outside.client(mode) as client:
        await client.list_tools()
        running = asyncio.create_task(client.call_tool("shop.wait"))
        await shop.begun.wait()
        async with asyncio.timeout(10):
            await outside.server.stop()
            await shop.cancelled.wait()
            found = await running
    assert found.meta[ERROR]["code"] == "unavailable"
    assert "the gateway stopped" in found.meta[ERROR]["message"]


async def test_sessions_that_only_listen_hold_up_no_end(hub, start, until):
    """Neither a session's own stream nor a subscription does."""
    outside = await start(hub, drain_timeout=30.0)
    async with (
        outside.client("legacy"),
        outside.client() as client,
        client.listen(tools_list_changed=True),
    ):
        await until(lambda: outside.server._peers)
        async with asyncio.timeout(10):
            await outside.server.stop()


async def test_health_and_metrics_have_a_port_of_their_own(hub, start, free_port):
    """As at every door."""
    await start(hub, metrics_port=free_port)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{free_port}") as http:
        assert (await http.get("/readyz")).status_code == 200
        assert (
            'kitmsg_gateway_endpoints{gateway="mcp"} 0'
            in (await http.get("/metrics")).text
        )


def test_sessions_live_in_one_process():
    """More workers are refused when the options are made."""
    with pytest.raises(ValueError, match="workers: sessions live in one process"):
        GatewayOptions(workers=2)


def test_a_missing_package_is_one_sentence(monkeypatch):
    """It names the extra."""
    import sys

    monkeypatch.setitem(sys.modules, "kitmsg_gateways.mcp.server", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[mcp\]'"):
        kitmsg_gateways.mcp.check(GatewayOptions())


async def test_batches_are_refused(hub, start):
    """So that a rate counts calls: each has a request of its own."""
    outside = await start(hub)
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    response = await outside.post([listing, listing])
    assert response.status_code == 400


async def test_a_foreign_name_is_not_this_gateways(hub, start):
    """DNS rebinding: a page's own name leads to loopback."""
    outside = await start(hub, allowed_hosts=())
    response = await outside.post(Host="evil.example")
    assert response.status_code == 403
    assert (await outside.post()).status_code == 200
