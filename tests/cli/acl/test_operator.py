"""Claims for a server with an operator, as JWT."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import nkeys

import kitmsg
from examples.greeter import Greeter
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.cli.acl import claims_of
from tests.cli.acl.users import USERS


def nkey(kind: int) -> tuple[str, nkeys.KeyPair]:
    """Return a new key pair of a kind, and its public key, as NATS writes it."""
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))
    return pair.public_key.decode(), pair


def token(
    claims: dict[str, Any], issuer: tuple[str, nkeys.KeyPair], subject: str
) -> str:
    """Return a JWT as nsc makes it (NATS JWT v2)."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    body = {"jti": "x", "iat": 1, "iss": issuer[0], "sub": subject, **claims}
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = ".".join(part(json.dumps(each).encode()) for each in (head, body))
    return f"{text}.{part(issuer[1].sign(text.encode()))}"


def credentials(name: str, account: tuple[str, nkeys.KeyPair]) -> str:
    """Return the contents of a .creds file for a user with the claims that are printed."""
    public, pair = nkey(nkeys.PREFIX_BYTE_USER)
    jwt = token(claims_of(USERS[name]), account, public)
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{pair.seed.decode()}\n"
        "------END USER NKEY SEED------\n"
    )


async def test_the_claims_hold_on_a_server_with_an_operator(tmp_path):
    """Rights given and rights refused are those of the configuration."""
    operator, account = (
        nkey(nkeys.PREFIX_BYTE_OPERATOR),
        nkey(nkeys.PREFIX_BYTE_ACCOUNT),
    )
    most = dict.fromkeys(
        ("subs", "data", "payload", "conn", "leaf", "imports", "exports"), -1
    )
    held = {"limits": {**most, "wildcards": True}, "type": "account", "version": 2}
    of_account = token({"name": "shop", "nats": held}, operator, account[0])
    own = {"type": "operator", "version": 2}
    config = (
        f"operator: {token({'name': 'op', 'nats': own}, operator, operator[0])}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {account[0]}: {of_account} }}\n"
    )
    for name in ("greeter", "client"):
        (tmp_path / name).write_text(credentials(name, account))
    async with (
        EmbeddedServer(jetstream=False, config=config) as server,
        kitmsg.connect(
            server.url, creds=str(tmp_path / "greeter"), inbox_prefix="_INBOX_greeter"
        ) as worker,
        kitmsg.connect(
            server.url, creds=str(tmp_path / "client"), inbox_prefix="_INBOX_client"
        ) as kit,
    ):
        await worker.serve(Greeter)
        assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"
        denied: list[str] = []
        worker.bus.watch_denials(denied.append)
        worker.bus.publish("orders.place", b"")
        worker.bus.subscribe("orders.place", lambda _: None, "q")
        worker.bus.publish(f"{kit.bus.inbox}1", b"forged")
        await worker.bus.flush()
        assert sorted(denied) == sorted(
            ["orders.place", "orders.place", f"{kit.bus.inbox}1".lower()]
        )
