"""The principal of a client certificate, which a TLS handshake has verified."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from kitmsg.auth import Principal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["certificate_principal", "named"]

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


@lru_cache(maxsize=1024)
def certificate_principal(
    subject: tuple[tuple[tuple[str, str], ...], ...],
    names: tuple[tuple[str, Any], ...],
) -> Principal | None:
    """Return the principal of a certificate that was verified.

    Args:
        subject: As `ssl.SSLSocket.getpeercert` gives it.
        names: The alternative names, likewise.

    Returns:
        One with the subject as its name (RFC 4514), and the alternative names as the
        claim ``san``; see `named`.
    """
    name = ",".join(
        "+".join(
            f"{_SHORT.get(key, key)}={value.translate(_ESCAPED)}" for key, value in part
        )
        for part in reversed(subject)
    )
    return named(name, [f"{kind}:{value}" for kind, value in names])


def named(subject: str, names: Sequence[str]) -> Principal | None:
    """Return the principal of a certificate.

    Args:
        subject: Its subject (RFC 4514); may be empty, as that of a SPIFFE identity is.
        names: Its alternative names, such as ``URI:spiffe://shop/billing``.

    Returns:
        One with the subject as its name; without a subject the first URI, else the first
        DNS name.  None if there is no such name either: it is nobody's.
    """
    for kind in ("URI:", "DNS:"):
        if subject:
            break
        found = (each.removeprefix(kind) for each in names if each.startswith(kind))
        subject = next(found, "")
    if not subject:
        return None
    return Principal(subject, "tls", {"san": list(names)} if names else {})
