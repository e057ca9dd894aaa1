"""A stored event as readers are told of it: CloudEvents' attributes, and data in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, by_content_type, sniff
from kitmsg.errors import InvalidArgument
from kitmsg.wire import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.jetstream import Stored

__all__ = ["Told", "tell"]

_PREFIX: Final = "ce-"
_HIDDEN: Final = frozenset({"authid", "authtype", "authclaims", "sequence"})
_CORE: Final = ("id", "source", "type", "time", "dataschema")
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(frozen=True, slots=True)
class Told:
    """A stored event.

    Attributes:
        sequence: Its number in the log.
        attributes: Its attributes by name; those that it must have come first.
        json: Its data in JSON, without line breaks; None for data that has no form there.
        data: Its data as it is stored.
        media: The media type of `data`.
    """

    sequence: int
    attributes: Mapping[str, str]
    json: bytes | None
    data: bytes
    media: str


def tell(stored: Stored, name: str) -> Told:
    """Return a stored event as readers are told of it.

    An event that somebody published without attributes gets those that it must have.

    Args:
        stored: The event.
        name: Its name.
    """
    headers = stored.headers
    said = {
        n.lower().removeprefix(_PREFIX): unquote(value)
        for n, value in headers.pairs()
        if n.lower().startswith(_PREFIX)
    }
    attributes = {
        "specversion": "1.0",
        "id": str(stored.sequence),
        "source": "/",
        "type": name,
    }
    attributes |= {key: said[key] for key in _CORE if key in said}
    attributes |= {key: text for key, text in said.items() if key not in _HIDDEN}
    named = headers.get(CONTENT_TYPE, "")
    return Told(
        stored.sequence,
        attributes,
        _json(stored.data, named),
        stored.data,
        named or "application/octet-stream",
    )


def _json(data: bytes, named: str) -> bytes | None:
    try:
        codec = by_content_type(named) if named else sniff(data)
        if codec is JSON:
            _check(data)
            is_lined = b"\n" in data or b"\r" in data
            return msgspec.json.format(data, indent=-1) if is_lined else data
        if codec is MSGPACK:
            # What has no form in JSON goes as bytes.
            return msgspec.json.encode(msgspec.msgpack.decode(data))
    except (*DECODE_ERRORS, InvalidArgument, TypeError, ValueError):
        return None
    return None
