"""TLS and mutual TLS at the Thrift door."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Any

import pytest
import trustme

from tests.gateways.thrift.messages import call, text
from tests.gateways.thrift.services import Greeter


@pytest.fixture
def certificates(tmp_path: Any) -> Any:
    """A CA, a server's certificate, and a client's."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("me@x.y")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority, client, tmp_path


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls(hub, start, certificates):
    """A client that trusts the CA is served; one that speaks no TLS is not."""
    authority, _, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub, tls_cert=f"{folder}/server.pem", tls_key=f"{folder}/server.key"
    )
    assert outside.server.url.startswith("thrifts://")
    client, _ = await outside.client("Greeter", ssl_context=_context(authority))
    assert await client.hello("Ann") == "Hello, Ann!"
    assert b"Hello" not in await outside.raw(call(b"hello", 1, text("A") + b"\0"), 0)


async def test_mutual_tls(hub, start, certificates):
    """With a CA for clients, only those with its certificates are served."""
    authority, identity, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub,
        tls_cert=f"{folder}/server.pem",
        tls_key=f"{folder}/server.key",
        tls_client_ca=f"{folder}/ca.pem",
    )
    context = _context(authority)
    identity.configure_cert(context)
    client, _ = await outside.client("Greeter", ssl_context=context)
    assert await client.hello("Ann") == "Hello, Ann!"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", outside.server.port, ssl=_context(authority)
    )
    writer.write(call(b"hello", 1, text("A") + b"\0"))
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    assert outside.server.metrics.count("greeter.hello", "ok") == 1


async def test_mutual_tls_gives_no_session_to_take_up_again(hub, start, certificates):
    """It would skip the check of a certificate that may not be trusted any more."""
    authority, identity, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub,
        tls_cert=f"{folder}/server.pem",
        tls_key=f"{folder}/server.key",
        tls_client_ca=f"{folder}/ca.pem",
    )
    context = _context(authority)
    identity.configure_cert(context)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", outside.server.port, ssl=context
    )
    writer.write(call(b"hello", 1, text("A") + b"\0"))
    assert b"Hello" in await reader.read(100)
    session = writer.get_extra_info("ssl_object").session
    assert session is None or not session.has_ticket
    writer.close()
    await writer.wait_closed()


async def test_a_renewed_certificate_is_used_without_a_restart(
    hub, start, certificates, until, caplog
):
    """The files are looked at now and then; broken ones change nothing."""
    caplog.set_level(logging.INFO)
    _, _, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub,
        tls_cert=f"{folder}/server.pem",
        tls_key=f"{folder}/server.key",
        reload_interval=0.01,
    )
    renewed = trustme.CA()
    pair = renewed.issue_cert("127.0.0.1")
    (folder / "server.key").unlink()
    pair.private_key_pem.write_to_path(folder / "server.key")
    (folder / "server.pem").unlink()
    pair.cert_chain_pems[0].write_to_path(folder / "server.pem")
    await until(lambda: "read again" in caplog.text)
    caplog.clear()
    client, _ = await outside.client("Greeter", ssl_context=_context(renewed))
    assert await client.hello("Ann") == "Hello, Ann!"
    (folder / "server.pem").write_text("nonsense")
    await until(lambda: "what was read before goes on" in caplog.text)
    client, _ = await outside.client("Greeter", ssl_context=_context(renewed))
    assert await client.hello("Bob") == "Hello, Bob!"
