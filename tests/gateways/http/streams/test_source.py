"""Files, up and down: plain bytes, and a file in a form."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import aiohttp
import pytest

from kitmsg_gateways.http.streams.formats import OCTETS, plain
from kitmsg_gateways.http.streams.source import chunks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RAW = {"Content-Type": OCTETS}


def form(
    *fields: tuple[str, str], file: bytes | None = b"file", after: str = ""
) -> aiohttp.FormData:
    """Return a form with a file."""
    found = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields:
        found.add_field(name, value)
    if file is not None:
        found.add_field("data", file, filename="a.bin")
    if after:
        found.add_field(after, "x")
    return found


async def test_a_download_is_the_bytes_of_all_items(read):
    """One after the other, and nothing between them."""
    response, body = await read("GET", "/download?n=3")
    assert response.headers["Content-Type"] == OCTETS
    assert body == b"\0" * 1000 + b"\1" * 1000 + b"\2" * 1000


async def test_bytes_as_lines(read):
    """Who wants JSON gets base64."""
    accept = {"Accept": "application/x-ndjson"}
    _, body = await read("GET", "/download?n=1", headers=accept)
    assert body == b'"' + b"AAAA" * 333 + b'AA=="\n'


async def test_a_download_that_breaks_is_not_taken_for_whole(call):
    """The connection ends before the body does."""
    with pytest.raises(aiohttp.ClientError):
        async with call.session.get("/download?n=3&fails=true") as response:
            await response.read()


async def test_a_body_is_items_of_bytes(call):
    """However long it is; parameters are in path and query."""
    data = b"x" * 3_000_000
    body = io.BytesIO(data)
    _, result = await call("POST", "/upload/big?note=n", data=body, headers=RAW)
    assert result == {"name": "big", "size": len(data), "note": "n"}


async def test_a_body_without_a_length(call):
    """Chunked, as curl sends what it reads from a pipe."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    _, result = await call("POST", "/upload/piped", data=chunks(), headers=RAW)
    assert result["size"] == 100_000


async def test_a_file_in_a_form(call):
    """Fields before it are parameters."""
    data = b"x" * 300_000
    _, result = await call("POST", "/upload/a", data=form(("note", "hello"), file=data))
    assert result == {"name": "a", "size": 300_000, "note": "hello"}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (form(("note", "n"), file=None), "the form has no file"),
        (form(after="note"), "the file must be the last part"),
        (form(("name", "b")), "'name' is in the path and also in the query"),
        (form(("nme", "b")), "unknown parameter 'nme'"),
    ],
)
async def test_a_form_that_does_not_fit(call, body, detail, nothing_left):
    """The answer says why."""
    response, problem = await call("POST", "/upload/a", data=body)
    assert response.status == 400
    assert detail in problem["detail"]
    await nothing_left()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x\r\n\r\n",
        b"no form at all",
        b'--x\r\nContent-Disposition: form-data; name="d"; filename="f"\r\n\r\nabc',
        b"--x\r\nContent-Disposition: nonsense\r\n\r\nabc\r\n--x--\r\n",
        b"--x\r\n" + b"A" * 20_000 + b"\r\n\r\nabc\r\n--x--\r\n",
        b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
    ],
)
async def test_a_form_that_is_none(call, body, nothing_left):
    """It is refused; what broke off is not taken for a file."""
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response, problem = await call("POST", "/upload/a", data=body, headers=headers)
    assert response.status == 400, problem
    await nothing_left()


async def test_a_form_without_a_boundary(call):
    """It cannot be read."""
    headers = {"Content-Type": "multipart/form-data"}
    response, _ = await call("POST", "/upload/a", data=b"x", headers=headers)
    assert response.status == 400


async def test_fields_have_a_limit(hub, feed, start):
    """All of them together."""
    call = await start(hub, max_body_bytes=1000)
    fields = [("note", "x" * 600), ("name", "y" * 600)]
    response, _ = await call("POST", "/upload/a", data=form(*fields))
    assert response.status == 413


@pytest.mark.parametrize("kind", [OCTETS, "multipart/form-data; boundary=x"])
async def test_an_upload_that_stalls(hub, feed, start, kind, nothing_left):
    """408; nobody waits for ever for a file."""
    call = await start(hub, body_timeout=0.05)
    head = (
        f"POST /upload/a HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        "Content-Length: 1000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="d"; filename="f"\r\n\r\nabc'
    )
    answer = await call.raw(head.encode(), until_closed=False)
    assert answer.startswith(b"HTTP/1.1 408 ")
    await nothing_left()


async def test_bytes_for_an_endpoint_that_takes_none(call):
    """415 says what it takes."""
    response, problem = await call("POST", "/feed/total", data=b"1", headers=RAW)
    assert response.status == 415
    assert "application/x-ndjson" in problem["detail"]
    assert problem["field"] == "Content-Type"


async def test_a_compressed_upload(call):
    """It is not inflated on the way; 415."""
    headers = {**RAW, "Content-Encoding": "gzip"}
    response, problem = await call("POST", "/upload/a", data=b"x", headers=headers)
    assert (response.status, problem["field"]) == (415, "Content-Encoding")


async def test_a_client_that_wants_to_be_told_to_go_on(call):
    """``Expect: 100-continue`` is answered when the body is wanted."""
    async with call.session.post(
        "/upload/a", data=b"abc", headers=RAW, expect100=True
    ) as response:
        assert (await response.json())["size"] == 3


async def test_a_client_that_vanishes_in_an_upload(call, feed, nothing_left):
    """The service's work ends."""
    _, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    head = (
        "POST /feed/total HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        "Content-Length: 1000\r\n\r\n1\n2\n"
    )
    writer.write(head.encode())
    await asyncio.wait_for(feed.began.wait(), 5)
    writer.transport.abort()
    await asyncio.wait_for(feed.ended.wait(), 5)
    await nothing_left()


@pytest.mark.parametrize("limit", [1, 10, 100, 1000])
async def test_items_are_no_longer_than_they_may_be(limit):
    """In base64, quotes included; together they are the body."""

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 5000

    items = [item async for item in chunks(body(), limit)]
    assert b"".join(map(plain, items)) == b"x" * 5000
    assert max(map(len, items)) <= max(limit, len(b'"AA=="'))


async def test_a_service_that_takes_slowly_slows_the_upload(
    hub, feed, start, nothing_left
):
    """The socket is read no faster than items are taken; then all of it comes."""
    call = await start(hub)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            yield b"x" * 100_000
            sent += 1

    uploading = asyncio.create_task(
        call("POST", "/feed/idle_upload", data=body(), headers=RAW)
    )
    await asyncio.wait_for(feed.began.wait(), 5)
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 300  # 30 of 100 MB; most of it in windows and the kernel's buffers
    feed.go_on.set()
    response, _ = await uploading
    assert response.status == 200
    await nothing_left()
