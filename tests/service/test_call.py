"""Calls by name: what cannot be sent is refused like anything else that is wrong."""

from __future__ import annotations

import pytest

from kitmsg.errors import InvalidArgument


@pytest.mark.parametrize("value", [2**70, object(), "\ud800"])
async def test_value_without_a_wire_form_is_an_invalid_argument(kit, value):
    """One `except KitError` covers a call, whatever its arguments are."""
    with pytest.raises(InvalidArgument, match="no form on the wire"):
        await kit.call("greeter.hello", name=value)
