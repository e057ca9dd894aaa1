"""The table of types is the same in code and in docs."""

from __future__ import annotations

import re
from pathlib import Path

from kitmsg.idl.model import KINDS, Enum, Field, Shape, Struct, parts_of

PAGE = Path(__file__).parents[2] / "docs" / "types.md"


def test_the_page_has_the_table() -> None:
    """Each kind is a row, with what it is in JSON, protobuf and Thrift."""
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `", line)
    ]
    assert [row[0] for row in rows] == list(KINDS)
    for name, _, json, protobuf, thrift in rows:
        kind = KINDS[name]
        assert json.replace("`", "") == kind.json.replace("`", "") or not kind.protobuf
        assert protobuf == kind.protobuf or not kind.protobuf
        assert thrift == kind.thrift or not kind.thrift


def test_a_type_knows_what_it_is_made_of() -> None:
    """Names are found at any depth; an enum is made of nothing."""
    item = Shape("list", item=Shape("map", item=Shape("struct", "Inner")))
    struct = Struct("Outer", (Field("a", item), Field("b", Shape("enum", "Colour"))))
    assert parts_of(struct) == ["Inner", "Colour"]
    assert parts_of(Enum("Colour", ("red",))) == []
