"""Trusted keys in a key-value bucket of a real server."""

from __future__ import annotations

import asyncio

import nats
import pytest

import kitmsg
from kitmsg import Context, Service, endpoint
from kitmsg.auth import Principal
from kitmsg.auth.ed25519 import SigningKey
from kitmsg.auth.signing import PrincipalSigner
from kitmsg.wire import PRINCIPAL

ANN = Principal("ann", "jwt")


class Who(Service):
    """Says who calls."""

    @endpoint
    async def who(self, ctx: Context) -> str:
        return ctx.principal.name if ctx.principal else "nobody"


async def test_keys_in_a_bucket_come_and_go(nats_server, monkeypatch):
    """One that is put is believed at once; one that is deleted, no more."""
    monkeypatch.setattr("kitmsg.auth.trusted._KEEP_SECONDS", 0.05)
    monkeypatch.setattr("kitmsg.auth.trusted._UNKNOWN_SECONDS", 0.05)
    monkeypatch.setattr("kitmsg.auth.vouched._REMEMBER_SECONDS", 0.05)
    old, new = SigningKey.new(), SigningKey.new()
    client = await nats.connect(nats_server.url)
    bucket = await client.jetstream().create_key_value(
        bucket="trusted_keys_test", direct=True
    )
    try:
        await bucket.put(old.kid, old.public.encode())
        async with kitmsg.connect(nats_server.url, trust="kv:trusted_keys_test") as kit:
            await kit.serve(Who())

            async def asked(key: SigningKey) -> str:
                fields = {PRINCIPAL: PrincipalSigner(key).text(ANN)}
                return await kit.client(Who, metadata=fields).who()

            async def until(key: SigningKey, wanted: str) -> None:
                async with asyncio.timeout(10):
                    while await asked(key) != wanted:
                        await asyncio.sleep(0.02)

            assert await asked(old) == "ann"
            assert await asked(new) == "nobody"
            await bucket.put(new.kid, f"{new.public} # new".encode())
            await until(new, "ann")
            assert await asked(old) == "ann"
            await bucket.delete(old.kid)
            await until(old, "nobody")
            assert await asked(new) == "ann"
    finally:
        await client.jetstream().delete_key_value("trusted_keys_test")
        await client.close()


async def test_without_the_bucket_nobody_is_believed(nats_server, caplog):
    """And the log says what is wrong, and what to do."""
    async with kitmsg.connect(nats_server.url, trust="kv:no_such_bucket") as kit:
        await kit.serve(Who())
        fields = {PRINCIPAL: PrincipalSigner(SigningKey.new()).text(ANN)}
        assert await kit.client(Who, metadata=fields).who() == "nobody"
    assert "nats kv add no_such_bucket" in caplog.text


@pytest.mark.parametrize("source", ["kv:", "kv:a.b", "kv:*"])
async def test_what_is_no_bucket_is_a_sentence(source, kit):
    """At once, not at the first call."""
    with pytest.raises(kitmsg.errors.InvalidArgument, match="is no name of a bucket"):
        async with kitmsg.connect(bus=kit.bus, trust=source):
            pass
