"""What crosses beside the request: chosen metadata to headers, deadlines, request ids.

Hot path.  Only keys named here or in the options cross, only once each, and only if they
are printable ASCII; the header block is joined, not built.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.context import new_request_id
from kitmsg.errors import DeadlineExceeded, InvalidArgument
from kitmsg_gateways.grpc.status import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["CALLER", "Forwarding", "timeout_of"]

CALLER: Final = "gateway.grpc"
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_OURS: Final = ("kit-", "nats-", "grpc-", "content-", ":")


class Forwarding:
    """Which metadata goes to services, under which header.

    Args:
        options: Those of the gateway.

    Raises:
        ValueError: A key to forward is no key of text, or is the protocol's own.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._names = {
            "traceparent": "traceparent",
            "tracestate": "tracestate",
            "baggage": "baggage",
            REQUEST_ID: "",
            "kit-request-id": "",
        }
        if options.forward_authorization:
            self._names["authorization"] = "Authorization"
        for key in options.forward_metadata:
            self._names[_forwardable(key)] = key

    def block(
        self, given: Iterable[Any], timeout: float | None, codec: str
    ) -> tuple[bytes, str, bool]:
        """Return the header block of a call, its request id, and whether that was given.

        Args:
            given: Metadata of the call: pairs of key and value.
            timeout: Seconds that are left; None for a stream without an end.
            codec: Media type of the request.

        Raises:
            InvalidArgument: ``authorization`` or a key of the user's is not printable
                ASCII, or came twice.
        """
        lines = ""
        request_id = ""
        names = self._names
        for key, value in given:
            if key in names:
                if not names[key]:
                    request_id = value if _ID.fullmatch(value) else request_id
                else:
                    lines += _line(names[key], key, value, lines)
        is_given = bool(request_id)
        request_id = request_id or new_request_id()
        if timeout is not None:
            lines += f"Kit-Timeout: {math.ceil(timeout * 1000)}\r\n"
        head = (
            f"NATS/1.0\r\nKit-Request-Id: {request_id}\r\nKit-Caller: {CALLER}\r\n"
            f"Content-Type: {codec}\r\n{lines}\r\n"
        )
        return head.encode("ascii"), request_id, is_given


def _line(name: str, key: str, value: str, before: str) -> str:
    """Return a header line; "" for a trace that cannot be passed on."""
    if _PRINTABLE.fullmatch(value) and f"{name}: " not in before:
        return f"{name}: {value}\r\n"
    if key in ("traceparent", "tracestate", "baggage"):
        # A broken trace is dropped, not refused (W3C Trace Context, section 3.2.2).
        return ""
    raise InvalidArgument(
        f"metadata {key} must come once, in printable ASCII", field=key
    )


def _forwardable(key: str) -> str:
    lower = key.lower()
    if (
        not _KEY.fullmatch(lower)
        or lower.endswith("-bin")
        or lower.startswith(_OURS)
        or lower == "authorization"
    ):
        raise ValueError(
            f"forward_metadata: {key!r} cannot be forwarded; name a key of text that is"
            " not the protocol's own (authorization has an option of its own)"
        )
    return lower


def timeout_of(
    left: float | None, default: float | None, options: GatewayOptions
) -> float:
    """Return the seconds that a call may take.

    Args:
        left: What is left of the client's deadline; None without one.
        default: What the endpoint says.
        options: The gateway's default and upper bound.

    Raises:
        DeadlineExceeded: Nothing is left.
    """
    if left is None:
        left = default or options.timeout
    elif left <= 0:
        raise DeadlineExceeded("the call took all its time to arrive")
    return min(left, options.max_timeout)
