"""Answers that clients may keep, and ask again whether they changed."""

from __future__ import annotations

from typing import Annotated

import pytest
from multidict import CIMultiDict

from kitmsg import Service, endpoint
from kitmsg.errors import NotFound
from kitmsg.schema import header
from kitmsg_gateways.http.content import _matches, tag_of


class Shelf(Service):
    """Holds books that seldom change."""

    def __init__(self) -> None:
        self.title = "Emma"

    @endpoint(http="GET /books/{id}", cache=60)
    async def book(self, id: int) -> str:  # noqa: A002
        if id == 0:
            raise NotFound("no such book")
        return self.title

    @endpoint(http="GET /mine", cache=0)
    async def mine(self, who: Annotated[str, header("X-Reader")] = "") -> str:
        return who

    @endpoint(http="GET /now")
    async def now(self) -> str:
        return "now"

    @endpoint(http="GET /nothing", cache=60)
    async def nothing(self) -> None:
        return None


@pytest.fixture
async def shelf(hub):
    """A shelf on the bus."""
    shelf = Shelf()
    await hub.serve(shelf)
    return shelf


async def test_an_answer_says_how_long_it_keeps(hub, shelf, start):
    """Time and tag where the endpoint declares them, and only there."""
    call = await start(hub)
    response, _ = await call("GET", "/books/1")
    assert response.headers["Cache-Control"] == "max-age=60"
    assert response.headers["ETag"] == tag_of(b'"Emma"')
    assert "Content-Type" in response.headers["Vary"]
    response, _ = await call("GET", "/mine")
    assert response.headers["Cache-Control"] == "no-cache"
    assert "X-Reader" in response.headers["Vary"]
    for method, path in (("GET", "/now"), ("POST", "/shelf/book"), ("GET", "/books/0")):
        response, _ = await call(
            method, path, json={"id": 1} if "POST" in method else None
        )
        assert response.headers["Cache-Control"] == "no-store"
        assert "ETag" not in response.headers


async def test_what_did_not_change_is_not_sent_again(hub, shelf, start):
    """A client that shows the tag gets 304 without a body, until it changes."""
    call = await start(hub)
    response, _ = await call("GET", "/books/1")
    headers = {"If-None-Match": f'"other", W/{response.headers["ETag"]}'}
    for method in ("GET", "HEAD"):
        again, body = await call(method, "/books/1", headers=headers)
        assert (again.status, body) == (304, b"")
        assert again.headers["ETag"] == response.headers["ETag"]
        assert again.headers["Cache-Control"] == "max-age=60"
        assert not {"Content-Type", "Content-Length"} & {*again.headers}
    shelf.title = "Persuasion"
    again, body = await call("GET", "/books/1", headers=headers)
    assert (again.status, body) == (200, "Persuasion")


async def test_the_connection_goes_on_after_304(hub, shelf, start):
    """It has no body, and the next request on the connection is answered."""
    call = await start(hub)
    tag = tag_of(b'"Emma"').encode()
    one = b"GET /books/1 HTTP/1.1\r\nHost: x\r\nIf-None-Match: " + tag + b"\r\n\r\n"
    two = b"GET /books/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reply = await call.raw(one + two)
    assert reply.startswith(b"HTTP/1.1 304 ")
    head, _, rest = reply.partition(b"\r\n\r\n")
    assert b"content-length" not in head.lower()
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert rest.endswith(b'\r\n\r\n"Emma"')


async def test_what_is_for_one_caller_is_not_shared(hub, shelf, start):
    """With credentials the answer is private."""
    call = await start(hub)
    response, _ = await call("GET", "/books/1", headers={"Authorization": "Bearer t"})
    assert response.headers["Cache-Control"] == "private, max-age=60"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], False),
        (["*"], True),
        (['"a"'], True),
        (['W/"a"'], True),
        (['"b", "a"'], True),
        (['"b"', '"a"'], True),
        (["a"], False),
        (['"b"'], False),
        (['"a'], False),
        ([""], False),
        (['"a,"b"'], False),
    ],
)
def test_tags_are_compared_weakly(given, expected):
    """As RFC 9110 wants for If-None-Match; what is no tag matches nothing."""
    headers = CIMultiDict([("If-None-Match", value) for value in given])
    assert _matches(headers, '"a"') is expected
