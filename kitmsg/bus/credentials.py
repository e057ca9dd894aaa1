"""Proof of identity by nkeys: seed files, and creds files with a user JWT.

The files are read again for each connection, so that rotated credentials take effect.
Sources: NATS ADR-14 (JWT creds files), nkeys (Ed25519 seeds with a type prefix).
Needs the extra ``auth``.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from kitmsg.bus.options import NatsOptions

__all__ = ["Signer"]

_SECTION = r"-+BEGIN {name}-+\s+(\S+)\s+-+END {name}-+"
_JWT = re.compile(_SECTION.format(name="NATS USER JWT"))
_SEED = re.compile(_SECTION.format(name="USER NKEY SEED"))


class Signer:
    """Answers a server's challenge.

    Args:
        options: Names a creds file, an nkey file or an nkey seed.

    Raises:
        InvalidArgument: The file cannot be read or does not hold a seed, or the package
            nkeys is not installed.
    """

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        self.public_key: str = self._key_pair().public_key.decode()
        if options.creds:
            self.jwt()

    def sign(self, nonce: str) -> bytes:
        """Return the signature of `nonce` in base64."""
        return base64.b64encode(self._key_pair().sign(nonce.encode()))

    def jwt(self) -> bytes:
        """Return the user JWT of the creds file."""
        return _section(_JWT, _read(self._options.creds), self._options.creds).encode()

    def _key_pair(self) -> Any:
        try:
            import nkeys
        except ImportError:
            raise InvalidArgument(
                "nkeys and creds files need a package: pip install 'kitmsg[auth]'"
            ) from None
        try:
            return nkeys.from_seed(bytearray(self._seed().encode()))
        except (nkeys.NkeysError, ValueError, TypeError):
            where = self._options.creds or self._options.nkey_file or "nkey_seed"
            raise InvalidArgument(f"{where} does not hold a valid nkey seed") from None

    def _seed(self) -> str:
        options = self._options
        if options.creds:
            return _section(_SEED, _read(options.creds), options.creds)
        return (options.nkey_seed or _read(options.nkey_file)).strip()


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InvalidArgument(f"cannot read {path!r}: {reason}") from None


def _section(pattern: re.Pattern[str], text: str, path: str) -> str:
    found = pattern.search(text)
    if found is None:
        raise InvalidArgument(f"{path!r} is not a NATS creds file")
    return found[1]
