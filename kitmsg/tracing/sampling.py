"""``OTEL_TRACES_SAMPLER``: which new traces are kept, and their ids.

Ids are drawn, and judged, many at a time: a call that begins a trace takes the next one.
OpenTelemetry's "Environment Variable Specification", and its ``TraceIdRatioBased``: the low
64 bits of the trace id are compared with a share of their range, so that every process
decides alike.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from random import getrandbits, randrange
from typing import Final, TypeAlias

from kitmsg.errors import InvalidArgument
from kitmsg.wire import UNKEPT

__all__ = ["Draws", "Kept", "Sampling", "ids_of", "sampling_of"]

_BITS: Final = 64
_RANGE: Final = 1 << _BITS
_BATCH: Final = 256
_HALF: Final = 8  # bytes of half a trace id, and of a span id
_PLACES: Final = range(0, _BATCH * 2 * _HALF, 2 * _HALF)
_TEXT: Final = b"traceparent: 00-%b%b-%b-00\r\n\r\n"
_TRACE, _OWN, _FLAGS_FROM = slice(16, 48), slice(49, 65), 66
_LOWS: Final = struct.Struct(f">{_BATCH}Q").unpack
_MOSTLY: Final = (
    _RANGE >> 3
)  # a share; of less, those that are not kept are drawn alone
_HALVES: Final = struct.Struct("16s16s" * _BATCH).unpack
_LINES: Final = struct.Struct("72s" * _BATCH).unpack
_SHARES: Final = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}


Kept: TypeAlias = "tuple[bytes, bytes, bytes]"
"""A new trace that is kept: the headers of a message below its first span, with the block's
end; trace id and span id.
"""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The traces that are kept.

    Attributes:
        bound: A trace is kept if the low 64 bits of its id are under it.
        follows_parent: Whether a caller's decision counts, where there is one.
    """

    bound: int = _RANGE
    follows_parent: bool = True


def sampling_of(environ: Mapping[str, str] = os.environ) -> Sampling | None:
    """Return the sampling that the environment names; None for one of a plugin.

    Raises:
        InvalidArgument: ``OTEL_TRACES_SAMPLER_ARG`` is no share of 1.
    """
    named = environ.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").strip().lower()
    kind = named.removeprefix("parentbased_")
    if kind not in _SHARES:
        return None
    share = _SHARES[kind]
    if share is None:
        text = environ.get("OTEL_TRACES_SAMPLER_ARG", "") or "1"
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise InvalidArgument(
                f"OTEL_TRACES_SAMPLER_ARG must be a share from 0 to 1, not {text!r}"
            )
    return Sampling(round(share * _RANGE), kind != named)


class Draws:
    """New traces of a process.

    Used by any thread: each takes from the end of one list, and fills it if it is empty.

    Attributes:
        pop: Does as `mark`, but raises an `IndexError` where that would draw more.
    """

    def __init__(self, sampling: Sampling) -> None:
        # Numbers of one length are in the order of their hexadecimal text; "g" is beyond.
        bound = self._limit = sampling.bound
        self._bound = b"%016x" % bound if bound < _RANGE else b"g"
        self._drawn: list[bytes | Kept] = []
        self._marks: list[bytes | Kept] = []
        self.pop = self._marks.pop
        # A forked process must not begin the same traces as its parent.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._drawn.clear)
            os.register_at_fork(after_in_child=self._marks.clear)

    def next(self) -> bytes | Kept:
        """Return a trace that nobody else gets; of one that is not kept just the headers."""
        try:
            return self._drawn.pop()
        except IndexError:
            self._drawn.extend(self._draw())
            return self.next()

    def mark(self) -> bytes | Kept:
        """Do as `next` for a trace that tells nobody its ids unless it is kept.

        One that is not has none: its headers are `kitmsg.wire.UNKEPT`.
        """
        try:
            return self.pop()
        except IndexError:
            self._marks.extend(self._judge())
            return self.mark()

    def is_unkept(self) -> bool:
        """Tell whether the next trace is not kept; of one that is, `next` gives the ids."""
        draw = self.mark()
        if isinstance(draw, bytes):
            return True
        self.put_back(draw)
        return False

    def unkept(self) -> bytes:
        """Return the headers of a trace that is not kept: somebody else decided so."""
        limit = self._limit % _RANGE  # where all are kept, no id tells that one is not
        low = limit + randrange(_RANGE - limit)  # noqa: S311  an id, no secret
        ids = getrandbits(_BITS), low, getrandbits(_BITS) or 1
        return b"traceparent: 00-%016x%016x-%016x-00\r\n\r\n" % ids

    def put_back(self, draw: bytes | Kept) -> None:
        """Keep a trace for who asks next."""
        self._drawn.append(draw)

    def _draw(self) -> list[bytes | Kept]:
        """Return a batch of traces, whose ids differ in the low half, as good as all of it.

        The text of all is made at once: alone, each would take twice the time.
        """
        bound = self._bound
        high, rest = os.urandom(_HALF), os.urandom(_BATCH * 2 * _HALF)
        halves: tuple[bytes, ...] = _HALVES(rest.hex().encode())
        text = _TEXT % (high.hex().encode(), b"%b", b"%b") * _BATCH
        lines: tuple[bytes, ...] = _LINES(text % halves)
        lows = halves[::2]
        if min(lows) >= bound:
            return list(lines)
        return [
            line if low >= bound else _kept(line, high, rest[at : at + 2 * _HALF])
            for line, low, at in zip(lines, lows, _PLACES, strict=True)
        ]

    def _judge(self) -> list[bytes | Kept]:
        """Return a batch for `mark`: without the text of ids that nobody needs."""
        limit = self._limit
        if limit > _MOSTLY:
            return [UNKEPT if isinstance(d, bytes) else d for d in self._draw()]
        lows = os.urandom(_BATCH * _HALF)
        return [
            UNKEPT if low >= limit else self._keep(lows[at : at + _HALF])
            for low, at in zip(
                _LOWS(lows), range(0, _BATCH * _HALF, _HALF), strict=True
            )
        ]

    def _keep(self, low: bytes) -> Kept:
        """Return a trace that is kept, with the low half of its id."""
        more = os.urandom(2 * _HALF)
        trace, own = more[:_HALF] + low, more[_HALF:]
        ids = trace.hex().encode(), own.hex().encode()
        return b"traceparent: 00-%b-%b-01\r\n\r\n" % ids, trace, own


def ids_of(line: bytes) -> tuple[bytes, bytes]:
    """Return trace id and span id of the headers of a new trace, in hexadecimal."""
    return line[_TRACE], line[_OWN]


def _kept(line: bytes, high: bytes, rest: bytes) -> Kept:
    return line[:_FLAGS_FROM] + b"01\r\n\r\n", high + rest[:_HALF], rest[_HALF:]
