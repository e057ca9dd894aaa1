"""Descriptors and ``.proto`` files of services, from their layouts.

Both say the same: what protoc makes of the text is the descriptor.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    EnumValueDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MessageOptions,
    MethodDescriptorProto,
    OneofDescriptorProto,
    ServiceDescriptorProto,
)

from kitmsg_gateways.grpc.layout import VALUE, Enum, Layout, Message, Rpc, Slot, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes

__all__ = ["IMPORT", "descriptor", "file_name", "generate", "text"]

IMPORT: Final = "google/protobuf/struct.proto"
"""The import of a file that has fields of any type."""

_SCALARS: Final = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}
_SINGLE: Final = FieldDescriptorProto.LABEL_OPTIONAL
_ONEOF: Final = "kind"
_WIDTH: Final = 88


def generate(services: Iterable[ServiceShapes], lock: Lock) -> dict[str, str]:
    """Return ``.proto`` files by name, one for each service, sorted.

    Args:
        services: In any order.
        lock: Numbers that clients rely on; gets those that are new.

    Raises:
        BreakingChange: It would make clients that know `lock` misread a message.
        ValueError: A service has no form in protobuf, or two have one package.
    """
    layouts = [lay_out(shapes, lock) for shapes in services]
    files: dict[str, str] = {}
    for layout in sorted(layouts, key=lambda each: each.service):
        name = file_name(layout)
        if name in files:
            raise ValueError(
                f"{layout.service}: another service has the package {layout.package!r} too;"
                " rename one"
            )
        files[name] = text(layout)
    return files


def file_name(layout: Layout) -> str:
    """Return the name of the file that a service is in."""
    return f"{layout.package}.proto"


def descriptor(layout: Layout) -> FileDescriptorProto:
    """Return the descriptor of a service's file; equal layouts give equal bytes."""
    service = ServiceDescriptorProto(
        name=layout.name, method=[_method(rpc, layout) for rpc in layout.rpcs]
    )
    return FileDescriptorProto(
        name=file_name(layout),
        package=layout.package,
        syntax="proto3",
        dependency=[IMPORT] if _imports(layout) else [],
        message_type=[_message(each, layout) for each in layout.messages.values()],
        enum_type=[_enum(each) for each in layout.enums.values()],
        service=[service] if layout.rpcs else [],
    )


def _imports(layout: Layout) -> bool:
    slots = (slot for each in layout.messages.values() for slot in each.slots)
    return any(slot.type == VALUE for slot in slots)


def _message(message: Message, layout: Layout) -> DescriptorProto:
    oneofs = [_ONEOF] if any(slot.label == "oneof" for slot in message.slots) else []
    fields = []
    for slot in message.slots:
        field = _field(slot, message, layout)
        if slot.label == "oneof":
            field.oneof_index = 0
        elif slot.label == "optional" and _needs_optional(slot, layout):
            field.proto3_optional = True
            field.oneof_index = len(oneofs)
            oneofs.append(f"_{slot.name}")
        fields.append(field)
    removed = list(_reserved(message))
    maps = [slot for slot in message.slots if slot.label == "map"]
    return DescriptorProto(
        name=message.name,
        field=fields,
        nested_type=[_map_entry(slot, layout) for slot in maps],
        oneof_decl=[OneofDescriptorProto(name=name) for name in oneofs],
        reserved_range=[
            DescriptorProto.ReservedRange(start=n, end=n + 1) for _, n in removed
        ],
        reserved_name=[name for name, _ in removed if name],
    )


def _needs_optional(slot: Slot, layout: Layout) -> bool:
    """Tell whether presence has to be asked for: messages have it anyway."""
    return slot.type in _SCALARS or slot.type in layout.enums


def _field(slot: Slot, message: Message, layout: Layout) -> FieldDescriptorProto:
    many = slot.label in ("repeated", "map")
    type_ = _type(slot.type, layout)
    if slot.label == "map":
        entry = f".{layout.package}.{message.name}.{_entry_name(slot)}"
        type_ = {"type": FieldDescriptorProto.TYPE_MESSAGE, "type_name": entry}
    return FieldDescriptorProto(
        name=slot.name,
        number=slot.number,
        json_name=_json_name(slot.name),
        label=FieldDescriptorProto.LABEL_REPEATED if many else _SINGLE,
        **type_,
    )


def _type(type_: str, layout: Layout) -> dict[str, Any]:
    """Return the type of a field, as its descriptor has it."""
    if type_ in _SCALARS:
        return {"type": _SCALARS[type_]}
    is_enum = type_ in layout.enums
    return {
        "type": FieldDescriptorProto.TYPE_ENUM
        if is_enum
        else FieldDescriptorProto.TYPE_MESSAGE,
        "type_name": f".{type_}" if type_ == VALUE else f".{layout.package}.{type_}",
    }


def _map_entry(slot: Slot, layout: Layout) -> DescriptorProto:
    types = {"key": "string", "value": slot.type}
    fields = [
        FieldDescriptorProto(
            name=name,
            number=number,
            json_name=name,
            label=_SINGLE,
            **_type(type_, layout),
        )
        for number, (name, type_) in enumerate(types.items(), 1)
    ]
    return DescriptorProto(
        name=_entry_name(slot), field=fields, options=MessageOptions(map_entry=True)
    )


def _json_name(name: str) -> str:
    """Return a field's name in JSON, as protoc makes it."""
    head, *words = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in words)


def _entry_name(slot: Slot) -> str:
    """Return the name of the message that a map's entries are, as protoc makes it."""
    words = slot.name.split("_")
    return "".join(word[:1].upper() + word[1:] for word in words) + "Entry"


def _enum(enum: Enum) -> EnumDescriptorProto:
    return EnumDescriptorProto(
        name=enum.name,
        value=[EnumValueDescriptorProto(name=n, number=i) for n, i, _ in enum.values],
        reserved_range=[
            EnumDescriptorProto.EnumReservedRange(start=n, end=n) for n in enum.removed
        ],
    )


def _method(rpc: Rpc, layout: Layout) -> MethodDescriptorProto:
    return MethodDescriptorProto(
        name=rpc.name,
        input_type=f".{layout.package}.{rpc.input}",
        output_type=f".{layout.package}.{rpc.output}",
        client_streaming=rpc.takes_stream or None,
        server_streaming=rpc.gives_stream or None,
    )


def _reserved(message: Message) -> Iterator[tuple[str, int]]:
    """Yield what was removed, by name where the name is not in use again."""
    used = {slot.name for slot in message.slots}
    for name, number in message.removed:
        yield "" if name in used else name, number
        used.add(name)


def text(layout: Layout) -> str:
    """Return a service as a ``.proto`` file; equal layouts give equal text."""
    blocks = ['syntax = "proto3";\n', f"package {layout.package};\n"]
    if _imports(layout):
        blocks.append(f'import "{IMPORT}";\n')
    if layout.rpcs:
        blocks.append(_service_text(layout))
    blocks += [_message_text(each, layout) for each in layout.messages.values()]
    blocks += [_enum_text(each) for each in layout.enums.values()]
    return "\n".join(blocks)


def _service_text(layout: Layout) -> str:
    lines = [*_comment(layout.doc), f"service {layout.name} {{"]
    for rpc in layout.rpcs:
        takes = "stream " if rpc.takes_stream else ""
        gives = "stream " if rpc.gives_stream else ""
        lines += _comment(rpc.doc, "  ")
        lines.append(
            f"  rpc {rpc.name}({takes}{rpc.input}) returns ({gives}{rpc.output});"
        )
    return _closed(lines)


def _message_text(message: Message, layout: Layout) -> str:
    lines = [*_comment(message.doc), f"message {message.name} {{"]
    for name, number in _reserved(message):
        lines.append(f"  reserved {number};")
        if name:
            lines.append(f'  reserved "{name}";')
    if any(slot.label == "oneof" for slot in message.slots):
        lines.append(f"  oneof {_ONEOF} {{")
        for slot in message.slots:
            lines += [f"    {line}" for line in _slot_text(slot, layout)]
        return _closed([*lines, "  }"])
    for slot in message.slots:
        lines += [f"  {line}" for line in _slot_text(slot, layout)]
    return _closed(lines)


def _slot_text(slot: Slot, layout: Layout) -> list[str]:
    type_ = f"map<string, {slot.type}>" if slot.label == "map" else slot.type
    label = "repeated " if slot.label == "repeated" else ""
    if slot.label == "optional" and _needs_optional(slot, layout):
        label = "optional "
    return [*_comment(slot.source.doc), f"{label}{type_} {slot.name} = {slot.number};"]


def _enum_text(enum: Enum) -> str:
    lines = [*_comment(enum.doc), f"enum {enum.name} {{"]
    lines += [f"  reserved {number};" for number in enum.removed]
    lines += [f"  {name} = {number};" for name, number, _ in enum.values]
    return _closed(lines)


def _closed(lines: list[str]) -> str:
    return "\n".join([*lines, "}"]) + "\n"


def _comment(doc: str, indent: str = "") -> list[str]:
    """Return text as comment lines; what would end a line is a space."""
    words = " ".join(doc.split())
    return [
        f"{indent}// {line}"
        for line in textwrap.wrap(words, _WIDTH - len(indent) - len("// "))
    ]
