"""The twin on its bus: requests of the API, acks, and messages that streams take."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.errors import Disconnected, InvalidArgument
from kitmsg.jetstream.encoding import (
    NS,
    consumer_config,
    stream_config,
    time_of,
    time_text,
)
from kitmsg.jetstream.twin.batches import Batches
from kitmsg.jetstream.twin.clock import Clock
from kitmsg.jetstream.twin.reads import direct, find, told
from kitmsg.jetstream.twin.refusal import Refusal
from kitmsg.jetstream.twin.stream import Stream, overlaps
from kitmsg.wire import JS_API, Js

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Subscription
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.jetstream.configs import StreamConfig
    from kitmsg.jetstream.twin.consumer import Consumer
    from kitmsg.message import Message

__all__ = ["Twin"]

_LEVEL: Final = 4
_PAGE: Final = 256
_ACK: Final = "$JS.ACK"
_NAME: Final = re.compile(r"[^\s.*>/\\]+")
_DELETED: Final = {"success": True}


class Twin:
    """The server behind one bus; there as long as the bus is.

    Args:
        bus: The bus.
    """

    def __init__(self, bus: MemoryBus) -> None:
        self.clock = Clock()
        self._bus = bus
        self._streams: dict[str, Stream] = {}
        self._batches: dict[str, Batches] = {}
        self._taking: dict[str, list[Subscription]] = {}
        self._requests: dict[str, Callable[[list[str], dict[str, Any]], object]] = {
            "STREAM.CREATE": self._create_stream,
            "STREAM.UPDATE": self._update_stream,
            "STREAM.INFO": self._stream_info,
            "STREAM.LIST": self._list_streams,
            "STREAM.NAMES": self._name_streams,
            "STREAM.DELETE": self._delete_stream,
            "STREAM.PURGE": self._purge,
            "STREAM.MSG.GET": self._get,
            "STREAM.MSG.DELETE": self._delete,
            "CONSUMER.CREATE": self._create_consumer,
            "CONSUMER.INFO": self._consumer_info,
            "CONSUMER.LIST": self._list_consumers,
            "CONSUMER.NAMES": self._name_consumers,
            "CONSUMER.DELETE": self._delete_consumer,
            "CONSUMER.PAUSE": self._pause,
        }
        bus.subscribe(f"{JS_API}.>", self._asked)
        bus.subscribe(f"{_ACK}.>", self._answered)
        bus.watch(self._connection_changed)

    # -- the bus

    def hand(self, to: str, message: Message) -> bool:
        """Deliver `message` to those subscribed to `to`; tell whether there is anybody."""
        return self._bus.hand(to, message)

    def say(self, subject: str, data: bytes = b"", block: bytes = b"") -> None:
        """Publish, if there is a connection."""
        with contextlib.suppress(Disconnected, ReferenceError):
            self._bus.publish(subject, data, "", block)

    def _connection_changed(self, is_up: bool) -> None:
        if not is_up:
            for stream in self._streams.values():
                stream.hang_up()

    def _asked(self, message: Message) -> None:
        path = message.subject[len(JS_API) + 1 :]
        if path.startswith("CONSUMER.MSG.NEXT."):
            self._pull(path, message)
        elif path.startswith("DIRECT.GET."):
            self._read(path, message)
        else:
            found = self._answer(path, message)
            if message.reply and found is not None:
                self.say(message.reply, msgspec.json.encode(found))

    def _answer(self, path: str, message: Message) -> dict[str, Any] | None:
        try:
            _check_level(message)
            body = msgspec.json.decode(message.data) if message.data else {}
            if path == "INFO":
                return {"api": {"level": _LEVEL}, "streams": len(self._streams)}
            for name, handle in self._requests.items():
                if path == name or path.startswith(f"{name}."):
                    rest = path[len(name) + 1 :].split(".")
                    found = handle(rest, body)
                    return found if isinstance(found, dict) else dict(_DELETED)
        except msgspec.MsgspecError:
            return {"error": Refusal(10025).error}
        except Refusal as error:
            return {"error": error.error}
        return None  # what is not there does not answer

    def _answered(self, message: Message) -> None:
        tokens = message.subject.split(".")
        consumer = self._find(tokens[2], tokens[3])
        if consumer is not None:
            consumer.answer(int(tokens[5]), message.data)
        if message.reply:
            self.say(message.reply)

    # -- what is published

    def _take(self, stream: Stream, message: Message) -> None:
        try:
            headers = message.headers
            if Js.BATCH_ID in headers:
                found = self._batches[stream.config.name].take(message, headers)
            else:
                found = stream.take(message.subject, message.header_block, message.data)
        except InvalidArgument:
            found = {"error": Refusal(10003).error}
        except Refusal as error:
            found = {"error": error.error, "stream": stream.config.name, "seq": 0}
        if message.reply:
            data = b"" if found is None else msgspec.json.encode(found)
            self.say(message.reply, data)

    def _listen(self, stream: Stream) -> None:
        name = stream.config.name
        for subscription in self._taking.pop(name, []):
            subscription.unsubscribe()
        self._taking[name] = [
            self._bus.subscribe(subject, lambda m: self._take(stream, m))
            for subject in stream.config.subjects
        ]

    # -- streams

    def _stream(self, name: str) -> Stream:
        found = self._streams.get(name)
        if found is None:
            raise Refusal(10059)
        return found

    def _create_stream(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        config = _filled(stream_config(body))
        if config.name != rest[0] or not _NAME.fullmatch(config.name):
            raise Refusal(10052, "stream name in subject does not match request")
        found = self._streams.get(config.name)
        if found is None:
            self._check(config)
            found = self._streams[config.name] = Stream(config, self, self.clock)
            self._batches[config.name] = Batches(found, self.clock)
            self._listen(found)
        elif found.config != config:
            raise Refusal(10058)
        return found.info()

    def _update_stream(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        stream, config = self._stream(rest[0]), _filled(stream_config(body))
        self._check(config)
        stream.change(config)
        self._listen(stream)
        return stream.info()

    def _check(self, config: StreamConfig) -> None:
        if config.replicas > 1:
            raise Refusal(10074)
        if config.discard_per_subject and config.discard != "new":
            raise Refusal(
                10052, "discard new per subject requires discard new policy to be set"
            )
        if config.allow_schedules and config.discard == "new":
            raise Refusal(10052, "message scheduling cannot use discard new")
        subjects = config.subjects
        if any(overlaps(subject, f"{JS_API}.>") for subject in subjects):
            raise Refusal(
                10052,
                "subjects that overlap with jetstream api require no-ack to be true",
            )
        for i, subject in enumerate(subjects):
            if any(overlaps(subject, other) for other in subjects[i + 1 :]):
                raise Refusal(10052, f"subject {subject!r} overlaps with another")
        for name, other in self._streams.items():
            if name != config.name and any(
                overlaps(a, b) for a in subjects for b in other.config.subjects
            ):
                raise Refusal(10065)

    def _stream_info(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        stream = self._stream(rest[0])
        found = stream.info()
        if "subjects_filter" in body:
            counts = stream.log.subjects(body["subjects_filter"])
            page = _page("subjects", sorted(counts.items()), body)
            found["state"]["subjects"] = dict(page.pop("subjects"))
            found |= page
        return found

    def _list_streams(self, _: list[str], body: dict[str, Any]) -> dict[str, Any]:
        return _page("streams", [s.info() for s in self._matching(body)], body)

    def _name_streams(self, _: list[str], body: dict[str, Any]) -> dict[str, Any]:
        return _page("streams", [s.config.name for s in self._matching(body)], body)

    def _matching(self, body: dict[str, Any]) -> list[Stream]:
        subject = body.get("subject")
        return [
            stream
            for _, stream in sorted(self._streams.items())
            if not subject or any(overlaps(subject, s) for s in stream.config.subjects)
        ]

    def _delete_stream(self, rest: list[str], _: dict[str, Any]) -> None:
        self._stream(rest[0]).end()
        del self._streams[rest[0]], self._batches[rest[0]]
        for subscription in self._taking.pop(rest[0]):
            subscription.unsubscribe()

    def _purge(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        stream = self._stream(rest[0])
        if stream.config.deny_purge:
            raise Refusal(10110)
        purged = stream.purge(
            body.get("filter") or ">",
            keep=body.get("keep", 0),
            before=body.get("seq", 0),
        )
        return {"success": True, "purged": purged}

    def _get(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        record = find(self._stream(rest[0]).log, body)
        if record is None:
            raise Refusal(10037)
        return {"message": told(record)}

    def _delete(self, rest: list[str], body: dict[str, Any]) -> None:
        stream = self._stream(rest[0])
        if stream.config.deny_delete:
            raise Refusal(10109)
        if not stream.log.remove(body.get("seq", 0)):
            raise Refusal(10043, body.get("seq", 0))

    def _read(self, path: str, message: Message) -> None:
        _, _, name, *subject = path.split(".", 3)
        stream = self._streams.get(name)
        if stream is None or not stream.config.allow_direct:
            self.say(message.reply, block=b"NATS/1.0 503\r\n\r\n")
            return
        body = msgspec.json.decode(message.data) if message.data else {}
        if subject:
            body = {"last_by_subj": subject[0]}
        for block, data in direct(name, stream.log, body):
            self.say(message.reply, data, block)

    # -- consumers

    def _find(self, stream: str, consumer: str) -> Consumer | None:
        found = self._streams.get(stream)
        return None if found is None else found.consumers.get(consumer)

    def _consumer(self, rest: list[str]) -> Consumer:
        found = self._stream(rest[0]).consumers.get(rest[1])
        if found is None:
            raise Refusal(10014)
        return found

    def _create_consumer(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        config = consumer_config(body["config"])
        made = self._stream(rest[0]).add(config, body.get("action", ""))
        return made.info()

    def _consumer_info(self, rest: list[str], _: dict[str, Any]) -> dict[str, Any]:
        return self._consumer(rest).info()

    def _list_consumers(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        found = sorted(self._stream(rest[0]).consumers.items())
        return _page("consumers", [one.info() for _, one in found], body)

    def _name_consumers(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        return _page("consumers", sorted(self._stream(rest[0]).consumers), body)

    def _delete_consumer(self, rest: list[str], _: dict[str, Any]) -> None:
        self._stream(rest[0]).drop(rest[1])

    def _pause(self, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        consumer = self._consumer(rest)
        until, now = body.get("pause_until"), self.clock.now()
        time = time_of(until) if until else now
        consumer.pause(time if time > now else None)
        left = max(time - now, 0.0)
        return {
            "paused": left > 0,
            "pause_until": time_text(time),
            "pause_remaining": round(left * NS),
        }

    def _pull(self, path: str, message: Message) -> None:
        tokens = path.split(".")
        consumer = self._find(tokens[3], tokens[4])
        if consumer is None:
            self.say(message.reply, block=b"NATS/1.0 503\r\n\r\n")
        else:
            consumer.pull(message)


def _check_level(message: Message) -> None:
    if int(message.headers.get(Js.REQUIRED_LEVEL, "0")) > _LEVEL:
        raise Refusal(10185)


def _filled(config: StreamConfig) -> StreamConfig:
    """Return a configuration with what the server fills in."""
    subjects = config.subjects or (config.name,)
    window = config.duplicate_window
    if config.max_age is not None:
        window = min(window, config.max_age)
    return replace(config, subjects=subjects, duplicate_window=window)


def _page(field: str, rows: list[Any], body: dict[str, Any]) -> dict[str, Any]:
    at = body.get("offset", 0)
    page = rows[at : at + _PAGE]
    return {"total": len(rows), "offset": at, "limit": _PAGE, field: page}
