"""The line of each request."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kitmsg import Service, endpoint


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str, token: str = "") -> str:
        del token
        return f"Hello, {name}!"


@pytest.fixture
async def hello(hub, start, caplog):
    """A gateway that writes a line for each request."""
    caplog.set_level("INFO", "kitmsg_gateways.http.access")
    await hub.serve(Greeter())

    async def begin(**options):
        return await start(hub, access_log=True, **options)

    return begin


def lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """Return the records of requests."""
    return [one for one in caplog.records if one.name == "kitmsg_gateways.http.access"]


async def test_a_line_has_who_what_and_how_long(hello, caplog):
    """Its facts are fields, for people and machines alike."""
    call = await hello()
    response, _ = await call("GET", "/hello/Ann")
    (line,) = lines(caplog)
    assert line.message == "GET /hello/Ann 200"
    assert line.request_id == response.headers["X-Request-Id"]
    assert (line.client, line.route) == ("127.0.0.1", "/hello/{name}")
    assert line.bytes == len('"Hello, Ann!"')
    assert line.ms >= 0
    assert not hasattr(line, "principal")


async def test_a_refused_request_has_a_line_too(hello, caplog):
    """With the route of none."""
    call = await hello()
    await call("GET", "/nowhere/%0D%0AGET")
    (line,) = lines(caplog)
    assert line.message == "GET /nowhere/%0D%0AGET 404"
    assert line.route == "other"


async def test_behind_a_proxy_it_names_the_client(hello, caplog):
    """Not the proxy."""
    call = await hello(trusted_proxies=("127.0.0.1",))
    await call("GET", "/hello/Ann", headers={"X-Forwarded-For": "203.0.113.9"})
    assert lines(caplog)[0].client == "203.0.113.9"


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("common", r'127\.0\.0\.1 - - \[.+\] "GET /hello/Ann HTTP/1\.1" 200 13'),
        ("combined", r'127.+ 200 13 "http://a/b" "tester/1"'),
        ("json", r'\{.+"method": "GET", "path": "/hello/Ann".+"bytes": 13.+\}'),
    ],
)
async def test_a_line_is_as_web_servers_write_it(hub, start, capsys, form, pattern):
    """On standard output, and without the query."""
    await hub.serve(Greeter())
    call = await start(hub, access_log=form)
    headers = {"Referer": "http://a/b?secret=1", "User-Agent": "tester/1"}
    await call("GET", "/hello/Ann?token=x", headers=headers)
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(pattern, line)
