r"""The messages that a stream is made of.

Each is an ordinary message between two inboxes, and its headers say what it is:

    item     ``Kit-Seq: 17``                      payload: the item; counted from 1
    credit   ``Kit-Credit: 64``                   the peer may send items up to this number
    open     ``Kit-Stream: open``, ``Kit-Credit``   first of all; its reply subject is where
                                                  the sender's peer sends to from then on
    beat     ``Kit-Stream: beat``                 still there
    drain    ``Kit-Stream: drain``                the sender is to stop: say more often, by
                                                  credit, that its items are read
    end      ``Kit-Stream: end``, ``Kit-Seq``       no more items after this many; with the
                                                  headers of an error if there was one
    cancel   ``Kit-Stream: cancel``               the sender gives up

An item has that one header in just this form, so that it is read without parsing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.message import encode_headers
from kitmsg.wire import CREDIT, SEQ, STREAM, with_fields

if TYPE_CHECKING:
    from kitmsg.message import Headers

__all__ = [
    "BEAT_FRAME",
    "CANCEL_FRAME",
    "DRAIN_FRAME",
    "credit_frame",
    "credit_number",
    "end_frame",
    "item_frame",
    "item_number",
    "number",
    "open_frame",
]

BEAT_FRAME: Final = encode_headers({STREAM: "beat"})
CANCEL_FRAME: Final = encode_headers({STREAM: "cancel"})
DRAIN_FRAME: Final = encode_headers({STREAM: "drain"})

_ITEM: Final = b"NATS/1.0\r\n%b: " % SEQ.encode()
_FROM: Final = len(_ITEM)
_CREDIT: Final = b"NATS/1.0\r\n%b: " % CREDIT.encode()
_CREDIT_FROM: Final = len(_CREDIT)
_MAX_DIGITS: Final = 15


def item_frame(seq: int) -> bytes:
    """Return the header block of item number `seq`."""
    return b"%b%d\r\n\r\n" % (_ITEM, seq)


def item_number(block: bytes) -> int:
    """Return the number of the item that has this header block; 0 if it is no item."""
    if not block.startswith(_ITEM):
        return 0
    digits = block[_FROM:-4]
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else 0


def credit_number(block: bytes) -> int:
    """Return the credit in this header block if it is just that; else 0."""
    if not block.startswith(_CREDIT):
        return 0
    digits = block[_CREDIT_FROM:-4]
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else 0


def credit_frame(upto: int) -> bytes:
    """Return the header block that lets the peer send items up to number `upto`."""
    return b"%b%d\r\n\r\n" % (_CREDIT, upto)


def open_frame(credit: int) -> bytes:
    """Return the header block with which a service takes a stream."""
    return encode_headers({STREAM: "open", CREDIT: str(credit)})


def end_frame(sent: int, block: bytes = b"") -> bytes:
    """Return the header block of a stream's end.

    Args:
        sent: How many items there were.
        block: Header block of the error that ended it, or of other headers.
    """
    return with_fields(block, {STREAM: "end", SEQ: str(sent)})


def number(headers: Headers, name: str) -> int:
    """Return a header's whole number; 0 where it is none."""
    text = headers.get(name, "")
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else 0
