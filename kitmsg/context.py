"""Context of a request: deadline, metadata, identity, trace.

One slotted, mutable object per turn, because it is made for every call.  Middlewares that
want other facts downstream copy it with `evolve`.
"""

from __future__ import annotations

import base64
import itertools
import re
import secrets
from collections import UserDict
from contextvars import ContextVar
from typing import Any, Final, Self

import msgspec

from kitmsg.codec import Codec
from kitmsg.errors import InvalidArgument
from kitmsg.message import EMPTY_HEADERS, Headers, Message
from kitmsg.tracing.seam import TurnSpan
from kitmsg.wire import B3, CALLER, PRINCIPAL, REQUEST_ID, TRACE, is_reply_name

__all__ = [
    "NOWHERE",
    "PROPAGATED",
    "Context",
    "ReplyFields",
    "current",
    "enter",
    "entered",
    "new_request_id",
]

PROPAGATED: Final = (*TRACE, *B3, REQUEST_ID)
"""Headers that a nested call passes on unchanged (W3C Trace Context, W3C Baggage, B3)."""

_TRACES = (b"trace", b"baggage", b"\r\nb3:", REQUEST_ID.lower().encode())


_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")

_PROCESS: Final = secrets.token_hex(4)
_count = itertools.count()


def new_request_id() -> str:
    """Return 16 hexadecimal digits: eight of this process, then a count.  No secret."""
    return f"{_PROCESS}{next(_count) & 0xFFFFFFFF:08x}"


class ReplyFields(UserDict[str, str]):
    """Headers of a reply; names are kept in lower case.

    A value is printable ASCII, or bytes where the name ends in ``-bin``: those are base64
    text, and bytes again over gRPC.

    Setting one raises `InvalidArgument` for a name that belongs to kitmsg, NATS, HTTP or
    gRPC, or a value that no header can carry.
    """

    def __setitem__(self, name: str, value: str | bytes) -> None:
        key = name.lower()
        if not is_reply_name(key):
            raise InvalidArgument(
                f"reply[{name!r}]: a handler cannot set this header; it is no token, or"
                " kitmsg, NATS, HTTP or gRPC set it"
            )
        if isinstance(value, bytes) and key.endswith("-bin"):
            value = base64.b64encode(value).decode()
        if not (isinstance(value, str) and _VALUE.fullmatch(value)):
            raise InvalidArgument(
                f"reply[{name!r}] must be printable ASCII without spaces around it"
                f" (bytes where the name ends in -bin), not {value!r}"
            )
        super().__setitem__(key, value)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self.data


# A Struct, because one is made for every call: it takes a quarter of the time.
class Context(msgspec.Struct, eq=False, kw_only=True):
    """Facts about one request.

    Attributes:
        deadline: Absolute time on the event loop's clock, in seconds; None for none.
        endpoint: Dotted name of the endpoint that is called, such as ``greeter.hello``, on
            both sides; "" in code that is no call.
        metadata: Headers that a client sends along with its call, by name.
        message: The message that carries the request; None on the calling side.
        principal: The caller (`kitmsg.auth.Principal`): verified from ``Kit-Principal`` by
            the server, or found by an auth middleware; None when unknown.
        propagates: Whether a nested call passes on trace, baggage and request id.
        codec: How the request was encoded, and so how the answer will be; None until
            the request is decoded.
    """

    deadline: float | None = None
    endpoint: str = ""
    metadata: dict[str, str] = {}
    message: Message | None = None
    principal: Any = None
    propagates: bool = True
    codec: Codec | None = None
    _request_id: str = ""
    _caller: str = ""
    _origin: Context | None = None  # the context this is a copy of
    _reply: ReplyFields | None = None  # made when a handler first asks for it
    # Of the turn, where it is traced: then trace and baggage are OpenTelemetry's context's.
    _span: TurnSpan | None = None

    def remaining(self, now: float) -> float | None:
        """Return the seconds left at `now`, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - now)

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with other values for the attributes named in `changes`."""
        copy = type(self)(
            deadline=self.deadline,
            endpoint=self.endpoint,
            metadata=self.metadata,
            message=self.message,
            principal=self.principal,
        )
        copy.propagates = self.propagates
        copy.codec = self.codec
        copy._origin = self._origin or self  # noqa: SLF001
        copy._caller = self._caller  # noqa: SLF001
        copy._span = self._span  # noqa: SLF001
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy

    @property
    def headers(self) -> Headers:
        """Headers that came with the request; empty on the calling side."""
        return EMPTY_HEADERS if self.message is None else self.message.headers

    @property
    def reply(self) -> ReplyFields:
        """Headers that go with the reply, an error's too; for a handler to set.

        ``current().reply["x-served-by"] = "eu-1"`` is a header of the reply on the bus and
        over HTTP, and metadata over gRPC.  Outside a turn they go nowhere.
        """
        if self is NOWHERE:
            return ReplyFields()
        if self._origin is not None:
            return self._origin.reply
        if self._reply is None:
            self._reply = ReplyFields()
        return self._reply

    @property
    def request_id(self) -> str:
        """``Kit-Request-Id`` of the request; one is made up when it brought none."""
        if self._origin is not None:
            return self._origin.request_id
        if not self._request_id:
            given = self.headers.get(REQUEST_ID, "")
            self._request_id = given or new_request_id()
        return self._request_id

    @property
    def caller(self) -> str:
        """Dotted name of the calling endpoint (``Kit-Caller``); "" when unknown."""
        if self._caller or self.message is None:
            return self._caller
        return self.message.headers.get(CALLER, "")

    def child(self, endpoint: str) -> Context:
        """Return the context of a call to `endpoint` made from here.

        It has this deadline, this endpoint as its caller, and passes on trace, baggage,
        request id, the principal that was vouched for, and `metadata` set by hand outside
        a turn.
        """
        if self is NOWHERE:
            return Context(endpoint=endpoint)
        fields = dict(self.metadata) if self.message is None else self.propagated()
        if self.principal is not None:
            token = getattr(self.principal, "token", "")
            if token:
                fields[PRINCIPAL] = token
        call = Context(deadline=self.deadline, endpoint=endpoint, metadata=fields)
        call._caller = self.endpoint
        return call

    def propagated(self) -> dict[str, str]:
        """Return the headers that a nested call passes on: trace, baggage, request id.

        A request that brought no id gets one here, so that all it leads to can be found.
        """
        message = self.message
        if message is None or not self.propagates:
            return {}
        block = message.header_block.lower()
        fields: dict[str, str] = {}
        if self._span is None and any(name in block for name in _TRACES):
            # Most calls bring none of them: the headers need not even be parsed.
            headers = message.headers
            fields = {name: headers[name] for name in PROPAGATED if name in headers}
        fields[REQUEST_ID] = self.request_id
        return fields

    @classmethod
    def of_call(
        cls,
        endpoint: str,
        *,
        caller: str,
        deadline: float | None,
        metadata: dict[str, str],
        codec: Codec | None = None,
        principal: Any = None,
    ) -> Self:
        """Return the context of a call that is no part of a turn, such as a gateway's.

        Args:
            endpoint: Dotted name of the endpoint that is called.
            caller: Who calls, as ``Kit-Caller`` says it.
            deadline: On the event loop's clock, in seconds; None for none.
            metadata: Headers of the call; owned by the context from now on.
            codec: How its request is encoded, where that is known.
            principal: Who calls there; None when unknown.
        """
        return cls(
            deadline=deadline,
            endpoint=endpoint,
            metadata=metadata,
            principal=principal,
            codec=codec,
            _caller=caller,
        )

    def __repr__(self) -> str:
        return f"Context(endpoint={self.endpoint!r}, deadline={self.deadline!r})"


_current: ContextVar[Context] = ContextVar("kitmsg.context")
NOWHERE: Final = Context()
"""The context outside any turn; see `entered`."""

enter = _current.set
"""Make a context the current one of the running task."""

entered = _current.get
"""Return the current context of the running task; the argument outside any turn."""


def current() -> Context:
    """Return the context of the turn that runs; an empty one outside any turn."""
    return _current.get(NOWHERE)
