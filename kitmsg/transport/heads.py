"""Heads of requests: headers that many calls share are parsed once.

A gateway's calls differ in request id and time left; the rest of their header blocks is
that of the calls before, so it is looked up: to parse it costs twice as much as the rest
of a short call.

Hot path: `Heads.of` runs for every request that is not plain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.codec import Codec, by_content_type
from kitmsg.errors import InvalidArgument
from kitmsg.message import Headers
from kitmsg.wire import BODY, CALLER, CONTENT_TYPE, TIMEOUT, shared_fields

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = ["Head", "Heads"]

_MOST: Final = 256


class Head(msgspec.Struct, frozen=True):
    """The part of a request's headers that a server needs, and other requests share.

    Attributes:
        codec: How it is encoded; None where its first byte tells.
        caller: Dotted name of the endpoint that calls; "" when unknown.
    """

    codec: Codec | None
    caller: str


class Heads:
    """The heads of the requests of one server."""

    def __init__(self) -> None:
        # By their fields on the wire; None for those that have to be parsed each time.
        self._known: dict[bytes, Head | None] = {}

    def of(self, message: Message) -> tuple[int, Head] | None:
        """Return the milliseconds that a request's caller gives, and its head.

        Returns:
            None where the headers have to be parsed: they are another client's, malformed,
            or say where the body is.
        """
        found = shared_fields(message.header_block)
        if found is None:
            return None
        said, fields = found
        try:
            head = self._known[fields]
        except KeyError:
            head = self._learn(fields)
        return None if head is None else (said, head)

    def _learn(self, fields: bytes) -> Head | None:
        if len(self._known) >= _MOST:
            self._known.clear()
        head = self._known[fields] = _read(fields)
        return head


def _read(fields: bytes) -> Head | None:
    try:
        headers = Headers.parse(b"NATS/1.0%b\r\n\r\n" % fields)
        if TIMEOUT in headers or BODY in headers:
            return None
        named = headers.single(CONTENT_TYPE)
        codec = by_content_type(named) if named else None
    except InvalidArgument:
        return None
    return Head(codec, headers.get(CALLER, ""))
