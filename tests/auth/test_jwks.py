"""Keys from a URL: a real server, which changes its keys, fails and hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.auth.jwks import UrlKeys
from kitmsg.auth.jwt import JwtVerifier
from kitmsg.auth.keys import read_jwks
from kitmsg.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Issuer:
    """Serves a JWK Set, and counts who asks."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.status = 200
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.gate.wait(10)
                body = issuer.body or json.dumps({"keys": issuer.keys}).encode()
                self.send_response(issuer.status)
                if issuer.status // 100 == 3:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        threading.Thread(target=self.server.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        """End it."""
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A server with keys."""
    found = Issuer()
    yield found
    found.close()


async def test_they_are_fetched_once(issuer, rsa_pair):
    """And then used."""
    issuer.keys = [rsa_pair.jwk("a")]
    keys = UrlKeys(issuer.url, ["RS256"])
    await keys.start()
    verifier = JwtVerifier(keys, algorithms=["RS256"])
    for _ in range(5):
        assert (await verifier.verify(rsa_pair.token("a"))).name == "ann"
    assert issuer.asked == 1
    await keys.stop()


async def test_a_new_key_is_looked_for_at_once(issuer, rsa_pair, ec_pair):
    """When a token names it; the key that has gone is forgotten."""
    issuer.keys = [rsa_pair.jwk("old")]
    keys = UrlKeys(issuer.url, ["RS256", "ES256"], min_interval=0)
    await keys.start()
    issuer.keys = [ec_pair.jwk("new")]
    assert len(await keys.find("old", "RS256")) == 1
    assert len(await keys.find("new", "ES256")) == 1
    assert await keys.find("old", "RS256") == []


async def test_unknown_keys_do_not_make_a_flood(issuer, rsa_pair):
    """Whoever sends tokens with keys of their own causes no fetch each."""
    issuer.keys = [rsa_pair.jwk("a")]
    keys = UrlKeys(issuer.url, ["RS256"], min_interval=3600)
    await keys.start()
    for number in range(50):
        assert await keys.find(f"forged-{number}", "RS256") == []
    assert issuer.asked == 1


async def test_who_comes_at_once_waits_for_one_fetch(issuer, rsa_pair):
    """And one who goes away does not end it for the others."""
    issuer.keys = [rsa_pair.jwk("a")]
    issuer.gate.clear()
    keys = UrlKeys(issuer.url, ["RS256"])
    waiting = [asyncio.create_task(keys.find("a", "RS256")) for _ in range(10)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    await asyncio.sleep(0)
    issuer.gate.set()
    assert [len(found) for found in await asyncio.gather(*waiting)] == [1] * 9
    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (302, None),
        (200, b"<html>"),
        (200, b'{"keys":[]}'),
        (200, b"[" * (1 << 20) + b"["),
    ],
)
async def test_a_failed_fetch_keeps_the_old_keys(
    issuer, rsa_pair, status, body, caplog
):
    """An issuer that is down locks nobody out."""
    issuer.keys = [rsa_pair.jwk("a")]
    keys = UrlKeys(issuer.url, ["RS256"], min_interval=0)
    await keys.start()
    issuer.status, issuer.body = status, body
    assert await keys.find("b", "RS256") == []
    assert len(await keys.find("a", "RS256")) == 1
    assert issuer.asked == 2
    assert issuer.url in caplog.text


async def test_without_any_key_nobody_is_to_blame(issuer, rsa_pair):
    """It is not the caller's credentials that are wrong; later it works."""
    issuer.status = 503
    keys = UrlKeys(issuer.url, ["RS256"], min_interval=0)
    await keys.start()
    with pytest.raises(Unavailable, match="not there yet"):
        await keys.find("a", "RS256")
    issuer.status, issuer.keys = 200, [rsa_pair.jwk("a")]
    assert len(await keys.find("a", "RS256")) == 1


async def test_old_keys_serve_until_the_new_ones_are_there(issuer, rsa_pair, ec_pair):
    """Nobody waits for a fetch that is only due."""
    issuer.keys = [rsa_pair.jwk("a")]
    keys = UrlKeys(issuer.url, ["RS256"], max_age=0, min_interval=0)
    await keys.start()
    issuer.gate.clear()
    issuer.keys = [rsa_pair.jwk("b")]
    assert len(await keys.find("a", "RS256")) == 1
    issuer.gate.set()
    assert len(await keys.find("b", "RS256")) == 1
    await keys.stop()


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
        "https://",
        "keys",
        "http://[::1",
    ],
)
def test_an_unsafe_url_is_refused(url):
    """Who can change the answer can forge tokens."""
    with pytest.raises(InvalidArgument, match="JWKS URL"):
        UrlKeys(url, ["RS256"])


def test_shared_secrets_do_not_come_from_a_url(rsa_pair):
    """Neither by option nor by what is served."""
    with pytest.raises(InvalidArgument, match="belongs in a file"):
        UrlKeys("https://id.example/keys", ["HS256"])
    secret = {"kty": "oct", "k": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"}
    data = json.dumps({"keys": [secret]}).encode()
    assert read_jwks(data, frozenset({"RS256"})) == []


class Dripping:
    """A server that sends its answer a byte at a time, for ever."""

    def __init__(self) -> None:
        self.writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Never end."""
        self.writers.add(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        """End the connections, and wait for it."""
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_a_fetch_has_one_deadline_over_all_of_it(rsa_pair, caplog):
    """An issuer that drips holds nothing up: neither callers nor the end."""
    drip = Dripping()
    server = await asyncio.start_server(drip.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    keys = UrlKeys(f"http://127.0.0.1:{port}/keys", ["RS256"], deadline=0.2)
    async with asyncio.timeout(10):
        await keys.start()
        assert "took more than 0.2 s" in caplog.text
        with pytest.raises(Unavailable):
            await keys.find("a", "RS256")
    await keys.stop()
    server.close()
    await drip.close()


async def test_shutdown_does_not_wait_for_a_fetch(issuer):
    """Nor does the end of the process, for the thread that it is in."""
    issuer.gate.clear()
    keys = UrlKeys(issuer.url, ["RS256"])
    starting = asyncio.create_task(keys.start())
    while not issuer.asked:
        await asyncio.sleep(0.001)
    await keys.stop()
    assert not issuer.gate.is_set()
    fetching = [each for each in threading.enumerate() if each.name == "jwks"]
    assert fetching
    assert all(each.daemon for each in fetching)
    await asyncio.gather(starting, return_exceptions=True)
