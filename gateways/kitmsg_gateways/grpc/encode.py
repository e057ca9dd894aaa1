"""Encodes plain values as arguments of their messages: an encoder for each message.

The arguments of a message's class are dicts of dicts, which protobuf turns into messages in
one go, without a copy of each.  Hot path.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from kitmsg.idl.choice import chooser, plain_types, types_of_values
from kitmsg_gateways.grpc.layout import VALUE
from kitmsg_gateways.grpc.values import (
    ENCODERS,
    Coders,
    Misfit,
    encode_any,
    encode_bytes,
    encode_text,
    key_text,
    located,
    position,
    spell,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message as Proto

    from kitmsg_gateways.grpc.layout import Enum, Layout, Message, Slot

    Encode: TypeAlias = Callable[[Any], Any]

__all__ = ["Encoders"]

_MISSING: Final[Any] = object()


class Encoders(Coders):
    """Encoders of the messages of a layout.

    Args:
        layout: The messages.
        classes: Returns a message's class by its name.
    """

    def __init__(self, layout: Layout, classes: Callable[[str], type[Proto]]) -> None:
        super().__init__(layout)
        self._classes = classes

    def _make(self, message: Message) -> Encode:
        if message.form in ("nothing", "frame"):  # a frame is read by its parts
            return lambda _: {}
        if message.form == "box":
            return self._box(message.slots[0])
        if message.form == "union":
            return self._union(message)
        if message.form == "array":
            return self._array(message)
        return self._struct(message.slots)

    def _encoder(self, type_: str) -> Encode | None:
        """Return the encoder of one value of a type; None where it is the value itself."""
        enum = self._layout.enums.get(type_)
        if enum is not None:
            return _enum_encoder(enum)
        if type_ == VALUE:
            return functools.partial(encode_any, self._classes(VALUE))
        if type_ in self._layout.messages:
            return self._late(type_)
        if type_ in ENCODERS:
            return ENCODERS[type_]
        return {"string": encode_text, "bytes": encode_bytes}.get(type_)

    def _struct(self, slots: tuple[Slot, ...]) -> Encode:
        table = [
            (slot.key, slot.name, *self._slot_encoder(slot), slot.source.is_required)
            for slot in slots
        ]

        def encode(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise Misfit(f"expected an object, got {spell(value)}")
            made: dict[str, Any] = {}
            key = ""
            try:
                for key, name, convert, null, is_required in table:
                    item = value.get(key, _MISSING)
                    if item is _MISSING:
                        if is_required:
                            _refuse("is missing")
                    elif item is None and null != "encode":
                        if null == "refuse":
                            _refuse("is null")
                    else:
                        made[name] = item if convert is None else convert(item)
            except Misfit as error:
                raise error.at(key) from None
            return made

        return encode

    def _slot_encoder(self, slot: Slot) -> tuple[Encode | None, str]:
        """Return the encoder of a slot, and what becomes of a null in it."""
        encode = self._encoder(slot.type)
        if slot.label == "repeated":
            return _list_encoder(encode), "refuse"
        if slot.label == "map":
            return _map_encoder(self._whole(slot.type, encode)), "refuse"
        shape = slot.source.shape
        if shape.kind == "any" or slot.source.has_three_states:
            return encode, "encode"
        return encode, "skip" if shape.is_nullable else "refuse"

    def _whole(self, type_: str, encode: Encode | None) -> Encode | None:
        """Return the encoder of one value of a type whole: protobuf's maps want messages."""
        if encode is None or type_ not in self._layout.messages:
            return encode
        class_ = self._classes(type_)
        return lambda value: class_(**encode(value))

    def _box(self, slot: Slot) -> Encode:
        encode, null = self._slot_encoder(slot)
        name = slot.name

        def wrap(value: Any) -> dict[str, Any]:
            if value is None and null != "encode":
                if null == "refuse":
                    raise Misfit("is null")
                return {}
            return {name: value if encode is None else encode(value)}

        return wrap

    def _array(self, message: Message) -> Encode:
        encode_keys = self._struct(message.slots)
        slots = [(position(slot.key), slot.key) for slot in message.slots]

        def encode(value: Any) -> dict[str, Any]:
            if type(value) is not list:
                raise Misfit(f"expected an array, got {spell(value)}")
            there = len(value)
            named = {key: value[place] for place, key in slots if place < there}
            made: dict[str, Any] = encode_keys(named)
            return made

        return encode

    def _union(self, message: Message) -> Encode:
        options = [(slot.name, self._types(slot), slot.tag) for slot in message.slots]
        choose = chooser(options, message.tag_field)
        encoders = {slot.name: self._encoder(slot.type) for slot in message.slots}

        def encode(value: Any) -> dict[str, Any]:
            name = choose(value)
            if name is None:
                raise Misfit(f"expected another type than {spell(value)}")
            convert = encoders[name]
            return {name: value if convert is None else convert(value)}

        return encode

    def _types(self, slot: Slot) -> tuple[type, ...]:
        """Return the types that a value of an option can have."""
        shape = slot.source.shape
        if shape.kind == "enum":
            values = self._layout.enums[slot.type].values
            return types_of_values(value for *_, value in values)
        if shape.kind == "struct" and self._layout.messages[slot.type].form == "array":
            return (list,)
        return plain_types(shape)


def _refuse(problem: str) -> NoReturn:
    raise Misfit(problem)


def _list_encoder(encode: Encode | None) -> Encode:
    def convert(value: Any) -> list[Any]:
        if type(value) is not list:
            raise Misfit(f"expected an array, got {spell(value)}")
        if encode is None:
            return value
        try:
            return [encode(item) for item in value]
        except Misfit:
            raise located(encode, value) from None

    return convert


def _map_encoder(encode: Encode | None) -> Encode:
    def convert(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Misfit(f"expected an object, got {spell(value)}")
        made: dict[str, Any] = {}
        text = ""
        try:
            for key, item in value.items():
                text = key if type(key) is str else key_text(key)
                made[text] = item if encode is None else encode(item)
        except Misfit as error:
            raise error.at(f"[{text}]") from None
        return made

    return convert


def _enum_encoder(enum: Enum) -> Encode:
    numbers = {value: number for _, number, value in enum.values if value is not None}

    def encode(value: Any) -> int:
        number = numbers.get(_hashable(value))
        if number is None:
            raise Misfit(f"holds no value of {enum.name}")
        return number

    return encode


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else None
