"""One call over the bus: deadline and headers in, the reply or a problem out.

Hot path: a JSON body and a JSON reply pass as the bytes they are, and the header block is
joined, not built.  Only headers named here cross, and only if they are printable ASCII.
"""

from __future__ import annotations

import logging
import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, RAW, Codec, by_content_type
from kitmsg.context import Context, new_request_id
from kitmsg.errors import Code, InvalidArgument, KitError, NoResponders
from kitmsg.transport import gokit, transfer
from kitmsg.transport.replies import decode_error
from kitmsg.wire import CODE, CONTENT_TYPE, ERROR
from kitmsg_gateways.http.aiohttp_parts import Brief
from kitmsg_gateways.http.errors import GOKIT_TYPE, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDictProxy, MultiMapping

    from kitmsg.auth import Principal
    from kitmsg.bus import Bus
    from kitmsg.message import Message
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.options import GatewayOptions

__all__ = [
    "GONE",
    "ask",
    "asked_timeout",
    "header_block",
    "raise_error",
    "request_codec",
    "request_id",
    "response",
    "timeout_of",
]

_log = logging.getLogger("kitmsg_gateways.http")

CALLER: Final = "gateway.http"
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,30})?", re.ASCII)
MIN_SECONDS: Final = 0.001
MAX_SECONDS: Final = 999_999_999_999
_MILLISECONDS: Final = re.compile(r"\d{1,15}", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(\s*;[\x20-\x7e]*)?", re.ASCII)
_TRACE: Final = ("traceparent", "tracestate", "baggage")
_UNSUPPORTED: Final = 415
_OK: Final = 200
_NO_CONTENT: Final = 204
_NULLS: Final = frozenset({b"null", b"\xc0"})
_OCTETS: Final = RAW.content_type
_NOSNIFF: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
GONE: Final = "it is known, but every instance is full, leaving or gone"
_is_json: Final = msgspec.json.Decoder(msgspec.Raw).decode


def request_id(headers: Mapping[str, str]) -> str:
    """Return the request id that came with a request; else a new one."""
    given = headers.get("X-Request-Id") or headers.get("Kit-Request-Id") or ""
    return given if _ID.fullmatch(given) else new_request_id()


def request_codec(headers: Mapping[str, str], *, has_body: bool) -> Codec:
    """Return the codec of a body; JSON if ``Content-Type`` is absent.

    Args:
        headers: Of the request.
        has_body: Whether there is one; without it an unknown type does not matter.

    Raises:
        Problem: 415 for a type that no service reads.
    """
    named = headers.get(CONTENT_TYPE, "")
    if not named or named == JSON.content_type:
        return JSON
    try:
        return by_content_type(named)
    except InvalidArgument:
        if not has_body:
            return JSON
        raise Problem(
            _UNSUPPORTED,
            Code.INVALID_ARGUMENT,
            f"Content-Type {named[:80]!r} is not understood; send JSON with"
            " 'Content-Type: application/json' (curl --json does)",
            field=CONTENT_TYPE,
            headers={
                "Accept": f"{JSON.content_type}, {MSGPACK.content_type}, {_OCTETS}"
            },
        ) from None


def timeout_of(
    headers: MultiMapping[str], default: float | None, options: GatewayOptions
) -> float:
    """Return the seconds that a call may take.

    Args:
        headers: Of the request; the nearer of ``Request-Timeout`` (seconds) and
            ``X-Request-Timeout-Ms`` counts.
        default: What the endpoint says.
        options: The gateway's default and upper bound.

    Raises:
        InvalidArgument: A header is no positive number, or came twice; it is named.
    """
    asked = asked_timeout(headers) or default or options.timeout
    return min(asked, options.max_timeout)


def asked_timeout(headers: MultiMapping[str]) -> float | None:
    """Return the seconds that a caller gives, if it says; see `timeout_of`.

    Raises:
        InvalidArgument: A header is no positive number, or came twice; it is named.
    """
    asked = [
        _positive(headers.getall(name), name, pattern) / unit
        for name, pattern, unit in (
            ("Request-Timeout", _SECONDS, 1),
            ("X-Request-Timeout-Ms", _MILLISECONDS, 1000),
        )
        if name in headers
    ]
    return min(asked, default=None)


def _positive(given: list[str], name: str, pattern: re.Pattern[str]) -> float:
    if len(given) > 1:
        raise InvalidArgument(f"header {name} came more than once", field=name)
    text = given[0]
    value = float(text) if pattern.fullmatch(text) else 0.0
    is_seconds = pattern is _SECONDS
    if not (MIN_SECONDS if is_seconds else 1) <= value <= MAX_SECONDS:
        kind = f"seconds, {MIN_SECONDS} or more" if is_seconds else "whole milliseconds"
        raise InvalidArgument(
            f"header {name} must be positive {kind}, not {text[:40]!r}", field=name
        )
    return value


async def ask(
    bus: Bus,
    mounted: Mounted,
    data: bytes,
    timeout: float,
    block: bytes,
) -> Message:
    """Send a request to an endpoint and return its reply, be it an error.

    Raises:
        KitError: As `Bus.request`; `NoResponders` with a hint.
    """
    try:
        if mounted.is_kit:
            return await transfer.request(bus, mounted.subject, data, timeout, block)
        return await bus.request(mounted.subject, data, timeout, block)
    except NoResponders as exc:
        # Nobody is asked who is there: it would be done for each of a flood of calls.
        raise NoResponders(mounted.subject, GONE) from exc


def header_block(
    headers: CIMultiDictProxy[str],
    *,
    timeout: float | None,
    request_id: str,
    codec: Codec,
    forward_authorization: bool,
    principal: Principal | None = None,
) -> bytes:
    """Return the header block of a call.

    Args:
        headers: Of the HTTP request.
        timeout: Seconds that are left; None for a stream, which has no limit of ours.
        request_id: Checked already.
        codec: How the request is encoded.
        forward_authorization: Whether ``Authorization`` goes along.
        principal: Who asks, as the gateway found out; None if it does not know.

    Raises:
        InvalidArgument: ``Authorization`` is not printable ASCII, or came twice.
    """
    limit = "" if timeout is None else f"Kit-Timeout: {math.ceil(timeout * 1000)}\r\n"
    lines = [
        f"NATS/1.0\r\n{limit}"
        f"Kit-Request-Id: {request_id}\r\nKit-Caller: {CALLER}\r\n"
        f"Content-Type: {codec.content_type}\r\n"
    ]
    for name in _TRACE:
        if name in headers:
            # A broken trace is dropped, not refused (W3C Trace Context, section 3.2.2).
            given = headers.getall(name)
            value = ",".join(given)
            is_one = len(given) == 1 or name != "traceparent"
            if is_one and _PRINTABLE.fullmatch(value):
                lines.append(f"{name}: {value}\r\n")
    if forward_authorization and "Authorization" in headers:
        given = headers.getall("Authorization")
        if len(given) > 1 or not _PRINTABLE.fullmatch(given[0]):
            raise InvalidArgument(
                "header Authorization must come once, in printable ASCII",
                field="Authorization",
            )
        lines.append(f"Authorization: {given[0]}\r\n")
    if principal is not None:
        lines.append(f"Kit-Principal: {principal.text}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("ascii")


def response(reply: Message, mounted: Mounted, codec: Codec, id_: str) -> web.Response:
    """Return the HTTP response that a reply stands for.

    Args:
        reply: From the endpoint.
        mounted: The endpoint.
        codec: How the request was encoded.
        id_: The request id.

    Raises:
        Problem: The reply tells of an error.
    """
    raise_error(reply, mounted, codec, id_)
    status = mounted.status
    if not reply.data or (mounted.gives_nothing and reply.data in _NULLS):
        headers = {"X-Request-Id": id_, **_NOSNIFF}
        status = _NO_CONTENT if status == _OK else status
        return web.Response(status=status, headers=headers)
    # Go's encoder ends what it writes with a line end.
    tail = b"\n" if mounted.wire == "gokit" else b""
    answer = Brief(reply.data + tail, _media_type(reply, mounted, codec), id_)
    if status != _OK:
        headers = {**answer.headers}
        return web.Response(status=status, headers=headers, body=answer.body)
    return answer


def raise_error(reply: Message, mounted: Mounted, codec: Codec, id_: str) -> None:
    """Raise the problem that a reply tells of, if it does; arguments as `response`.

    Raises:
        Problem: The reply tells of an error.
    """
    if mounted.wire == "gokit":
        failure = gokit.decode_error(Context(), reply)
        if isinstance(failure, KitError):
            problem = Problem.of(failure)
            problem.is_gokit = True
            raise problem
    if reply.header_block:
        _raise_error(reply, mounted, codec, id_)


def _media_type(reply: Message, mounted: Mounted, codec: Codec) -> str:
    if reply.header_block:
        named = reply.headers.get(CONTENT_TYPE, "")
        if named:
            return named if _MEDIA_TYPE.fullmatch(named) else _OCTETS
    if mounted.wire == "gokit":
        return GOKIT_TYPE
    if mounted.is_kit:
        # What is no bytes cannot be raw: `kitmsg.transport.typed` sends msgpack then.
        is_packed = codec is RAW and not mounted.gives_bytes
        return MSGPACK.content_type if is_packed else codec.content_type
    try:
        _is_json(reply.data)
    except DECODE_ERRORS:
        return _OCTETS
    return JSON.content_type


def _raise_error(reply: Message, mounted: Mounted, codec: Codec, id_: str) -> None:
    """Raise the problem that a reply's headers tell of, if they do."""
    error = decode_error(reply, codec=codec, declared={})
    if not isinstance(error, KitError):
        return
    problem = Problem.of(error)
    headers = reply.headers
    problem.error = headers.get(ERROR, "")
    if CODE in headers or problem.code is not Code.INTERNAL:
        problem.details = _details(reply, codec)
    else:
        # A foreign service often sends the text of its exception, which is not for
        # everybody.
        _log.warning(
            "%s.%s failed: %s (request id %s)",
            mounted.service,
            mounted.name,
            error,
            id_,
        )
        problem.detail = (
            f"{mounted.service}.{mounted.name} failed; the gateway's log says more"
            f" under request id {id_}"
        )
    raise problem


def _details(reply: Message, codec: Codec) -> Any:
    """Return what an error brings beside its text: the fields of a typed one."""
    if not reply.data:
        return None
    named = reply.headers.get(CONTENT_TYPE)
    try:
        used = codec if named is None else by_content_type(named)
        if used is JSON:
            return _is_json(reply.data)
        return msgspec.msgpack.decode(reply.data) if used is MSGPACK else None
    except (*DECODE_ERRORS, KitError):
        return None
