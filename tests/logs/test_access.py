"""Lines of calls in the formats of web servers."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from kitmsg.logs.access import Call, access_line

MOMENT = datetime(2026, 11, 28, 19, 35, 1, 250_000, tzinfo=UTC)
CALL = Call("127.0.0.1", "ann", "GET", "/hello/Ann", "HTTP/1.1", 200, 13, 0.0123)


def line(form: str, call: Call = CALL) -> str:
    """Return the line of a call."""
    return access_line(form, call, MOMENT, {"request_id": "7"})


def test_common_log_format() -> None:
    """As Apache and every reader of such logs has it."""
    assert line("common") == (
        '127.0.0.1 - ann [28/Nov/2026:19:35:01 +0000] "GET /hello/Ann HTTP/1.1" 200 13'
    )
    moment = MOMENT.astimezone(timezone(timedelta(hours=-7)))
    assert "[28/Nov/2026:12:35:01 -0700]" in access_line("common", CALL, moment, {})


def test_what_is_not_known_is_a_dash() -> None:
    """No address, nobody, no size."""
    call = CALL._replace(client="", user="", size=None)
    assert line("common", call).startswith("- - - [")
    assert line("common", call).endswith(" 200 -")
    assert line("combined").endswith(' 13 "-" "-"')


def test_combined_has_referer_and_agent() -> None:
    """The referer without its query, which may hold secrets."""
    call = CALL._replace(referer="http://a/b?token=1", agent="curl/8")
    assert line("combined", call) == f'{line("common")} "http://a/b" "curl/8"'


@pytest.mark.parametrize("form", ["common", "combined", "json"])
@pytest.mark.parametrize("bad", ['"', "\n", "\\", "\x1b[2J", "é", "\u2028", "\ud800"])
def test_no_client_forges_a_line(form: str, bad: str) -> None:
    """Whatever it sends, a line stays one line with as many fields."""
    text = f'x{bad} 200 5\n1.2.3.4 - - "{bad}'
    call = CALL._replace(client=text, user=text, path=text, referer=text, agent=text)
    shown = line(form, call)
    assert shown.isascii()
    assert shown.isprintable()
    if form == "json":
        assert json.loads(shown)["path"] == text
        return
    quoted = r'"(?:[^"\\]|\\.)*"'
    more = rf" {quoted} {quoted}" if form == "combined" else ""
    assert re.fullmatch(rf"\S+ - \S+ \[[^]]+\] {quoted} 200 13{more}", shown)


def test_json_has_the_facts_by_name() -> None:
    """One object for each call."""
    assert json.loads(line("json")) == {
        "ts": "2026-11-28T19:35:01.250Z",
        "client": "127.0.0.1",
        "principal": "ann",
        "method": "GET",
        "path": "/hello/Ann",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 13,
        "ms": 12.3,
        "request_id": "7",
    }
