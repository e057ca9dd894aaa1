"""Errors as gRPC statuses, and statuses as errors: code, text and rich details.

The details are a ``google.rpc.Status`` in ``grpc-status-details-bin``:

    ErrorInfo    of a declared error: its name, its service, its fields as text
    Any          the same typed, where the service's .proto has a message for it
    BadRequest   the field that was wrong
    RetryInfo    when trying again may help, also as ``grpc-retry-pushback-ms``
    RequestInfo  the request id, as in the service's log, also as ``x-request-id``

Sources: google/rpc/error_details.proto; grpc.io, "Error handling"; gRPC proposal A6 for the
pushback.
"""

from __future__ import annotations

import base64
import contextlib
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from kitmsg.errors import Code, InvalidArgument, KitError, error_for
from kitmsg.wire import reply_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.message import Message

    from kitmsg.message import Message as Reply

__all__ = [
    "DETAILS",
    "REQUEST_ID",
    "Failure",
    "handler_metadata",
    "read_status",
    "status_code",
]

DETAILS: Final = "grpc-status-details-bin"
PUSHBACK: Final = "grpc-retry-pushback-ms"
REQUEST_ID: Final = "x-request-id"
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_MOST_BYTES: Final = 4096  # of details: clients refuse metadata over 8 KiB or so
_MOST_TEXT: Final = 512
_NEVER: Final = "-1"  # do not retry (gRPC proposal A6)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STATUS: Final = {status.value[0]: status for status in grpc.StatusCode}


@dataclass(eq=False)
class Failure(Exception):
    """A failed call, as a gRPC caller sees it.

    Attributes:
        error: Code, text and facts.
        name: Class name of the declared error that it is; "" for none.
        is_business: Whether it is the service's own word, and no failure of the call.
        has_begun: Whether it is "unavailable", and the work may have begun and is not
            idempotent, so that no client library should send the call again by itself.
        service: Name of the service that declares it.
        fields: What the declared error knows, as plain values by name.
        typed: The declared error as a message of the service's .proto; None for none.
    """

    error: KitError
    name: str = ""
    service: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    typed: Message | None = None
    is_business: bool = False
    has_begun: bool = False

    def __post_init__(self) -> None:
        super().__init__(str(self.error))

    @property
    def text(self) -> str:
        """The status message, as the service said it; it may be empty."""
        text = str(self.error)
        is_empty = not self.error.message and text == self.error.code.value
        return "" if is_empty else text

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code."""
        return status_code(self.error.code)

    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the trailing metadata that goes with the status."""
        found: list[tuple[str, str | bytes]] = []
        if _ID.fullmatch(self.error.request_id):
            found.append((REQUEST_ID, self.error.request_id))
        if self.has_begun:
            found.append((PUSHBACK, _NEVER))
        elif self.error.retry_after is not None:
            found.append((PUSHBACK, str(_milliseconds(self.error.retry_after))))
        if self.error.reply is not None:
            found += handler_metadata(self.error.reply)
        details = list(self._details())
        while details:
            status = status_pb2.Status(
                code=self.error.code.grpc, message=self.text, details=details
            )
            data = status.SerializeToString()
            if len(data) <= _MOST_BYTES:
                found.append((DETAILS, data))
                break
            details.pop()  # the longest come last
        return tuple(found)

    def _details(self) -> Iterable[AnyMessage]:
        error = self.error
        if error.request_id:
            yield _any(error_details_pb2.RequestInfo(request_id=error.request_id))
        if error.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(_milliseconds(error.retry_after))
            yield _any(retry)
        if isinstance(error, InvalidArgument) and error.field:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=error.field, description=str(error)
            )
            yield _any(error_details_pb2.BadRequest(field_violations=[violation]))
        if self.name:
            yield _any(
                error_details_pb2.ErrorInfo(
                    reason=reason(self.name),
                    domain=self.service,
                    metadata={key: _text(value) for key, value in self.fields.items()},
                )
            )
        if self.typed is not None:
            yield _any(self.typed)


def status_code(code: Code) -> grpc.StatusCode:
    """Return the gRPC status code that stands for `code`."""
    return _STATUS[code.grpc]


def reason(name: str) -> str:
    """Return the name of an error as `ErrorInfo` spells it: ``OutOfStock``, OUT_OF_STOCK."""
    return _HUMP.sub("_", name).upper()


@dataclass(frozen=True, slots=True)
class Told:
    """Details of a peer's status, beside code and text.

    Attributes:
        error: The error that stands for it.
        reason: Why, in the words of the peer: ``OUT_OF_STOCK``; "" if unsaid.
        domain: Whose reason that is; "" if unsaid.
        metadata: More about it, as text.
        details: Every detail, as it came.
    """

    error: KitError
    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    details: tuple[AnyMessage, ...] = ()


def read_status(
    number: int, text: str, trailers: Iterable[tuple[str, str | bytes]]
) -> Told:
    """Return what a status that a peer ended a call with says.

    Args:
        number: gRPC status number, not 0.
        text: The status message.
        trailers: Trailing metadata; details that cannot be read are left out.
    """
    error = error_for(Code.from_grpc(number), text)
    status = status_pb2.Status()
    for key, value in trailers:
        if key == PUSHBACK and isinstance(value, str) and value.isdecimal():
            error.retry_after = int(value[:12]) / 1000
        elif key == REQUEST_ID and isinstance(value, str) and _ID.fullmatch(value):
            error.request_id = value
        elif key == DETAILS and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                continue
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        _take(detail, error, info)
    return Told(
        error, info.reason, info.domain, dict(info.metadata), tuple(status.details)
    )


def _take(
    detail: AnyMessage, error: KitError, info: error_details_pb2.ErrorInfo
) -> None:
    """Put what `detail` says where it belongs."""
    request = error_details_pb2.RequestInfo()
    retry = error_details_pb2.RetryInfo()
    bad = error_details_pb2.BadRequest()
    try:
        if detail.Unpack(info):
            pass
        elif detail.Unpack(request):
            error.request_id = request.request_id
        elif detail.Unpack(retry):
            error.retry_after = retry.retry_delay.ToMilliseconds() / 1000
        elif detail.Unpack(bad) and isinstance(error, InvalidArgument):
            fields = [violation.field for violation in bad.field_violations]
            error.field = fields[0] if fields else ""
    except DecodeError:
        pass  # what cannot be read is as good as absent


def handler_metadata(reply: Reply) -> list[tuple[str, str | bytes]]:
    """Return the headers that a handler gave its reply, as metadata."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in reply_fields(reply).items():
        if not _KEY.fullmatch(name):
            continue
        if not name.endswith("-bin"):
            found.append((name, value))
            continue
        with contextlib.suppress(ValueError):  # no base64
            found.append((name, base64.b64decode(value, validate=True)))
    return found


def _any(message: Message) -> AnyMessage:
    # Not `Any.Pack`: a field of the message may have the name of a method.
    class_ = type(message)
    return AnyMessage(
        type_url=f"type.googleapis.com/{class_.DESCRIPTOR.full_name}",
        value=class_.SerializeToString(message),
    )


def _milliseconds(seconds: float) -> int:
    # Upwards, but not for what binary fractions add: 32.051 s are 32051 ms.
    return max(0, math.ceil(round(seconds * 1000, 6)))


def _text(value: Any) -> str:
    """Return a field of an error as text: plain where it is one in JSON, else as JSON."""
    plain = msgspec.to_builtins(value, str_keys=True)
    text = plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
    return text[:_MOST_TEXT]
