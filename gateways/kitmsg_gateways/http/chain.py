"""The filters that the options ask for, and what they need: keys, proxies, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg_gateways.edge.auth import Auth
from kitmsg_gateways.edge.files import Files
from kitmsg_gateways.edge.limits import address_limit, principal_limit
from kitmsg_gateways.edge.proxies import Proxies
from kitmsg_gateways.edge.tls import Tls
from kitmsg_gateways.http.auth import Auth as AuthFilter, client_certificate
from kitmsg_gateways.http.cors import Cors
from kitmsg_gateways.http.ratelimit import Limited, by_address, by_principal

if TYPE_CHECKING:
    from kitmsg_gateways.edge.files import Reloadable
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.visit import Filter, Visit

__all__ = ["Chain"]

PROTOCOLS: Final = ("http/1.1",)
"""What clients are offered in a TLS handshake."""


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
        is_optional = options.tls_client_optional
        self.tls = (
            Tls(options, PROTOCOLS, is_optional=is_optional)
            if options.tls_cert
            else None
        )
        self.proxies = Proxies(options.trusted_proxies, options.proxy_header)
        self._auth = Auth(options, options.title)
        self.filters = tuple(self._filters(options))
        readers: list[Reloadable] = [self.tls] if self.tls else []
        self._files = Files([*readers, *self._auth.readers], options.reload_interval)

    async def start(self) -> None:
        """Fetch keys, and watch files."""
        await self._auth.start()
        self._files.start()

    async def stop(self) -> None:
        """Watch no more."""
        self._files.stop()
        await self._auth.stop()

    def reload(self) -> None:
        """Read all files again, now."""
        self._files.look(is_forced=True)

    def _filters(self, options: GatewayOptions) -> list[Filter]:
        by_addresses, by_principals = address_limit(options), principal_limit(options)
        found: list[Filter | None] = [
            self._via if options.trusted_proxies else None,
            _cors(options),
            Limited("address", by_addresses, by_address) if by_addresses else None,
            client_certificate if options.tls_client_ca else None,
            AuthFilter(self._auth, options.auth_public) if self._auth.is_on else None,
            Limited("principal", by_principals, by_principal)
            if by_principals
            else None,
        ]
        return [one for one in found if one is not None]

    async def _via(self, visit: Visit) -> None:
        """Note who asks, by the word of a proxy."""
        request = visit.request
        visit.via = self.proxies.via(
            request.remote or "", request.scheme, request.headers
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
