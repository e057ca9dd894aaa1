"""A Thrift IDL of services, from their schemas: always the same text for the same.

    service Greeter {
      string hello(1: string name)
    }

A request with fields that may be left out, or that is one struct for the service too, is
one parameter; else each field is one.  Field numbers come from a lock.  What is not
required, or may be null, is optional; where null has a place of its own (items of a list, a
result) a struct with one optional field stands around the value.  Names that Thrift does
not allow are changed and annotated with ``kit.name``; ``kit.null`` says that a field which
is absent is null, not left out.  Streams have no form in Thrift and are left out.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from kitmsg.idl.declarer import Declarer
from kitmsg.idl.lock import Lock
from kitmsg.idl.model import KINDS, Enum, Field, Shape, Struct, Union
from kitmsg.idl.naming import camel, fold, plain, snake, unique

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kitmsg.idl.model import Method, Named, ServiceShapes

__all__ = ["generate", "left_out", "method_name", "service_name"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNQUOTABLE: Final = re.compile(r'["\\%\x00-\x1f]')
_NEAR_SLASH: Final = re.compile(r"\*(?=[^*]?/)")
"""Stars that would end a comment, or that thriftpy2 takes for no comment at all."""
_MESSAGE: Final = "message"
_VALUE: Final = "value"
_REQUEST: Final = "request"
_HEAD: Final = "// Made by kitmsg from the schemas of the services.\n"
_WORDS: Final = ("async", "cpp_type", "false", "senum", "slist", "true", "uuid")
"""Words of Thrift that thriftpy2 does not know for one."""


def generate(services: Sequence[ServiceShapes], lock: Lock | None = None) -> str:
    """Return the IDL of some services.

    Args:
        services: Their definitions, in any order.
        lock: Where numbers are remembered, which is changed; None for a new one.

    Raises:
        BreakingChange: The lock refuses a change.
        ValueError: Something has no form in Thrift; the message names it.
    """
    lock = lock if lock is not None else Lock()
    ordered = sorted(services, key=lambda each: each.service)
    counts: dict[str, int] = {}
    for each in ordered:
        for name in {each.name, *each.types}:
            counts[plain(name)] = counts.get(plain(name), 0) + 1
    shared = {name for name, count in counts.items() if count > 1}
    is_alone = len(ordered) == 1
    parts = [_Service(each, lock, shared, is_alone).text() for each in ordered]
    return "\n".join([_HEAD, *parts])


def left_out(service: ServiceShapes) -> dict[str, str]:
    """Return the endpoints that Thrift cannot carry, each with the reason."""
    streams = {
        method.endpoint: f"{service.service}.{method.endpoint} is a stream, which has no"
        " form in Thrift"
        for method in service.methods
        if method.stream
    }
    return {**service.refused, **streams}


def service_name(service: ServiceShapes) -> str:
    """Return the name of a service that is alone in its IDL."""
    return _unlike(service.name)


def method_name(endpoint: str) -> str:
    """Return the name of the method that stands for an endpoint."""
    return _legal(endpoint)


class _Service(Declarer):
    """Writes one service and its types."""

    MOST = 2**15 - 1

    def __init__(
        self, service: ServiceShapes, lock: Lock, shared: set[str], is_alone: bool
    ) -> None:
        super().__init__(service, lock)
        self._is_alone = is_alone
        self._shared = shared
        self._blocks: dict[str, str] = {}
        self._wrappers: dict[str, str] = {}
        self._begun: set[str] = set()
        self._errors = {s for method in service.methods for s in method.errors.values()}

    def text(self) -> str:
        """Return the IDL, each type before those that are made of it."""
        service = self._shapes
        taken: set[str] = set()
        lines = [self._method(m, taken) for m in service.methods if not m.stream]
        lines += [
            f"  // {_one_line(why)}" for _, why in sorted(left_out(service).items())
        ]
        name = self._named(service.name)
        note = _note(service.service, name)
        block = f"{_doc(service.doc)}service {name} {{\n" + "\n".join(lines) + "\n}"
        return "\n\n".join([*self._blocks.values(), block + note]) + "\n"

    def _method(self, method: Method, taken: set[str]) -> str:
        name = unique(_legal(method.endpoint), taken)
        taken.add(plain(name))
        args = self._parameters(method)
        result = "void"
        if method.response is not None:
            result = self._type(method.response, is_inside=True)
            self._numbers(f"{method.name}Result", {"success": result}, success=0)
        throws = self._throws(method)
        note = _note(method.endpoint, name)
        doc = _doc(method.doc, "  ")
        return f"{doc}  {result} {name}({', '.join(args)}){throws}{note}"

    def _parameters(self, method: Method) -> list[str]:
        """Return the parameters of a method: those of the endpoint, or one struct of them.

        Parameters of Thrift cannot be left out in most languages; fields of a struct can.
        """
        request = self._shapes.struct(method.request)
        section = f"{method.name}Args"
        knows = functools.partial(self._lock.knows, self._shapes.service)
        is_single = method.is_single and bool(request.fields)
        is_wanted = is_single or any(map(_word, request.fields))
        # Clients that were made before know the form that the method had then.
        was_flat = not method.is_single and knows(method.request)
        if not knows(section) and (was_flat or not is_wanted):
            return [
                line.replace(": optional ", ": ", 1)
                for line in self._fields(request, method.request)
            ]
        type_ = self._type(Shape("struct", method.request))
        name = _REQUEST
        while fold(name) in {fold(field.name) for field in request.fields}:
            name = f"the_{name}"
        (number,) = self._numbers(section, {_REQUEST: type_}).values()
        return [f"{number}: {type_} {name}"]

    def _throws(self, method: Method) -> str:
        if not method.errors:
            return ""
        types = {
            error: self._type(Shape("struct", name))
            for error, name in sorted(method.errors.items())
        }
        numbers = self._numbers(f"{method.name}Throws", types)
        listed = [
            f"{numbers[error]}: {type_} {_unlike(snake(error))}"
            for error, type_ in types.items()
        ]
        return f" throws ({', '.join(listed)})"

    def _type(self, shape: Shape, *, is_inside: bool = False) -> str:
        """Return a type as the IDL has it.

        Args:
            shape: The type.
            is_inside: Whether null has a place of its own here, so that it needs a
                struct around it.
        """
        if is_inside and shape.is_nullable and shape.kind != "any":
            return self._wrapper(shape)
        if shape.kind == "list":
            return f"list<{self._item(shape)}>"
        if shape.kind == "map":
            return f"map<string, {self._item(shape)}>"
        if shape.name:
            self._define(self._shapes.types[shape.name])
            return self._named(shape.name)
        return KINDS[shape.kind].thrift

    def _item(self, shape: Shape) -> str:
        return self._type(shape.item or Shape("any"), is_inside=True)

    def _named(self, name: str) -> str:
        """Return the name of a type, told apart from that of another service."""
        if plain(name) not in self._shared:
            return _unlike(name)
        return f"{camel(self._shapes.service)}{name}"

    def _wrapper(self, shape: Shape) -> str:
        inner = self._type(shape)
        if inner not in self._wrappers:
            name = self._claimed(f"Optional{camel(inner)}")
            (number,) = self._numbers(name, {_VALUE: inner}).values()
            named = name if self._is_alone else f"{camel(self._shapes.service)}{name}"
            self._wrappers[inner] = named
            self._blocks[named] = (
                f"struct {named} {{\n  {number}: optional {inner} {_VALUE}\n}}"
                ' (kit.optional = "true")'
            )
        return self._wrappers[inner]

    def _define(self, type_: Named) -> None:
        """Write a type, after those that it is made of."""
        name = self._named(type_.name)
        if type_.name in self._begun:  # a struct may hold itself
            return
        self._begun.add(type_.name)
        if isinstance(type_, Enum):
            body = self._enum(type_)
        elif isinstance(type_, Union):
            body = self._union(type_)
        else:
            body = self._struct(type_)
        self._blocks[name] = f"{_doc(type_.doc)}{body}{_note(type_.name, name)}"

    def _struct(self, type_: Struct) -> str:
        is_error = type_.name in self._errors
        lines = self._fields(type_, type_.name, is_error=is_error)
        kind = "exception" if is_error else "struct"
        return _block(f"{kind} {self._named(type_.name)}", lines)

    def _fields(
        self, struct: Struct, section: str, *, is_error: bool = False
    ) -> list[str]:
        """Return the fields of a struct, or the parameters of a method."""
        types = {field.name: self._field(field) for field in struct.fields}
        names = _names(types)
        wanted = dict(types)
        has_message = _MESSAGE in {plain(name) for name in types}
        if is_error and not has_message:
            wanted[_MESSAGE] = KINDS["str"].thrift
        numbers = self._numbers(section, wanted)
        by_name = {field.name: field for field in struct.fields}
        lines = [
            f"{numbers[key]}: {_word(by_name[key])}{type_} {names[key]}"
            f"{_note(key, names[key], is_null=_is_null(by_name[key]))}"
            for key, type_ in types.items()
        ]
        if is_error and not has_message:
            lines.append(f"{numbers[_MESSAGE]}: {wanted[_MESSAGE]} {_MESSAGE}")
        return lines

    def _field(self, field: Field) -> str:
        return self._type(field.shape, is_inside=field.has_three_states)

    def _union(self, type_: Union) -> str:
        wanted = {option.name: self._type(option.shape) for option in type_.options}
        names = _names(wanted)
        numbers = self._numbers(type_.name, wanted)
        lines = [
            f"{numbers[key]}: {kind} {names[key]}{_note(key, names[key])}"
            for key, kind in wanted.items()
        ]
        return _block(f"union {self._named(type_.name)}", lines)

    def _enum(self, type_: Enum) -> str:
        found = self._values(type_)
        titles = {text: type_.title(value) for text, (value, _) in found.items()}
        names = _names(titles.values(), is_upper=True)
        lines = [
            f"{names[title]} = {found[text][1]}{_note(text, names[title])}"
            for text, title in titles.items()
        ]
        return _block(f"enum {self._named(type_.name)}", lines, ",")


def _word(field: Field) -> str:
    is_optional = not field.is_required or field.shape.is_nullable
    return "optional " if is_optional else ""


def _block(head: str, lines: Iterable[str], end: str = "") -> str:
    return "\n".join([f"{head} {{", *(f"  {line}{end}" for line in lines), "}"])


def _names(keys: Iterable[str], *, is_upper: bool = False) -> dict[str, str]:
    """Return a legal name for each key, all different."""
    taken: set[str] = set()
    found = {}
    for key in keys:
        name = unique(_constant(key) if is_upper else _legal(key), taken)
        taken.add(plain(name))
        found[key] = name
    return found


def _legal(name: str) -> str:
    """Return `name` if Thrift allows it, else one like it."""
    return _unlike(name if _IDENTIFIER.fullmatch(name) else snake(name))


def _constant(text: str) -> str:
    digits = text.removeprefix("-")
    if digits.isdigit():
        return f"VALUE_{'MINUS_' if text.startswith('-') else ''}{digits}"
    return _legal(snake(text).upper())


def _unlike(name: str) -> str:
    """Return `name`, changed if it means something in Thrift or in a language."""
    return f"{name}_" if name in _reserved() else name


@functools.cache
def _reserved() -> frozenset[str]:
    from thriftpy2.parser.lexer import keywords, thrift_reserved_keywords

    return frozenset((*_WORDS, *keywords, *thrift_reserved_keywords))


def _is_null(field: Field) -> bool:
    """Tell whether a field that is left out is null on the bus."""
    return field.is_required and field.shape.is_nullable and field.shape.kind != "any"


def _note(key: str, name: str, *, is_null: bool = False) -> str:
    """Return the annotations of something: its name on the bus, if it is another."""
    notes = ['kit.null = "true"'] if is_null else []
    if key != name:
        notes.append(f'kit.name = "{_escaped(key)}"')
    return f" ({', '.join(notes)})" if notes else ""


def _escaped(name: str) -> str:
    """Return a name as it can stand between quotes; "%" for none."""
    return _UNQUOTABLE.sub(lambda found: quote(found[0], safe=""), name) or "%"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _doc(text: str, indent: str = "") -> str:
    words = _NEAR_SLASH.sub("*  ", _one_line(text))
    return f"{indent}/** {words} */\n" if words else ""
