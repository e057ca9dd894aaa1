"""Replies: read by a client that knows more or less, or not at all."""

from __future__ import annotations

from typing import (
    Any,
)

import pytest

from kitmsg.errors import (
    DataLoss,
)
from kitmsg.schema import signature
from tests.schema.shapes import BOTH, GREETER, Order, taking


@BOTH
def test_reply_may_have_fields_that_the_client_does_not_know(codec):
    """A service that grows does not break its callers."""
    decode = signature(GREETER.place).response_decoder(codec)
    assert decode(codec.encoder()({"lines": [], "new": 1})) == Order([])


@BOTH
def test_reply_that_does_not_fit_is_data_loss(codec):
    """The error names the type and the field."""
    decode = signature(GREETER.place).response_decoder(codec)
    with pytest.raises(DataLoss, match=r"does not fit .*Order: field 'lines' is miss"):
        decode(codec.encoder()({}))
    with pytest.raises(DataLoss, match="is not valid"):
        decode(b"\xc1")


@BOTH
def test_value_that_cannot_be_encoded_names_its_type(codec):
    """The server can answer Internal and log what it was."""
    encode = signature(taking(Any)).response_encoder(codec)
    with pytest.raises(
        TypeError, match="cannot encode object as Any: an object of typ"
    ):
        encode(object())
    loop: list[Any] = []
    loop.append(loop)
    for bad in (loop, "\ud800"):
        with pytest.raises(ValueError, match="cannot encode"):
            encode(bad)
