"""Secrets stay out of logs, by their key and by their shape; prose stays as it is."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import jwt
import pytest

from kitmsg.logs import ConsoleFormatter, JsonFormatter, LogfmtFormatter, Redactor
from kitmsg.logs.redact import MAX_CHARS, VEIL

SECRET = "hunter2-Xy9"
TOKEN = jwt.encode({"sub": "ann"}, "k" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    "key",
    [
        *("password", "db_password", "PASSWORD", "nats-token", "apiKey", "X-Api-Key"),
        *("Authorization", "Set-Cookie", "client_secret", "Kit-Principal"),
        *("private_key", "aws_credentials"),
    ],
)
def test_a_value_under_a_secret_key_is_veiled(key: str) -> None:
    """However the key is written."""
    assert Redactor().value(key, SECRET) == VEIL
    nested = Redactor().value("request", {"deep": [{key: SECRET}]})
    assert nested == {"deep": [{key: VEIL}]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("max_tokens", 4096), ("token", None), ("has_password", True)),
        *(("endpoint", "orders.place"), ("author", "Ann"), ("keys", 3)),
    ],
)
def test_what_is_no_secret_stays(key: str, value: Any) -> None:
    """Counts, flags, nothing, and keys that only look alike."""
    assert Redactor().value(key, value) == value


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        f"password: {SECRET}",
        f"PASSWORD = '{SECRET}'",
        f'{{"db_password": "{SECRET}", "user": "ann"}}',
        repr(json.dumps({"password": SECRET})),
        json.dumps({"body": json.dumps({"api_key": SECRET})}),
        f"GET /x?a=1&access_token={SECRET}&b=2",
        f"nats://ann:{SECRET}@bus:4222",
        f"nats://{SECRET}@bus:4222",
        f"postgresql+asyncpg://app:p@{SECRET}@db/orders failed",
        f"headers {{'Authorization': 'Basic {SECRET}', 'a': 'b'}}",
        f"Authorization: Custom {SECRET} more",
        f"Cookie: session={SECRET}; theme={SECRET}",
        f"sent Bearer {SECRET}",
        f"Kit-Principal: v1.{SECRET}",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_a_secret_in_a_text_is_veiled(text: str) -> None:
    """In messages, dumps, URLs, headers and keys; the rest of the text is still there."""
    shown = Redactor().text(text)
    assert SECRET not in shown
    assert "hunter2" not in shown
    assert VEIL in shown


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM",
        f"ghp_{'a1' * 18}",
        "xoxb-123456789012-abcdefABCDEF",
    ],
)
def test_a_token_of_a_known_shape_is_veiled(secret: str) -> None:
    """Wherever it stands, without any word before it."""
    assert Redactor().text(f"got <{secret}> here") == f"got <{VEIL}> here"


@pytest.mark.parametrize(
    "text",
    [
        *("the token is expired", "invalid token: expired", "basic functionality"),
        *("max_tokens=4096", "see https://example.com/a:b/c@d", "ssh://git@host/x"),
        *("monkey: banana", "bearer credentials are wanted", "orders.place failed"),
        "traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ],
)
def test_prose_is_not_veiled(text: str) -> None:
    """Words about secrets are no secrets."""
    assert Redactor().text(text) == text


def test_more_keys_and_patterns_are_veiled() -> None:
    """Those of the user, as fields and in texts."""
    redactor = Redactor(["iban", "Session-Id"], [r"\b\d{16}\b"])
    assert redactor.value("IBAN", "DE89") == VEIL
    assert redactor.value("session_id", "x") == VEIL
    assert redactor.text("iban=DE89 session-id: 77") == "iban=*** session-id: ***"
    assert redactor.text("card 4111111111111111 used") == "card *** used"
    with pytest.raises(ValueError, match="is no regular expression"):
        Redactor(patterns=["("])


@pytest.mark.parametrize(
    "formatter", [ConsoleFormatter(), JsonFormatter(), LogfmtFormatter()]
)
def test_no_format_shows_a_secret(formatter: logging.Formatter) -> None:
    """Neither from the message, nor arguments, fields, or the text of an exception."""
    record = logging.getLogger("x").makeRecord(
        *("x", logging.ERROR, "f.py", 1, "connect %s with %s"),
        ({"password": SECRET}, f"nats://a:{SECRET}@b"),
        None,
        extra={"token": SECRET, "config": {"db": {"passwd": SECRET}}},
    )
    try:
        try:
            raise KeyError(f"api_key={SECRET}")
        except KeyError as exc:
            raise RuntimeError(f"no login at nats://ann:{SECRET}@bus") from exc
    except RuntimeError as exc:
        record.exc_info = (RuntimeError, exc, exc.__traceback__)
    record.stack_info = f"Stack:\n  password='{SECRET}'"
    line = formatter.format(record)
    assert "hunter2" not in line
    assert "RuntimeError" in line


def test_a_long_text_is_cut_before_it_is_searched() -> None:
    """Its ends stay, and the cut shows no part of a word."""
    text = f"begin {TOKEN * 400} end"
    shown = Redactor().text(text)
    assert len(shown) <= MAX_CHARS + 100
    assert shown.startswith("begin")
    assert shown.endswith("end")
    assert "characters left out" in Redactor().text("word " * MAX_CHARS)


@pytest.mark.parametrize(
    "bait",
    [
        *("password=", "password='", 'token="', "eyJaaaaaaaaa", "://a:", "Bearer "),
        *("-----BEGIN PRIVATE KEY-----", "authorization", "cookie: ", "://a@", "\\'"),
        *('secret\\\\"', "SUA", "-eyJ", "api_key "),
    ],
)
def test_no_text_makes_the_search_long(bait: str) -> None:
    """Bait of the greatest length costs a bounded number of steps per character.

    The bound is a wide one on CPU time: a search that goes back and forth takes minutes.
    """
    text = (bait * (MAX_CHARS // len(bait)))[:MAX_CHARS]
    started = time.thread_time()
    Redactor().text(text)
    assert time.thread_time() - started < 5
