"""Declared errors: maps of their fields, on the wire and in a schema."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import socket  # noqa: TC003  # read from a signature

import jsonschema
import pytest

from kitmsg.codec import JSON
from kitmsg.errors import (
    BusinessError,
    Code,
    DataLoss,
    NotFound,
)
from kitmsg.schema import error_codec, error_schema
from tests.schema.shapes import BOTH, Line


class OutOfStock(BusinessError):
    """Not enough left."""

    code = Code.FAILED_PRECONDITION
    template = "only {left} of {sku} left"
    sku: str
    left: int = 0
    lines: list[Line] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Refused(Exception):
    """A dataclass that is no `KitError`."""

    until: datetime.date


class Custom(Exception):
    """An ``__init__`` that is not about ``args``."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")


@BOTH
@pytest.mark.parametrize(
    "error",
    [
        OutOfStock("pear", 2, [Line("a")]),
        Refused(datetime.date(2024, 1, 1)),
        Custom(3),
        KeyError("k"),
        ValueError("bad", 1, None, 1.5, True),
        NotFound("no pear"),
        OSError(2, "No such file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_declared_error_crosses_the_wire(codec, error):
    """Class, text and fields are the same on the other side."""
    encode, decode = error_codec(type(error), codec)
    twin = decode(encode(error))
    assert type(twin) is type(error)
    assert (str(twin), twin.args) == (str(error), error.args)
    assert {k: v for k, v in vars(twin).items() if k[0] != "_"} == vars(error)


def test_declared_error_is_a_map_of_its_fields():
    """A client in another language reads the fields by name."""
    encode, _ = error_codec(OutOfStock, JSON)
    assert json.loads(encode(OutOfStock("pear", 2))) == {
        "sku": "pear",
        "left": 2,
        "lines": [],
    }
    encode_plain, _ = error_codec(ValueError, JSON)
    assert encode_plain(ValueError("a", object, 2**70, math.nan)) == (
        b'{"args":["a","<class \'object\'>","1180591620717411303424","nan"]}'
    )


def test_declared_error_that_does_not_fit_is_data_loss():
    """A broken body of a declared error is said to be one; new fields are ignored."""
    _, decode = error_codec(OutOfStock, JSON)
    with pytest.raises(DataLoss, match="OutOfStock: field 'sku' is missing"):
        decode(b"{}")
    assert decode(b'{"sku":"a","new":1}').sku == "a"


def test_declared_error_with_an_unsupported_field_fails_when_declared():
    """The sentence is the one for parameters."""

    class Bad(BusinessError):
        where: socket.socket

    with pytest.raises(TypeError, match=r"^Bad: field 'where' has the type socket\.s"):
        error_codec(Bad, JSON)
    with pytest.raises(TypeError, match=r"raises= takes exception classes, not 3"):
        error_codec(3, JSON)  # type: ignore[arg-type]


def test_declared_error_has_a_schema():
    """Gateways can describe what may come back."""
    schema = error_schema(OutOfStock)
    assert schema["$ref"] == "#/$defs/OutOfStock"
    assert schema["$defs"]["OutOfStock"]["required"] == ["sku"]
    jsonschema.Draft202012Validator.check_schema(error_schema(KeyError))
