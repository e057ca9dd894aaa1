"""An ``Authorization`` header to a principal.  Source: RFC 9110, section 11."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from kitmsg.auth import GuessVerifier, Refused
from kitmsg.wire import AUTHORIZATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.auth import Principal, Verifier

__all__ = ["Authenticator", "parse_authorization"]

_log = logging.getLogger("kitmsg.auth")

# A scheme, spaces, token68; nothing else is used by the schemes there are here.
_VALUE: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,31}) +([A-Za-z0-9._~+/-]+=*) *")
_NOT_PLAIN: Final = re.compile(r'[^\x20-\x7e]|["\\]')
WRONG: Final = "the credentials are not valid"


def parse_authorization(value: str) -> tuple[str, str]:
    """Return the scheme, in lower case, and the credentials of an ``Authorization``.

    Raises:
        Refused: It is not a scheme and its credentials.
    """
    found = _VALUE.fullmatch(value)
    if found is None:
        raise Refused(WRONG, f"{AUTHORIZATION} is not a scheme and its credentials")
    return found[1].lower(), found[2]


class Authenticator:
    """Authenticates a request by its ``Authorization`` header.

    Args:
        verifiers: One for each scheme that is taken; what is asked for first comes first.
        realm: What the credentials are for, as a browser shows it.
    """

    def __init__(self, verifiers: Sequence[Verifier], realm: str = "services") -> None:
        self._verifiers = {one.scheme.lower(): one for one in verifiers}
        self._guessed = {
            one.scheme.lower(): one.verify_from
            for one in verifiers
            if isinstance(one, GuessVerifier)
        }
        self._realm = f'"{_NOT_PLAIN.sub("?", realm)}"'

    async def authenticate(
        self,
        given: Sequence[str],
        facts: Mapping[str, object] | None = None,
        client: str = "",
    ) -> Principal:
        """Return who asks.

        Args:
            given: The values of ``Authorization`` in the request.
            facts: What the log of a refusal says beside the reason, such as who asks.
            client: Who asks, for verifiers that bound guesses, such as an address.

        Raises:
            Refused: There is not exactly one, or it does not hold.
            Unavailable: It cannot be found out now.
        """
        if not given:
            raise Refused("credentials are needed; send them in Authorization")
        if len(given) > 1:
            raise Refused(WRONG, f"{AUTHORIZATION} came more than once")
        scheme, credentials = parse_authorization(given[0])
        verifier = self._verifiers.get(scheme)
        if verifier is None:
            raise Refused(WRONG, f"scheme {scheme!r} is not taken")
        try:
            check = self._guessed.get(scheme)
            if check is not None:
                return await check(credentials, client)
            return await verifier.verify(credentials)
        except Refused as exc:
            _log.info("credentials refused: %s", exc.reason, extra=facts)
            raise

    def challenges(self, refused: Refused) -> list[str]:
        """Return the values of ``WWW-Authenticate`` that answer a refusal."""
        return [
            one.challenge(self._realm, failed=bool(refused.reason))
            for one in self._verifiers.values()
        ]
