"""Thrift's protocols: messages as bytes.

base.py     the seam, limits, skipping
binary.py   the binary protocol
compact.py  the compact protocol; varint.py has its numbers
framing.py  bytes to messages: which protocol, framed or not
"""

from kitmsg_gateways.thrift.protocol.base import (
    FAILURE,
    SHORT,
    Begin,
    Cursor,
    Incomplete,
    Kind,
    Limits,
    Malformed,
    OverLimit,
    Reader,
    Scan,
    ThriftProtocol,
    Writer,
    later,
    skip,
)
from kitmsg_gateways.thrift.protocol.binary import BinaryProtocol
from kitmsg_gateways.thrift.protocol.compact import CompactProtocol

__all__ = [
    "FAILURE",
    "SHORT",
    "Begin",
    "Cursor",
    "Incomplete",
    "Kind",
    "Limits",
    "Malformed",
    "OverLimit",
    "Reader",
    "Scan",
    "ThriftProtocol",
    "Writer",
    "later",
    "protocols",
    "skip",
]


def protocols(limits: Limits) -> dict[str, ThriftProtocol]:
    """Return the protocols there are, by name."""
    return {each.name: each(limits) for each in (BinaryProtocol, CompactProtocol)}
