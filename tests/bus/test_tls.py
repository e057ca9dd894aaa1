"""TLS of a NatsBus: trusted, offered, first, mutual."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    InvalidArgument,
    KitError,
    Unauthenticated,
    Unavailable,
)
from tests.bus.links import Changes, address, works

if TYPE_CHECKING:
    from pathlib import Path


class Certificates:
    """An authority, a server's certificate and a client's, as files."""

    def __init__(self, folder: Path) -> None:
        authority, self.ca = trustme.CA(), str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
        self.other_ca = str(folder / "other.pem")
        self.server = self._issue(authority, folder / "server.pem", "127.0.0.1")
        self.client = self._issue(authority, folder / "client.pem", "ann@kit.test")

    @staticmethod
    def _issue(authority: trustme.CA, file: Path, identity: str) -> str:
        authority.issue_cert(identity).private_key_and_cert_chain_pem.write_to_path(
            file
        )
        return str(file)

    def config(self, *extra: str) -> str:
        """The server's side, in its own words."""
        files = f'cert_file: "{self.server}", key_file: "{self.server}"'
        return f"tls {{ {', '.join([files, *extra])} }}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


async def test_speaks_tls(certificates: Certificates) -> None:
    """With the authority's file, or a context of one's own."""
    with EmbeddedServer(jetstream=False, config=certificates.config()) as server:
        await works(await NatsBus.connect(server.url, tls_ca=certificates.ca))
        context = ssl.create_default_context(cafile=certificates.ca)
        url = f"tls://{address(server)}"
        bus = await NatsBus.connect(url, tls=context)
        assert bus.client._transport is not None
        assert bus._connection._out.wire is not None
        assert bus._connection._out.wire.get_extra_info("ssl_object") is not None
        await works(bus)


async def test_reconnects_over_tls(certificates: Certificates) -> None:
    """A lost link that was encrypted is encrypted again."""
    with EmbeddedServer(jetstream=False, config=certificates.config()) as server:
        bus = await NatsBus.connect(server.url, tls_ca=certificates.ca)
        changes = Changes(bus)
        server.restart()
        await changes.until(False, True)
        await works(bus)


async def test_refuses_a_server_it_cannot_trust(certificates: Certificates) -> None:
    """A certificate from elsewhere, or for another name, is said to be so."""
    with EmbeddedServer(jetstream=False, config=certificates.config()) as server:
        with pytest.raises(Unavailable, match="certificate is not trusted"):
            await NatsBus.connect(server.url, tls_ca=certificates.other_ca)
        with pytest.raises(Unavailable, match=r"not trusted: .*kit\.test"):
            await NatsBus.connect(
                server.url, tls_ca=certificates.ca, tls_hostname="kit.test"
            )


async def test_does_not_fall_back_to_plain_text(server: EmbeddedServer) -> None:
    """Who asks for TLS gets TLS or nothing."""
    with pytest.raises(Unavailable, match="does not offer TLS"):
        await NatsBus.connect(f"tls://{address(server)}")


async def test_uses_tls_that_is_only_offered(certificates: Certificates) -> None:
    """A server that takes both is spoken to with TLS when that was asked for."""
    config = certificates.config() + "\nallow_non_tls: true"
    with EmbeddedServer(jetstream=False, config=config) as server:
        bus = await NatsBus.connect(server.url, tls_ca=certificates.ca)
        assert bus._connection._out.wire is not None
        assert bus._connection._out.wire.get_extra_info("ssl_object") is not None
        await bus.close()
        await works(await NatsBus.connect(server.url))


async def test_can_begin_with_tls(certificates: Certificates) -> None:
    """``tls_first`` speaks to servers that want the handshake before a word."""
    config = certificates.config("handshake_first: true")
    with EmbeddedServer(jetstream=False, config=config) as server:
        await works(
            await NatsBus.connect(server.url, tls_ca=certificates.ca, tls_first=True)
        )


async def test_proves_itself_with_a_certificate(certificates: Certificates) -> None:
    """mTLS: with the certificate it works, without it the message says what to set."""
    config = certificates.config(f'ca_file: "{certificates.ca}"', "verify: true")
    with EmbeddedServer(jetstream=False, config=config) as server:
        bus = await NatsBus.connect(
            server.url,
            tls_ca=certificates.ca,
            tls_cert=certificates.client,
            tls_key=certificates.client,
        )
        await works(bus)
        with pytest.raises(KitError, match="set tls_cert and tls_key") as info:
            await NatsBus.connect(server.url, tls_ca=certificates.ca)
        assert isinstance(info.value, Unauthenticated)


async def test_names_bad_tls_files(tmp_path: Path) -> None:
    """A file that is missing or holds something else is named."""
    file = tmp_path / "bad.pem"
    with pytest.raises(InvalidArgument, match=r"bad\.pem"):
        await NatsBus.connect(tls_ca=str(file))
    file.write_text("nothing")
    with pytest.raises(InvalidArgument, match=r"bad\.pem"):
        await NatsBus.connect(tls_cert=str(file))
