"""As whom a request comes: bearer token, password, or client certificate.

A refusal is 401 and says how to ask again (RFC 9110, section 11; RFC 6750 for tokens),
not what was wrong: that stands in the gateway's log.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from kitmsg.auth import Principal, Refused
from kitmsg.errors import Code
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.visit import PROBES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.auth.header import Authenticator
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Auth", "certificate_principal", "client_certificate"]

_UNAUTHORIZED: Final = 401
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
    """Lets in who shows credentials that hold; a `kitmsg_gateways.http.visit.Filter`.

    Args:
        authenticator: Checks them.
        public: Paths that need none; one that ends in ``*`` stands for all that begin so.
        certificate_suffices: Whether a client certificate does instead.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        public: Sequence[str] = (),
        *,
        certificate_suffices: bool = False,
    ) -> None:
        self._authenticator = authenticator
        self._public = PROBES.union(path for path in public if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in public if path.endswith("*"))
        self._certificate_suffices = certificate_suffices

    async def __call__(self, visit: Visit) -> None:
        """Note who asks.

        Raises:
            Problem: 401: nobody knows.
            Unavailable: It cannot be found out now.
        """
        if visit.path in self._public or visit.path.startswith(self._prefixes):
            return
        given = visit.request.headers.getall("Authorization", [])
        if not given and self._certificate_suffices and visit.principal is not None:
            return
        try:
            visit.principal = await self._authenticator.authenticate(
                given, {"client": visit.address, "request_id": visit.id}
            )
        except Refused as exc:
            challenges = self._authenticator.challenges(exc)
            raise Problem(
                _UNAUTHORIZED,
                Code.UNAUTHENTICATED,
                str(exc),
                headers={"WWW-Authenticate": ", ".join(challenges)},
            ) from None


async def client_certificate(visit: Visit) -> None:
    """Note whose certificate the client showed; a `kitmsg_gateways.http.visit.Filter`."""
    transport = visit.request.transport
    shown = transport.get_extra_info("peercert") if transport else None
    if shown:
        names = shown.get("subjectAltName", ())
        visit.principal = certificate_principal(shown.get("subject", ()), names)


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
