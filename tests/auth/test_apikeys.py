"""API keys in a file of digests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kitmsg.auth import Refused
from kitmsg.auth.apikeys import KeyVerifier, digest, make_key
from kitmsg.errors import InvalidArgument


async def test_a_key_is_its_owner(keep):
    """With the scopes that its line gives it."""
    plain, narrow = make_key(), make_key()
    verifier = KeyVerifier(
        keep(
            f"# machines\nbilling:$sha256${digest(plain)}\n"
            f"audit:$sha256${digest(narrow)}:orders:read users:read\n"
        )
    )
    found = await verifier.verify(plain)
    assert (found.name, found.method, found.claims) == ("billing", "key", {})
    assert (await verifier.verify(narrow)).claims == {"scope": "orders:read users:read"}


@pytest.mark.parametrize(
    "key", ["", "kit_", "billing", "$sha256$" + "0" * 64, "0" * 64]
)
async def test_what_is_no_key_is_refused(keep, key):
    """A digest is none either: the file alone lets nobody in."""
    verifier = KeyVerifier(keep(f"billing:$sha256${digest(make_key())}"))
    with pytest.raises(Refused, match="not valid"):
        await verifier.verify(key)


async def test_a_key_that_is_taken_out_ends_at_once(keep):
    """A broken file changes nothing."""
    old, new = make_key(), make_key()
    verifier = KeyVerifier(keep(f"billing:$sha256${digest(old)}"))
    keep("billing:secret")
    with pytest.raises(InvalidArgument, match="line 1"):
        verifier.reload()
    assert (await verifier.verify(old)).name == "billing"
    keep(f"billing:$sha256${digest(new)}")
    verifier.reload()
    assert (await verifier.verify(new)).name == "billing"
    with pytest.raises(Refused):
        await verifier.verify(old)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("billing", "line 1: this is no name"),
        (f"billing:$sha256${'0' * 63}", "line 1"),
        (f":$sha256${'0' * 64}", "line 1"),
        (
            f"a:$sha256${'0' * 64}\nb:$sha256${'0' * 64}",
            "line 2: the key is there twice",
        ),
        ("# none", "no API key"),
    ],
)
def test_a_wrong_line_is_said(keep, text, said):
    """With its number, at the start."""
    with pytest.raises(InvalidArgument, match=said):
        KeyVerifier(keep(text))


async def test_the_command_makes_a_key_and_its_line(keep):
    """The line on standard output, for the file; the key beside it."""
    command = [sys.executable, "-m", "kitmsg.auth.apikeys", "billing", "orders:read"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    key = done.stderr.strip().rpartition(" ")[2]
    found = await KeyVerifier(keep(done.stdout)).verify(key)
    assert (found.name, found.claims) == ("billing", {"scope": "orders:read"})
