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

import msgspec

from kitmsg_gateways.edge.events.told import tell
from kitmsg_gateways.http.streams.formats import NdJson, Sse

if TYPE_CHECKING:
    from kitmsg.jetstream import Stored
    from kitmsg_gateways.edge.events import Batch

__all__ = ["GAP", "EventLines", "EventSse", "lines", "messages", "sse"]

GAP: Final = b"event: gap\ndata: {}\n\n"

_encode: Final = msgspec.json.Encoder().encode


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
    """Return an event in the JSON format of CloudEvents."""
    told = tell(stored, name)
    event: dict[str, Any] = {**told.attributes, "sequence": str(told.sequence)}
    if told.json is not None:
        return _encode({**event, "data": msgspec.Raw(told.json)})
    return _encode({**event, "datacontenttype": told.media, "data_base64": told.data})


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
