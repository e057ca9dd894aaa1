"""Errors as a ``TApplicationException``, and back.

Its text begins with the code, of which its type is only a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import Code, error_for
from kitmsg_gateways.thrift.model import I32, STRING, Field, StructType
from kitmsg_gateways.thrift.protocol.base import Kind

if TYPE_CHECKING:
    from kitmsg.errors import KitError
    from kitmsg_gateways.thrift.protocol.base import Begin, ThriftProtocol

__all__ = ["FAILURE", "decode_error", "encode_error"]

FAILURE: Final = StructType(
    "TApplicationException", (Field(1, "message", STRING), Field(2, "type", I32))
)
"""The fields of an answer of kind `Kind.EXCEPTION`."""


def encode_error(protocol: ThriftProtocol, begin: Begin, error: KitError) -> bytes:
    """Return the message that tells of an error, as the answer to a call."""
    out = bytearray(protocol.head(begin.name, Kind.EXCEPTION, begin.seqid))
    text = f"{error.code.value}: {error}"
    protocol.writer(FAILURE)(out, {"message": text, "type": error.code.thrift})
    return bytes(out)


def decode_error(fields: dict[str, Any]) -> KitError:
    """Return the error that the fields of an answer of that kind tell of."""
    text, type_ = fields.get("message", ""), fields.get("type", 0)
    name, _, rest = text.partition(": ")
    if name in Code.__members__.values():
        return error_for(Code(name), rest)
    return error_for(Code.from_thrift(type_), text)
