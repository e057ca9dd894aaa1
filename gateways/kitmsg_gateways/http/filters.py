"""Filters before a request is read: proxies, authentication, rate limits.

    returns None        the next one has its turn, and at last the API
    returns a response  the request is answered
    raises a `Problem`  or a `KitError`: the request is refused

Each is an async function of one `Visit`, where it notes what it finds out and adds headers
for the answer, whatever the answer will be.  Each is built once, from the options; one that
is off is not among them and costs nothing.  Which web pages may ask stands in `cors`.

A refusal of credentials is 401 and says how to ask again (RFC 9110, section 11; RFC 6750
for tokens), not what was wrong: that stands in the gateway's log.  Sources for limits: RFC
6585 (status 429); draft-ietf-httpapi-ratelimit-headers-10 for ``RateLimit`` and
``RateLimit-Policy``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

from kitmsg.auth import Refused
from kitmsg.errors import Code
from kitmsg_gateways.edge.auth import Public, peer_principal
from kitmsg_gateways.edge.hosts import Hosts
from kitmsg_gateways.edge.limits import address_key, principal_key
from kitmsg_gateways.http.cors import Cors
from kitmsg_gateways.http.errors import Problem, refusal
from kitmsg_gateways.http.visit import PROBES, Visit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg_gateways.edge.auth import Auth, Gate
    from kitmsg_gateways.edge.limits import RateLimit
    from kitmsg_gateways.edge.proxies import Proxies
    from kitmsg_gateways.http.options import GatewayOptions

__all__ = ["Filter", "filters"]

Filter: TypeAlias = Callable[[Visit], Awaitable[web.StreamResponse | None]]

_UNAUTHORIZED: Final = 401
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN: Final = frozenset({"cross-site", "same-site"})


def filters(
    options: GatewayOptions, gate: Gate, proxies: Proxies
) -> tuple[Filter, ...]:
    """Return the filters that the options ask for, in the order in which they look.

    Raises:
        KitError: An option does not fit.
    """
    local = Local(options, has_auth=gate.auth.is_on)
    found: list[Filter | None] = [
        _behind(proxies) if options.trusted_proxies else None,
        local if local.is_needed else None,
        _cors(options),
        _secure(options) if options.hsts else None,
        _limited("address", gate.by_address, lambda visit: address_key(visit.address)),
        _client_certificate if options.tls_client_ca else None,
        _Authenticated(gate.auth, options.public_paths) if gate.auth.is_on else None,
        _limited(
            "principal", gate.by_principal, lambda visit: principal_key(visit.principal)
        ),
    ]
    return tuple(one for one in found if one is not None)


def _behind(proxies: Proxies) -> Filter:
    async def look(visit: Visit) -> None:
        """Note who asks, by the word of a proxy."""
        request, headers = visit.request, visit.request.headers
        visit.via = proxies.via(
            request.remote or "", request.scheme, lambda name: headers.getall(name, ())
        )

    return look


def _cors(options: GatewayOptions) -> Filter | None:
    # What a browser sends by itself, a page of anybody's could have it send.
    is_ambient = bool(options.basic_file or options.tls_client_ca)
    if not (options.cors_origins or is_ambient):
        return None
    return Cors(
        options.cors_origins,
        credentials=options.cors_credentials,
        headers=(*options.cors_headers, *options.route_headers),
        max_age=options.cors_max_age,
        is_strict=is_ambient,
    )


class Local:
    """Refuses what web pages send that are none of ours; a `Filter`.

    Where nobody is asked who calls, anybody's page would act as the browser's owner does.

    Args:
        options: Which names and origins are fine.
        has_auth: Whether strangers are refused; then pages are, too.

    Attributes:
        is_needed: Whether there is anything to look at.
    """

    def __init__(self, options: GatewayOptions, *, has_auth: bool) -> None:
        self._hosts = Hosts(options, has_auth=has_auth)
        self._looks_at_pages = not has_auth
        self._cors = Cors(options.cors_origins)
        self.is_needed = self._looks_at_pages or not self._hosts.is_any

    async def __call__(self, visit: Visit) -> None:
        """Look at the name, and where the page is from.

        Raises:
            Problem: 421 or 403.
        """
        if not self._hosts.allows(visit.host) and visit.path not in PROBES:
            raise refusal(
                421,
                "this is not a name of this gateway; its allowed_hosts lists those there"
                " are",
                field="Host",
            )
        headers = visit.request.headers
        is_sent = headers.get("Sec-Fetch-Site", "") in _FOREIGN or "Origin" in headers
        if self._looks_at_pages and is_sent and visit.request.method not in _SAFE:
            self._cors.check(visit)


def _secure(options: GatewayOptions) -> Filter:
    text = f"max-age={int(options.hsts)}"

    async def tell(visit: Visit) -> None:
        """Tell browsers to come over HTTPS only (RFC 6797), if they came so."""
        if visit.scheme == "https":
            visit.add_headers({"Strict-Transport-Security": text})

    return tell


class _Authenticated:
    """Refuses requests without valid credentials; a `Filter`.

    Args:
        auth: Checks them.
        public: Paths that need none; one that ends in ``*`` stands for all that begin so.
    """

    def __init__(self, auth: Auth, public: Sequence[str] = ()) -> None:
        self._auth = auth
        self._public = Public(public, PROBES)

    async def __call__(self, visit: Visit) -> None:
        """Note who asks.

        Raises:
            Problem: 401: nobody knows.
            Unavailable: It cannot be found out now.
        """
        if visit.path in self._public:
            return
        headers = visit.request.headers
        given = self._auth.given(
            headers.getall("Authorization", []), headers.getall("X-Api-Key", ())
        )
        facts = {"client": visit.address, "request_id": visit.id}
        try:
            visit.principal = await self._auth.principal(given, visit.principal, facts)
        except Refused as exc:
            asked = ", ".join(self._auth.challenges(exc))
            raise Problem(
                _UNAUTHORIZED,
                Code.UNAUTHENTICATED,
                str(exc),
                headers={"WWW-Authenticate": asked} if asked else {},
            ) from None


async def _client_certificate(visit: Visit) -> None:
    """Note whose certificate the client showed; a `Filter`."""
    visit.principal = peer_principal(visit.request.transport) or visit.principal


def _limited(
    name: str, limit: RateLimit | None, key: Callable[[Visit], str | None]
) -> Filter | None:
    return None if limit is None else _Limited(name, limit, key)


class _Limited:
    """Refuses clients that are over their rate limit; a `Filter`.

    Args:
        name: What the limit counts by, as the answer's headers name it.
        limit: The limit.
        key: Whom a request counts for; None for nobody.
    """

    def __init__(
        self, name: str, limit: RateLimit, key: Callable[[Visit], str | None]
    ) -> None:
        self._limit = limit
        self._key = key
        self._name = f'"{name}"'
        self._policy = f"{self._name};q={limit.burst};w={limit.window}"

    async def __call__(self, visit: Visit) -> None:
        """Count a request, or refuse it.

        Raises:
            ResourceExhausted: With the time to wait.
        """
        client = None if visit.path in PROBES else self._key(visit)
        if client is None:
            return
        now = asyncio.get_running_loop().time()
        delay = self._limit.take(client, now)
        left, fill_time = self._limit.left(client, now)
        state = f"{self._name};r={left};t={math.ceil(fill_time)}"
        said = visit.headers or {}
        policies = filter(None, [said.get("RateLimit-Policy"), self._policy])
        states = filter(None, [said.get("RateLimit"), state])
        visit.headers = {
            **said,
            "RateLimit-Policy": ", ".join(policies),
            "RateLimit": ", ".join(states),
        }
        if delay:
            raise self._limit.refusal(delay)
