"""TLS, client certificates, and files that change under living connections."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

import kitmsg_gateways.http
from kitmsg import Context, Service, endpoint
from kitmsg.errors import InvalidArgument
from kitmsg.middleware import auth
from kitmsg_gateways.http import GatewayOptions
from tests.auth.tokens import SECRET, sign
from tests.require import need
from tests.trust import SIGNING_KEY, TRUST

if TYPE_CHECKING:
    from pathlib import Path

GET_ME = b"GET /me HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run on both loops: each has a TLS of its own."""
    return "asyncio", {"use_uvloop": request.param}


class Mirror(Service):
    """Says who asks."""

    middleware = (auth(),)

    @endpoint(http="GET /me")
    async def me(self, ctx: Context) -> str:
        return f"{ctx.principal.method} {ctx.principal.name}"


class Files:
    """A folder with a server's certificate, its key, and clients' authorities."""

    def __init__(self, folder: Path) -> None:
        self.cert = str(folder / "cert.pem")
        self.key = str(folder / "key.pem")
        self.clients = str(folder / "clients.pem")
        self.folder = folder

    def issue(self, by: trustme.CA) -> trustme.LeafCert:
        """Write a new certificate of an authority's."""
        leaf = by.issue_cert("localhost", "127.0.0.1")
        leaf.private_key_pem.write_to_path(self.key)
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        (self.folder / "cert.pem").write_bytes(chain)
        return leaf

    def trust(self, clients: trustme.CA) -> None:
        """Write the authority of clients."""
        clients.cert_pem.write_to_path(self.clients)


class Peer:
    """One TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes = GET_ME) -> bytes:
        """Return the answer to one request, all of it."""
        self.writer.write(data)
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            return head + await self.reader.readexactly(length)

    @property
    def serial(self) -> Any:
        """The number of the server's certificate."""
        return self.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signed the server's certificate."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def club() -> trustme.CA:
    """Who signs clients' certificates."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA, club: trustme.CA) -> Files:
    """The files of a gateway."""
    found = Files(tmp_path)
    found.issue(authority)
    found.trust(club)
    return found


@pytest.fixture
async def begin(hub, files):
    """Give a function that starts a gateway with TLS, and returns its server."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options):
            chosen = {"tls_cert": files.cert, "tls_key": files.key, **options}
            server = await kitmsg_gateways.http.serve(
                hub,
                GatewayOptions(
                    port=0, drain_timeout=1, signing_key=SIGNING_KEY, **chosen
                ),
            )
            stack.push_async_callback(server.stop)
            return server

        yield start


@pytest.fixture
async def connect(authority):
    """Give a function that connects to a gateway, as a client that trusts it."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(server, *, cert=None, ca=authority, configure=None):
            context = ssl.create_default_context()
            ca.configure_trust(context)
            if cert is not None:
                cert.configure_cert(context)
            if configure is not None:
                configure(context)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname="localhost"
            )
            stack.callback(writer.close)
            return Peer(reader, writer)

        yield begin


async def test_it_speaks_https(begin, connect):
    """TLS 1.2 and 1.3, nothing older, and says so in its address."""
    server = await begin()
    assert server.url == f"https://127.0.0.1:{server.port}"
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):

        def only(context, version=version):
            context.minimum_version = context.maximum_version = version

        peer = await connect(server, configure=only)
        answer = await peer.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
    context = server._tls.context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_curl_can(begin, authority, tmp_path):
    """A client that we did not write."""
    curl = need("curl")
    server = await begin()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    words = [curl, "-sS", "--cacert", ca, f"https://localhost:{server.port}/healthz"]
    words += ["--resolve", f"localhost:{server.port}:127.0.0.1"]
    done = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, check=True, timeout=20
    )
    assert done.stdout == b'{"status":"ok"}'


async def test_plain_http_on_its_port_gets_nowhere(begin):
    """The connection ends, and is counted."""
    server = await begin()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(GET_ME)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert not (await reader.read()).startswith(b"HTTP/")
    writer.close()
    assert server.connections.broken == 1
    assert server.connections.open == 0


async def test_a_handshake_may_not_take_for_ever(begin, until):
    """Nor does it count as less than a connection meanwhile."""
    server = await begin(handshake_timeout=0.1, max_connections=1)
    _, slow = await asyncio.open_connection("127.0.0.1", server.port)
    await until(lambda: server.connections.open == 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert server.connections.refused == 1
    await until(lambda: server.connections.open == 0)
    assert server.connections.broken == 1
    slow.close()
    writer.close()


async def test_a_new_certificate_is_taken_up_without_a_lost_connection(
    begin, connect, files, authority, until
):
    """Found by itself: who is connected stays, who comes new sees the new one."""
    server = await begin(reload_interval=0.02)
    old = await connect(server)
    assert (await old.ask()).startswith(b"HTTP/1.1 401 ")
    files.issue(authority)
    async with asyncio.timeout(10):
        while (new := await connect(server)).serial == old.serial:
            new.writer.close()
            await asyncio.sleep(0.02)
    assert (await new.ask()).startswith(b"HTTP/1.1 401 ")
    assert (await old.ask()).startswith(b"HTTP/1.1 401 ")


async def test_a_broken_certificate_changes_nothing(
    begin, connect, files, authority, caplog
):
    """It is logged; the next good one counts."""
    server = await begin(reload_interval=3600)
    before = (await connect(server)).serial
    (files.folder / "cert.pem").write_text("nonsense")
    server.reload()
    assert "what was read before goes on" in caplog.text
    assert (await connect(server)).serial == before
    files.issue(authority)
    server.reload()
    assert (await connect(server)).serial != before


async def test_a_client_certificate_is_who_asks(begin, connect, files, club):
    """Its subject is the principal's name."""
    server = await begin(tls_client_ca=files.clients)
    leaf = club.issue_cert("ann.example", common_name="ann", organization_name="Acme")
    peer = await connect(server, cert=leaf)
    answer = await peer.ask()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"tls CN=ann,' in answer


async def test_without_one_nobody_comes_in(begin, connect, files, authority):
    """Nor with one that somebody else signed."""
    server = await begin(tls_client_ca=files.clients)
    for cert in (None, authority.issue_cert("ann.example")):
        with pytest.raises(
            (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)
        ):
            await (await connect(server, cert=cert)).ask()
    assert server.connections.open == 0


async def test_one_that_is_optional(begin, connect, files, club, tmp_path):
    """Then a token will do instead, and one of them it must be."""
    key = tmp_path / "secret"
    key.write_text(SECRET)
    server = await begin(
        tls_client_ca=files.clients,
        tls_client_optional=True,
        jwt_key=str(key),
        jwt_algorithms=("HS256",),
    )
    token = f"Authorization: Bearer {sign(SECRET, 'HS256')}\r\n\r\n".encode()
    with_token = GET_ME[:-2] + token
    nobody = await connect(server)
    assert (await nobody.ask()).startswith(b"HTTP/1.1 401 ")
    assert b"jwt ann" in await nobody.ask(with_token)
    member = await connect(server, cert=club.issue_cert("x", common_name="bob"))
    assert b"tls CN=bob" in await member.ask()
    assert b"jwt ann" in await member.ask(with_token)


async def test_one_that_is_required_does_not_replace_a_token(
    begin, connect, files, club, tmp_path
):
    """Both are asked for, both must hold."""
    key = tmp_path / "secret"
    key.write_text(SECRET)
    server = await begin(
        tls_client_ca=files.clients, jwt_key=str(key), jwt_algorithms=("HS256",)
    )
    member = await connect(server, cert=club.issue_cert("x", common_name="bob"))
    assert (await member.ask()).startswith(b"HTTP/1.1 401 ")


async def test_clients_that_are_no_longer_trusted_stay_out(begin, connect, files, club):
    """A new list of authorities counts for new connections, resumed ones included."""
    server = await begin(tls_client_ca=files.clients, reload_interval=3600)
    member = club.issue_cert("x", common_name="bob")
    peer = await connect(server, cert=member)
    assert (await peer.ask()).startswith(b"HTTP/1.1 200 ")
    session = peer.writer.get_extra_info("ssl_object").session
    assert session is None or not session.has_ticket
    other = trustme.CA(key_type=trustme.KeyType.ECDSA)
    files.trust(other)
    server.reload()
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await (await connect(server, cert=member)).ask()
    newcomer = await connect(server, cert=other.issue_cert("y", common_name="eve"))
    assert b"CN=eve" in await newcomer.ask()
    assert (await peer.ask()).startswith(b"HTTP/1.1 200 ")


async def test_wrong_files_are_said(begin, files, tmp_path):
    """In a sentence, at the start."""
    for options, said in (
        ({"tls_cert": "/nowhere.pem"}, "no such file or directory"),
        ({"tls_key": files.cert}, "not what is wanted, in PEM"),
        ({"tls_client_ca": "/nowhere.pem"}, "authorities in /nowhere.pem"),
        ({"tls_client_ca": files.key}, "authorities in"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            await begin(**options)


async def test_an_encrypted_key_does_not_ask_the_terminal(begin, authority, tmp_path):
    """Nobody would be there to answer."""
    leaf = authority.issue_cert("localhost")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    path = tmp_path / "locked.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    with pytest.raises(InvalidArgument, match="the key is encrypted"):
        await begin(tls_key=str(path))
