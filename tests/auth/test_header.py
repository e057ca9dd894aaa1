"""An Authorization header to a principal."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings, strategies as st

from kitmsg.auth import Principal, Refused
from kitmsg.auth.header import Authenticator, parse_authorization


class Door:
    """Takes one word."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme

    async def verify(self, credentials: str) -> Principal:
        """Take "sesame"."""
        if credentials != "sesame":
            raise Refused("the credentials are not valid", f"not {credentials}")
        return Principal("ali", self.scheme)

    def challenge(self, realm: str, *, failed: bool) -> str:
        """Name the scheme."""
        return f"{self.scheme} realm={realm} {failed}"


async def test_the_scheme_says_who_checks():
    """In any case of letters."""
    both = Authenticator([Door("Bearer"), Door("Basic")])
    assert (await both.authenticate(["bearer sesame"])).method == "Bearer"
    assert (await both.authenticate(["BASIC  sesame "])).method == "Basic"


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (["Bearer sesame", "Bearer sesame"], "more than once"),
        (["Digest sesame"], "'digest' is not taken"),
        (["Bearer sesam"], "not sesam"),
        (["Bearer"], "not a scheme"),
        (["Bearer a b"], "not a scheme"),
        ([""], "not a scheme"),
    ],
)
async def test_a_refusal_says_why_in_the_log_only(given_, reason):
    """The caller reads one sentence, whatever was wrong."""
    door = Authenticator([Door("Bearer")])
    with pytest.raises(Refused) as caught:
        await door.authenticate(given_)
    assert str(caught.value) == "the credentials are not valid"
    assert reason in caught.value.reason


async def test_a_refusal_is_logged(caplog):
    """So that an operator finds out."""
    caplog.set_level(logging.INFO, "kitmsg.auth")
    with pytest.raises(Refused):
        await Authenticator([Door("Bearer")]).authenticate(["Bearer x"])
    assert "credentials refused: not x" in caplog.text


async def test_none_at_all_is_no_failure_of_credentials():
    """It only asks for them."""
    door = Authenticator([Door("Bearer"), Door("Basic")], 'a "café"')
    with pytest.raises(Refused, match="credentials are needed") as caught:
        await door.authenticate([])
    assert door.challenges(caught.value) == [
        'Bearer realm="a ?caf??" False',
        'Basic realm="a ?caf??" False',
    ]


@settings(max_examples=500)
@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z]{1,8} [ -~]{0,40}"))
def test_any_text_is_parsed_or_refused(text):
    """Nothing else comes out; 500 inputs."""
    try:
        scheme, credentials = parse_authorization(text)
    except Refused:
        return
    assert scheme == scheme.lower()
    assert credentials
    assert " " not in credentials
