"""Both protocols against thriftpy2's own, which knows nothing of ours.

The random test tries 100 structs a protocol, each also cut at some 20 bytes.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from thriftpy2.parser.parser import parse_fp
from thriftpy2.protocol import TBinaryProtocol, TCompactProtocol
from thriftpy2.transport import TMemoryBuffer as _TMemoryBuffer

from kitmsg_gateways.thrift.load import parse
from kitmsg_gateways.thrift.protocol.base import (
    SHORT,
    Cursor,
    Incomplete,
    Kind,
    Limits,
    Malformed,
    skip,
)
from kitmsg_gateways.thrift.protocol.binary import BinaryProtocol
from kitmsg_gateways.thrift.protocol.compact import CompactProtocol

IDL = """
enum Color { RED = 1, BLUE = 3 }
struct All {
  1: i64 a, 2: string b, 3: Color c, 4: map<string, list<i32>> m, 5: set<i16> s,
  6: binary bin, 8: bool t, 10: i8 q, 11: double d, 30: list<All> nest,
  31: list<bool> bools, 32: map<i32, bool> flags, 200: bool z, 201: i32 w, -1: i16 neg
}
struct None { 7: i32 unknown }
service S { All f(1: All x), None g() }
"""
METHODS = parse(IDL, "test").services["S"].methods
ALL = METHODS["f"].success
NONE = METHODS["g"].success
THEIRS: Any = parse_fp(io.StringIO(IDL), "protocols_thrift")  # type: ignore[no-untyped-call]
TMemoryBuffer: Any = _TMemoryBuffer  # it has no types
LIMITS = Limits(max_bytes=1 << 16, max_items=1000, max_depth=16)
PAIRS = [
    pytest.param(BinaryProtocol(LIMITS), TBinaryProtocol, id="binary"),
    pytest.param(CompactProtocol(LIMITS), TCompactProtocol, id="compact"),
]


def integers(bits: int) -> st.SearchStrategy[int]:
    """Return all integers of so many bits."""
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


def structs() -> st.SearchStrategy[dict[str, Any]]:
    """Return random values of the struct."""
    leaves: dict[str, st.SearchStrategy[Any]] = {
        "a": integers(64),
        "b": st.text(max_size=40),
        "c": st.sampled_from([1, 3]),
        "m": st.dictionaries(st.text(max_size=3), st.lists(integers(32)), max_size=3),
        "s": st.lists(integers(16), max_size=20),
        "bin": st.binary(max_size=200),
        "t": st.booleans(),
        "q": integers(8),
        "d": st.floats(allow_nan=False),
        "bools": st.lists(st.booleans(), max_size=20),
        "flags": st.dictionaries(integers(32), st.booleans(), max_size=3),
        "z": st.booleans(),
        "w": integers(32),
        "neg": integers(16),
    }
    return st.recursive(
        st.fixed_dictionaries({}, optional=leaves),
        lambda inner: st.fixed_dictionaries(
            {"nest": st.lists(inner, max_size=2)}, optional=leaves
        ),
        max_leaves=3,
    )


def theirs(value: dict[str, Any]) -> Any:
    """Return thriftpy2's form of a value."""
    return THEIRS.All(
        **{
            name: [theirs(one) for one in item] if name == "nest" else item
            for name, item in value.items()
        }
    )


@pytest.mark.parametrize(("ours", "their_protocol"), PAIRS)
@settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(value=structs())
def test_what_they_write_we_read_and_back(ours, their_protocol, value):
    """Both ways, equal; and any part of it is too short, never something else."""
    buffer = TMemoryBuffer()
    their_protocol(buffer).write_struct(theirs(value))
    data = bytes(buffer.getvalue())
    assert ours.reader(ALL)(data, 0, 16) == (value, len(data))
    out = bytearray()
    ours.writer(ALL)(out, value)
    read = THEIRS.All()
    their_protocol(TMemoryBuffer(bytes(out))).read_struct(read)
    assert read == theirs(value)
    # A reader that knows no field passes all of them over.
    assert ours.reader(NONE)(data, 0, 16) == ({}, len(data))
    assert skip(ours.scan_struct(Cursor(data, 0, LIMITS), 16)) == len(data)
    for end in range(0, len(data), 1 + len(data) // 20):
        with pytest.raises(SHORT):
            ours.reader(ALL)(data[:end], 0, 16)
        with pytest.raises(Incomplete):
            skip(ours.scan_struct(Cursor(data[:end], 0, LIMITS), 16))


@pytest.mark.parametrize(("ours", "their_protocol"), PAIRS)
@pytest.mark.parametrize("seqid", [0, 1, 300, 2**31 - 1])
def test_the_beginning_of_a_message(ours, their_protocol, seqid):
    """Name, kind and number, as thriftpy2 has them."""
    buffer = TMemoryBuffer()
    protocol = their_protocol(buffer)
    protocol.write_message_begin("sum", 1, seqid)
    data = bytes(buffer.getvalue())
    begin = ours.begin(data, 0)
    assert (begin.name, begin.kind) == (b"sum", Kind.CALL)
    assert begin.position == len(data)
    assert begin.seqid == seqid
    head = ours.head(b"sum", Kind.EXCEPTION, seqid)
    name, kind, number = their_protocol(TMemoryBuffer(head)).read_message_begin()
    assert (name, kind, number) == ("sum", Kind.EXCEPTION, seqid)


@pytest.mark.parametrize(("ours", "_"), PAIRS)
@pytest.mark.parametrize("seqid", [-1, -(2**31)])
def test_a_negative_number_of_a_message_comes_back(ours, _, seqid):
    """Clients count past 31 bits."""
    assert ours.begin(ours.head(b"sum", Kind.CALL, seqid), 0).seqid == seqid


@pytest.mark.parametrize(("ours", "_"), PAIRS)
def test_a_field_of_another_type_is_passed_over(ours, _):
    """As Thrift has it; what follows is read."""
    other = parse("struct X { 1: string a, 2: string b } service S { X f() }", "other")
    out = bytearray()
    ours.writer(other.services["S"].methods["f"].success)(out, {"a": "x", "b": "y"})
    assert ours.reader(ALL)(bytes(out), 0, 16) == ({"b": "y"}, len(out))


@pytest.mark.parametrize(("ours", "_"), PAIRS)
def test_a_list_of_other_items_is_refused(ours, _):
    """It cannot be read as what is expected."""
    other = parse("struct X { 30: list<i64> l } service S { X f() }", "other")
    out = bytearray()
    ours.writer(other.services["S"].methods["f"].success)(out, {"l": [1]})
    with pytest.raises(Malformed, match="a list of type"):
        ours.reader(ALL)(bytes(out), 0, 16)


@pytest.mark.parametrize(
    ("ours", "data", "why"),
    [
        (PAIRS[0].values[0], "0f001f7fffffff02", "container of"),
        (PAIRS[0].values[0], "0f001f02ffffffff", "container of -1 items"),
        (PAIRS[0].values[0], "0d00040b0f7fffffff", "container of"),
        (PAIRS[0].values[0], "0b00027fffffff", "a length of"),
        (PAIRS[0].values[0], "0b0002ffffffff", "a length of -1 bytes"),
        (PAIRS[0].values[0], "0d00090101000000ff", "a field of type 1"),
        (PAIRS[1].values[0], "0919f2ffffffff0f", "container of"),
        (PAIRS[1].values[0], "28ffffffff0f", "a length of"),
        (PAIRS[1].values[0], "16ffffffffffffffffffff01", "more than 64 bits"),
        (PAIRS[1].values[0], "0592" + "03" + "ffffffffff01", "more than 32 bits"),
        (PAIRS[1].values[0], "fd", "a field of type 13"),
    ],
)
def test_lengths_and_types_are_checked_before_anything_is_made(ours, data, why):
    """Reading ends at once, and says why."""
    with pytest.raises(Malformed, match=why):
        ours.reader(ALL)(bytes.fromhex(data) + bytes(20), 0, 16)


@pytest.mark.parametrize(("ours", "_"), PAIRS)
def test_nesting_is_bounded(ours, _):
    """What is read, what is passed over, and what is scanned."""
    deep: dict[str, Any] = {}
    for _level in range(12):
        deep = {"nest": [deep]}
    out = bytearray()
    ours.writer(ALL)(out, deep)
    data = bytes(out)
    for read in (
        lambda: ours.reader(ALL)(data, 0, 16),
        lambda: ours.reader(NONE)(data, 0, 16),
        lambda: skip(ours.scan_struct(Cursor(data, 0, LIMITS), 16)),
    ):
        with pytest.raises(Malformed, match="nested deeper than 16 levels"):
            read()


@pytest.mark.parametrize(("ours", "_"), PAIRS)
@pytest.mark.parametrize(
    "value",
    [
        {"a": 2**63},
        {"w": -(2**31) - 1},
        {"q": 128},
        {"b": 5},
        {"bin": "text"},
        {"d": "x"},
        {"nest": [5]},
        {"m": [1]},
    ],
)
def test_a_value_that_does_not_fit_is_refused(ours, _, value):
    """Nothing is cut off to make it fit."""
    from kitmsg_gateways.thrift.encode import UNFIT

    with pytest.raises(UNFIT):
        ours.writer(ALL)(bytearray(), value)
