"""Messages of the binary protocol, by hand."""

from __future__ import annotations

import struct

SPEECHES = [(p, f) for p in ("binary", "compact") for f in (False, True)]

WAIT = struct.pack(">Ii", 0x80010001, 4) + b"wait"


def call(name: bytes, seqid: int = 1, args: bytes = b"\0", kind: int = 1) -> bytes:
    """Return a message of the binary protocol."""
    head = struct.pack(">Ii", 0x80010000 | kind, len(name)) + name
    return head + struct.pack(">i", seqid) + args


def number(value: int, id_: int = 1) -> bytes:
    """Return an i64 field."""
    return struct.pack(">bhq", 10, id_, value)


def text(value: str, id_: int = 1) -> bytes:
    """Return a string field."""
    data = value.encode()
    return struct.pack(">bhi", 11, id_, len(data)) + data
