"""``kit.events.v1.Events``: open events published, and their logs followed, over gRPC.

The messages are those of ``static/events.proto``; ``static/events.binpb`` is that file
compiled, so that no compiler is needed.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from kitmsg import wire
from kitmsg.context import PROPAGATED
from kitmsg.errors import InvalidArgument
from kitmsg.events.publish import PUBLISH_SECONDS
from kitmsg_gateways.edge.events import Posted, read_since
from kitmsg_gateways.edge.events.told import tell
from kitmsg_gateways.grpc.call import check_size, time_left
from kitmsg_gateways.grpc.errors import REQUEST_ID
from kitmsg_gateways.grpc.metadata import Forwarding
from kitmsg_gateways.grpc.reflection import make_pool, well_known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor_pool import DescriptorPool

    from kitmsg.auth import Principal
    from kitmsg_gateways.edge.events import Batch, EventDoor
    from kitmsg_gateways.grpc.call import Calls
    from kitmsg_gateways.grpc.methods import Handler
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["SERVICE", "Events", "events_file"]

SERVICE: Final = "kit.events.v1.Events"
FILE: Final = "kit/events/v1/events.proto"

_WHOLE: Final = 2**53  # beyond it, a double does not say which whole number it is
_NO_FIELDS: Final = (
    msgspec.DecodeError,
    ValueError,
    TypeError,
    ArithmeticError,
    RecursionError,
)
"""Raised for JSON whose values do not all have a form among fields."""

_BINARY: Final = files("kitmsg_gateways.grpc").joinpath("static/events.binpb")


@cache
def events_file() -> FileDescriptorProto:
    """Return the descriptor of the service and its messages."""
    return FileDescriptorProto.FromString(_BINARY.read_bytes())


@cache
def _message(name: str) -> Any:
    """Return the class of a message of the service."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"kit.events.v1.{name}"))


@cache
def _pool() -> DescriptorPool:
    return make_pool([*well_known(), events_file()])


class Events:
    """Answers calls to ``kit.events.v1.Events``.

    Args:
        door: The open events.
        options: Those of the gateway.
    """

    def __init__(self, door: EventDoor, options: GatewayOptions) -> None:
        self._door = door
        self._options = options
        self._forwarding = Forwarding(options)

    def handlers(self, calls: Calls) -> dict[str, Handler]:
        """Return what gRPC calls, by path."""
        publish, watch = f"/{SERVICE}/Publish", f"/{SERVICE}/Watch"
        return {
            publish: calls.own(publish, self.publish, gives_stream=False),
            watch: calls.own(watch, self.watch, gives_stream=True),
        }

    async def publish(self, data: bytes, context: Any, who: Principal | None) -> bytes:
        """Store events; returns the answer.  Raises as `EventDoor.publish`."""
        request = _read("PublishRequest", data)
        left = time_left(context)
        asked = PUBLISH_SECONDS if left is None else left
        fields = self._fields(context)
        self._door.known(request.name, "publish")
        if not request.events:
            raise InvalidArgument("events is empty", field="events")
        acks = await self._door.publish(
            request.name,
            [_posted(one, f"events[{at}]") for at, one in enumerate(request.events)],
            fields=fields,
            principal=who,
            timeout=min(asked, self._options.max_timeout),
        )
        stored = [
            {"sequence": ack.sequence, "duplicate": ack.duplicate} for ack in acks
        ]
        answer: bytes = _message("PublishResponse")(stored=stored).SerializeToString()
        return answer

    async def watch(self, data: bytes, context: Any, who: Principal | None) -> None:
        """Write the events of a log until the call is over.  Raises as `EventDoor.follow`."""
        request = _read("WatchRequest", data)
        time_left(context)
        follow = self._door.follow(
            request.name,
            since=read_since(request.since, self._door.now()),
            after=request.after if request.HasField("after") else None,
            where=dict(request.where),
            goes_on=not request.to_end,
            fields=self._fields(context),
            principal=who,
        )
        async with follow as follower:
            # So that a client knows that it misses nothing from now on.
            await context.send_initial_metadata(())
            async for batch in follower:
                items = _items(batch, request.name, as_fields=request.as_fields)
                if follower.gap:
                    follower.gap = False
                    items = [_with_gap(items[0]), *items[1:]]
                for item in items:
                    check_size(item, self._options)
                    await context.write(item)

    def _fields(self, context: Any) -> dict[str, str]:
        """Return request id and trace of a call; an id that was given is told back."""
        fields, is_given = self._forwarding.fields(context.invocation_metadata())
        if is_given:
            context.set_trailing_metadata(((REQUEST_ID, fields[wire.REQUEST_ID]),))
        return {name: fields[name] for name in PROPAGATED if name in fields}


def _read(name: str, data: bytes) -> Any:
    try:
        return _message(name).FromString(data)
    except DecodeError as exc:
        raise InvalidArgument("this is no such request") from exc


def _posted(event: Any, place: str) -> Posted:
    raw, data = _data(event, place)
    return Posted(
        id=event.id,
        source=event.source,
        type=event.type,
        time=event.time,
        schema=event.dataschema,
        data=data,
        raw=raw,
        more=dict(event.attributes),
        place=place,
    )


def _data(event: Any, place: str) -> tuple[bytes, Any]:
    """Return the data of an event: in JSON as it came, if it did, and as a value."""
    kind = event.WhichOneof("data")
    if kind is None:
        return b"{}", {}
    field = f"{place}.{kind}"
    if kind == "fields":
        try:
            return b"", _whole(json_format.MessageToDict(event.fields))
        except (json_format.Error, ValueError) as error:
            raise InvalidArgument(f"{field}: {error}", field=field) from None
    if kind == "binary":
        raise InvalidArgument(f"{field}: send json or fields", field=field)
    raw = event.json.encode()
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"{field} is no JSON: {error}", field=field) from None
    if not isinstance(data, dict):
        raise InvalidArgument(f"{field} must be an object", field=field)
    return raw, data


def _whole(value: Any) -> Any:
    """Return a value of doubles with those that are whole numbers as such."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _WHOLE:
        return int(value)
    return value


def _items(batch: Batch, name: str, *, as_fields: bool) -> list[bytes]:
    """Return the messages of a batch; they are made once for all who follow."""
    form = "grpc-fields" if as_fields else "grpc"
    found: list[bytes] | None = batch.forms.get(form)
    if found is None:
        found = batch.forms[form] = [
            _item(one, name, as_fields=as_fields) for one in batch.events
        ]
    return found


def _item(stored: Any, name: str, *, as_fields: bool) -> bytes:
    told = tell(stored, name)
    more: dict[str, str] = dict(told.attributes)
    del more["specversion"]
    core = {key: more.pop(key, "") for key in ("id", "source", "type", "time")}
    event = _message("Event")(**core, dataschema=more.pop("dataschema", ""))
    if told.json is None:
        more["datacontenttype"] = told.media
        event.binary = told.data
    elif not (as_fields and _set_fields(event, told.json)):
        event.json = told.json.decode()
    event.attributes.update(more)
    response = _message("WatchResponse")(event=event, sequence=told.sequence)
    data: bytes = response.SerializeToString()
    return data


def _set_fields(event: Any, json: bytes) -> bool:
    """Set the data of an event as fields; returns whether it has that form."""
    try:
        value: Mapping[str, Any] | Any = msgspec.json.decode(json)
        if not isinstance(value, dict):
            return False
        event.fields.update(value)
    except _NO_FIELDS:
        event.ClearField("fields")
        return False
    return True


def _with_gap(item: bytes) -> bytes:
    response = _message("WatchResponse").FromString(item)
    response.gap = True
    data: bytes = response.SerializeToString()
    return data
