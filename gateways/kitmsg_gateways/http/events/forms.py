"""Events in an answer: server-sent events, lines of JSON, WebSocket messages.

In all of them an event is a CloudEvent in its JSON format, whose attribute ``sequence`` is
its number in the log.  A form is made once for all who are given a batch.

    id: 17                    the number in the log, for Last-Event-ID
    data: {"specversion": "1.0", "id": "6f1c...", "type": "orders.placed", ...}
    event: gap                events before the next one may be missing: the log does not
    data: {}                  have them any more

Hot path: `sse`, `lines` and `messages` run for each batch and each follower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, by_content_type, sniff
from kitmsg.errors import InvalidArgument
from kitmsg.wire import CONTENT_TYPE
from kitmsg_gateways.http.streams.formats import NdJson, Sse

if TYPE_CHECKING:
    from kitmsg.jetstream import Stored
    from kitmsg_gateways.edge.events import Batch

__all__ = ["GAP", "EventLines", "EventSse", "lines", "messages", "sse"]

GAP: Final = b"event: gap\ndata: {}\n\n"

_PREFIX: Final = "ce-"
_HIDDEN: Final = frozenset({"authid", "authtype", "authclaims", "sequence"})
_CORE: Final = ("id", "source", "type", "time", "dataschema")
_encode: Final = msgspec.json.Encoder().encode
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode


def sse(batch: Batch, name: str) -> bytes:
    """Return a batch as server-sent events."""
    found: bytes | None = batch.forms.get("sse")
    if found is None:
        texts = zip(batch.events, messages(batch, name), strict=True)
        found = b"".join(
            [b"id: %d\ndata: %b\n\n" % (one.sequence, text) for one, text in texts]
        )
        batch.forms["sse"] = found
    return found


def lines(batch: Batch, name: str) -> bytes:
    """Return a batch as lines of JSON."""
    found: bytes | None = batch.forms.get("lines")
    if found is None:
        found = b"".join([text + b"\n" for text in messages(batch, name)])
        batch.forms["lines"] = found
    return found


def messages(batch: Batch, name: str) -> list[bytes]:
    """Return the events of a batch in JSON, each without line breaks."""
    found: list[bytes] | None = batch.forms.get("json")
    if found is None:
        found = batch.forms["json"] = [_event(one, name) for one in batch.events]
    return found


def _event(stored: Stored, name: str) -> bytes:
    """Return an event in the JSON format of CloudEvents.

    What somebody published without attributes gets those that it must have.
    """
    headers = stored.headers
    said = {
        n.lower().removeprefix(_PREFIX): unquote(value)
        for n, value in headers.pairs()
        if n.lower().startswith(_PREFIX)
    }
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(stored.sequence),
        "source": "/",
        "type": name,
    }
    event |= {key: said[key] for key in _CORE if key in said}
    event |= {key: text for key, text in said.items() if key not in _HIDDEN}
    event["sequence"] = str(stored.sequence)
    _add_data(event, stored.data, headers.get(CONTENT_TYPE, ""))
    return _encode(event)


def _add_data(event: dict[str, Any], data: bytes, named: str) -> None:
    try:
        codec = by_content_type(named) if named else sniff(data)
        if codec is JSON:
            _check(data)
            is_lined = b"\n" in data or b"\r" in data
            event["data"] = msgspec.Raw(
                msgspec.json.format(data, indent=-1) if is_lined else data
            )
            return
        if codec is MSGPACK:
            event["data"] = msgspec.msgpack.decode(data)
            _encode(event["data"])  # what has no form in JSON goes as bytes
            return
    except (*DECODE_ERRORS, InvalidArgument, TypeError, ValueError):
        event.pop("data", None)
    event["datacontenttype"] = named or "application/octet-stream"
    event["data_base64"] = data


class EventSse(Sse):
    """Server-sent events, made by `sse`: their ids are numbers of the log."""

    def __init__(self) -> None:
        pass  # no endpoint says where ids are

    def item(self, data: bytes) -> bytes:
        """Return `data`, which is in its form."""
        return data


class EventLines(NdJson):
    """Lines of JSON, made by `lines`."""

    def item(self, data: bytes) -> bytes:
        """Return `data`, which is in its form."""
        return data
