"""The seam between hot paths and tracing: an operation for each endpoint, a span for a call.

A caller, a server or a door asks `kitmsg.tracing.tracer` once for its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kitmsg.errors import Code
from kitmsg.message import Message

__all__ = ["Attributes", "Operation", "Span", "Token", "Tracer", "TurnSpan"]

Attributes = Mapping[str, "str | int | float | bool"]
Token = Any
"""Token of `Span.enter`, for `Span.leave`."""


class TurnSpan(Protocol):
    """The span of a turn; its methods do nothing where it is not sampled."""

    @property
    def is_live(self) -> bool:
        """Whether what is written to it is kept."""
        ...

    def happened(self, name: str, attributes: Attributes) -> None:
        """Add an event, now."""
        ...

    def gathered(self) -> str:
        """Return the spans so far of a call that asked for them, as a header; else ""."""
        ...

    @property
    def gathers(self) -> bool:
        """Whether the spans of this call go back to its caller."""
        ...

    def finish(
        self, code: Code | None = None, text: str = "", *, is_business: bool = False
    ) -> None:
        """End it; more than once does nothing.

        Args:
            code: Of the error that ended the work; None for a success.
            text: Of the error.
            is_business: Whether the endpoint declares the error.
        """
        ...


class Span(TurnSpan, Protocol):
    """A span that kitmsg began; its methods do nothing where it is not sampled."""

    def line(self) -> bytes:
        """Return the headers that make a message's turn its child, and a block's end."""
        ...

    def headers(self) -> dict[str, str]:
        """Return the headers that make a request's work its child."""
        ...

    def enter(self, *, is_call: bool = False) -> Token:
        """Make it the current span of the task.

        Args:
            is_call: Whether inner layers make the call that it is of; see
                `Operation.current`.
        """
        ...

    def leave(self, token: Token) -> None:
        """Make the span before it the current one again."""
        ...

    def note(self, name: str, value: str | float | bool) -> None:
        """Set an attribute."""
        ...

    def rename(self, name: str) -> None:
        """Give this span, and no other of its operation, another name."""
        ...

    def gather(self, text: str) -> None:
        """Take the spans that a reply brought in a header."""
        ...

    def answered(self, status: int) -> None:
        """End it with an HTTP status."""
        ...


class Operation(Protocol):
    """Spans of one kind, such as the client calls of one endpoint."""

    def begin(self, carrier: Mapping[str, str] = {}) -> Span:
        """Begin a span below the current one.

        Args:
            carrier: Headers by name, that say below which where there is no current one.
        """
        ...

    def unsampled(self) -> bytes:
        """Return the headers of a call that is in no trace to be kept; b"" for others.

        For those `begin` follows at once.
        """
        ...

    def brief(self) -> bytes | tuple[bytes, Any] | None:
        """Begin a span that nobody can ask for, in a call that runs no code of users.

        Returns:
            The headers of its message, and what `end` or `whole` take; the headers alone
            for a span that is not kept; None where a span of `begin` is needed.
        """
        ...

    def end(self, brief: Any) -> None:
        """End a span of `brief` that went well."""
        ...

    def whole(self, brief: Any) -> Span:
        """Return a span of `brief` as one of `begin`, of which something is to be told."""
        ...

    def current(self) -> Span | None:
        """Return the span of this very call that an outer layer began; None without one."""
        ...

    def receive(self, message: Message, wait: float) -> TurnSpan:
        """Begin the span of a turn, below what its message says, and enter it.

        Args:
            message: The request.
            wait: Seconds that it was in the mailbox.
        """
        ...

    @property
    def leave(self) -> Callable[[], TurnSpan] | None:
        """Does as `receive` for a turn of a trace that is not kept and has no ids yet.

        None where `receive` has to look at the message.
        """
        ...

    def accept(
        self, carrier: Mapping[str, Sequence[str] | str], *, is_public: bool = False
    ) -> Span:
        """Begin the span of a request at a door, and enter it.

        Args:
            carrier: Its headers, by name.
            is_public: Whether a stranger asks: its trace is linked, not continued, and
                its baggage does not count.
        """
        ...


class Tracer(Protocol):
    """Maker of operations."""

    def client(self, name: str, attributes: Attributes) -> Operation:
        """Return the operation of calls that are made."""
        ...

    def server(self, name: str, attributes: Attributes) -> Operation:
        """Return the operation of calls that are served."""
        ...

    def producer(self, name: str, attributes: Attributes) -> Operation:
        """Return the operation of messages that are stored."""
        ...

    def consumer(self, name: str, attributes: Attributes) -> Operation:
        """Return the operation of deliveries."""
        ...

    def flush(self, timeout: float) -> bool:
        """Export what has ended, in `timeout` seconds; False if there is no time."""
        ...
