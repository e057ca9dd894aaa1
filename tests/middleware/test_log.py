"""One structured line for each call."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from kitmsg.context import Context
from kitmsg.endpoints import chain
from kitmsg.errors import Internal, NotFound
from kitmsg.middleware import log, timeout

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint


async def echo(_ctx: Context, request: str) -> str:
    return request


def failing(error: BaseException) -> Endpoint[str, str]:
    async def fail(_ctx: Context, _request: str) -> str:
        raise error

    return fail


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a quarter of a second later."""
    ticks = iter(n / 4 for n in range(100))
    module = sys.modules["kitmsg.middleware.log"]
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks))


@pytest.mark.usefixtures("clock")
async def test_a_call_is_a_line_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    """The record has the endpoint, the code, the time and the request id."""
    caplog.set_level(logging.INFO, "kitmsg.calls")
    ctx = Context(endpoint="greeter.hello")
    assert await log()(echo)(ctx, "secret") == "secret"
    (record,) = caplog.records
    assert record.getMessage() == "greeter.hello ok in 250.000 ms"
    fields = vars(record)
    assert fields["endpoint"] == "greeter.hello"
    assert fields["code"] == "ok"
    assert fields["duration_ms"] == 250.0
    assert fields["request_id"] == ctx.request_id
    assert record.levelno == logging.INFO


async def test_the_endpoint_sees_the_id_of_the_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the endpoint logs under its request id is found with the call's line."""
    caplog.set_level(logging.INFO, "kitmsg.calls")

    async def seen(ctx: Context, _request: str) -> str:
        return ctx.request_id

    request_id = await chain(log(), timeout(1.0))(seen)(Context(), "hi")
    assert vars(caplog.records[0])["request_id"] == request_id


@pytest.mark.parametrize(
    ("error", "code", "level", "has_traceback"),
    [
        (NotFound("no such order"), "not_found", logging.WARNING, False),
        (Internal("broken"), "internal", logging.ERROR, False),
        (ValueError("bug"), "internal", logging.ERROR, True),
        (asyncio.CancelledError(), "cancelled", logging.WARNING, False),
    ],
)
async def test_a_failure_is_a_louder_line(
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    code: str,
    level: int,
    has_traceback: bool,
) -> None:
    """A failure is a warning, a broken service an error; a bug brings its traceback."""
    with pytest.raises(type(error)):
        await log()(failing(error))(Context(endpoint="a.b"), "hi")
    (record,) = caplog.records
    assert vars(record)["code"] == code
    assert record.levelno == level
    assert (record.exc_info is not None) is has_traceback
    assert str(error) in record.getMessage()


async def test_successes_have_the_level_that_was_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `level` at debug, a logger at info writes failures only."""
    logger = logging.getLogger("mine")
    caplog.set_level(logging.INFO, "mine")
    quiet = log(logger, level=logging.DEBUG)
    await quiet(echo)(Context(), "hi")
    assert caplog.records == []
    with pytest.raises(NotFound):
        await quiet(failing(NotFound("x")))(Context(), "hi")
    assert [record.name for record in caplog.records] == ["mine"]


async def test_braces_and_percents_are_data(caplog: pytest.LogCaptureFixture) -> None:
    """Text from an error is never read as a format."""
    with pytest.raises(NotFound):
        await log()(failing(NotFound("100 %s {x}")))(Context(endpoint="a.b"), "hi")
    assert caplog.messages[0].endswith("100 %s {x}")
