"""The protobuf layout of a service: its messages, their fields and numbers.

Both sides are made from a `Layout`: `generate.py` makes descriptors and text of it,
`convert.py` the code that turns messages into plain values and back.  It says

    Hello(HelloRequest) returns (HelloResponse)   in package greeter, service Greeter

A value that one field of protobuf cannot hold is in a message of its own, a box: a list in a
list, a null in a list, a list that may be null, a field that may be null as well as left
out.  Boxes are named by what is in them: ``StringList``, ``Int64OrNull``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from kitmsg.idl.declarer import Declarer
from kitmsg.idl.lock import Lock
from kitmsg.idl.model import (
    KINDS,
    Enum as EnumShape,
    Field,
    Method,
    ServiceShapes,
    Shape,
    Struct,
    Union,
)
from kitmsg.idl.naming import camel, plain, snake, unique
from kitmsg_gateways.grpc.names import field_name, package_name, spelled, value_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["VALUE", "Enum", "Form", "Layout", "Message", "Rpc", "Slot", "lay_out"]

VALUE: Final = "google.protobuf.Value"
_METHODS: Final = "methods"

Form: TypeAlias = Literal["struct", "array", "union", "box", "nothing", "frame"]
Label: TypeAlias = Literal["", "optional", "repeated", "map", "oneof"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A field of a message.

    Attributes:
        key: Its place in a plain value: the key of an object, the position of an
            array's item, counted from 1, the name of a union's option.
        type: A scalar type, `VALUE`, or the name of a message or an enum.
        label: ``optional`` has presence, ``map`` has text for keys, ``oneof`` is an option;
            "" is one that is always there.
        source: The field that it stands for.
        tag: Of an option in a union with tags.
        name: Its name in protobuf.
        number: Its number.
    """

    key: str
    type: str
    label: Label
    source: Field
    tag: str | int | None = None
    name: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Attributes:
        name: Its name, below the package.
        form: Its meaning: an object, an array, one of several things (its slots),
            one value (its only slot), nothing, or the first or another message of a
            client's stream (the slots ``request`` and ``item``).
        slots: Its fields, in the order they were declared.
        constants: Keys that a plain value has and the message need not say.
        tag_field: Key of a union's tag; "" without.
        removed: Names and numbers that are not to be used again.
        doc: For people.
    """

    name: str
    form: Form
    slots: tuple[Slot, ...] = ()
    constants: tuple[tuple[str, str | int], ...] = ()
    tag_field: str = ""
    removed: tuple[tuple[str, int], ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Enum:
    """An enum.

    Attributes:
        name: Its name, below the package.
        values: Name, number, and the plain value; the first is zero, and its value is None
            where zero stands for nothing.
        removed: Numbers that are not to be used again.
        doc: For people.
    """

    name: str
    values: tuple[tuple[str, int, str | int | None], ...]
    removed: tuple[int, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Rpc:
    """A method.

    Attributes:
        endpoint: Name of the endpoint that it stands for.
        name: Its name in protobuf.
        input: Name of the message that comes in, once or as a stream.
        output: Name of the message that goes out, once or as a stream.
        takes_stream: Whether the client sends a stream.
        gives_stream: Whether the service answers with a stream.
        codec: In which codec to call the endpoint: ``msgpack`` or ``json``.
        errors: Messages of the declared errors, by the errors' names.
        doc: For people.
    """

    endpoint: str
    name: str
    input: str
    output: str
    takes_stream: bool = False
    gives_stream: bool = False
    codec: str = "msgpack"
    errors: Mapping[str, str] = field(default_factory=dict)
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """A service in protobuf.

    Attributes:
        service: Its name on the bus.
        package: The package of all that is its.
        name: Name of the gRPC service, below the package.
        messages: By name, sorted.
        enums: By name, sorted.
        rpcs: Sorted by endpoint.
        doc: For people.
    """

    service: str
    package: str
    name: str
    messages: Mapping[str, Message]
    enums: Mapping[str, Enum]
    rpcs: tuple[Rpc, ...]
    doc: str = ""

    @property
    def full_name(self) -> str:
        """``package.Service``, as gRPC has it in paths."""
        return f"{self.package}.{self.name}"


def lay_out(shapes: ServiceShapes, lock: Lock | None = None) -> Layout:
    """Return the layout of a service; the same for the same arguments.

    Args:
        shapes: The service.
        lock: Numbers that clients rely on; gets those that are new.  None numbers fields
            in the order in which they are declared.

    Raises:
        BreakingChange: It would make clients that know `lock` misread a message.
        ValueError: It has no form in protobuf; the message names what.
    """
    return _Layer(shapes, lock or Lock()).layout()


class _Layer(Declarer):
    """Lays out one service."""

    MOST = 2**29 - 1
    SKIPPED = range(19_000, 20_000)  # protobuf's own

    def __init__(self, shapes: ServiceShapes, lock: Lock) -> None:
        super().__init__(shapes, lock)
        self._messages: dict[str, Message] = {}
        self._enums: dict[str, Enum] = {}
        self._boxes: dict[Shape, str] = {}
        self._titles: set[str] = set()  # of values: they share the package's names

    def layout(self) -> Layout:
        shapes = self._shapes
        for name in sorted(shapes.types):
            self._type(name)
        rpcs = tuple(self._rpc(method) for method in shapes.methods)
        signatures = {
            rpc.name: f"{rpc.takes_stream * 'stream '}{rpc.input} ->"
            f" {rpc.gives_stream * 'stream '}{rpc.output}"
            for rpc in rpcs
        }
        self._numbers(_METHODS, signatures)
        return Layout(
            service=shapes.service,
            package=package_name(shapes.service),
            name=shapes.name,
            messages=dict(sorted(self._messages.items())),
            enums=dict(sorted(self._enums.items())),
            rpcs=rpcs,
            doc=shapes.doc,
        )

    def _type(self, name: str) -> None:
        type_ = self._shapes.types[name]
        if isinstance(type_, EnumShape):
            self._enum(type_)
        elif isinstance(type_, Struct):
            self._struct(type_)
        else:
            self._union(type_)

    def _struct(self, struct: Struct) -> None:
        message = Message(
            name=struct.name,
            form="array" if struct.is_array else "struct",
            constants=struct.constants,
            doc=struct.doc,
        )
        self._add(message, [self._slot(field) for field in struct.fields])

    def _union(self, union: Union) -> None:
        slots = [
            Slot(
                option.name,
                self._single(option.shape),
                "oneof",
                Field(option.name, option.shape),
                option.tag,
            )
            for option in union.options
        ]
        message = Message(union.name, "union", tag_field=union.tag_field, doc=union.doc)
        self._add(message, slots)

    def _add(self, message: Message, slots: Sequence[Slot]) -> str:
        """Keep a message whose slots get their numbers and names now."""
        name = message.name
        numbers = self._numbers(name, {slot.key: _lock_type(slot) for slot in slots})
        names = spelled(numbers, field_name)
        kept = tuple(
            replace(slot, name=names[slot.key], number=numbers[slot.key])
            for slot in slots
        )
        removed = self._lock.removed(self._shapes.service, name)
        self._messages[name] = replace(
            message,
            slots=kept,
            removed=tuple(sorted((field_name(k), n) for k, n in removed.items())),
        )
        return name

    def _enum(self, enum: EnumShape) -> None:
        found = self._values(enum)
        prefix = snake(enum.name).upper()
        names = spelled(
            {text: number for text, (_, number) in found.items()},
            lambda text: f"{prefix}_{value_name(enum.title(found[text][0]))}",
            self._titles,
        )
        values: list[tuple[str, int, str | int | None]] = [
            (names[text], number, value) for text, (value, number) in found.items()
        ]
        values.sort(key=lambda each: (each[1] != 0, each[1]))
        removed = self._lock.removed(self._shapes.service, enum.name).values()
        zero = unique(f"{prefix}_UNSPECIFIED", self._titles)
        if values[0][1] != 0:
            self._titles.add(plain(zero))
        first = [] if values[0][1] == 0 else [(zero, 0, None)]
        self._enums[enum.name] = Enum(
            enum.name,
            (*first, *values),
            tuple(sorted(number for number in removed if number or not first)),
            enum.doc,
        )

    def _slot(self, field: Field) -> Slot:
        """Return the slot of a field, without number and name."""
        label, type_ = self._place(field)
        return Slot(field.name, type_, label, field)

    def _place(self, field: Field) -> tuple[Label, str]:
        shape = field.shape
        if shape.kind in ("list", "map"):
            is_plain = field.is_required or field.default == (
                [] if shape.kind == "list" else {}
            )
            if is_plain and not shape.is_nullable:
                return self._many(shape)
            inner = shape if field.has_three_states else _sure(shape)
            return "optional", self._box(inner)
        if field.has_three_states and shape.kind != "any":
            return "optional", self._box(shape)
        single = self._single(_sure(shape))
        is_sure = field.is_required and not shape.is_nullable
        if is_sure or self._has_presence(single):
            return "", single
        return "optional", single

    def _has_presence(self, type_: str) -> bool:
        """Tell whether a field of that type has presence without being optional."""
        is_scalar = any(type_ == kind.protobuf for kind in KINDS.values())
        is_enum = isinstance(self._shapes.types.get(type_), EnumShape)
        return type_ == VALUE or not (is_scalar or is_enum)

    def _many(self, shape: Shape) -> tuple[Label, str]:
        item = shape.item or Shape("any")
        return ("repeated" if shape.kind == "list" else "map"), self._single(item)

    def _single(self, shape: Shape) -> str:
        """Return the type of a field that holds one value of `shape`, boxed if need be."""
        if shape.kind == "any":
            return VALUE
        if shape.is_nullable or shape.kind in ("list", "map"):
            return self._box(shape)
        return shape.name or KINDS[shape.kind].protobuf

    def _box(self, shape: Shape) -> str:
        alike = _bare(shape)
        if alike not in self._boxes:
            self._boxes[alike] = self._wrap(self._box_name(alike), alike)
        return self._boxes[alike]

    def _box_name(self, shape: Shape) -> str:
        if shape.is_nullable:
            return f"{self._box_name(_sure(shape))}OrNull"
        if shape.item is not None:
            return f"{self._box_name(shape.item)}{shape.kind.capitalize()}"
        if shape.kind == "any":
            return "Any"
        return shape.name or camel(KINDS[shape.kind].protobuf)

    def _wrap(self, name: str, shape: Shape) -> str:
        """Keep a message whose only field is a value of `shape`; returns its name."""
        message = Message(self._claimed(name), "box")
        return self._add(message, [self._slot(Field("value", shape))])

    def _rpc(self, method: Method) -> Rpc:
        input_ = method.request
        if method.items is not None:
            input_ = self._stream_in(
                method, self._body(method.items, f"{method.name}Item")
            )
        return Rpc(
            endpoint=method.endpoint,
            name=method.name,
            input=input_,
            output=self._body(method.response, f"{method.name}Response"),
            takes_stream=method.items is not None,
            gives_stream=method.stream in ("out", "both"),
            codec=method.codec,
            errors=method.errors,
            doc=method.doc,
        )

    def _body(self, shape: Shape | None, name: str) -> str:
        """Return the message that is a value of `shape`: its own, or one around it."""
        if (
            shape is not None
            and shape.kind in ("struct", "union")
            and not shape.is_nullable
        ):
            return shape.name
        if shape is not None:
            return self._wrap(name, shape)
        return self._add(Message(self._claimed(name), "nothing"), [])

    def _stream_in(self, method: Method, item: str) -> str:
        """Return the message of a client's stream: the items, after a request if any."""
        request = self._shapes.struct(method.request)
        if not request.fields and not request.constants:
            return item
        name = self._claimed(f"{method.name}Input")
        parts = {"request": method.request, "item": item}
        slots = [
            Slot(key, type_, "oneof", Field(key, Shape("any")))
            for key, type_ in parts.items()
        ]
        doc = "The first message of a stream is its request, the others are items."
        return self._add(Message(name, "frame", doc=doc), slots)


def _sure(shape: Shape) -> Shape:
    return replace(shape, is_nullable=False)


def _bare(shape: Shape) -> Shape:
    """Return `shape` with nothing said that makes no difference in protobuf."""
    item = None if shape.item is None else _bare(shape.item)
    kind = "str" if KINDS[shape.kind].protobuf == "string" else shape.kind
    return Shape(kind, shape.name, item, shape.is_nullable and kind != "any")


def _lock_type(slot: Slot) -> str:
    if slot.label == "map":
        return f"map<string, {slot.type}>"
    return f"repeated {slot.type}" if slot.label == "repeated" else slot.type
