"""JSON-RPC 2.0: bytes to calls, results and errors to bytes.  No I/O here.

Source: jsonrpc.org, "JSON-RPC 2.0 Specification".  Shape, order and line end of an answer
are those of Go kit's ``transport/http/jsonrpc``.  Params, results and ids pass as the bytes
they came as, so a number in an id keeps all its digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS
from kitmsg.errors import Code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg_gateways.http.errors import Problem

__all__ = [
    "CONTENT_TYPE",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "Call",
    "RpcError",
    "batch",
    "failure",
    "number_of",
    "parse",
    "success",
]

CONTENT_TYPE: Final = "application/json; charset=utf-8"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
_SERVER_ERROR: Final = -32000  # less the gRPC number: NotFound is -32005

_VERSIONS: Final = ("2.0", "")  # "" is sent by the client of Go kit 0.10
_NULL: Final = b"null"
_SPACE: Final = b" \t\r\n"
_MAX_ID_BYTES: Final = 1024
_STRUCTURED: Final = (b"{", b"[")
_OURS: Final = frozenset({Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS})

_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_value = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        method: Name of what is called.
        params: An object or an array, as JSON; b"" for none.
        id: As JSON; None for a notification, which is not answered.
    """

    method: str
    params: bytes
    id: bytes | None


class RpcError(Exception):
    """An answer that tells what was wrong.

    Args:
        number: The specification's code.
        message: One sentence.
        data: What else there is to say; None for nothing.
        id: Of the call, as JSON.
    """

    def __init__(
        self,
        number: int,
        message: str,
        data: Any = None,
        *,
        id: bytes = _NULL,  # noqa: A002
    ) -> None:
        super().__init__(message)
        self.number = number
        self.message = message
        self.data = data
        self.id = id


def parse(body: bytes, max_batch: int) -> tuple[list[Call | RpcError], bool]:
    """Return the calls in a body, and whether it is a batch.

    What is no call is an `RpcError` in its place.

    Raises:
        RpcError: Nothing in it can be called: it is no JSON, no request, an empty batch
            or one that is too long.
    """
    body = body.strip(_SPACE)
    is_batch = body.startswith(b"[")
    try:
        _value(body)  # so that what is passed on is JSON, to the last byte
        items = [bytes(item) for item in _items(body)] if is_batch else [body]
    except DECODE_ERRORS as exc:
        raise RpcError(PARSE_ERROR, f"JSON could not be decoded: {exc}") from exc
    if not items:
        raise RpcError(INVALID_REQUEST, "the batch is empty")
    if len(items) > max_batch:
        raise RpcError(
            INVALID_REQUEST,
            f"the batch has {len(items)} calls; {max_batch} is the most",
        )
    return [_call(item) for item in items], is_batch


def success(id_: bytes, result: bytes) -> bytes:
    """Return the answer that carries a result, which is JSON already."""
    return b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (result or _NULL, id_)


def failure(error: RpcError) -> bytes:
    """Return the answer that carries an error."""
    said: dict[str, Any] = {"code": error.number, "message": error.message}
    if error.data is not None:
        said["data"] = error.data
    told = msgspec.json.encode(said)
    return b'{"jsonrpc":"2.0","error":%b,"id":%b}' % (told, error.id)


def batch(answers: Iterable[bytes]) -> bytes:
    """Return the answer to a batch."""
    return b"[%b]" % b",".join(answers)


def number_of(problem: Problem) -> int:
    """Return the error code that stands for a problem.

    A service's own error is never one of the specification's.
    """
    if problem.error:
        return _SERVER_ERROR - problem.code.grpc
    if problem.code is Code.INVALID_ARGUMENT:
        return INVALID_PARAMS
    if problem.code in _OURS:
        return INTERNAL_ERROR
    return _SERVER_ERROR - problem.code.grpc


class _Members(msgspec.Struct):
    """The members of a call; each may be anything."""

    jsonrpc: Any = None
    method: Any = None
    params: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()


_members = msgspec.json.Decoder(_Members).decode


def _call(item: bytes) -> Call | RpcError:
    """Return the call that an item is, or what is wrong with it."""
    if not item.startswith(b"{"):
        return RpcError(INVALID_REQUEST, "a call is an object with jsonrpc and method")
    members = _members(item)
    method = members.method
    params, id_ = (bytes(raw).strip(_SPACE) for raw in (members.params, members.id))
    if id_ and not _is_id(id_):
        return RpcError(INVALID_REQUEST, "id must be a string, a number or null")
    wrong = ""
    if members.jsonrpc not in _VERSIONS:
        wrong = 'jsonrpc must be "2.0"'
    elif not isinstance(method, str):
        wrong = "method must be a string"
    elif params not in (b"", _NULL) and not params.startswith(_STRUCTURED):
        wrong = "params must be an object or an array"
    if wrong:
        return RpcError(INVALID_REQUEST, wrong, id=id_ or _NULL)
    return Call(str(method), b"" if params == _NULL else params, id_ or None)


def _is_id(raw: bytes) -> bool:
    is_short = len(raw) <= _MAX_ID_BYTES
    return is_short and type(_value(raw)) in (str, int, float, type(None))
