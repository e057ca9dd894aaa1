"""Authentication of clients: bearer token, password, API key, or client certificate.

A refusal tells the caller only that it is one; the reason stands in the gateway's log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg.auth import Refused
from kitmsg.auth.apikeys import KeyVerifier
from kitmsg.auth.basic import BasicVerifier
from kitmsg.auth.certificates import certificate_principal
from kitmsg.auth.header import Authenticator
from kitmsg.auth.jwks import UrlKeys
from kitmsg.auth.jwt import JwtVerifier
from kitmsg.auth.keys import FileKeys
from kitmsg_gateways.edge.limits import RateLimit, address_key, principal_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.auth import Principal, Verifier
    from kitmsg_gateways.edge.files import Reloadable
    from kitmsg_gateways.edge.options import AuthOptions

__all__ = ["Auth", "Gate", "Public", "peer_principal"]


class Auth:
    """Checks credentials as the options say, for every door alike.

    Args:
        options: Which credentials there are.
        realm: What they are for, as a browser shows it.

    Attributes:
        is_on: Whether strangers are refused.
        readers: The files that keys and passwords are in.

    Raises:
        KitError: An option does not fit, or a file cannot be used.
    """

    def __init__(self, options: AuthOptions, realm: str) -> None:
        self.readers: list[Reloadable] = []
        self._url_keys: UrlKeys | None = None
        self._certificate_suffices = options.tls_client_optional
        self._needs_certificate = bool(
            options.tls_client_ca and not options.tls_client_optional
        )
        verifiers: list[Verifier] = []
        if options.jwt_key or options.jwks_url:
            verifiers.append(self._tokens(options))
        if options.basic_file:
            passwords = BasicVerifier(options.basic_file)
            self.readers.append(passwords)
            verifiers.append(passwords)
        self._has_keys = bool(options.api_keys)
        if options.api_keys:
            keys = KeyVerifier(options.api_keys)
            self.readers.append(keys)
            verifiers.append(keys)
        self._has_verifiers = bool(verifiers)
        self.is_on = self._has_verifiers or self._needs_certificate
        self._authenticator = Authenticator(verifiers, realm)

    async def start(self) -> None:
        """Fetch keys."""
        if self._url_keys is not None:
            await self._url_keys.start()

    async def stop(self) -> None:
        """Fetch them no more."""
        if self._url_keys is not None:
            await self._url_keys.stop()

    def given(
        self, authorization: Sequence[str], api_keys: Sequence[str] = ()
    ) -> Sequence[str]:
        """Return the credentials of a call, an API key as one of the ``Authorization``.

        Args:
            authorization: The values of ``Authorization``.
            api_keys: Those of ``X-Api-Key``, which counts where API keys are taken.
        """
        if not (api_keys and self._has_keys):
            return authorization
        return [*authorization, *(f"{KeyVerifier.scheme} {key}" for key in api_keys)]

    async def principal(
        self,
        given: Sequence[str],
        shown: Principal | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> Principal | None:
        """Return who calls; None where nobody is asked.

        Args:
            given: Credentials, as `given` returns them.
            shown: Of the client's certificate; None without.
            facts: For the log of a refusal, such as the client's address.

        Raises:
            Refused: The credentials do not hold, or there are none; see `challenges`.
            Unavailable: It cannot be found out now.
        """
        if shown is None and self._needs_certificate:
            raise Refused(
                "a certificate that names its owner is needed",
                "the certificate is nameless",
            )
        if not self._has_verifiers or (
            shown and self._certificate_suffices and not given
        ):
            return shown
        client = str(facts.get("client", "")) if facts else ""
        return await self._authenticator.authenticate(given, facts, address_key(client))

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


class Public:
    """Names that need no credentials.

    Args:
        patterns: Names; one that ends in ``*`` stands for all that begin so.
        always: Names that are so whatever the patterns say.
    """

    def __init__(self, patterns: Sequence[str], always: Iterable[str] = ()) -> None:
        plain = (name for name in patterns if not name.endswith("*"))
        self._names = frozenset(always).union(plain)
        self._prefixes = tuple(name[:-1] for name in patterns if name.endswith("*"))

    def __contains__(self, name: object) -> bool:
        return name in self._names or str(name).startswith(self._prefixes)


class Gate:
    """Authentication and rate limits of one door.

    Args:
        auth: Checks credentials.
        options: Limits.

    Attributes:
        auth: As given.
        by_address: The rate limit of each address; None for none.
        by_principal: That of each principal; None for none.
        is_open: Whether there is nothing to check: a hot path may pass it by.
    """

    def __init__(self, auth: Auth, options: AuthOptions) -> None:
        self.auth = auth
        self.by_address = RateLimit.of(options.rate_limit, options.rate_burst)
        self.by_principal = RateLimit.of(
            options.principal_rate_limit, options.principal_rate_burst
        )
        self.is_open = not (
            auth.is_on or self.by_address or self.by_principal or options.tls_client_ca
        )

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
            given: Credentials, as `Auth.given` returns them.
            shown: Of its certificate; None without.
            request_id: For the log.

        Raises:
            Refused: The credentials do not hold, or there are none.
            ResourceExhausted: It calls too often; with the time to wait.
            Unavailable: It cannot be found out now who it is.
        """
        self.count_address(address)
        facts = {"client": address, "request_id": request_id}
        principal = await self.auth.principal(given, shown, facts)
        self.count_principal(principal)
        return principal

    def count_address(self, address: str) -> None:
        """Count a call of an address.

        Raises:
            ResourceExhausted: It is one too many; with the time to wait.
        """
        if self.by_address is not None:
            now = asyncio.get_running_loop().time()
            self.by_address.check(address_key(address), now)

    def count_principal(self, principal: Principal | None) -> None:
        """Count a call of a principal; raises as `count_address`."""
        if self.by_principal is not None:
            now = asyncio.get_running_loop().time()
            self.by_principal.check(principal_key(principal), now)

    def count(self, address: str, principal: Principal | None) -> None:
        """Count one more call in a request that was let in; raises as `count_address`."""
        self.count_address(address)
        self.count_principal(principal)


def peer_principal(transport: asyncio.BaseTransport | None) -> Principal | None:
    """Return the principal of the certificate that a client showed; None for nobody."""
    shown = transport.get_extra_info("peercert") if transport else None
    if not shown:
        return None
    names = shown.get("subjectAltName", ())
    return certificate_principal(shown.get("subject", ()), names)
