"""Reads without a consumer: one message, or a page of them (NATS ADR-31)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from kitmsg.jetstream.encoding import time_of, time_text
from kitmsg.message import encode_headers
from kitmsg.wire import Js

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.jetstream.twin.log import Log, Record

__all__ = ["direct", "find", "told"]

_NOT_FOUND: Final = b"NATS/1.0 404 Message Not Found\r\n\r\n"


def find(log: Log, body: dict[str, Any]) -> Record | None:
    """Return the message that a request is about."""
    if "last_by_subj" in body:
        return log.last_of(body["last_by_subj"])
    if "next_by_subj" in body:
        return log.next_of((body["next_by_subj"],), body.get("seq", 1))
    return log.get(body.get("seq", 0))


def told(record: Record) -> dict[str, Any]:
    """Return a message as the leader tells it."""
    found: dict[str, Any] = {
        "subject": record.subject,
        "seq": record.sequence,
        "data": base64.b64encode(record.data).decode(),
        "time": time_text(record.time),
    }
    if record.block:
        found["hdrs"] = base64.b64encode(record.block).decode()
    return found


def direct(
    stream: str, log: Log, body: dict[str, Any]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the answers to a direct read: header block and payload of each."""
    if "batch" not in body and "multi_last" not in body:
        record = find(log, body)
        yield (_NOT_FOUND, b"") if record is None else _answer(stream, record, {})
        return
    chosen = _chosen(log, body)
    up_to = body.get("up_to_seq") or log.last
    page = _fitting(chosen[: body.get("batch") or len(chosen)], body.get("max_bytes"))
    if not page:
        yield _NOT_FOUND, b""
        return
    before = 0
    for number, record in enumerate(page, 1):
        more = {Js.PENDING: str(len(chosen) - number), Js.LAST: str(before)}
        yield _answer(stream, record, more)
        before = record.sequence
    end = {
        Js.PENDING: str(len(chosen) - len(page)),
        Js.LAST: str(before),
        Js.UP_TO: str(up_to),
    }
    yield encode_headers(end).replace(b"NATS/1.0", b"NATS/1.0 204 EOB", 1), b""


def _fitting(page: list[Record], max_bytes: int | None) -> list[Record]:
    """Return the first messages: up to the one that reaches `max_bytes`."""
    size = 0
    for number, record in enumerate(page, 1):
        size += len(record.subject) + len(record.block) + len(record.data)
        if max_bytes and size >= max_bytes:
            return page[:number]
    return page


def _chosen(log: Log, body: dict[str, Any]) -> list[Record]:
    if "multi_last" in body:
        last = body.get("up_to_seq") or log.last
        found = log.each_last(body["multi_last"], last)
        return [record for record in found if record.sequence >= body.get("seq", 0)]
    at = body.get("seq", 1)
    if "start_time" in body:
        at = log.since(time_of(body["start_time"]))
    found = []
    while (record := log.next_of((body.get("next_by_subj", ">"),), at)) is not None:
        found.append(record)
        at = record.sequence + 1
    return found


def _answer(stream: str, record: Record, more: dict[str, str]) -> tuple[bytes, bytes]:
    fields = {
        Js.STREAM: stream,
        Js.SUBJECT: record.subject,
        Js.SEQUENCE: str(record.sequence),
        Js.TIME: time_text(record.time),
        **more,
    }
    block = encode_headers(fields)
    own = record.block.partition(b"\r\n")[2]
    return (block[:-2] + own if own else block), record.data
