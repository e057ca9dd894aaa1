"""Errors as statuses with rich details, and statuses as errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import example, given, strategies as st

from kitmsg.errors import Code, InvalidArgument, error_for
from kitmsg_gateways.grpc.errors import DETAILS, Failure, read_status, status_code
from tests.gateways.grpc.services import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    import kitmsg
    from tests.gateways.grpc.conftest import Outside


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the details of a failed call by the names of their types."""
    status = rpc_status.from_call(error)
    assert status is not None
    found: dict[str, Any] = {}
    for detail in status.details:
        name = detail.type_url.rpartition(".")[2]
        type_ = getattr(error_details_pb2, name, None)
        found[name] = detail if type_ is None else type_.FromString(detail.value)
    return found


async def test_a_declared_error_travels_typed(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Its name and fields are in ErrorInfo, and as a message of the service's own."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    failure = await outside.failure("shop.Shop/Buy", name="tea")
    assert failure.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.details() == "tea is sold out, 0 left"
    found = details(failure)
    info = found["ErrorInfo"]
    assert (info.reason, info.domain) == ("SOLD_OUT", "shop")
    assert dict(info.metadata) == {"name": "tea", "left": "0"}
    assert found["SoldOut"].type_url == "type.googleapis.com/shop.SoldOut"
    assert b"tea" in found["SoldOut"].value
    assert found["RequestInfo"].request_id


async def test_a_wrong_field_is_named(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A bad value is INVALID_ARGUMENT with a field violation."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    cup = {"name": "mug", "price": 2.0}
    failure = await outside.failure("shop.Shop/Make", cup=cup)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = details(failure)["BadRequest"].field_violations
    assert violation.field == "cup.size"
    good = {**cup, "size": "SIZE_SMALL"}
    failure = await outside.failure("shop.Shop/Make", cup=good, when="yesterday")
    (violation,) = details(failure)["BadRequest"].field_violations
    assert violation.field == "when"


async def test_what_went_wrong_inside_stays_inside(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A failure nobody declared says nothing but the request id."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    given = {"metadata": (("x-request-id", "web-1"),)}
    failure = await outside.failure("shop.Shop/Fail", with_=given)
    assert failure.code() is grpc.StatusCode.INTERNAL
    assert "1234" not in str(failure)
    assert "web-1" in str(failure.details())
    assert details(failure)["RequestInfo"].request_id == "web-1"
    assert dict(failure.trailing_metadata() or ())["x-request-id"] == "web-1"
    failure = await outside.failure("shop.Shop/Make", with_=given)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(failure)["RequestInfo"].request_id == "web-1"


async def test_says_when_to_come_back(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A retry hint is both RetryInfo and the pushback that gRPC clients obey."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    failure = await outside.failure("shop.Shop/Busy")
    assert details(failure)["RetryInfo"].retry_delay.ToMilliseconds() == 1500
    trailers = dict(failure.trailing_metadata() or ())
    assert trailers["grpc-retry-pushback-ms"] == "1500"


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_its_status(code: Code) -> None:
    """The one table: a code's status has its number, and reads back as the code."""
    status = status_code(code)
    assert status.value[0] == code.grpc
    assert status.name.lower() == code.value
    assert read_status(code.grpc, "", ()).error.code is code


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(
    code=st.sampled_from(list(Code)),
    text=_texts.filter(bool),
    field=_texts,
    retry=st.none() | st.integers(0, 10**6),
    id_=_texts,
    fields=st.dictionaries(_texts, _texts | st.integers() | st.booleans(), max_size=4),
)
@example(Code.CANCELLED, "0", "", 32051, "", {})  # 32.051 * 1000 is a little more
def test_an_error_survives_the_way_there_and_back(
    code: Code,
    text: str,
    field: str,
    retry: int | None,
    id_: str,
    fields: dict[str, Any],
) -> None:
    """What a status tells is what went in: code, text, field, hint, id, fields."""
    seconds = None if retry is None else retry / 1000
    error = error_for(code, text, retry_after=seconds, request_id=id_)
    if isinstance(error, InvalidArgument):
        error.field = field
    failure = Failure(error, "SoldOut", "shop", fields)
    told = read_status(code.grpc, text, failure.trailers())
    assert (told.error.code, str(told.error)) == (code, text)
    assert told.error.retry_after == seconds
    assert told.error.request_id == id_
    assert getattr(told.error, "field", "") == getattr(error, "field", "")
    assert (told.reason, told.domain) == ("SOLD_OUT", "shop")
    assert told.metadata.keys() == fields.keys()


def test_details_that_are_too_long_are_left_out() -> None:
    """Metadata stays under what clients take; the status itself is kept."""
    error = InvalidArgument("x" * 20_000)
    failure = Failure(error, "Long", "shop", {str(n): "y" * 600 for n in range(40)})
    assert sum(len(value) for _, value in failure.trailers()) < 8000


@given(st.binary(max_size=200))
def test_details_that_cannot_be_read_are_as_good_as_none(data: bytes) -> None:
    """A peer's broken details never hide its status."""
    told = read_status(5, "gone", [(DETAILS, data), ("grpc-retry-pushback-ms", "x")])
    assert (told.error.code, str(told.error)) == (Code.NOT_FOUND, "gone")
