"""Bodies with gzip, both ways."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from kitmsg import Service, endpoint
from kitmsg.errors import InvalidArgument
from kitmsg_gateways.http.body import inflate
from kitmsg_gateways.http.content import accepts_gzip

if TYPE_CHECKING:
    import aiohttp

    from tests.gateways.http.conftest import Outside


class Long(Service):
    """Says as much as it is asked to."""

    @endpoint(http="GET /long/{size}", cache=60)
    async def say(self, size: int) -> str:
        return "a" * size

    @endpoint
    async def count(self, text: str) -> int:
        return len(text)

    @endpoint
    async def blob(self, size: int) -> bytes:
        return bytes(size)


@pytest.fixture
async def call(hub, start):
    """A client that leaves bodies as they are, of a gateway in front of `Long`."""
    await hub.serve(Long())
    call = await start(hub)
    call.session._auto_decompress = False
    return call


async def get(
    call: Outside, path: str, *, method: str = "GET", accept: str = "gzip", **more: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    """Return the response and its body as it came."""
    headers = {"Accept-Encoding": accept, **more}
    async with call.session.request(method, path, headers=headers) as response:
        return response, await response.read()


@pytest.mark.parametrize("size", [2000, 300_000])
async def test_a_long_answer_is_compressed_for_who_takes_it(call, size):
    """With the word in the headers, and not for others; HEAD says the same."""
    response, body = await get(call, f"/long/{size}")
    assert response.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in response.headers["Vary"]
    assert json.loads(gzip.decompress(body)) == "a" * size
    length = response.headers["Content-Length"]
    response, _ = await get(call, f"/long/{size}", method="HEAD")
    assert response.headers["Content-Length"] == length
    response, body = await get(call, f"/long/{size}", accept="identity")
    assert "Content-Encoding" not in response.headers
    assert "Accept-Encoding" in response.headers["Vary"]
    assert json.loads(body) == "a" * size


async def test_a_short_answer_stays_as_it_is(call):
    """Below the bound it would grow, or save nothing."""
    response, body = await get(call, "/long/100")
    assert "Content-Encoding" not in response.headers
    assert json.loads(body) == "a" * 100


async def test_compressing_can_be_switched_off(hub, start):
    """By the option."""
    await hub.serve(Long())
    call = await start(hub, compress_from_bytes=0)
    response, _ = await get(call, "/long/5000")
    assert "Content-Encoding" not in response.headers


async def test_the_tag_of_a_compressed_answer_is_weak_and_is_known_again(call):
    """Both forms mean the same; whichever tag is shown, it did not change."""
    packed, _ = await get(call, "/long/5000")
    plain, _ = await get(call, "/long/5000", accept="")
    assert packed.headers["ETag"] == f"W/{plain.headers['ETag']}"
    for tag in (packed.headers["ETag"], plain.headers["ETag"]):
        again, _ = await get(call, "/long/5000", **{"If-None-Match": tag})
        assert again.status == 304


async def test_pages_are_compressed_too(call):
    """The docs page and the OpenAPI document are the longest of all."""
    for path in ("/docs", "/openapi.json"):
        response, body = await get(call, path)
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body)


async def test_a_compressed_request_is_read(call):
    """As if it had come without."""
    data = gzip.compress(b'{"text":"' + b"a" * 5000 + b'"}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    _, body = await call("POST", "/long/count", data=data, headers=headers)
    assert body == 5000


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd", "x"])
async def test_another_coding_is_415(call, coding):
    """And it is said which one is taken."""
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    response, body = await call("POST", "/long/count", data=b"x", headers=headers)
    assert response.status == 415
    assert response.headers["Accept-Encoding"] == "gzip"
    assert body["field"] == "Content-Encoding"


async def test_a_bomb_is_refused_before_it_goes_off(call):
    """What comes out of a body has the same bound as what comes in."""
    bomb = gzip.compress(bytes(200_000_000), 9)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    response, body = await call("POST", "/long/count", data=bomb, headers=headers)
    assert response.status == 413
    assert "longer than" in body["detail"]


@pytest.mark.parametrize(
    "data",
    [b"{}", b"\x1f\x8b", gzip.compress(b"{}", mtime=0)[:-1], zlib.compress(b"{}"), b""],
)
async def test_what_is_no_gzip_is_refused(call, data):
    """A body cut short too."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    response, body = await call("POST", "/long/count", data=data, headers=headers)
    assert response.status == 400
    if data:
        assert body["field"] == "Content-Encoding"


async def test_many_members_cost_no_more_than_they_bring():
    """A body of thousands of empty files is refused, not worked through."""
    with pytest.raises(InvalidArgument):
        await inflate(gzip.compress(b"") * 5000, ["gzip"], 1 << 20)
    assert await inflate(gzip.compress(b"a") * 3, ["gzip"], 3) == b"aaa"
    assert await inflate(gzip.compress(b"a") * 3, ["gzip"], 2) is None


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 2000))
async def test_inflating_gives_back_or_says_too_long(data, limit):
    """Whatever the bytes and the bound."""
    found = await inflate(gzip.compress(data), ["gzip"], limit)
    assert found == (data if len(data) <= limit else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5, br", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("identity;q=1, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=1.0", True),
        ("x-gzip", True),
        ("gzip;q=2", False),
        ("gzip;level=9", False),
        ("br", False),
        (",,gzip,", True),
    ],
)
def test_the_weights_of_accept_encoding_count(text, expected):
    """As RFC 9110 wants; what cannot be read is left out."""
    assert accepts_gzip(text) is expected


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=200))
def test_no_accept_encoding_breaks_it(text):
    """Any text has an answer."""
    assert accepts_gzip(text) in (True, False)
