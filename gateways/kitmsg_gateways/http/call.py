"""One call: its time and headers from the request, the response or a problem from the reply.

Hot path: a JSON body and a JSON reply pass as the bytes they are.  Only headers named here
cross, and only if they are printable ASCII.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, RAW, Codec, by_content_type
from kitmsg.context import Context, new_request_id
from kitmsg.errors import InvalidArgument, KitError
from kitmsg.transport import gokit
from kitmsg.wire import (
    AUTHORIZATION,
    B3,
    CONTENT_TYPE,
    ERROR,
    IDEMPOTENCY_KEY,
    REQUEST_ID,
    reply_fields,
)
from kitmsg_gateways.edge import calls
from kitmsg_gateways.edge.calls import add_header, add_trace, has_begun
from kitmsg_gateways.edge.spans import OUTSIDE, TRACES
from kitmsg_gateways.http.aiohttp_parts import Brief
from kitmsg_gateways.http.errors import GOKIT_TYPE, Problem, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multidict import MultiMapping

    from kitmsg.auth import Principal
    from kitmsg.message import Message
    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.visit import Visit

__all__ = [
    "ask",
    "asked_timeout",
    "fields_of",
    "given_by",
    "problem_of",
    "request_codec",
    "request_id",
    "response",
]

_log = logging.getLogger("kitmsg_gateways.http")

_IDEMPOTENCY: Final = "Idempotency-Key"
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,30})?", re.ASCII)
MIN_SECONDS: Final = 0.001
MAX_SECONDS: Final = 999_999_999_999
_MILLISECONDS: Final = re.compile(r"\d{1,15}", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(\s*;[\x20-\x7e]*)?", re.ASCII)
_OK: Final = 200
_NO_CONTENT: Final = 204
_BAD_GATEWAY: Final = 502
_NULLS: Final = frozenset({b"null", b"\xc0"})
_OCTETS: Final = RAW.content_type
_JSON_TYPE: Final = JSON.content_type
_NOSNIFF: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# What a browser may run: a page of a service is on the origin of all the others, and of
# the docs page, so it is shown without scripts and without that origin.
_PASSIVE: Final = frozenset({_OCTETS, _JSON_TYPE, MSGPACK.content_type, "text/plain"})
_SANDBOX: Final = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_is_json: Final = msgspec.json.Decoder(msgspec.Raw).decode


def request_id(headers: Mapping[str, str]) -> str:
    """Return the request id that came with a request; else a new one."""
    given = headers.get("X-Request-Id") or headers.get(REQUEST_ID)
    return calls.request_id(given) if given else new_request_id()


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
        raise refusal(
            415,
            f"Content-Type {named[:80]!r} is not understood; send JSON with"
            " 'Content-Type: application/json' (curl --json does)",
            field=CONTENT_TYPE,
            headers={
                "Accept": f"{JSON.content_type}, {MSGPACK.content_type}, {_OCTETS}"
            },
        ) from None


def asked_timeout(headers: MultiMapping[str]) -> float | None:
    """Return the seconds that a client gives, if it says.

    The nearer of ``Request-Timeout`` (seconds) and ``X-Request-Timeout-Ms`` counts.

    Raises:
        InvalidArgument: A header is no positive number, or came twice; it is named.
    """
    asked = None
    if "Request-Timeout" in headers:
        asked = _positive(headers, "Request-Timeout", _SECONDS)
    if "X-Request-Timeout-Ms" in headers:
        other = _positive(headers, "X-Request-Timeout-Ms", _MILLISECONDS) / 1000
        asked = other if asked is None else min(asked, other)
    return asked


def _positive(headers: MultiMapping[str], name: str, pattern: re.Pattern[str]) -> float:
    given = headers.getall(name)
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


def fields_of(visit: Visit, options: GatewayOptions) -> dict[str, str]:
    """Return the headers with which the call of a request goes to its service.

    Raises:
        InvalidArgument: ``Authorization`` is not printable ASCII, or came twice.
    """
    headers = visit.request.headers
    fields = {REQUEST_ID: visit.id}
    if visit.span is None:  # else what the service gets is a child of it
        _pass_traces(fields, headers, OUTSIDE if visit.is_outside else TRACES)
    if _IDEMPOTENCY in headers:
        given = [one.strip('"') for one in headers.getall(_IDEMPOTENCY)]
        add_header(fields, IDEMPOTENCY_KEY, given, f"header {_IDEMPOTENCY}")
    if options.forward_authorization and AUTHORIZATION in headers:
        add_header(fields, AUTHORIZATION, headers.getall(AUTHORIZATION))
    return fields


def _pass_traces(
    fields: dict[str, str], headers: MultiMapping[str], names: Sequence[str]
) -> None:
    has_b3 = "b3" in headers or "x-b3-traceid" in headers
    for name in names if has_b3 else names[: -len(B3)]:
        if name in headers:
            add_trace(fields, name, headers.getall(name))


def given_by(callers: Callers, headers: MultiMapping[str]) -> Mapping[str, str] | None:
    """Return the headers of a request that the gateway's rules go by.

    Raises:
        InvalidArgument: One came more than once, or is not printable ASCII.
    """
    if not callers.headers:
        return None
    return callers.given(lambda name: headers.getall(name, ()))


async def ask(
    callers: Callers,
    mounted: Mounted,
    codec: Codec,
    data: bytes,
    *,
    seconds: float,
    fields: dict[str, str],
    principal: Principal | None = None,
    given: Mapping[str, str] | None = None,
) -> Message:
    """Call an endpoint and return its reply, which is no error.

    Args:
        callers: Of the gateway.
        mounted: The endpoint.
        codec: How `data` is encoded.
        data: The request.
        seconds: That are left for it.
        fields: Headers of the call; see `fields_of`.
        principal: The client, which the gateway vouches for; None when unknown.
        given: Its headers that rules go by; see `given_by`.

    Raises:
        Problem: The call failed, or the service answered with an error.
    """
    caller = callers.of(mounted)
    ctx = callers.context(caller, codec, seconds, fields, principal, given)
    try:
        return await caller.send(ctx, data)
    except KitError as exc:
        raise problem_of(caller.explained(ctx, exc), mounted, codec) from exc


def response(reply: Message, mounted: Mounted, codec: Codec, id_: str) -> web.Response:
    """Return the HTTP response that a reply stands for."""
    status, block = mounted.status, reply.header_block
    answer: web.Response
    if not reply.data or (mounted.gives_nothing and reply.data in _NULLS):
        headers = {"X-Request-Id": id_, **_NOSNIFF}
        status = _NO_CONTENT if status == _OK else status
        answer = web.Response(status=status, headers=headers)
    elif codec is JSON and not block and mounted.is_kit and mounted.wire == "kit":
        answer = Brief(reply.data, _JSON_TYPE, id_)  # nearly always
        if status == _OK:
            return answer
    else:
        # Go's encoder ends what it writes with a line end.
        tail = b"\n" if mounted.wire == "gokit" else b""
        answer = Brief(reply.data + tail, _media_type(reply, mounted, codec), id_)
    if status != _OK and type(answer) is Brief:
        headers = {**answer.headers}
        answer = web.Response(status=status, headers=headers, body=answer.body)
    if block and mounted.is_kit:
        for name, value in reply_fields(reply).items():
            answer.headers[name.title()] = value
    if block and answer.body and answer.content_type not in _PASSIVE:
        answer.headers["Content-Security-Policy"] = _SANDBOX
    return answer


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


def problem_of(
    error: KitError, mounted: Mounted, codec: Codec, *, is_head: bool = True
) -> Problem:
    """Return the problem that stands for a failed call.

    "Unavailable" is 503 where the work never began, so that a proxy may send the request
    again, and 502 where it may have begun.

    Args:
        error: As the call raised it.
        mounted: The endpoint.
        codec: How the request was encoded.
        is_head: Whether it is the status of a response, which a proxy may act on; what
            ends a response that has begun is for its reader.
    """
    problem = Problem.of(error)
    if is_head and has_begun(error):
        problem.status = _BAD_GATEWAY
    reply = error.reply
    if reply is None:
        return problem
    if mounted.wire == "gokit" and gokit.decode_error(Context(), reply) is not None:
        problem.is_gokit = True
        return problem
    if mounted.is_kit:
        problem.headers |= {k.title(): v for k, v in reply_fields(reply).items()}
    problem.error = reply.headers.get(ERROR, "")
    problem.details = _details(reply, codec)
    return problem


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
