"""API keys, checked against a file of their digests.

A line of the file is ``name:$sha256$HEX``, or ``name:$sha256$HEX:scope scope`` for a key
that may do only some things; the command ::

    python -m kitmsg.auth.apikeys billing

makes a key and prints it with its line.  A key is 32 random bytes, so that nobody guesses
it from its digest, and a fast digest is enough.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kitmsg.auth import Principal, Refused
from kitmsg.auth.header import WRONG
from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KeyVerifier", "digest", "make_key"]

_LINE: Final = re.compile(
    r"([^:\s\x00-\x1f\x7f]{1,128}):\$sha256\$([0-9a-f]{64})(?::([\x21-\x7e ]*))?"
)
_NAME: Final = re.compile(r"[^:\s\x00-\x1f\x7f]{1,128}")
_BYTES: Final = 32
_PREFIX: Final = "kit_"  # so that scanners of sources and logs find lost keys


class KeyVerifier:
    """Takes API keys; a `kitmsg.auth.Verifier`.

    The principal's `method` is ``key``; its claim ``scope`` is that of the file.

    Args:
        path: File with one key's line each; ``#`` begins a comment.

    Raises:
        InvalidArgument: A line cannot be read; the message says which.
    """

    scheme = "ApiKey"

    def __init__(self, path: str) -> None:
        self._path = path
        self._keys = _read(path)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that were read."""
        return (self._path,)

    def reload(self) -> None:
        """Read the file again; what was read before stays when it cannot be.

        Raises:
            InvalidArgument: As when it was made.
        """
        self._keys = _read(self._path)

    async def verify(self, credentials: str) -> Principal:
        """Return whose key it is; see `kitmsg.auth.Verifier`."""
        found = self._keys.get(digest(credentials))
        if found is None:
            raise Refused(WRONG, "no such API key")
        return found

    def challenge(self, realm: str, *, failed: bool) -> str:
        """Return the value of ``WWW-Authenticate``; see `kitmsg.auth.Verifier`."""
        del failed
        return f"ApiKey realm={realm}"


def make_key() -> str:
    """Return a new key."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def digest(key: str) -> str:
    """Return the digest of a key, as the file has it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _read(path: str) -> dict[str, Principal]:
    """Return the owners of keys, by the digest of the key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidArgument(f"cannot read the API keys in {path}: {exc}") from exc
    keys: dict[str, Principal] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None or found[2] in keys:
            what = "the key is there twice" if found else "this is no name:$sha256$HEX"
            raise InvalidArgument(
                f"{path}, line {number}: {what}; python -m kitmsg.auth.apikeys NAME"
                " makes one"
            )
        scope = (found[3] or "").strip()
        keys[found[2]] = Principal(found[1], "key", {"scope": scope} if scope else {})
    if not keys:
        raise InvalidArgument(f"there is no API key in {path}")
    return keys


def main(argv: Sequence[str]) -> int:
    """Print a new key and the line for it; returns the exit code."""
    if not argv or not _NAME.fullmatch(argv[0]):
        print("usage: python -m kitmsg.auth.apikeys NAME [SCOPE...]", file=sys.stderr)  # noqa: T201
        return 2
    key, scopes = make_key(), " ".join(argv[1:])
    print(f"key, shown once: {key}", file=sys.stderr)  # noqa: T201  # a command's own word
    end = f":{scopes}" if scopes else ""
    print(f"{argv[0]}:$sha256${digest(key)}{end}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
