"""Calls by name: what cannot be sent is refused like anything else that is wrong."""

from __future__ import annotations

import pytest

from kitmsg.codec import MSGPACK
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.message import encode_headers


@pytest.mark.parametrize("value", [2**70, object(), "\ud800"])
async def test_value_without_a_wire_form_is_an_invalid_argument(kit, value):
    """One `except KitError` covers a call, whatever its arguments are."""
    with pytest.raises(InvalidArgument, match="no form on the wire"):
        await kit.call("greeter.hello", codec=MSGPACK, name=value)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x91" * 5000])
async def test_reply_that_is_no_msgpack_is_data_loss(kit, data):
    """So does one for whatever a service answers."""
    kit.bus.subscribe("odd.reply", lambda m: kit.bus.publish(m.reply, data))
    with pytest.raises(DataLoss, match="the reply cannot be read"):
        await kit.call("odd.reply")


async def test_reply_of_plain_bytes_is_those_bytes(kit):
    """What a service says is raw is not decoded."""
    block = encode_headers({"Content-Type": "application/octet-stream"})
    kit.bus.subscribe("odd.raw", lambda m: kit.bus.respond(m, b"\xc1", block))
    assert await kit.call("odd.raw") == b"\xc1"
