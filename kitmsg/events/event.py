"""`Event`: the class of a thing that happened, with the subject it is stored under.

Read when it is defined; a mistake is a `TypeError` or `ValueError` there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import Enum
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)
from uuid import UUID

import msgspec

from kitmsg.events.stream import PREFIX, Stream
from kitmsg.events.template import Template
from kitmsg.schema.jsonschema import json_schema
from kitmsg.schema.live import document_hash

__all__ = ["Event", "Facts", "facts_of", "schema_hash", "schema_of", "upcast"]

_UPCASTS: Final = "__kit_upcasts__"
_TOKENS: Final = (str, int, UUID, date, datetime, Enum)

F = TypeVar("F", bound=Callable[[dict[str, Any]], dict[str, Any]])


def upcast(version: int) -> Callable[[F], F]:
    """Make a function of an event class bring an event of `version` to the next one.

    ::

        class OrderPlaced(Event, subject="orders.placed.{order_id}", version=2):
            order_id: str
            cents: int

            @upcast(1)
            @staticmethod
            def in_cents(old: dict[str, Any]) -> dict[str, Any]:
                return {**old, "cents": round(old.pop("total") * 100)}

    It takes and gives the event's fields, as JSON has them.

    Args:
        version: The version that it takes.

    Raises:
        ValueError: `version` is not positive.
    """
    if version < 1:
        raise ValueError(f"@upcast({version}): versions count from 1")

    def mark(function: F) -> F:
        setattr(getattr(function, "__func__", function), _UPCASTS, version)
        return function

    return mark


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about an event class.

    Attributes:
        cls: The class.
        template: Its subject, below `PREFIX`.
        stream: Where it is stored, the name filled in.
        version: Of its fields' meaning; counts from 1.
        upcasts: Functions from the fields of one version to those of the next, by version.
        subject: Returns the subject of an event.
    """

    cls: type[Event]
    template: Template
    stream: Stream
    version: int
    upcasts: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]
    subject: Callable[[Event], str]

    @property
    def name(self) -> str:
        """The literal words of its subject; its type on the wire (``ce-type``)."""
        return self.template.name

    @property
    def pattern(self) -> str:
        """The subjects of all its events."""
        return self.template.pattern(PREFIX)


class _EventMeta(msgspec.StructMeta):
    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        subject: str = "",
        stream: Stream | None = None,
        version: int = 1,
        **config: Any,
    ) -> Any:
        made: Any = super().__new__(cls, name, bases, namespace, **config)
        if subject:
            made.__kit_event__ = _read(made, subject, stream, version)
        elif stream is not None or version != 1:
            raise TypeError(f"{name}: stream= and version= need a subject=")
        return made


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, metaclass=_EventMeta, frozen=True):
    """Base of events: things that happened, immutable.

    ::

        class OrderPlaced(Event, subject="orders.placed.{order_id}"):
            order_id: str
            total: Decimal

    is stored under ``event.orders.placed.A1``, in the stream ``orders``.  A class without a
    subject is a base for others.

    Class arguments:
        subject: Literal words and fields in braces.  Fields are text, whole numbers, true
            or false, UUIDs, dates or enums; any value is encoded as one token.
        stream: Where it is stored; by default a stream with the subject's first word for
            its name.
        version: Of its fields' meaning; see `upcast`.
        Others: As in `msgspec.Struct`.
    """

    __kit_event__: ClassVar[Facts | None] = None

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            subject: str = "",
            stream: Stream | None = None,
            version: int = 1,
            **config: Any,
        ) -> None: ...


def facts_of(cls: Any) -> Facts:
    """Return the facts about an event class.

    Raises:
        TypeError: It is none, or has no subject.
    """
    facts: Facts | None = getattr(cls, "__kit_event__", None)
    if not (isinstance(cls, type) and issubclass(cls, Event)):
        raise TypeError(f"{cls!r} is no class of events")
    if facts is None or facts.cls is not cls:
        raise TypeError(
            f"{cls.__name__} has no subject; write class {cls.__name__}(Event,"
            ' subject="orders.placed.{order_id}")'
        )
    return facts


def _read(cls: Any, subject: str, stream: Stream | None, version: int) -> Facts:
    try:
        template = Template.parse(subject)
    except ValueError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None
    for field in template.fields:
        if field not in cls.__struct_fields__:
            known = ", ".join(cls.__struct_fields__) or "none"
            raise TypeError(
                f"{cls.__name__}: the subject {subject!r} has {{{field}}}, which is no"
                f" field; there is {known}"
            )
    _check_types(cls, template)
    if version < 1:
        raise ValueError(f"{cls.__name__}: versions count from 1, not {version}")
    upcasts = _upcasts(cls, version)
    chosen = stream or Stream()
    if not chosen.name:
        chosen = replace(chosen, name=template.tokens[0])
    return Facts(cls, template, chosen, version, upcasts, template.writer(PREFIX))


def _check_types(cls: Any, template: Template) -> None:
    """Refuse fields in the subject whose values have no text of their own."""
    try:
        hints = get_type_hints(cls)
    except NameError:
        return  # of a class that is defined later; a value is checked when it is written
    for field in template.fields:
        if not _is_token(hints[field]):
            raise TypeError(
                f"{cls.__name__}.{field} is in the subject {template.text!r}; its type must"
                f" be str, int, bool, UUID, date, datetime or an enum, not {hints[field]!r}"
            )


def _is_token(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return all(isinstance(value, (str, int)) for value in get_args(hint))
    if origin in (Union, UnionType):
        return all(map(_is_token, get_args(hint)))
    if hasattr(hint, "__metadata__"):  # Annotated
        return _is_token(hint.__origin__)
    if hasattr(hint, "__supertype__"):  # NewType
        return _is_token(hint.__supertype__)
    return isinstance(hint, type) and issubclass(hint, _TOKENS)


def _upcasts(cls: Any, version: int) -> dict[int, Callable[..., dict[str, Any]]]:
    found: dict[int, Callable[..., dict[str, Any]]] = {}
    for name in dir(cls):
        function = getattr(cls, name, None)
        taken = getattr(function, _UPCASTS, None)
        if not isinstance(taken, int) or function is None:
            continue
        if taken >= version:
            raise ValueError(
                f"{cls.__name__}.{name} brings up version {taken}, and the class is"
                f" version {version}; write version={taken + 1}"
            )
        if taken in found:
            raise ValueError(f"{cls.__name__} has two upcasts of version {taken}")
        found[taken] = function
    return found


@functools.cache
def schema_hash(cls: type[Event]) -> str:
    """Return the hash of an event class's JSON Schema."""
    return document_hash(schema_of(cls))


def schema_of(cls: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event class, as it arrives elsewhere."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(json_schema(cls)))
    return found
