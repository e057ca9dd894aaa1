"""As whom a request comes; what the credentials are worth `kitmsg_gateways.edge.auth` says.

A refusal is 401 and says how to ask again (RFC 9110, section 11; RFC 6750 for tokens),
not what was wrong: that stands in the gateway's log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.auth import Refused
from kitmsg.errors import Code
from kitmsg_gateways.edge.auth import peer_principal
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.visit import PROBES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg_gateways import edge
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Auth", "client_certificate"]

_UNAUTHORIZED: Final = 401


class Auth:
    """Lets in who shows credentials that hold; a `kitmsg_gateways.http.visit.Filter`.

    Args:
        auth: Checks them.
        public: Paths that need none; one that ends in ``*`` stands for all that begin so.
    """

    def __init__(self, auth: edge.auth.Auth, public: Sequence[str] = ()) -> None:
        self._auth = auth
        self._public = PROBES.union(path for path in public if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in public if path.endswith("*"))

    async def __call__(self, visit: Visit) -> None:
        """Note who asks.

        Raises:
            Problem: 401: nobody knows.
            Unavailable: It cannot be found out now.
        """
        if visit.path in self._public or visit.path.startswith(self._prefixes):
            return
        given = visit.request.headers.getall("Authorization", [])
        facts = {"client": visit.address, "request_id": visit.id}
        try:
            visit.principal = await self._auth.principal(given, visit.principal, facts)
        except Refused as exc:
            raise Problem(
                _UNAUTHORIZED,
                Code.UNAUTHENTICATED,
                str(exc),
                headers={"WWW-Authenticate": ", ".join(self._auth.challenges(exc))},
            ) from None


async def client_certificate(visit: Visit) -> None:
    """Note whose certificate the client showed; a `kitmsg_gateways.http.visit.Filter`."""
    visit.principal = peer_principal(visit.request.transport) or visit.principal
