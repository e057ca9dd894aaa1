"""Thrift's protocols: messages as bytes.

base.py     the seam, limits, skipping
binary.py   the binary protocol
compact.py  the compact protocol
header.py   THeader: headers beside each message
framing.py  bytes to messages: which protocol, framed or not
"""

from kitmsg_gateways.thrift.protocol.base import Limits, ThriftProtocol
from kitmsg_gateways.thrift.protocol.binary import BinaryProtocol
from kitmsg_gateways.thrift.protocol.compact import CompactProtocol

__all__ = ["protocols"]


def protocols(limits: Limits) -> dict[str, ThriftProtocol]:
    """Return the protocols there are, by name."""
    return {each.name: each(limits) for each in (BinaryProtocol, CompactProtocol)}
