"""Messages as plain values and back, by functions that are built once for each message.

A plain value is what msgpack or JSON makes of a payload: objects are dicts, an enum is its
value, a union is the value of its option.  Both ways are exact, or refused with the field.

Absence means what protobuf says: a field without presence is zero, empty text
or an empty list; an ``optional`` one is left out of the value, so that the service's own
default counts, or is null where it has to be there.  Enums and messages have no zero: one
that has to be there and is not is refused.  Fields that the layout does not know are
ignored, as everywhere in protobuf.

This, `decode.py` and `encode.py` are the hot path of the gateway: flat on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg_gateways.grpc.decode import Decoders
from kitmsg_gateways.grpc.encode import Encoders
from kitmsg_gateways.grpc.generate import descriptor
from kitmsg_gateways.grpc.layout import VALUE
from kitmsg_gateways.grpc.values import Misfit

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message as Proto

    from kitmsg.errors import KitError
    from kitmsg_gateways.grpc.layout import Layout, Rpc

__all__ = ["Converter", "Converters", "Misfit", "reply_error", "request_error"]


class Converter:
    """Both ways between one message and its plain values.

    Attributes:
        type: The message's class.
        decode: From a message to a value; raises `Misfit`.
        encode: From a value to the arguments that make a message; raises `Misfit`.
    """

    __slots__ = ("_name", "decode", "encode", "type")

    def __init__(
        self,
        name: str,
        type_: type[Proto],
        decode: Callable[[Any], Any],
        encode: Callable[[Any], Any],
    ) -> None:
        self._name = name
        self.type = type_
        self.decode = decode
        self.encode = encode

    def decoder(self, fail: Callable[[str, str], KitError]) -> Callable[[bytes], Any]:
        """Return a function from a message's bytes to its value.

        Args:
            fail: Makes the error to raise, of a sentence and the path of a field.
        """
        parse, convert, name = self.type.FromString, self.decode, self._name

        def decode(data: bytes) -> Any:
            try:
                return convert(parse(data))
            except Misfit as error:
                raise fail(str(error), error.path) from error
            except (DecodeError, RecursionError) as error:
                raise fail(f"the message is no {name}, or cut short", "") from error

        return decode

    def encoder(self, fail: Callable[[str, str], KitError]) -> Callable[[Any], bytes]:
        """Return a function from a value to its message's bytes; `fail` as above."""
        make = self.message
        write = self.type.SerializeToString  # a field may have that name

        def encode(value: Any) -> bytes:
            try:
                data: bytes = write(make(value))
            except Misfit as error:
                raise fail(str(error), error.path) from error
            return data

        return encode

    def part(self, name: str, inner: Converter) -> Converter:
        """Return the converter of this message where it holds the field `name` alone.

        Args:
            name: The field.
            inner: The converter of what is in it.
        """

        def decode(message: Any) -> Any:
            if not type(message).HasField(message, name):
                raise Misfit("is missing", name)
            return inner.decode(getattr(message, name))

        return Converter(
            self._name, self.type, decode, lambda value: {name: inner.encode(value)}
        )

    def message(self, value: Any) -> Proto:
        """Return a value as a message.

        Raises:
            Misfit: It does not fit.
        """
        try:
            return self.type(**self.encode(value))
        except (TypeError, OverflowError, RecursionError, UnicodeError) as error:
            raise Misfit(f"does not fit {self._name}") from error
        except ValueError as error:
            if isinstance(error, Misfit):
                raise
            raise Misfit(f"does not fit {self._name}") from error


class Converters:
    """The converters of a layout's messages, each built when it is first asked for.

    Args:
        layout: The messages.
        classes: Returns a message's class by its name in the layout; None makes classes
            from the layout's own descriptor.
    """

    def __init__(
        self, layout: Layout, classes: Callable[[str], type[Proto]] | None = None
    ) -> None:
        self._layout = layout
        self._classes = classes or _classes(layout)
        self._decoders = Decoders(layout)
        self._encoders = Encoders(layout, self._classes)

    def of(self, name: str) -> Converter:
        """Return the converter of a message.

        Raises:
            KeyError: There is no such message.
        """
        decode, encode = self._decoders.of(name), self._encoders.of(name)
        return Converter(name, self._classes(name), decode, encode)

    def inputs(self, rpc: Rpc) -> tuple[Converter | None, Converter | None]:
        """Return the converters of a method's request, and of an item of the client's.

        None for the request of a stream whose messages are all items, and for the item of
        a method that takes no stream.
        """
        whole, message = self.of(rpc.input), self._layout.messages[rpc.input]
        if not rpc.takes_stream:
            return whole, None
        if message.form != "frame":
            return None, whole
        request, item = (
            whole.part(slot.name, self.of(slot.type)) for slot in message.slots
        )
        return request, item


def _classes(layout: Layout) -> Callable[[str], type[Proto]]:
    pool = DescriptorPool()
    values = FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(values)
    pool.Add(values)
    pool.Add(descriptor(layout))

    def find(name: str) -> type[Proto]:
        full = name if name == VALUE else f"{layout.package}.{name}"
        return GetMessageClass(pool.FindMessageTypeByName(full))

    return find


def reply_error(problem: str, _: str) -> KitError:
    """Return the error for a reply of a service that does not fit its schema."""
    return DataLoss(f"the reply does not fit the service's schema: {problem}")


def request_error(problem: str, field: str) -> KitError:
    """Return the error for a message of a caller that cannot be taken."""
    return InvalidArgument(problem, field=field)
