"""The messages of a gRPC service as JSON Schemas and a layout.

A message is an object with its fields by their own names.  An enum is the name of its
value, 64-bit integers are numbers, bytes are base64 in JSON, ``google.protobuf.Value`` is
anything, a ``Timestamp`` or ``Duration`` text.  Fields that a message may leave out are
left out; others are always there in what the server says, and zero when a caller does not
give them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from kitmsg.idl.model import Field, Shape
from kitmsg_gateways.grpc.layout import VALUE, Enum, Label, Layout, Message, Slot
from kitmsg_gateways.grpc.values import DURATION, TIMESTAMP

if TYPE_CHECKING:
    from google.protobuf.descriptor import (
        Descriptor,
        EnumDescriptor,
        MethodDescriptor,
        ServiceDescriptor,
    )
    from google.protobuf.message import Message as Proto

__all__ = ["Described", "describe_service"]

_F: Final = FieldDescriptor
_INT32: Final = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_INT64: Final = {"type": "integer", "format": "int64"}
_UINT32: Final = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_UINT64: Final = {"type": "integer", "minimum": 0}
_NUMBER: Final = {"type": "number"}

# full name -> (kind of shape, format in JSON Schema)
_TIMES: Final = {
    TIMESTAMP: ("datetime", "date-time"),
    DURATION: ("duration", "duration"),
}

# protobuf type -> (kind of shape, type in a layout, JSON Schema)
_SCALARS: Final[dict[int, tuple[str, str, dict[str, Any]]]] = {
    _F.TYPE_BOOL: ("bool", "bool", {"type": "boolean"}),
    _F.TYPE_STRING: ("str", "string", {"type": "string"}),
    _F.TYPE_BYTES: (
        "bytes",
        "bytes",
        {"type": "string", "contentEncoding": "base64"},
    ),
    _F.TYPE_DOUBLE: ("float", "double", _NUMBER),
    _F.TYPE_FLOAT: ("float", "double", _NUMBER),
    _F.TYPE_INT32: ("int", "int64", _INT32),
    _F.TYPE_SINT32: ("int", "int64", _INT32),
    _F.TYPE_SFIXED32: ("int", "int64", _INT32),
    _F.TYPE_INT64: ("int", "int64", _INT64),
    _F.TYPE_SINT64: ("int", "int64", _INT64),
    _F.TYPE_SFIXED64: ("int", "int64", _INT64),
    _F.TYPE_UINT32: ("int", "int64", _UINT32),
    _F.TYPE_FIXED32: ("int", "int64", _UINT32),
    _F.TYPE_UINT64: ("int", "int64", _UINT64),
    _F.TYPE_FIXED64: ("int", "int64", _UINT64),
}


@dataclass(slots=True)
class Described:
    """A service, described.

    Attributes:
        layout: Its messages, by their full names.
        descriptors: The same as they came.
        refused: Why a method has no form here, by its name.
    """

    layout: Layout
    descriptors: dict[str, Descriptor]
    refused: dict[str, str] = field(default_factory=dict)

    def classes(self, name: str) -> type[Proto]:
        """Return a message's class by its full name."""
        return GetMessageClass(self.descriptors[name])

    def schemas(
        self, method: MethodDescriptor
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the JSON Schemas of a method's request and of its reply."""
        return (
            _Schema(is_reply=False).of(method.input_type),
            _Schema(is_reply=True).of(method.output_type),
        )


def describe_service(service: ServiceDescriptor) -> Described:
    """Return a service's messages; methods that have no form are refused."""
    messages: dict[str, Message] = {}
    enums: dict[str, Enum] = {}
    descriptors: dict[str, Descriptor] = {}
    refused: dict[str, str] = {}
    for method in service.methods:
        reader = _Reader()
        try:
            reader.message(method.input_type)
            reader.message(method.output_type)
        except ValueError as exc:
            refused[method.name] = f"{method.full_name}: {exc}"
            continue
        messages |= reader.messages
        enums |= reader.enums
        descriptors |= reader.descriptors
    layout = Layout(
        service=service.full_name,
        package=service.file.package,
        name=service.name,
        messages=messages,
        enums=enums,
        rpcs=(),
    )
    return Described(layout, descriptors, refused)


class _Reader:
    """Collects the messages that one method is made of."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.enums: dict[str, Enum] = {}
        self.descriptors: dict[str, Descriptor] = {}

    def message(self, descriptor: Descriptor) -> str:
        """Take in a message and all that it is made of; returns its name."""
        name = descriptor.full_name
        self.descriptors[name] = descriptor
        if name == VALUE or name in self.messages:
            return name
        message = Message(name, "struct")
        self.messages[name] = message  # first, for it may hold itself
        slots = tuple(self._slot(fd) for fd in descriptor.fields)
        self.messages[name] = replace(message, slots=slots)
        return name

    def _slot(self, fd: FieldDescriptor) -> Slot:
        entry = _entry(fd)
        if entry is not None and entry.fields_by_name["key"].type != _F.TYPE_STRING:
            raise ValueError(f"{fd.full_name}: only a map with text for keys is JSON")
        one = entry.fields_by_name["value"] if entry is not None else fd
        kind, type_ = self._type(one)
        label: Label = "optional" if fd.has_presence else ""
        shape = Shape(kind)
        if fd.is_repeated:
            label = "map" if entry is not None else "repeated"
            shape = Shape("map" if entry is not None else "list", item=shape)
        source = Field(fd.name, shape, is_required=fd.is_required)
        return Slot(fd.name, fd.name, fd.number, type_, label, source)

    def _type(self, fd: FieldDescriptor) -> tuple[str, str]:
        if fd.message_type is not None:
            if fd.type == _F.TYPE_GROUP:
                raise ValueError(f"{fd.full_name}: it is a group")
            known = _TIMES.get(fd.message_type.full_name)
            if known is not None:
                return known[0], fd.message_type.full_name
            name = self.message(fd.message_type)
            return ("any" if name == VALUE else "struct"), name
        if fd.enum_type is not None:
            return "enum", self._enum(fd.enum_type)
        kind, type_, _ = _SCALARS[fd.type]
        return kind, type_

    def _enum(self, descriptor: EnumDescriptor) -> str:
        name = descriptor.full_name
        values = {value.number: value.name for value in reversed(descriptor.values)}
        self.enums[name] = Enum(
            name, tuple((text, number, text) for number, text in values.items())
        )
        return name


class _Schema:
    """Writes the JSON Schema of a message, with all that it is made of.

    Args:
        is_reply: Whether the server says it; fields without presence are there then.
    """

    def __init__(self, *, is_reply: bool) -> None:
        self._is_reply = is_reply
        self._names: dict[str, str] = {}
        self._defs: dict[str, Any] = {}

    def of(self, descriptor: Descriptor) -> dict[str, Any]:
        """Return the schema of a message, a document of its own."""
        return {**self._message(descriptor), "$defs": self._defs}

    def _message(self, descriptor: Descriptor) -> dict[str, Any]:
        full = descriptor.full_name
        if full == VALUE:
            return {}
        if full not in self._names:
            taken = self._names.values()
            short = descriptor.name
            name = short if short not in taken else full.replace(".", "_")
            self._names[full] = name
            self._defs[name] = self._object(descriptor, name)
        return {"$ref": f"#/$defs/{self._names[full]}"}

    def _object(self, descriptor: Descriptor, name: str) -> dict[str, Any]:
        required = [
            fd.name
            for fd in descriptor.fields
            if fd.is_required or (self._is_reply and not fd.has_presence)
        ]
        return {
            "title": name,
            "type": "object",
            "properties": {fd.name: self._field(fd) for fd in descriptor.fields},
            "required": required,
            **({} if self._is_reply else {"additionalProperties": False}),
        }

    def _field(self, fd: FieldDescriptor) -> dict[str, Any]:
        entry = _entry(fd)
        if entry is not None:
            value = entry.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._single(value)}
        if fd.is_repeated:
            return {"type": "array", "items": self._single(fd)}
        return self._single(fd)

    def _single(self, fd: FieldDescriptor) -> dict[str, Any]:
        if fd.message_type is not None:
            known = _TIMES.get(fd.message_type.full_name)
            if known is not None:
                return {"type": "string", "format": known[1]}
            return self._message(fd.message_type)
        if fd.enum_type is not None:
            return {"enum": [value.name for value in fd.enum_type.values]}
        return _SCALARS[fd.type][2]


def _entry(fd: FieldDescriptor) -> Descriptor | None:
    """Return the message that the entries of a map are; None for no map."""
    message = fd.message_type
    is_map = message is not None and message.GetOptions().map_entry
    return message if is_map else None
