"""Authentication of clients: bearer token, password, or client certificate.

A refusal tells the caller only that it is one; the reason stands in the gateway's log.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from kitmsg.auth import Principal, Refused
from kitmsg.auth.basic import BasicVerifier
from kitmsg.auth.header import Authenticator
from kitmsg.auth.jwks import UrlKeys
from kitmsg.auth.jwt import JwtVerifier
from kitmsg.auth.keys import FileKeys
from kitmsg_gateways.edge.limits import (
    address_key,
    address_limit,
    principal_key,
    principal_limit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.auth import Verifier
    from kitmsg_gateways.edge.files import Reloadable
    from kitmsg_gateways.edge.options import AuthOptions

__all__ = ["Auth", "Gate", "certificate_principal", "peer_principal"]

_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "domainComponent": "DC",
    "userId": "UID",
}
_ESCAPED: Final = str.maketrans({char: f"\\{char}" for char in '\\,+"<>;='})


class Auth:
    """Checks credentials as the options say.

    Args:
        options: Which credentials there are.
        realm: What they are for, as a browser shows it.

    Attributes:
        is_on: Whether a token or a password is asked for.
        readers: The files that keys and passwords are in.

    Raises:
        KitError: An option does not fit, or a file cannot be used.
    """

    def __init__(self, options: AuthOptions, realm: str) -> None:
        self.readers: list[Reloadable] = []
        self._url_keys: UrlKeys | None = None
        self._certificate_suffices = options.tls_client_optional
        verifiers: list[Verifier] = []
        if options.jwt_key or options.jwks_url:
            verifiers.append(self._tokens(options))
        if options.basic_file:
            passwords = BasicVerifier(options.basic_file)
            self.readers.append(passwords)
            verifiers.append(passwords)
        self.is_on = bool(verifiers)
        self._authenticator = Authenticator(verifiers, realm)

    async def start(self) -> None:
        """Fetch keys."""
        if self._url_keys is not None:
            await self._url_keys.start()

    async def stop(self) -> None:
        """Fetch them no more."""
        if self._url_keys is not None:
            await self._url_keys.stop()

    async def principal(
        self,
        given: Sequence[str],
        shown: Principal | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> Principal | None:
        """Return who calls; None where nobody is asked.

        Args:
            given: The values of ``Authorization``.
            shown: Of the client's certificate; None without.
            facts: For the log of a refusal, such as the client's address.

        Raises:
            Refused: The credentials do not hold, or there are none; see `challenges`.
            Unavailable: It cannot be found out now.
        """
        if not self.is_on or (shown and self._certificate_suffices and not given):
            return shown
        return await self._authenticator.authenticate(given, facts)

    def challenges(self, refused: Refused) -> list[str]:
        """Return how to ask again, as ``WWW-Authenticate`` says it (RFC 9110, 11)."""
        return self._authenticator.challenges(refused)

    def _tokens(self, options: AuthOptions) -> Verifier:
        keys: FileKeys | UrlKeys
        if options.jwks_url:
            keys = self._url_keys = UrlKeys(options.jwks_url, options.jwt_algorithms)
        else:
            keys = FileKeys(options.jwt_key, options.jwt_algorithms)
            self.readers.append(keys)
        return JwtVerifier(
            keys,
            algorithms=options.jwt_algorithms,
            issuer=options.jwt_issuer,
            audience=options.jwt_audience,
            leeway=options.jwt_leeway,
            required=options.jwt_required,
            claims=options.jwt_claims,
        )


class Gate:
    """Authentication and rate limit, for a gateway that answers refusals with plain errors.

    Args:
        auth: Checks credentials.
        options: Limits.
    """

    def __init__(self, auth: Auth, options: AuthOptions) -> None:
        self._auth = auth
        self._by_address = address_limit(options)
        self._by_principal = principal_limit(options)

    async def admit(
        self,
        address: str,
        given: Sequence[str] = (),
        shown: Principal | None = None,
        request_id: str = "",
    ) -> Principal | None:
        """Return who calls; None when nobody is asked.

        Args:
            address: The client's.
            given: The values of ``Authorization``.
            shown: Of its certificate; None without.
            request_id: For the log.

        Raises:
            Refused: The credentials do not hold, or there are none.
            ResourceExhausted: It calls too often; with the time to wait.
            Unavailable: It cannot be found out now who it is.
        """
        now = asyncio.get_running_loop().time()
        if self._by_address is not None:
            self._by_address.check(address_key(address), now)
        facts = {"client": address, "request_id": request_id}
        principal = await self._auth.principal(given, shown, facts)
        if self._by_principal is not None:
            self._by_principal.check(principal_key(principal), now)
        return principal


def peer_principal(transport: asyncio.BaseTransport | None) -> Principal | None:
    """Return the principal of the certificate that a client showed; None for none."""
    shown = transport.get_extra_info("peercert") if transport else None
    if not shown:
        return None
    names = shown.get("subjectAltName", ())
    return certificate_principal(shown.get("subject", ()), names)


@lru_cache(maxsize=1024)
def certificate_principal(
    subject: tuple[tuple[tuple[str, str], ...], ...],
    names: tuple[tuple[str, Any], ...],
) -> Principal:
    """Return the principal of a certificate that was verified.

    Args:
        subject: As `ssl.SSLSocket.getpeercert` gives it.
        names: The alternative names, likewise.

    Returns:
        One with the subject as its name (RFC 4514), and the alternative names as the
        claim ``san``.
    """
    name = ",".join(
        "+".join(
            f"{_SHORT.get(key, key)}={value.translate(_ESCAPED)}" for key, value in part
        )
        for part in reversed(subject)
    )
    listed = [f"{kind}:{value}" for kind, value in names]
    return Principal(name, "tls", {"san": listed} if listed else {})
