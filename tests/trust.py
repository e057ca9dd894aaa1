"""A signing key, and the trust in it, for tests."""

from __future__ import annotations

import os

from kitmsg.auth.ed25519 import SigningKey
from kitmsg.auth.signing import PrincipalSigner
from kitmsg.auth.trusted import KnownKeys
from kitmsg.auth.vouched import Trust

__all__ = ["KEY", "SIGNER", "SIGNING_KEY", "TRUST"]

KEY = SigningKey.new()
SIGNING_KEY = "env:KITMSG_TEST_SIGNING_KEY"
"""As the option of a gateway."""

os.environ["KITMSG_TEST_SIGNING_KEY"] = KEY.seed
SIGNER = PrincipalSigner(KEY)
TRUST = Trust([KnownKeys(KEY.trusted())])
