"""Binds a method of a user's .proto to an endpoint: which field is which.

Fields, options of unions and enum values go by name, as `kitmsg.idl.binding` rules.  What
does not fit is told with the message and the field; what does becomes a `Layout`, as if it
had been generated, over the user's own messages.

A field ``err`` or ``error`` of a reply, which the endpoint does not give, tells of declared
errors, as in Go kit's services.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from kitmsg.idl.binding import (
    ERROR_FIELDS,
    bind_fields,
    bind_options,
    bind_values,
    constant_number,
    unknown_field,
)
from kitmsg.idl.model import KINDS, Enum as EnumShape, Field, Shape, Struct, Union
from kitmsg.idl.naming import fold
from kitmsg_gateways.grpc.convert import Converters
from kitmsg_gateways.grpc.layout import VALUE, Enum, Label, Layout, Message, Rpc, Slot
from kitmsg_gateways.grpc.values import DURATION, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, MethodDescriptor

    from kitmsg.idl.binding import Direction
    from kitmsg.idl.model import Method, ServiceShapes
    from kitmsg_gateways.grpc.layout import Form

__all__ = ["Binding", "bind", "map_entry"]

_ONEOF: Final = "kind"
_F: Final = FieldDescriptor
_INTEGERS: Final = (
    _F.CPPTYPE_INT32,
    _F.CPPTYPE_INT64,
    _F.CPPTYPE_UINT32,
    _F.CPPTYPE_UINT64,
)
_TIMES: Final = {"datetime": [TIMESTAMP], "str": [TIMESTAMP], "duration": [DURATION]}


@dataclass(slots=True)
class Binding:
    """A method of a .proto and the endpoint that it stands for.

    Attributes:
        layout: The user's messages as they stand for the endpoint's types.
        rpc: The method in that layout.
        classes: The user's messages by their names in the layout.
        problems: A sentence for each part that does not fit.
        error_field: Field of the reply for declared errors; "" for none.
    """

    layout: Layout
    rpc: Rpc
    classes: Mapping[str, Descriptor]
    problems: list[str] = field(default_factory=list)
    error_field: str = ""

    def converters(self) -> Converters:
        """Return the converters of the user's messages."""
        classes = {name: GetMessageClass(d) for name, d in self.classes.items()}
        return Converters(self.layout, classes.__getitem__)


def bind(method: MethodDescriptor, shapes: ServiceShapes, target: Method) -> Binding:
    """Return a method of a .proto bound to an endpoint.

    Args:
        method: Of the .proto.
        shapes: The service on the bus.
        target: Its endpoint.
    """
    return _Binder(shapes, target).bind(method)


class _Binder:
    def __init__(self, shapes: ServiceShapes, target: Method) -> None:
        self._shapes = shapes
        self._target = target
        self._endpoint = f"{shapes.service}.{target.endpoint}"
        self._messages: dict[str, Message] = {}
        self._enums: dict[str, Enum] = {}
        self._classes: dict[str, Descriptor] = {}
        self._problems: dict[str, None] = {}
        self._known: dict[tuple[str, str, Direction], str] = {}
        self._reply = ""
        self._error_field = ""

    def bind(self, method: MethodDescriptor) -> Binding:
        target = self._target
        self._reply = method.output_type.full_name
        takes = target.stream in ("in", "both")
        gives = target.stream in ("out", "both")
        self._check_streams(method, "in", takes)
        self._check_streams(method, "out", gives)
        rpc = Rpc(
            endpoint=target.endpoint,
            name=method.name,
            input=self._input(method.input_type, takes=takes),
            output=self._result(method.output_type),
            takes_stream=takes,
            gives_stream=gives,
            codec=target.codec,
        )
        layout = Layout(
            service=self._shapes.service,
            package=method.containing_service.file.package,
            name=method.containing_service.name,
            messages=self._messages,
            enums=self._enums,
            rpcs=(rpc,),
        )
        return Binding(
            layout, rpc, self._classes, list(self._problems), self._error_field
        )

    def _check_streams(
        self, method: MethodDescriptor, way: Direction, is_stream: bool
    ) -> None:
        given = method.client_streaming if way == "in" else method.server_streaming
        if given != is_stream:
            what = "requests" if way == "in" else "replies"
            verb = "streams" if is_stream else "does not stream"
            self._problem(
                f"{method.full_name}: {self._endpoint} {verb} its {what}; the .proto says"
                " otherwise"
            )

    def _problem(self, sentence: str) -> None:
        self._problems[sentence] = None

    def _report(self, sentences: Iterable[str]) -> None:
        self._problems |= dict.fromkeys(sentences)

    def _input(self, message: Descriptor, *, takes: bool) -> str:
        request = self._shapes.struct(self._target.request)
        items = self._target.items
        if not takes or items is None:
            return self._struct(message, request, "in")
        if not request.fields:
            return self._body(message, items, "in")
        names = {fold(fd.name): fd for fd in message.fields}
        parts = {key: fd.message_type for key, fd in names.items()}
        if parts.keys() != {"request", "item"} or None in parts.values():
            self._problem(
                f"{message.full_name}: {self._endpoint} takes a request and then items; it"
                " has to have a oneof of two messages, 'request' and 'item'"
            )
            return self._keep(message, Message(message.full_name, "nothing"))
        shapes = {"request": Shape("struct", request.name), "item": items}
        slots = []
        for key, shape in shapes.items():
            fd = names[key]
            part = parts[key]
            inner = self._body(part, shape, "in") if part is not None else ""
            slots.append(_slot(key, fd, inner, "oneof", Field(key, shape)))
        return self._keep(
            message, Message(message.full_name, "frame", slots=tuple(slots))
        )

    def _result(self, message: Descriptor) -> str:
        shape = self._target.response
        if shape is None:
            self._extra(message, [fd.name for fd in message.fields], "out")
            return self._keep(message, Message(message.full_name, "nothing"))
        return self._body(message, shape, "out")

    def _body(self, message: Descriptor, shape: Shape, way: Direction) -> str:
        """Return the message that is a value of `shape`: the same, or one around it."""
        type_ = self._shapes.types.get(shape.name)
        if isinstance(type_, Struct) and not shape.is_nullable:
            return self._struct(message, type_, way)
        if isinstance(type_, Union) and not shape.is_nullable:
            return self._union(message, type_, way)
        own = [fd for fd in message.fields if not self._is_error(fd, way)]
        own = own or list(message.fields)  # a lone `err` is the result itself
        if len(own) != 1:
            self._problem(
                f"{message.full_name}: {self._endpoint} has one value here, so it needs one"
                f" field{' beside err' if way == 'out' else ''}, not {len(own)}"
            )
            return self._keep(message, Message(message.full_name, "nothing"))
        self._extra(message, [fd.name for fd in message.fields if fd not in own], way)
        slot = self._slot(own[0], Field("value", shape), way)
        return self._keep(message, Message(message.full_name, "box", slots=(slot,)))

    def _is_error(self, fd: FieldDescriptor, way: Direction) -> bool:
        return (
            way == "out"
            and fd.name in ERROR_FIELDS
            and fd.type == _F.TYPE_STRING
            and not fd.is_repeated
        )

    def _keep(self, descriptor: Descriptor, message: Message) -> str:
        """Keep a message under a name of its own; returns that name."""
        name = message.name
        number = 1
        while name in self._messages:
            number += 1
            name = f"{message.name} ({number})"
        self._messages[name] = replace(message, name=name)
        self._classes[name] = descriptor
        return name

    def _struct(self, descriptor: Descriptor, struct: Struct, way: Direction) -> str:
        key = descriptor.full_name, struct.name, way
        if key in self._known:
            return self._known[key]
        form: Form = "array" if struct.is_array else "struct"
        message = Message(descriptor.full_name, form, constants=struct.constants)
        name = self._known[key] = self._keep(descriptor, message)
        bound = bind_fields({fd.name: fd for fd in descriptor.fields}, struct, way)
        slots = tuple(self._slot(fd, source, way) for fd, source in bound.pairs)
        self._extra(descriptor, bound.extra, way, bound.known)
        bound = replace(bound, extra=())
        self._report(bound.problems(descriptor.full_name, self._endpoint))
        self._messages[name] = replace(self._messages[name], slots=slots)
        return name

    def _extra(
        self,
        descriptor: Descriptor,
        names: Iterable[str],
        way: Direction,
        known: Iterable[str] = (),
    ) -> None:
        """Tell of fields that the endpoint does not have, but for one of errors."""
        for name in names:
            fd = descriptor.fields_by_name[name]
            if self._is_error(fd, way) and descriptor.full_name == self._reply:
                self._error_field = name
            else:
                self._problem(unknown_field(fd.full_name, self._endpoint, way, known))

    def _union(self, descriptor: Descriptor, union: Union, way: Direction) -> str:
        key = descriptor.full_name, union.name, way
        if key in self._known:
            return self._known[key]
        message = Message(descriptor.full_name, "union", tag_field=union.tag_field)
        name = self._known[key] = self._keep(descriptor, message)
        oneof = descriptor.oneofs_by_name.get(_ONEOF)
        if oneof is None:
            self._problem(
                f"{descriptor.full_name}: {self._endpoint} has one of several things here,"
                f" so it needs a oneof named {_ONEOF!r}"
            )
            return name
        bound = bind_options({fd.name: fd for fd in oneof.fields}, union, way)
        slots = []
        for fd, option in bound.pairs:
            type_ = self._single(fd, option.shape, way)
            source = Field(option.name, option.shape)
            slots.append(_slot(fd.name, fd, type_, "oneof", source, option.tag))
        self._report(bound.problems(descriptor.full_name, self._endpoint))
        self._messages[name] = replace(self._messages[name], slots=tuple(slots))
        return name

    def _slot(self, fd: FieldDescriptor, source: Field, way: Direction) -> Slot:
        shape = source.shape
        if source.constant is not None:
            return self._constant(fd, source, source.constant)
        if shape.kind in ("list", "map"):
            return self._many(fd, source, way)
        if fd.is_repeated:
            self._mismatch(fd, shape)
        type_ = self._single(fd, shape, way)
        is_sure = source.is_required and not shape.is_nullable
        if source.has_three_states:
            # The user's message has no box, so null and left out are one here.
            source = replace(source, shape=replace(shape, is_nullable=False))
            is_sure = False
        label: Label = "optional" if fd.has_presence and not is_sure else ""
        return _slot(source.name, fd, type_, label, source)

    def _constant(self, fd: FieldDescriptor, source: Field, value: str | int) -> Slot:
        """Return the slot of a field that has only one value."""
        if fd.is_repeated:
            self._mismatch(fd, source.shape)
        label: Label = "optional" if fd.has_presence else ""
        if fd.enum_type is None:
            type_ = self._leaf(fd, source.shape, KINDS[source.shape.kind].protobuf)
            return _slot(source.name, fd, type_, label, source)
        numbers = {each.name: each.number for each in fd.enum_type.values}
        number = constant_number(numbers, value, prefix=fd.enum_type.name)
        name = f"{fd.enum_type.full_name} {value}"  # not all of its values are taken
        if number is None:
            self._problem(
                f"{fd.enum_type.full_name} lacks the value {value!r}, which"
                f" {self._endpoint} has for {source.name!r}"
            )
            number = 0
        self._enums[name] = Enum(name, ((str(value), number, value),))
        return _slot(source.name, fd, name, label, source)

    def _many(self, fd: FieldDescriptor, source: Field, way: Direction) -> Slot:
        shape = source.shape
        item = shape.item or Shape("any")
        entry = map_entry(fd)
        is_map = entry is not None
        if not fd.is_repeated or is_map != (shape.kind == "map"):
            self._mismatch(fd, shape)
            return _slot(source.name, fd, "", "", source)
        if way == "out" and (shape.is_nullable or item.is_nullable):
            what = "null" if shape.is_nullable else "null in it"
            self._problem(
                f"{fd.full_name}: {self._endpoint} may give {what}, which a"
                f" {'map' if is_map else 'repeated field'} cannot say"
            )
        one = entry.fields_by_name["value"] if entry is not None else fd
        if entry is not None and entry.fields_by_name["key"].type != _F.TYPE_STRING:
            self._problem(f"{fd.full_name}: its keys have to be string, as in JSON")
        type_ = self._single(one, item, way)
        return _slot(source.name, fd, type_, "map" if is_map else "repeated", source)

    def _single(self, fd: FieldDescriptor, shape: Shape, way: Direction) -> str:
        """Return the type of a field that holds one value of `shape`."""
        type_, message = self._shapes.types.get(shape.name), fd.message_type
        if isinstance(type_, EnumShape) and fd.enum_type is not None:
            return self._enum(fd.enum_type, type_, way)
        if isinstance(type_, Struct) and message is not None:
            return self._struct(message, type_, way)
        if isinstance(type_, Union) and message is not None:
            return self._union(message, type_, way)
        return self._leaf(fd, shape, KINDS[shape.kind].protobuf or _enum_kind(type_))

    def _leaf(self, fd: FieldDescriptor, shape: Shape, kind: str) -> str:
        """Return the type of a field that holds no message of the user's own."""
        message = fd.message_type
        given = _scalar(fd) if message is None else message.full_name
        if given == VALUE and message is not None:
            self._classes[VALUE] = message
        if given in _TIMES.get(shape.kind, ()):
            return given
        # A number out of range is refused when it comes.
        is_like = {"int64": fd.cpp_type in _INTEGERS, "double": given == "float"}
        if given != kind and not is_like.get(kind, False):
            self._mismatch(fd, shape)
        return kind

    def _mismatch(self, fd: FieldDescriptor, shape: Shape) -> None:
        has = _spelled(fd)
        kind = KINDS[shape.kind]
        wanted = kind.protobuf or {
            "list": "a repeated field",
            "map": "map<string, ...>",
            "enum": "an enum",
        }.get(shape.kind, "a message")
        self._problem(
            f"{fd.full_name} is {has}; {self._endpoint} has {kind.json.partition(';')[0]}"
            f" here, so it needs {wanted}"
        )

    def _enum(self, descriptor: EnumDescriptor, enum: EnumShape, way: Direction) -> str:
        """Return the name under which an enum of the user's stands for `enum`."""
        name = descriptor.full_name
        numbers = {value.name: value.number for value in descriptor.values}
        bound = bind_values(numbers, enum, way, prefix=descriptor.name)
        # Zero may be there for nothing, as protobuf wants it.
        bound = replace(bound, extra=[each for each in bound.extra if numbers[each]])
        self._report(bound.problems(name, self._endpoint))
        values = dict(bound.pairs)
        names = {number: item for item, number in numbers.items()}
        self._enums[name] = Enum(
            name, tuple((names[n], n, values.get(n)) for n in sorted(names))
        )
        return name


def _enum_kind(type_: object) -> str:
    """Return the type of an enum's values, where the user's field is no enum."""
    values = type_.values if isinstance(type_, EnumShape) else ()
    kinds = {"string" if isinstance(value, str) else "int64" for value in values}
    return kinds.pop() if len(kinds) == 1 else ""


def _slot(
    key: str,
    fd: FieldDescriptor,
    type_: str,
    label: Label,
    source: Field,
    tag: str | int | None = None,
) -> Slot:
    return Slot(key, type_, label, source, tag, fd.name, fd.number)


def map_entry(fd: FieldDescriptor) -> Descriptor | None:
    """Return the message that the entries of a map are; None for no map."""
    message = fd.message_type
    is_map = message is not None and message.GetOptions().map_entry
    return message if is_map else None


def _spelled(fd: FieldDescriptor) -> str:
    many = "repeated " if fd.is_repeated else ""
    if map_entry(fd) is not None:
        return "a map"
    if fd.message_type is not None:
        return f"{many}{fd.message_type.full_name}"
    if fd.enum_type is not None:
        return f"{many}{fd.enum_type.full_name}"
    return f"{many}{_scalar(fd)}"


def _scalar(fd: FieldDescriptor) -> str:
    """Return the name of a scalar type: ``int64``."""
    name = FieldDescriptorProto.Type.Name(
        cast("FieldDescriptorProto.Type.ValueType", fd.type)
    )
    return name.removeprefix("TYPE_").lower()
