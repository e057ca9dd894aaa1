"""Decodes messages into plain values: a decoder for each message, built once.  Hot path."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg_gateways.grpc.layout import VALUE
from kitmsg_gateways.grpc.values import (
    DECODERS,
    Coders,
    Misfit,
    decode_any,
    located,
    position,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg_gateways.grpc.layout import Enum, Message, Slot

    Decode: TypeAlias = Callable[[Any], Any]

__all__ = ["Decoders"]

_MISSING: Final[Any] = object()
_REFUSED: Final[Any] = object()


class Decoders(Coders):
    """Decoders of the messages of a layout; arguments as `Coders`."""

    def _make(self, message: Message) -> Decode:
        if message.form in ("nothing", "frame"):  # a frame is decoded by its parts
            return lambda _: None
        if message.form == "box":
            return self._slot_decoder(message.slots[0])
        if message.form == "union":
            return self._union(message)
        return (
            self._array(message) if message.form == "array" else self._struct(message)
        )

    def _decoder(self, type_: str) -> Decode | None:
        """Return the decoder of one value of a type; None where it is the value itself."""
        enum = self._layout.enums.get(type_)
        if enum is not None:
            return _enum_decoder(enum)
        if type_ == VALUE:
            return decode_any
        if type_ in DECODERS:
            return DECODERS[type_]
        return self._late(type_) if type_ in self._layout.messages else None

    def _slot_decoder(self, slot: Slot) -> Decode:
        """Return the decoder of one slot of a message; `_MISSING` for one left out."""
        decode, get = self._decoder(slot.type), attrgetter(slot.name)
        if slot.source.constant is not None:
            return self._constant(slot, get)
        if slot.label == "repeated":
            return _list_decoder(get, decode)
        if slot.label == "map":
            return _map_decoder(get, decode)
        is_known = slot.type == VALUE or slot.type in DECODERS
        is_message = is_known or slot.type in self._layout.messages
        if slot.label != "optional" and not is_message:
            return get if decode is None else lambda message: decode(get(message))
        return self._present(slot, get, decode)

    def _present(self, slot: Slot, get: Decode, decode: Decode | None) -> Decode:
        """Return the decoder of a slot that has presence."""
        name, absent = slot.name, _absent(slot)
        if decode is None:

            def look(message: Any) -> Any:
                # The class's: a field of the message may have the name of a method.
                has_field = type(message).HasField
                return get(message) if has_field(message, name) else absent

            return look

        def convert(message: Any) -> Any:
            if type(message).HasField(message, name):
                return decode(get(message))
            if absent is _REFUSED:
                raise Misfit("is missing")
            return absent

        return convert

    def _struct(self, message: Message) -> Decode:
        simple = [s for s in message.slots if self._is_simple(s)]
        rest = [
            (slot.key, self._slot_decoder(slot))
            for slot in message.slots
            if slot not in simple
        ]
        start = _bulk_decoder(simple, dict(message.constants))
        if not rest:
            return start

        def decode(proto: Any) -> dict[str, Any]:
            value: dict[str, Any] = start(proto)
            key = ""
            try:
                for key, take in rest:
                    item = take(proto)
                    if item is not _MISSING:
                        value[key] = item
            except Misfit as error:
                raise error.at(key) from None
            return value

        return decode

    def _is_simple(self, slot: Slot) -> bool:
        is_free = slot.source.constant is None
        return is_free and slot.label == "" and self._decoder(slot.type) is None

    def _constant(self, slot: Slot, get: Decode) -> Decode:
        """Return the decoder of a field with only one value: filled where it is zero."""
        value = slot.source.constant
        enum = self._layout.enums.get(slot.type)
        expected = value if enum is None else enum.values[0][1]

        def check(message: Any) -> Any:
            found = get(message)
            if found and found != expected:
                raise Misfit(f"has to be {value!r}")
            return value

        return check

    def _array(self, message: Message) -> Decode:
        constants = {position(key): value for key, value in message.constants}
        decoders = [
            (position(slot.key), self._slot_decoder(slot)) for slot in message.slots
        ]
        nullable = {
            position(slot.key)
            for slot in message.slots
            if slot.source.shape.is_nullable and not slot.source.has_three_states
        }

        def decode(proto: Any) -> list[Any]:
            found = dict(constants)
            place = 0
            try:
                for place, take in decoders:
                    item = take(proto)
                    if item is not _MISSING:
                        found[place] = item
            except Misfit as error:
                raise error.at(f"item_{place + 1}") from None
            last = max(found, default=-1)
            if last >= len(found):
                _fill_gaps(found, last, nullable)
            return [found[place] for place in range(last + 1)]

        return decode

    def _union(self, message: Message) -> Decode:
        decoders = {
            slot.name: (attrgetter(slot.name), self._decoder(slot.type))
            for slot in message.slots
        }
        listed = ", ".join(decoders)

        def decode(proto: Any) -> Any:
            chosen = type(proto).WhichOneof(proto, "kind")
            if chosen is None:
                raise Misfit(f"is missing; choose one of {listed}")
            get, convert = decoders[chosen]
            return get(proto) if convert is None else convert(get(proto))

        return decode


def _absent(slot: Slot) -> Any:
    """Return the value of a slot with presence when it is left out."""
    if not slot.source.is_required:
        return _MISSING
    return None if slot.source.shape.is_nullable else _REFUSED


def _bulk_decoder(slots: list[Slot], constants: dict[str, Any]) -> Decode:
    """Return the decoder of fields without presence whose values need no change."""
    keys = tuple(slot.key for slot in slots)
    if not keys:
        return lambda _: dict(constants)
    get = attrgetter(*(slot.name for slot in slots))
    if len(keys) == 1:
        (key,) = keys
        return lambda proto: {**constants, key: get(proto)}
    if not constants:
        return lambda proto: dict(zip(keys, get(proto), strict=True))
    return lambda proto: {**constants, **dict(zip(keys, get(proto), strict=True))}


def _list_decoder(get: Decode, decode: Decode | None) -> Decode:
    if decode is None:
        return lambda message: list(get(message))

    def convert(message: Any) -> list[Any]:
        items = get(message)
        try:
            return [decode(item) for item in items]
        except Misfit:
            raise located(decode, items) from None

    return convert


def _map_decoder(get: Decode, decode: Decode | None) -> Decode:
    if decode is None:
        return lambda message: dict(get(message))

    def convert(message: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        key = ""
        try:
            for key, item in get(message).items():
                found[key] = decode(item)
        except Misfit as error:
            raise error.at(f"[{key}]") from None
        return found

    return convert


def _enum_decoder(enum: Enum) -> Decode:
    values = {number: value for _, number, value in enum.values}
    unset = {number for number, value in values.items() if value is None}

    def decode(number: int) -> Any:
        value = values.get(number)
        if value is None:
            if number in unset:
                raise Misfit("is missing")
            raise Misfit(f"{number} is no value of {enum.name}")
        return value

    return decode


def _fill_gaps(found: dict[int, Any], last: int, nullable: set[int]) -> None:
    """Put null where an item is left out and one behind it is there."""
    for place in range(last):
        if place not in found:
            if place not in nullable:
                raise Misfit(
                    "is missing, and one behind it is there", f"item_{place + 1}"
                )
            found[place] = None
