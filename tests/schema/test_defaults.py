"""Defaults of dataclasses that came over the wire."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest

from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.errors import InvalidArgument
from kitmsg.schema import signature
from kitmsg.schema.defaults import filled


@dataclass
class Line:
    """A plain default, and one that is made."""

    sku: str
    count: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    """One that cannot be changed."""

    a: int = 5


@dataclass(slots=True)
class Slotted:
    """One without a dict."""

    a: int = 5


@dataclass
class Tree:
    """One that holds itself."""

    name: str = "leaf"
    below: list[Tree] = field(default_factory=list)


class Wrapped(msgspec.Struct):
    """A struct around them."""

    line: Line
    frozen: dict[str, Frozen] = {}
    maybe: Slotted | None = None


async def echo_line(line: Line) -> Line:
    """Take and give one."""
    return line


async def echo_fields(lines: list[Line], frozen: Frozen) -> Wrapped:
    """Take them as parameters, give them in a struct."""
    return Wrapped(lines[0], {"x": frozen})


async def echo_tree(tree: Tree) -> Tree:
    """Take and give a recursive one."""
    return tree


async def plain(a: int, wrapped: Slotted) -> int:
    """Have nothing to do with it."""
    return a


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda c: c.name)
def test_what_came_goes_on_whole(codec: Codec) -> None:
    """A decoded dataclass is encoded with its defaults, as one made by hand is."""
    kind = signature(echo_line)
    line = kind.request_decoder(codec)(codec.encoder()({"sku": "ball"}))
    assert line == Line("ball")
    given = codec.decoder()(kind.response_encoder(codec)(line))
    assert given == {"sku": "ball", "count": 1, "tags": []}


def test_inside_of_others() -> None:
    """In lists, dicts, structs and optionals, frozen or not."""
    kind = signature(echo_fields)
    request = kind.request_decoder(JSON)(b'{"lines":[{"sku":"a"}],"frozen":{}}')
    assert request.lines[0].__dict__ == {"sku": "a", "count": 1, "tags": []}
    assert request.frozen.__dict__ == {"a": 5}
    body = b'{"line":{"sku":"a"},"frozen":{"x":{}},"maybe":{}}'
    response = kind.response_decoder(JSON)(body)
    assert msgspec.json.decode(msgspec.json.encode(response)) == {
        "line": {"sku": "a", "count": 1, "tags": []},
        "frozen": {"x": {"a": 5}},
        "maybe": {"a": 5},
    }


def test_recursive_types() -> None:
    """However deep."""
    read = signature(echo_tree).request_decoder(JSON)
    tree = read(b'{"below":[{"below":[{}]}]}')
    leaf = {"name": "leaf", "below": []}
    assert msgspec.json.decode(msgspec.json.encode(tree)) == {
        "name": "leaf",
        "below": [{"name": "leaf", "below": [leaf]}],
    }


def test_a_tree_that_is_too_deep_is_refused() -> None:
    """With the error that any input nested too deeply gets."""
    read = signature(echo_tree).request_decoder(JSON)
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        read(b'{"below":[' * 700 + b"{}" + b"]}" * 700)


def test_a_given_value_stays() -> None:
    """A default never replaces what was sent."""
    read = signature(echo_line).request_decoder(JSON)
    assert read(b'{"sku":"a","count":7}') == Line("a", 7)


def test_nothing_is_paid_where_nothing_is_left_out() -> None:
    """Types without such a dataclass are decoded as before, by the very same function."""
    kind = signature(plain)
    decode = JSON.decoder(kind.request)
    assert filled(decode, msgspec.inspect.type_info(kind.request)) is decode
