"""Streams with curl, which prints what comes as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from tests.require import need

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def curl(call: Any, path: str, *words: str) -> AsyncIterator[Any]:
    """Run curl against the gateway."""
    command = [need("curl"), "-sSN", *words, call.server.url + path]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_events_as_they_come(call, feed):
    """The first is there while the stream waits for the second."""
    accept = ("-H", "Accept: text/event-stream")
    async with curl(call, "/wait?items=1", *accept) as process:
        assert await process.stdout.readline() == b"retry: 2000\n"
        assert await process.stdout.readline() == b"id: 1\n"
        assert await process.stdout.readline() == b"data: 0\n"
        feed.go_on.set()
        rest, _ = await process.communicate()
    assert rest.endswith(b"event: end\ndata: {}\n\n")
    assert process.returncode == 0


async def test_lines_both_ways(call):
    """What is piped in comes out, line by line."""
    words = ("-T", "-", "-X", "POST", "-H", "Content-Type: application/x-ndjson")
    async with curl(call, "/feed/echo?prefix=%3E", *words) as process:
        answer, _ = await process.communicate(b'"a"\n"b"\n')
    assert (answer, process.returncode) == (b'">a"\n">b"\n', 0)


@pytest.mark.parametrize("words", [("-F", "data=@{}"), ("-T", "{}", "-X", "POST")])
async def test_a_file(call, tmp_path, words):
    """In a form, and as the body."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2_000_000)
    words = [word.format(file) for word in words]
    async with curl(call, "/upload/file", *words) as process:
        answer, _ = await process.communicate()
    assert answer == b'{"name":"file","size":2000000,"note":""}'


async def test_a_download_goes_on_where_it_stopped(call, tmp_path):
    """With ``-C -``: the part that is missing."""
    file = tmp_path / "file"
    file.write_bytes(b"abab")
    async with curl(call, "/whole/ab", "-C", "-", "-o", str(file)) as process:
        await process.communicate()
    assert process.returncode == 0
    assert file.read_bytes() == b"ab" * 10


async def test_a_download_that_breaks_is_an_error(call):
    """Curl says so: the transfer is not whole."""
    async with curl(call, "/download?n=2&fails=true") as process:
        await process.communicate()
    assert process.returncode != 0
