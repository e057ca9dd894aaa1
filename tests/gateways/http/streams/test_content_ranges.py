"""Results that are bytes: whole, in part, and only if they have not changed."""

from __future__ import annotations

import pytest

from kitmsg_gateways.http.streams.formats import OCTETS

WHOLE = b"ab" * 10
PATH = "/whole/ab"


async def test_get_gives_the_bytes_themselves(read):
    """With a tag, and the word that parts can be had."""
    response, body = await read("GET", PATH)
    assert response.status == 200
    assert body == WHOLE
    assert response.headers["Content-Type"] == OCTETS
    assert response.headers["Accept-Ranges"] == "bytes"
    assert "Accept" in response.headers["Vary"].split(", ")
    assert response.headers["ETag"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_who_asks_for_json_gets_json(read):
    """In base64, as bytes are in JSON; and POST gives that unless asked otherwise."""
    as_json = b'"YWJhYmFiYWJhYmFiYWJhYmFiYWI="'
    _, body = await read("GET", PATH, headers={"Accept": "application/json"})
    assert body == as_json
    _, body = await read("POST", "/feed/whole", json={"name": "ab"})
    assert body == as_json
    asked = {"Accept": OCTETS}
    _, body = await read("POST", "/feed/whole", json={"name": "ab"}, headers=asked)
    assert body == WHOLE


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=3-9", 3, 9),
        ("bytes=15-", 15, 19),
        ("bytes=15-99", 15, 19),
        ("bytes=-5", 15, 19),
        ("bytes=-99", 0, 19),
        ("Bytes = 1 - 2", 1, 2),
    ],
)
async def test_a_part(read, asked, first, last):
    """It says which part of how much it is."""
    response, body = await read("GET", PATH, headers={"Range": asked})
    assert response.status == 206
    assert body == WHOLE[first : last + 1]
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/20"


@pytest.mark.parametrize(
    "asked", ["bytes=20-", "bytes=99-", "bytes=99-100", "bytes=-0"]
)
async def test_a_part_that_is_not_there(call, asked):
    """416 says how much there is."""
    response, problem = await call("GET", PATH, headers={"Range": asked})
    assert response.status == 416
    assert response.headers["Content-Range"] == "bytes */20"
    assert problem["field"] == "Range"


@pytest.mark.parametrize(
    "asked", ["bytes=5-3", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "x", "bytes=a-b"]
)
async def test_what_is_no_single_range_gives_all_of_it(read, asked):
    """As the standard allows."""
    response, body = await read("GET", PATH, headers={"Range": asked})
    assert (response.status, body) == (200, WHOLE)


async def test_a_part_of_the_same_file_only(read):
    """``If-Range`` with another tag gets the new file, whole."""
    response, _ = await read("GET", PATH)
    same = {"Range": "bytes=2-3", "If-Range": response.headers["ETag"]}
    assert (await read("GET", PATH, headers=same))[1] == WHOLE[2:4]
    for other in ('"other"', "Wed, 21 Oct 2015 07:28:00 GMT"):
        headers = {"Range": "bytes=2-3", "If-Range": other}
        assert (await read("GET", PATH, headers=headers))[1] == WHOLE


async def test_an_unchanged_file_is_not_sent_again(read):
    """304 for the client that shows its tag."""
    response, _ = await read("GET", PATH)
    shown = {"If-None-Match": response.headers["ETag"]}
    response, body = await read("GET", PATH, headers=shown)
    assert (response.status, body) == (304, b"")


async def test_head_tells_the_length(read):
    """And that parts can be had; a range of nothing is none."""
    response, body = await read("HEAD", PATH, headers={"Range": "bytes=0-1"})
    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Length"] == "20"
    assert response.headers["Accept-Ranges"] == "bytes"
