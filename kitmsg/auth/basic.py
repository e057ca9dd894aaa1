"""User names and passwords, checked against a file of hashes.  Source: RFC 7617.

A line of the file is ``user:$scrypt$ln=14,r=8,p=1$SALT$HASH``; the command ::

    python -m kitmsg.auth.basic ann

asks for the password and prints it.  A hash takes some 50 ms of a processor on purpose, so
it is computed in a thread, a few at once, and a password that held is remembered as a keyed
digest: as long as it is used, and the user's line stays.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kitmsg.auth import Principal, Refused
from kitmsg.auth.header import WRONG
from kitmsg.auth.recent import Recent
from kitmsg.auth.turns import Turns
from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BasicVerifier", "Hash", "make_hash"]

_HASH: Final = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)
_USER: Final = re.compile(r"[^:\x00-\x1f\x7f]{1,128}")
_MAX_MEMORY: Final = 256 << 20
_REMEMBER_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Hash:
    """A password's hash.

    Attributes:
        ln: Base-2 logarithm of the work.
        r: Block size.
        p: How many times the work is done.
        salt: Random bytes.
        digest: What comes out.
    """

    ln: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Hash:
        """Return the hash that is written as ``$scrypt$ln=14,r=8,p=1$SALT$HASH``.

        Raises:
            ValueError: It is none, or would need more than 256 MB.
        """
        found = _HASH.fullmatch(text)
        if found is None:
            raise ValueError(
                "this is no scrypt hash; python -m kitmsg.auth.basic NAME makes one"
            )
        ln, r, p = (int(found[index]) for index in (1, 2, 3))
        if not (ln and r and p) or (128 * r << ln) > _MAX_MEMORY // 2:
            raise ValueError("the hash would take too much memory")
        return cls(ln, r, p, _unpadded(found[4]), _unpadded(found[5]))

    def holds(self, password: bytes) -> bool:
        """Tell whether it is the hash of `password`; the time says nothing about it."""
        return hmac.compare_digest(self._digest(password), self.digest)

    def _digest(self, password: bytes) -> bytes:
        return hashlib.scrypt(
            password,
            salt=self.salt,
            n=1 << self.ln,
            r=self.r,
            p=self.p,
            maxmem=_MAX_MEMORY,
            dklen=len(self.digest),
        )


def make_hash(password: str) -> str:
    """Return the line's second half for a password, with a salt of its own."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(
        password.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=32, maxmem=_MAX_MEMORY
    )
    first, second = (
        base64.b64encode(part).rstrip(b"=").decode() for part in (salt, digest)
    )
    return f"$scrypt$ln=14,r=8,p=1${first}${second}"


class BasicVerifier:
    """Takes user names and passwords; a `kitmsg.auth.Verifier`.

    Args:
        path: File with one ``user:hash`` a line; ``#`` begins a comment.

    Raises:
        InvalidArgument: A line cannot be read; the message says which.
    """

    scheme = "Basic"

    def __init__(self, path: str) -> None:
        self._path = path
        self._users = _read(path)
        self._key = secrets.token_bytes(32)
        # Hashes that a name and password held against, by their keyed digest.
        self._held: Recent[bytes, Hash] = Recent()
        self._turns = Turns()

    @property
    def files(self) -> tuple[str, ...]:
        """The files that were read."""
        return (self._path,)

    def reload(self) -> None:
        """Read the file again; what was read before stays when it cannot be.

        Raises:
            InvalidArgument: As when it was made.
        """
        self._users = _read(self._path)

    async def verify(self, credentials: str) -> Principal:
        """Return whose name and password these are; see `kitmsg.auth.Verifier`."""
        return await self.verify_from(credentials, "")

    async def verify_from(self, credentials: str, client: str) -> Principal:
        """Return whose they are; see `kitmsg.auth.GuessVerifier`."""
        user, password = _split(credentials)
        known = self._users.get(user)
        mark = hmac.digest(self._key, user.encode() + b"\0" + password, "sha256")
        if known is None or self._held.get(mark) != known:
            # Who is not there takes as long as who is.
            decoy = next(iter(self._users.values()))
            async with self._turns.turn(client, user):
                holds = await asyncio.to_thread((known or decoy).holds, password)
            if not holds or known is None:
                self._turns.failed(client, user)
                raise Refused(WRONG, f"no such user and password: {user!r}")
            self._turns.held(client, user)
        if self._users.get(user) == known:  # not reloaded meanwhile
            self._held.put(mark, known, _REMEMBER_SECONDS)
        return Principal(user, "basic")

    def challenge(self, realm: str, *, failed: bool) -> str:
        """Return the value of ``WWW-Authenticate``; see `kitmsg.auth.Verifier`."""
        del failed
        return f'Basic realm={realm}, charset="UTF-8"'


def _split(credentials: str) -> tuple[str, bytes]:
    try:
        data = base64.b64decode(credentials, validate=True)
        name, colon, password = data.partition(b":")
        user = name.decode()
    except (binascii.Error, ValueError):
        raise Refused(WRONG, "not base64 of name:password") from None
    if not colon or not _USER.fullmatch(user):
        raise Refused(WRONG, "not base64 of name:password")
    return user, password


def _read(path: str) -> dict[str, Hash]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidArgument(f"cannot read the passwords in {path}: {exc}") from exc
    users: dict[str, Hash] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, written = line.strip().partition(":")
        try:
            if not _USER.fullmatch(user) or user in users:
                raise ValueError("the user's name is missing, or there twice")  # noqa: TRY301
            users[user] = Hash.parse(written)
        except ValueError as exc:
            raise InvalidArgument(f"{path}, line {number}: {exc}") from exc
    if not users:
        raise InvalidArgument(f"there is no user in {path}")
    return users


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def main(argv: Sequence[str]) -> int:
    """Ask for a password and print its line; returns the exit code."""
    import getpass

    if len(argv) != 1 or not _USER.fullmatch(argv[0]):
        print("usage: python -m kitmsg.auth.basic NAME", file=sys.stderr)  # noqa: T201
        return 2
    is_typed = sys.stdin.isatty()
    password = getpass.getpass() if is_typed else sys.stdin.readline().rstrip("\n")
    print(f"{argv[0]}:{make_hash(password)}")  # noqa: T201  # a command's own word
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
