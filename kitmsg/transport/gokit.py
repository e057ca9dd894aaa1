"""Go kit's NATS wire: bare JSON on a fixed subject, errors as ``{"err": "..."}``.

A Go kit publisher or subscriber cannot tell the difference.  Source: go-kit/kit v0.13,
``transport/nats`` (``encode_decode.go``, ``publisher.go``, ``subscriber.go``), and the rules
of Go's ``encoding/json`` for what is read: keys without case, unknown ones ignored, missing
ones zero.

Two conventions are Go kit's examples', not its code's: a result that is no object travels
as ``{"v": result}``, and a reply with a non-empty text under ``err`` is a failure.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import DECODE_ERRORS, JSON, translate
from kitmsg.errors import Code, DataLoss, KitError, code_of, error_for
from kitmsg.message import encode_headers
from kitmsg.schema.defaults import filled
from kitmsg.transport.replies import one_line
from kitmsg.wire import CODE, ERROR, SERVICE_ERROR, SERVICE_ERROR_CODE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.context import Context
    from kitmsg.message import Message
    from kitmsg.schema import Signature
    from kitmsg.transport.typed import Decode, Encode

__all__ = [
    "decode_error",
    "decode_request",
    "decode_response",
    "encode_error",
    "encode_request",
    "encode_response",
]

_RESULT = "v"
_ERROR = "err"

_to_json = JSON.encoder(Any)
_from_json = msgspec.json.Decoder().decode


def decode_request(signature: Signature) -> Decode:
    """Return a decoder of requests, as ``json.Unmarshal`` would read them.

    It raises `InvalidArgument` for a body that is no JSON or does not fit, naming the
    field.
    """
    info = mi.type_info(signature.request)
    convert = filled(lambda value: msgspec.convert(value, signature.request), info)

    def decode(ctx: Context, message: Message) -> Any:
        ctx.codec = JSON
        try:
            value = _from_json(message.data or b"{}")
            return convert(_shaped(value, info))
        except DECODE_ERRORS as exc:
            raise translate(exc, "json") from exc

    return decode


def encode_response(signature: Signature) -> Encode:
    """Return an encoder of results: an object as it is, anything else under ``v``."""
    encode = signature.response_encoder(JSON)
    if _is_object(mi.type_info(signature.response)):
        return lambda _ctx, response: encode(response)
    return lambda _ctx, response: b'{"%b":%b}' % (_RESULT.encode(), encode(response))


def encode_error(
    ctx: Context, error: BaseException, *, raises: Sequence[type[Exception]] = ()
) -> tuple[bytes, bytes]:
    """Return ``{"err": text}``; what is internal says only its id.

    A caller that sent headers, which Go kit's cannot, is a gateway or a client of ours: it
    gets code and name of the error in headers beside.

    Args:
        ctx: The turn's.
        error: What went wrong.
        raises: The exception classes that the endpoint declares; their text is told.
    """
    text = str(error) or type(error).__name__  # "" would mean success
    if not isinstance(error, (KitError, *raises)):
        text = f"internal error (request id {ctx.request_id})"
    block = b""
    if ctx.message is not None and ctx.message.header_block:
        block = encode_headers(_headers(error, text, raises))
    return _to_json({_ERROR: text}), block


def _headers(
    error: BaseException, text: str, raises: Sequence[type[Exception]]
) -> dict[str, str]:
    is_declared = type(error) in raises
    is_plain = is_declared and not hasattr(error, "code")
    code = Code.FAILED_PRECONDITION if is_plain else code_of(error)
    if not is_declared and not isinstance(error, KitError):
        code = Code.INTERNAL
    headers = {
        CODE: code.value,
        SERVICE_ERROR: one_line(text),
        SERVICE_ERROR_CODE: str(code.http),
    }
    return headers | ({ERROR: type(error).__name__} if is_declared else {})


def encode_request(signature: Signature) -> Encode:
    """Return an encoder of requests as bare JSON."""
    encode = signature.request_encoder(JSON)

    def write(ctx: Context, request: Any) -> bytes:
        ctx.codec = JSON
        return encode(request)

    return write


def decode_response(signature: Signature) -> Decode:
    """Return a decoder of replies that are no errors.

    It raises `DataLoss` for a reply that does not fit.
    """
    info = mi.type_info(signature.response)
    convert = filled(lambda value: msgspec.convert(value, signature.response), info)
    is_object = _is_object(info)

    def decode(ctx: Context, message: Message) -> Any:
        try:
            value = _from_json(message.data or b"null")
            if not is_object and isinstance(value, dict):
                value = _folded(value).get(_RESULT)
            return convert(_shaped(value, info))
        except DECODE_ERRORS as exc:
            problem = translate(exc, "json")
            raise DataLoss(
                f"the reply of {ctx.endpoint} does not fit: {problem}"
            ) from exc

    return decode


def decode_error(_ctx: Context, message: Message) -> Exception | None:
    """Return the failure that a reply tells of: a non-empty text under ``err``.

    Its code is `Unknown`, unless a header tells it.
    """
    if b'"' + _ERROR.encode() not in message.data.lower():
        return None
    try:
        value = _from_json(message.data)
    except DECODE_ERRORS:
        return None  # `decode_response` says what is wrong
    text = _folded(value).get(_ERROR) if isinstance(value, dict) else None
    if not isinstance(text, str) or not text:
        return None
    named = message.headers.get(CODE, "") if message.header_block else ""
    known = named in Code.__members__.values()
    return error_for(Code(named) if known else Code.UNKNOWN, text)


def _folded(value: dict[str, Any]) -> dict[str, Any]:
    return {key.lower(): item for key, item in value.items()}


def _is_object(info: mi.Type) -> bool:
    return isinstance(
        info, (mi.StructType, mi.DataclassType, mi.TypedDictType, mi.DictType)
    )


def _shaped(value: Any, info: mi.Type) -> Any:
    """Return `value` with the keys that `info` wants, whatever their case, and no others."""
    if isinstance(info, (mi.StructType, mi.DataclassType)) and isinstance(value, dict):
        return _fields(value, info)
    if isinstance(info, mi.ListType) and isinstance(value, list):
        return [_shaped(item, info.item_type) for item in value]
    if isinstance(info, mi.DictType) and isinstance(value, dict):
        return {key: _shaped(item, info.value_type) for key, item in value.items()}
    if isinstance(info, mi.UnionType) and value is not None:
        kinds = [t for t in info.types if not isinstance(t, mi.NoneType)]
        return _shaped(value, kinds[0]) if len(kinds) == 1 else value
    return _zero(info) if value is None else value


def _fields(value: dict[str, Any], info: mi.StructType | mi.DataclassType) -> Any:
    given = _folded(value)
    shaped = {}
    for field in info.fields:
        name = field.encode_name
        if name in value or name.lower() in given:
            found = value[name] if name in value else given[name.lower()]
            shaped[name] = _shaped(found, field.type)
        elif field.required:
            shaped[name] = _zero(field.type)
    return shaped


_ZEROS: dict[type[mi.Type], Any] = {
    mi.IntType: 0,
    mi.FloatType: 0.0,
    mi.StrType: "",
    mi.BoolType: False,
    mi.BytesType: "",
    mi.ListType: [],
    mi.SetType: [],
    mi.VarTupleType: [],
    mi.DictType: {},
    mi.DecimalType: str(decimal.Decimal(0)),
    mi.UUIDType: str(uuid.UUID(int=0)),
    mi.DateTimeType: datetime.datetime.min.replace(tzinfo=datetime.UTC).isoformat(),
}


def _zero(info: mi.Type) -> Any:
    """Return what a missing field is in Go: the zero value of its type."""
    if isinstance(info, (mi.StructType, mi.DataclassType)):
        return _fields({}, info)
    return _ZEROS.get(type(info))
