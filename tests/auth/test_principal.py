"""Somebody whose credentials were checked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from kitmsg.auth import Principal
from kitmsg.errors import InvalidArgument

texts = st.text(max_size=40)
values = st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.lists(texts))


@given(texts, st.sampled_from(["jwt", "basic", "tls"]), st.dictionaries(texts, values))
def test_its_text_says_all_of_it(name, method, claims):
    """Whatever is in it, it is one line of printable ASCII."""
    try:
        principal = Principal(name, method, claims)
    except InvalidArgument:
        return  # too long
    assert principal.text.isascii()
    assert principal.text.isprintable()
    facts = {"name": name, "method": method} | ({"claims": claims} if claims else {})
    assert json.loads(principal.text) == facts


def test_too_much_of_it_is_refused():
    """It travels with every call."""
    with pytest.raises(InvalidArgument, match="4096 bytes"):
        Principal("ann", "jwt", {"groups": ["x" * 100] * 50})
