"""The filters that the options ask for, and what they read from files and URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.auth.basic import BasicVerifier
from kitmsg.auth.header import Authenticator
from kitmsg.auth.jwks import UrlKeys
from kitmsg.auth.jwt import JwtVerifier
from kitmsg.auth.keys import FileKeys
from kitmsg_gateways.http.auth import Auth, client_certificate
from kitmsg_gateways.http.cors import Cors
from kitmsg_gateways.http.files import Files
from kitmsg_gateways.http.proxies import Proxies
from kitmsg_gateways.http.ratelimit import RateLimit, by_address, by_principal
from kitmsg_gateways.http.tls import Tls

if TYPE_CHECKING:
    from kitmsg.auth import Verifier
    from kitmsg_gateways.http.files import Reloadable
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.visit import Filter

__all__ = ["Chain"]


class Chain:
    """What stands between the sockets and the API.

    Args:
        options: What is wanted.

    Attributes:
        filters: In the order in which they look at a request.
        proxies: Who is trusted to say where a request comes from.
        tls: Our side of TLS; None without.

    Raises:
        KitError: An option does not fit, or a file cannot be used.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._readers: list[Reloadable] = []
        self._url_keys: UrlKeys | None = None
        self.tls = Tls(options) if options.tls_cert else None
        if self.tls is not None:
            self._readers.append(self.tls)
        self.proxies = Proxies(options.trusted_proxies, options.proxy_header)
        found: list[Filter | None] = [
            self.proxies if options.trusted_proxies else None,
            _cors(options),
            _limit("address", options.rate_limit, options.rate_burst),
            client_certificate if options.tls_client_ca else None,
            self._auth(options),
            _limit(
                "principal", options.principal_rate_limit, options.principal_rate_burst
            ),
        ]
        self.filters = tuple(one for one in found if one is not None)
        self._files = Files(self._readers, options.reload_interval)

    async def start(self) -> None:
        """Fetch keys, and watch files."""
        if self._url_keys is not None:
            await self._url_keys.start()
        self._files.start()

    async def stop(self) -> None:
        """Watch no more."""
        self._files.stop()
        if self._url_keys is not None:
            await self._url_keys.stop()

    def reload(self) -> None:
        """Read all files again, now."""
        self._files.look(is_forced=True)

    def _auth(self, options: GatewayOptions) -> Filter | None:
        verifiers: list[Verifier] = []
        if options.jwt_key or options.jwks_url:
            verifiers.append(self._tokens(options))
        if options.basic_file:
            passwords = BasicVerifier(options.basic_file)
            self._readers.append(passwords)
            verifiers.append(passwords)
        if not verifiers:
            return None
        return Auth(
            Authenticator(verifiers, options.title),
            options.auth_public,
            certificate_suffices=options.tls_client_optional,
        )

    def _tokens(self, options: GatewayOptions) -> Verifier:
        keys: FileKeys | UrlKeys
        if options.jwks_url:
            keys = self._url_keys = UrlKeys(options.jwks_url, options.jwt_algorithms)
        else:
            keys = FileKeys(options.jwt_key, options.jwt_algorithms)
            self._readers.append(keys)
        return JwtVerifier(
            keys,
            algorithms=options.jwt_algorithms,
            issuer=options.jwt_issuer,
            audience=options.jwt_audience,
            leeway=options.jwt_leeway,
            required=options.jwt_required,
            claims=options.jwt_claims,
        )


def _cors(options: GatewayOptions) -> Filter | None:
    # What a browser sends by itself, a page of anybody's could have it send.
    is_ambient = bool(options.basic_file or options.tls_client_ca)
    if not (options.cors_origins or is_ambient):
        return None
    return Cors(
        options.cors_origins,
        credentials=options.cors_credentials,
        headers=options.cors_headers,
        max_age=options.cors_max_age,
        is_strict=is_ambient,
    )


def _limit(name: str, per_second: float, burst: int) -> Filter | None:
    if not per_second:
        return None
    key = by_address if name == "address" else by_principal
    return RateLimit(name, per_second, burst, key)
