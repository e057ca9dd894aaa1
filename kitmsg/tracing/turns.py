"""Spans of nearly all calls: nothing but ids and times until somebody looks.

Hot path: a `Turn` or an `OffTurn` for each request with a trace and nothing else, a `Brief`
for each call that is kept.  They are no spans of OpenTelemetry's, which would take longer
than all the rest; the one that users' code finds in its context is made when it looks.
"""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from time import time_ns
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import msgspec
from opentelemetry.context import Context

from kitmsg.tracing.conventions import OK
from kitmsg.tracing.spans import NOWHERE, SPAN, RecordedSpan, Unsampled

if TYPE_CHECKING:
    from kitmsg.errors import Code
    from kitmsg.tracing.operations import RecordedOperation
    from kitmsg.tracing.seam import Attributes

__all__ = ["Brief", "Ended", "KeptContext", "OffTurn", "Turn", "TurnContext"]

# Places in a block that ends with a trace.
_TRACE, _PARENT, _LINE = slice(-56, -24), slice(-23, -7), slice(-72, None)
_making: Final = threading.Lock()


# No cycle leads through these, and thousands may wait to be exported: the garbage collector
# need not look at them.


class Brief(msgspec.Struct, gc=False, eq=False):
    """The span of a call that went well, or may yet.

    Attributes:
        operation: Whose span it is.
        trace: Trace id, of a root in bytes, else in hexadecimal.
        own: Span id, in bytes.
        parent: Span id of its parent, in hexadecimal; "" for a root.
        start: Nanoseconds since the epoch.
        stop: Likewise; 0 while it goes on.
    """

    operation: RecordedOperation
    trace: bytes | str
    own: bytes
    parent: str
    start: int
    stop: int = 0

    def span(self) -> RecordedSpan:
        """Return it as a span that has more to tell."""
        trace = self.trace
        text = trace if isinstance(trace, str) else trace.hex()
        ids = text.encode(), self.own.hex().encode()
        made = RecordedSpan(*ids, NOWHERE, self.operation, self.parent.encode(), b"01")
        made.start, made.stop = self.start, self.stop
        made.code = OK if self.stop else ""
        return made


class Turn(msgspec.Struct, gc=False, eq=False):
    """The turn of a request with nothing but a trace, which is kept.

    Attributes:
        operation: Whose span it is.
        trace: Trace id.
        parent: Span id of the caller's.
        own: Its span id.
        start: Nanoseconds since the epoch.
        wait: Seconds in the mailbox, which are part of it.
        stop: As `start`; 0 while it goes on.
    """

    operation: RecordedOperation
    trace: bytes
    parent: bytes
    own: int
    start: int
    wait: float
    stop: int = 0
    # Once somebody looked, all that is told of it.
    _span: RecordedSpan | None = None

    is_live: ClassVar[bool] = True
    gathers: ClassVar[bool] = False

    def ids(self) -> tuple[str, str]:
        """Return trace id and span id, in hexadecimal."""
        return self.trace.hex(), f"{self.own:016x}"

    def span(self) -> RecordedSpan:
        """Return it as a span that has more to tell; the same one each time."""
        with _making:  # the turn's thread may look while its time runs out
            made = self._span
            if made is None:
                made = self._span = self._made()
        return made

    def _made(self) -> RecordedSpan:
        ids = self.trace.hex().encode(), b"%016x" % self.own
        parent = self.parent.hex().encode()
        made = RecordedSpan(*ids, NOWHERE, self.operation, parent, b"01")
        made.start, made.stop, made.wait = self.start, self.stop, self.wait
        made.code = OK if self.stop else ""
        return made

    def gathered(self) -> str:
        """Return nothing: its caller gets no spans."""
        return ""

    def happened(self, name: str, attributes: Attributes) -> None:
        """Add an event, now."""
        self.span().happened(name, attributes)

    def finish(
        self, code: Code | None = None, text: str = "", *, is_business: bool = False
    ) -> None:
        """End it; see `kitmsg.tracing.seam.TurnSpan`."""
        if code is not None or self._span is not None:
            self.span().finish(code, text, is_business=is_business)
        elif not self.stop:
            self.stop = time_ns()
            self.operation.put(self)


Ended: TypeAlias = "RecordedSpan | Brief | Turn"
"""A span that the pipeline takes."""


class TurnContext(Context):
    """OpenTelemetry's context of a turn: its span is the current one, and nothing else."""

    __slots__ = ()

    def span(self) -> Unsampled:
        """Return the span that users' code sees; called once."""
        raise NotImplementedError

    # Empty until it is read: whatever reads a dict fills it first.

    def _filled(self) -> TurnContext:
        if not dict.__len__(self):
            dict.__setitem__(self, SPAN, self.span())
        return self

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> object:
        return dict.__getitem__(self._filled(), key)

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self._filled(), key)

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self._filled())

    def __eq__(self, other: object) -> bool:
        return dict.__eq__(self._filled(), other)

    __hash__ = None  # type: ignore[assignment]  # as a dict

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return dict.get(self._filled(), key, default)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """Return the keys."""
        return dict.keys(self._filled())

    def values(self) -> ValuesView[object]:  # type: ignore[override]
        """Return the values."""
        return dict.values(self._filled())

    def items(self) -> ItemsView[str, object]:  # type: ignore[override]
        """Return keys and values."""
        return dict.items(self._filled())

    def copy(self) -> dict[str, object]:
        """Return a dict of it."""
        return dict.copy(self._filled())


class OffTurn(TurnContext):
    """The turn of a trace that is not kept, and the context of its work.

    Attributes:
        block: Headers of its request, where the trace stands last; b"" where that begins
            here, until somebody looks.
        operation: Whose span it would be.
    """

    __slots__ = ("block", "operation")

    block: bytes
    operation: RecordedOperation

    is_live: ClassVar[bool] = False
    gathers: ClassVar[bool] = False

    def line(self) -> bytes:
        """Return the headers of a call made in it: a span that is not kept has no id."""
        return (self.block or self._begun())[_LINE]

    def span(self) -> Unsampled:
        """Return the span that users' code sees."""
        block = self.block or self._begun()
        return Unsampled(block[_TRACE], block[_PARENT], NOWHERE, self.operation)

    def _begun(self) -> bytes:
        """Return the headers of the trace that begins here."""
        with _making:
            block = self.block
            if not block:
                block = self.block = self.operation.unkept()
        return block

    def gathered(self) -> str:
        """Return nothing: its caller gets no spans."""
        return ""

    def happened(self, name: str, attributes: Attributes) -> None:
        """Drop an event."""

    def finish(
        self, code: Code | None = None, text: str = "", *, is_business: bool = False
    ) -> None:
        """End it."""


class KeptContext(TurnContext):
    """The context of a turn that is kept.

    Attributes:
        turn: Set once, before others see it.
    """

    __slots__ = ("turn",)

    turn: Turn

    def span(self) -> Unsampled:
        """Return the span of the turn."""
        return self.turn.span()
