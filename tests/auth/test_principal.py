"""Who somebody is, as a header."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from kitmsg.auth import Principal
from kitmsg.errors import InvalidArgument

texts = st.text(max_size=40)
values = st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.lists(texts))


@given(texts, st.sampled_from(["jwt", "basic", "tls"]), st.dictionaries(texts, values))
def test_it_comes_back_as_it_was(name, method, claims):
    """Whatever is in it, the header is one line of printable ASCII."""
    try:
        principal = Principal(name, method, claims)
    except InvalidArgument:
        return  # too long
    assert principal.text.isascii()
    assert principal.text.isprintable()
    assert Principal.parse(principal.text) == principal


@pytest.mark.parametrize(
    "text",
    ["", "ann", "[]", "{}", '{"name":"ann"}', '{"name":1,"method":"jwt"}', "\ud800"],
)
def test_what_is_none_is_refused(text):
    """With the one error that a caller catches."""
    with pytest.raises(ValueError, match="no principal"):
        Principal.parse(text)


def test_too_much_of_it_is_refused():
    """It travels with every call."""
    with pytest.raises(InvalidArgument, match="4096 bytes"):
        Principal("ann", "jwt", {"groups": ["x" * 100] * 50})
