"""From a message to its plain value: one function for each message, built once."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg_gateways.grpc.layout import VALUE
from kitmsg_gateways.grpc.times import READERS
from kitmsg_gateways.grpc.values import Misfit, located, read_any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg_gateways.grpc.layout import Enum, Layout, Message, Slot

    Read: TypeAlias = Callable[[Any], Any]

__all__ = ["Readers"]

_MISSING: Final[Any] = object()
_REFUSED: Final[Any] = object()


class Readers:
    """What reads the messages of a layout.

    Args:
        layout: The messages.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._made: dict[str, Read] = {}

    def of(self, name: str) -> Read:
        """Return what reads a message; it raises `Misfit`.

        Raises:
            KeyError: There is no such message.
        """
        if name not in self._made:
            self._made[name] = self._make(self._layout.messages[name])
        return self._made[name]

    def _make(self, message: Message) -> Read:
        if message.form in ("nothing", "frame"):  # a frame is read by its parts
            return lambda _: None
        if message.form == "box":
            return self._slot_reader(message.slots[0])
        if message.form == "union":
            return self._union(message)
        return (
            self._array(message) if message.form == "array" else self._struct(message)
        )

    def _reader(self, type_: str) -> Read | None:
        """Return what reads one value of a type; None where it is the value itself."""
        enum = self._layout.enums.get(type_)
        if enum is not None:
            return _enum_reader(enum)
        if type_ == VALUE:
            return read_any
        if type_ in READERS:
            return READERS[type_]
        return self._late(type_) if type_ in self._layout.messages else None

    def _late(self, name: str) -> Callable[[Any], Any]:
        """Return what calls the reader of a message, which may be in the making."""
        made: Read | None = None

        def convert(value: Any) -> Any:
            nonlocal made
            if made is None:
                made = self.of(name)
            return made(value)

        return convert

    def _slot_reader(self, slot: Slot) -> Read:
        """Return what reads a slot off its message; `_MISSING` for one left out."""
        read, get = self._reader(slot.type), attrgetter(slot.name)
        if slot.label == "repeated":
            return _list_reader(get, read)
        if slot.label == "map":
            return _map_reader(get, read)
        is_known = slot.type == VALUE or slot.type in READERS
        is_message = is_known or slot.type in self._layout.messages
        if slot.label != "optional" and not is_message:
            return get if read is None else lambda message: read(get(message))
        return self._present(slot, get, read)

    def _present(self, slot: Slot, get: Read, read: Read | None) -> Read:
        """Return what reads a slot that has presence."""
        name, absent = slot.name, _absent(slot)
        if read is None:

            def look(message: Any) -> Any:
                return get(message) if message.HasField(name) else absent

            return look

        def convert(message: Any) -> Any:
            if message.HasField(name):
                return read(get(message))
            if absent is _REFUSED:
                raise Misfit("is missing")
            return absent

        return convert

    def _struct(self, message: Message) -> Read:
        simple = [s for s in message.slots if self._is_simple(s)]
        rest = [
            (slot.key, self._slot_reader(slot))
            for slot in message.slots
            if slot not in simple
        ]
        start = _bulk_reader(simple, dict(message.constants))
        if not rest:
            return start

        def read(proto: Any) -> dict[str, Any]:
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

        return read

    def _is_simple(self, slot: Slot) -> bool:
        return slot.label == "" and self._reader(slot.type) is None

    def _array(self, message: Message) -> Read:
        constants = {_place(key): value for key, value in message.constants}
        readers = [
            (_place(slot.key), self._slot_reader(slot)) for slot in message.slots
        ]
        nullable = {
            _place(slot.key)
            for slot in message.slots
            if slot.source.shape.is_nullable and not slot.source.has_three_states
        }

        def read(proto: Any) -> list[Any]:
            found = dict(constants)
            place = 0
            try:
                for place, take in readers:
                    item = take(proto)
                    if item is not _MISSING:
                        found[place] = item
            except Misfit as error:
                raise error.at(f"item_{place + 1}") from None
            last = max(found, default=-1)
            if last >= len(found):
                _fill_gaps(found, last, nullable)
            return [found[place] for place in range(last + 1)]

        return read

    def _union(self, message: Message) -> Read:
        readers = {
            slot.name: (attrgetter(slot.name), self._reader(slot.type))
            for slot in message.slots
        }
        listed = ", ".join(readers)

        def read(proto: Any) -> Any:
            chosen = proto.WhichOneof("kind")
            if chosen is None:
                raise Misfit(f"is missing; choose one of {listed}")
            get, convert = readers[chosen]
            return get(proto) if convert is None else convert(get(proto))

        return read


def _absent(slot: Slot) -> Any:
    """Return what a slot with presence is when it is left out."""
    if not slot.source.is_required:
        return _MISSING
    return None if slot.source.shape.is_nullable else _REFUSED


def _bulk_reader(slots: list[Slot], constants: dict[str, Any]) -> Read:
    """Return what reads fields without presence whose values need no change."""
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


def _list_reader(get: Read, read: Read | None) -> Read:
    if read is None:
        return lambda message: list(get(message))

    def convert(message: Any) -> list[Any]:
        items = get(message)
        try:
            return [read(item) for item in items]
        except Misfit:
            raise located(read, items) from None

    return convert


def _map_reader(get: Read, read: Read | None) -> Read:
    if read is None:
        return lambda message: dict(get(message))

    def convert(message: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        key = ""
        try:
            for key, item in get(message).items():
                found[key] = read(item)
        except Misfit as error:
            raise error.at(f"[{key}]") from None
        return found

    return convert


def _enum_reader(enum: Enum) -> Read:
    values = {number: value for _, number, value in enum.values}
    unset = {number for number, value in values.items() if value is None}

    def read(number: int) -> Any:
        value = values.get(number)
        if value is None:
            if number in unset:
                raise Misfit("is missing")
            raise Misfit(f"{number} is no value of {enum.name}")
        return value

    return read


def _place(key: str) -> int:
    """Return the position of an array's item, of its key ``item_1``."""
    return int(key.rpartition("_")[2]) - 1


def _fill_gaps(found: dict[int, Any], last: int, nullable: set[int]) -> None:
    """Put null where an item is left out and one behind it is there."""
    for place in range(last):
        if place not in found:
            if place not in nullable:
                raise Misfit(
                    "is missing, and one behind it is there", f"item_{place + 1}"
                )
            found[place] = None
