"""The error tree: one class per code, facts kept, messages for people."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from kitmsg import errors
from kitmsg.errors import (
    BusinessError,
    Code,
    Disconnected,
    InvalidArgument,
    KitError,
    NoResponders,
    Unavailable,
    code_of,
    error_for,
)


class OutOfStock(BusinessError):
    """Not enough left."""

    code = Code.RESOURCE_EXHAUSTED
    template = "only {left} of {sku} left"
    sku: str
    left: int = 0


class Closed(BusinessError):
    """The shop is closed.

    Until tomorrow.
    """


class Silent(BusinessError):  # its silence is what is tested
    reason: str = ""


@pytest.mark.parametrize("code", Code)
def test_each_code_has_one_class(code):
    """A remote error is raised again as the class of its code."""
    error = error_for(code, "why", retry_after=0.5, request_id="r1")
    assert type(error).code is code
    assert type(error).__bases__[0] is KitError
    assert (str(error), error.retry_after, error.request_id) == ("why", 0.5, "r1")


@pytest.mark.parametrize("code", Code)
def test_each_code_survives_grpc(code):
    """The numbers of gRPC are one to one, 1 to 16."""
    assert 1 <= code.grpc <= 16
    assert Code.from_grpc(code.grpc) is code


def test_unknown_grpc_number_is_unknown():
    """A number that gRPC does not list is not guessed at."""
    assert Code.from_grpc(0) is Code.UNKNOWN
    assert Code.from_grpc(99) is Code.UNKNOWN


@pytest.mark.parametrize("code", Code)
def test_http_status_leads_back_to_a_code_with_that_status(code):
    """HTTP's numbers are shared, so the way back keeps the number, not the name."""
    assert 400 <= code.http < 600
    assert Code.from_http(code.http).http == code.http


@pytest.mark.parametrize("code", Code)
def test_thrift_type_leads_back_to_a_code_with_that_type(code):
    """Thrift's types are shared, so the way back keeps the type, not the name."""
    assert Code.from_thrift(code.thrift).thrift == code.thrift
    assert Code.from_thrift(99) is Code.UNKNOWN


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, Code.NOT_FOUND),
        (405, Code.UNIMPLEMENTED),
        (418, Code.INVALID_ARGUMENT),
        (502, Code.UNAVAILABLE),
        (599, Code.UNKNOWN),
        (0, Code.UNKNOWN),
        (-1, Code.UNKNOWN),
    ],
)
def test_foreign_number_means_the_most_general_code(status, code):
    """A number of a foreign service is read as HTTP's, or not understood."""
    assert Code.from_http(status) is code


def test_every_public_name_exists():
    """The module's own list is complete and true."""
    assert all(hasattr(errors, name) for name in errors.__all__)
    tree = {
        name
        for name, item in vars(errors).items()
        if isinstance(item, type) and item.__module__ == errors.__name__
    }
    assert tree <= set(errors.__all__)


def test_error_without_a_message_says_its_code():
    """No error prints as nothing."""
    assert str(KitError()) == "unknown"
    assert str(InvalidArgument()) == "invalid_argument"


def test_deadline_exceeded_is_a_timeout():
    """Code that catches TimeoutError catches ours."""
    assert issubclass(errors.DeadlineExceeded, TimeoutError)


def test_code_of_any_exception():
    """An exception without a code of ours is internal."""
    assert code_of(OutOfStock("a")) is Code.RESOURCE_EXHAUSTED
    assert code_of(ValueError()) is Code.INTERNAL
    assert code_of(SystemExit(3)) is Code.INTERNAL


def test_no_responders_says_whom_and_what_then():
    """The message names the subject and passes the hint on."""
    error = NoResponders("greeter.helo", "did you mean 'greeter.hello'?")
    assert str(error) == (
        "no responders for 'greeter.helo'; did you mean 'greeter.hello'?"
    )
    assert isinstance(error, Unavailable)


def test_business_error_makes_its_message_from_its_fields():
    """The template is filled in, and the fields stay."""
    error = OutOfStock("pear", left=2)
    assert str(error) == "only 2 of pear left"
    assert (error.sku, error.left) == ("pear", 2)
    assert error.code is Code.RESOURCE_EXHAUSTED


def test_business_error_without_a_template_says_its_first_line():
    """The docstring's first line is the message."""
    assert str(Closed()) == "The shop is closed."


def test_business_error_without_any_text_says_its_code():
    """No text is made up from the class's fields."""
    assert Silent.__doc__ is None
    assert str(Silent("x")) == "failed_precondition"


@pytest.mark.parametrize("name", ["message", "retry_after", "request_id", "args"])
def test_business_error_may_not_hide_a_fact_of_every_error(name):
    """A field that `KitError` sets itself would lose its value, so it is refused."""
    with pytest.raises(TypeError, match=f"Bad: field '{name}' belongs to every error"):
        type("Bad", (BusinessError,), {"__annotations__": {name: "str"}})


def test_business_error_may_extend_another():
    """Fields of the parent come first, as in any dataclass."""

    class SoldOut(OutOfStock):
        until: str = "soon"

    error = SoldOut("pear", 0, "June")
    assert [f.name for f in dataclasses.fields(error)] == ["sku", "left", "until"]
    assert str(error) == "only 0 of pear left"


@pytest.mark.parametrize(
    "error",
    [
        KitError("m", retry_after=1.0, request_id="r"),
        InvalidArgument("m", field="a.b"),
        NoResponders("a.b", "hint"),
        Disconnected("m", sent=True),
        OutOfStock("pear", 2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_survives_pickle_and_copy(error):
    """A worker process can hand an error to its parent, facts included."""
    error.request_id = "r"
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
