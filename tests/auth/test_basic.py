"""User names and passwords."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys

import pytest

from kitmsg.auth import Refused
from kitmsg.auth.basic import BasicVerifier, Hash, make_hash
from kitmsg.errors import InvalidArgument, ResourceExhausted

CHEAP = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0$"


def cheap(password: str) -> str:
    """Return a hash that takes no time."""
    template = Hash.parse(CHEAP + "A" * 22)
    digest = base64.b64encode(template._digest(password.encode())).rstrip(b"=")
    return CHEAP + digest.decode()


def sent(user: str, password: str) -> str:
    """Return what a client sends."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def worked(monkeypatch):
    """A list that grows with each hash that is computed."""
    found, digest = [], Hash._digest

    def count(self, password):
        found.append(password)
        return digest(self, password)

    monkeypatch.setattr(Hash, "_digest", count)
    return found


@pytest.fixture
def users(keep):
    """A file with Ann and Bob."""
    return keep(f"# who may\nann:{cheap('open: sesame')}\n\nbob:{cheap('pässword')}\n")


async def test_name_and_password(users):
    """A password may hold colons, and any letters."""
    verifier = BasicVerifier(users)
    principal = await verifier.verify(sent("ann", "open: sesame"))
    assert (principal.name, principal.method) == ("ann", "basic")
    assert (await verifier.verify(sent("bob", "pässword"))).name == "bob"


@pytest.mark.parametrize(
    "credentials",
    [
        sent("ann", "sesame"),
        sent("ann", ""),
        sent("bob", "open: sesame"),
        sent("eve", "open: sesame"),
        sent("", "open: sesame"),
        sent("ann\n", "x"),
        base64.b64encode(b"ann").decode(),
        base64.b64encode(b"\xff\xfe:x").decode(),
        "no base64!",
        "",
    ],
)
async def test_what_is_wrong_is_refused(users, credentials):
    """All in the same words."""
    with pytest.raises(Refused, match="the credentials are not valid"):
        await BasicVerifier(users).verify(credentials)


async def test_nobody_costs_what_somebody_costs(users, worked):
    """Whether a user exists does not show in the time."""
    verifier = BasicVerifier(users)
    for user in ("ann", "eve"):
        worked.clear()
        with pytest.raises(Refused):
            await verifier.verify(sent(user, "wrong"))
        assert len(worked) == 1


async def test_a_password_that_held_is_remembered(users, worked):
    """Not computed for each request; a wrong one is, each time."""
    verifier = BasicVerifier(users)
    worked.clear()
    for _ in range(3):
        await verifier.verify(sent("ann", "open: sesame"))
    assert len(worked) == 1
    for _ in range(3):
        with pytest.raises(Refused):
            await verifier.verify(sent("ann", "wrong"))
    assert len(worked) == 4


async def test_a_new_file_counts_at_once(users, keep):
    """What was remembered is forgotten; a broken file changes nothing."""
    verifier = BasicVerifier(users)
    await verifier.verify(sent("ann", "open: sesame"))
    keep("ann")
    with pytest.raises(InvalidArgument, match="line 1"):
        verifier.reload()
    await verifier.verify(sent("ann", "open: sesame"))
    keep(f"ann:{cheap('another')}")
    verifier.reload()
    with pytest.raises(Refused):
        await verifier.verify(sent("ann", "open: sesame"))
    await verifier.verify(sent("ann", "another"))


async def test_a_flood_of_passwords_is_bounded(users):
    """The processor is there for others too."""
    verifier = BasicVerifier(users)
    tries = (verifier.verify(sent("eve", str(number))) for number in range(100))
    failed = await asyncio.gather(*tries, return_exceptions=True)
    refused = [one for one in failed if isinstance(one, Refused)]
    full = [one for one in failed if isinstance(one, ResourceExhausted)]
    assert (len(refused), len(full)) == (32, 68)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ann", "no scrypt hash"),
        ("ann:secret", "no scrypt hash"),
        ("ann:$2y$05$abcdefghijklmnopqrstuv", "no scrypt hash"),
        (f":{CHEAP}{'A' * 22}", "name is missing"),
        (f"x:{CHEAP}{'A' * 22}\nx:{CHEAP}{'A' * 22}", "line 2: .* there twice"),
        (f"x:{CHEAP.replace('ln=4', 'ln=24')}{'A' * 22}", "too much memory"),
        (f"x:{CHEAP.replace('r=8', 'r=0')}{'A' * 22}", "too much memory"),
        ("# nobody", "no user"),
    ],
)
def test_a_wrong_line_is_said(line, said, keep):
    """With its number, at the start."""
    with pytest.raises(InvalidArgument, match=said):
        BasicVerifier(keep(line))


def test_the_command_makes_a_line(keep):
    """Which the file takes."""
    done = subprocess.run(
        [sys.executable, "-m", "kitmsg.auth.basic", "ann"],
        input="sesame\n",
        capture_output=True,
        text=True,
        check=True,
    )
    user, _, written = done.stdout.strip().partition(":")
    assert user == "ann"
    assert Hash.parse(written).holds(b"sesame")
    assert not Hash.parse(written).holds(b"sesamo")
    assert make_hash("sesame") != make_hash("sesame")


async def test_a_flood_from_elsewhere_keeps_nobody_out(users):
    """Each address has its own queue."""
    verifier = BasicVerifier(users)
    tries = [
        verifier.verify_from(sent(f"eve{n}", "guess"), f"10.0.0.{n % 8}")
        for n in range(400)
    ]
    flood = [asyncio.create_task(each) for each in tries]
    await asyncio.sleep(0)
    principal = await verifier.verify_from(sent("ann", "open: sesame"), "10.9.9.9")
    assert principal.name == "ann"
    assert not all(each.done() for each in flood)
    await asyncio.gather(*flood, return_exceptions=True)


async def test_who_is_known_gets_in_from_the_same_address(users):
    """A guesser behind the same router holds up none who has been here before."""
    verifier = BasicVerifier(users)
    await verifier.verify_from(sent("ann", "open: sesame"), "10.0.0.1")
    for number in range(20):
        with pytest.raises((Refused, ResourceExhausted)):
            await verifier.verify_from(sent("ann", str(number)), "10.0.0.1")
    assert (await verifier.verify_from(sent("ann", "open: sesame"), "10.0.0.1")).name


async def test_a_new_line_for_one_user_forgets_no_other(users, keep, worked):
    """A change of the file makes no wave of hashes."""
    verifier = BasicVerifier(users)
    await verifier.verify(sent("ann", "open: sesame"))
    keep(f"ann:{cheap('open: sesame')}\nbob:{cheap('another')}\n")
    verifier.reload()
    worked.clear()
    await verifier.verify(sent("ann", "open: sesame"))
    assert worked == []
