"""Random types that travel, and random values of them, for tests that send both around."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import types
import typing
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, Union
from uuid import UUID

import msgspec
import pydantic
from hypothesis import strategies as st
from msgspec import Struct
from pydantic import Field, computed_field, field_serializer

from kitmsg import Service, endpoint
from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.schema import Signature, signature

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Case", "bytes_of", "cases", "codecs"]


class Case(NamedTuple):
    """An endpoint whose parameter and result have one type, and values of it.

    Attributes:
        signature: What the endpoint takes and gives.
        values: Some values.
    """

    signature: Signature
    values: list[Any]


class Colour(enum.Enum):
    """An enum of texts, some alike but for case."""

    RED = "red"
    LOUD = "RED"
    SEA_GREEN = "sea-green"
    NONE = ""


class Level(enum.IntEnum):
    """An enum of numbers, with a zero."""

    LOW = -1
    NONE = 0
    HIGH = 2**40


class Step(enum.IntEnum):
    """An enum of small numbers, without a zero."""

    ONE = 1
    FIVE = 5


class Rights(enum.IntFlag):
    """Flags, any of them together."""

    READ = 1
    WRITE = 2
    RUN = 8


class Marks(enum.Flag):
    """Flags that are no ints."""

    NEW = 1
    OLD = 4


class Record(pydantic.BaseModel):
    """A model that is written otherwise than it is read."""

    number: int = Field(validation_alias="no", serialization_alias="recordNumber")
    secret: str = Field(default="", exclude=True)
    opened: dt.date = dt.date(2020, 1, 1)
    rows: list[Row] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"#{self.number}"

    @field_serializer("opened")
    def written(self, value: dt.date) -> str:
        return value.isoformat()


class Row(pydantic.BaseModel):
    """A model inside another, with an alias each way."""

    text: str = Field(validation_alias="in", serialization_alias="out")


T = TypeVar("T")


class Box(Struct, Generic[T]):
    """A generic Struct."""

    held: T
    more: list[T] = []


@dataclasses.dataclass
class Bag(Generic[T]):
    """A generic dataclass."""

    held: T
    by_name: dict[str, T] = dataclasses.field(default_factory=dict)
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.by_name)


class Generous(Service, Generic[T]):
    """A generic service."""

    @endpoint
    async def call(self, given: T) -> T:
        return given


class Tree(Struct, rename="camel"):
    """A type that holds itself."""

    own_name: str
    left_part: Tree | None = None
    kids: list[Tree] = []


Typed: TypeAlias = tuple[Any, st.SearchStrategy[Any]]
"""A type, and its values."""

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
INT = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
_OFFSETS = st.integers(-839, 839).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
_AWARE = st.datetimes(timezones=_OFFSETS) | st.builds(
    dt.datetime.replace,
    st.sampled_from([dt.datetime.min, dt.datetime.max]),
    tzinfo=_OFFSETS,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOAT | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=5,
)
_TREES = st.recursive(
    TEXT.map(Tree),
    lambda inner: st.builds(Tree, TEXT, st.none() | inner, st.lists(inner, max_size=2)),
    max_leaves=4,
)
_ROWS = st.builds(lambda text: Row.model_validate({"in": text}), TEXT)
_RECORDS = st.builds(
    lambda no, opened, rows: Record.model_validate(
        {"no": no, "opened": opened, "rows": rows}
    ),
    INT,
    st.dates(),
    st.lists(_ROWS, max_size=2),
)
_LEAVES: list[Typed] = [
    (bool, st.booleans()),
    (int, INT),
    (float, FLOAT),
    (str, TEXT),
    (bytes, st.binary(max_size=5)),
    (dt.datetime, st.datetimes()),
    (dt.datetime, _AWARE),
    (
        typing.Annotated[dt.datetime, msgspec.Meta(tz=True)],
        _AWARE,
    ),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (
        dt.timedelta,
        st.timedeltas(dt.timedelta(days=-10_000), dt.timedelta(days=10_000)),
    ),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Step, st.sampled_from(Step)),
    (Rights, st.sampled_from([Rights(n) for n in (0, 1, 3, 9, 11)])),
    (Marks, st.sampled_from([Marks(n) for n in (0, 1, 4, 5)])),
    (Record, _RECORDS),
    (Literal["a", "B c", "é"], st.sampled_from(["a", "B c", "é"])),
    (Literal[1, 2, "x"], st.sampled_from([1, 2, "x"])),
    (Any, _JSON),
    (Tree, _TREES),
]
_KEYS: list[Typed] = [
    (str, TEXT),
    (int, INT),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Rights, st.sampled_from([Rights(n) for n in (0, 1, 3)])),
    (dt.date, st.dates()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=2)),
    (bytes, st.binary(max_size=5)),
]
_TEXTS = (str, bytes, dt.datetime, Colour)
_NAMES = ["a", "b_c", "B_C", "value", "type_", "from_", "item_1", "Clear", "self_"]


def codecs() -> st.SearchStrategy[Codec]:
    """Return the codecs that a service may answer in."""
    return st.sampled_from([MSGPACK, JSON])


def bytes_of(codec: Codec) -> Callable[[bytes], Any]:
    """Return what makes plain values of a payload, without knowing its type."""
    return msgspec.json.decode if codec is JSON else msgspec.msgpack.decode


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return an endpoint with a random type, and some values."""
    type_, values = draw(_typed(itertools.count(1), 2))

    read = draw(st.sampled_from([_plain, _bound, _overriding]))(type_)
    return Case(read, draw(st.lists(values, min_size=1, max_size=3)))


def _plain(type_: Any) -> Signature:
    """Return the signature of a function."""

    async def call(given):
        return given

    call.__annotations__ = {"given": type_, "return": type_}
    return signature(call, owner="Any", skip_self=False)


def _bound(type_: Any) -> Signature:
    """Return that of an endpoint of a generic base, whose variable is bound."""
    cls: Any = types.new_class("Any", (_of(Generous, type_),))
    found: Signature = cls.__declarations__["call"].signature
    return found


def _overriding(type_: Any) -> Signature:
    """Return that of a method that replaces an endpoint of a base."""

    async def call(self, given):
        return given

    call.__annotations__ = {"given": type_, "return": type_}
    cls: Any = types.new_class(
        "Any", (_of(Generous, Any),), exec_body=lambda body: body.update(call=call)
    )
    found: Signature = cls.__declarations__["call"].signature
    return found


@st.composite
def _typed(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    """Return a type and its values; `numbers` are for the names of classes."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(_LEAVES))
    make = draw(st.sampled_from(_MAKERS))
    made: Typed = draw(make(numbers, depth - 1))
    return made


def _of(generic: Any, *parts: Any) -> Any:
    """Return a generic type of these parts."""
    return generic[parts if len(parts) > 1 else parts[0]]


def _giver(value: Any) -> Callable[[], Any]:
    return lambda: value


@st.composite
def _list(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    item, values = draw(_typed(numbers, depth))
    many = st.lists(values, max_size=3)
    if draw(st.booleans()):
        return _of(tuple, item, ...), many.map(tuple)
    return _of(list, item), many


@st.composite
def _set(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    item, values = draw(st.sampled_from(_KEYS))
    kind = draw(st.sampled_from([set, frozenset]))
    return _of(kind, item), st.sets(values, max_size=3).map(kind)


@st.composite
def _dict(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    key, keys = draw(st.sampled_from(_KEYS))
    item, values = draw(_typed(numbers, depth))
    return _of(dict, key, item), st.dictionaries(keys, values, max_size=3)


@st.composite
def _tuple(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    items = draw(st.lists(_typed(numbers, depth), min_size=1, max_size=3))
    return _of(tuple, *(type_ for type_, _ in items)), st.tuples(
        *(each for _, each in items)
    )


@st.composite
def _optional(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    type_, values = draw(_typed(numbers, depth))
    return type_ | None, st.none() | values


@st.composite
def _generic(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    """Return a generic class with its variable bound."""
    item, values = draw(_typed(numbers, depth))
    if draw(st.booleans()):
        made = st.builds(Box, values, st.lists(values, max_size=2))
        return _of(Box, item), made
    named = st.dictionaries(TEXT, values, max_size=2)
    return _of(Bag, item), st.builds(Bag, values, named)


@st.composite
def _either(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Typed:
    """Return a union of things that JSON tells apart."""
    objects = [
        _dict(numbers, 0),
        _struct(numbers, depth, ["struct", "dataclass", "typed"]),
        _tagged(numbers, depth, arrays=False),
    ]
    groups: list[st.SearchStrategy[Typed]] = [
        st.just((bool, st.booleans())),
        st.sampled_from([(int, INT), (float, FLOAT), (Step, st.sampled_from(Step))]),
        st.sampled_from([leaf for leaf in _LEAVES if leaf[0] in _TEXTS]),
        st.one_of(_list(numbers, 0), _tuple(numbers, depth)),
        st.one_of(objects),
    ]
    chosen = draw(
        st.lists(st.sampled_from(groups), min_size=2, max_size=3, unique=True)
    )
    options = [draw(group) for group in chosen]
    return Union[*(o[0] for o in options)], st.one_of(*(o[1] for o in options))


@st.composite
def _tagged(
    draw: st.DrawFn, numbers: Iterator[int], depth: int, arrays: bool = True
) -> Typed:
    """Return a union of classes with tags."""
    is_array, is_text = arrays and draw(st.booleans()), draw(st.booleans())
    options = []
    for number in range(draw(st.integers(2, 3))):
        fields = draw(_fields(numbers, depth))
        options.append(
            _struct_of(
                next(numbers),
                fields,
                tag=f"t{number}" if is_text else number,
                array_like=is_array,
            )
        )
    return Union[*(o[0] for o in options)], st.one_of(*(o[1] for o in options))


@st.composite
def _struct(
    draw: st.DrawFn,
    numbers: Iterator[int],
    depth: int,
    kinds: Sequence[str] = ("struct", "array", "dataclass", "named", "typed"),
) -> Typed:
    fields = draw(_fields(numbers, depth))
    kind = draw(st.sampled_from(kinds))
    name = f"T{next(numbers)}"
    if kind == "dataclass":
        return _dataclass_of(name, fields)
    if kind in ("named", "typed"):
        required = [(key, type_, values) for key, type_, values, _ in fields]
        hints = {key: type_ for key, type_, _ in required}
        made = [values for *_, values in required]
        if kind == "named" and all(key != "_" for key in hints):
            cls: Any = NamedTuple(name, list(hints.items()))  # type: ignore[misc]
            return cls, st.builds(cls, *made)
        total = draw(st.booleans())
        cls = typing.TypedDict(name, hints, total=total)  # type: ignore[misc, no-redef]
        keys = dict(zip(hints, made, strict=True))
        if total:
            return cls, st.fixed_dictionaries(keys)
        return cls, st.fixed_dictionaries({}, optional=keys)
    rename = draw(st.sampled_from([None, "camel", "kebab"]))
    return _struct_of(
        next(numbers), fields, array_like=kind == "array", rename=rename, kw_only=True
    )


_FieldOf: TypeAlias = tuple[str, Any, st.SearchStrategy[Any], tuple[Any, ...]]
"""Name, type, values, and the default, if any."""


@st.composite
def _fields(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> list[_FieldOf]:
    """Return fields, those with defaults last."""
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=4))
    fields: list[_FieldOf] = []
    for name in names:
        type_, values = draw(_typed(numbers, depth))
        default: tuple[Any, ...] = ()
        if draw(st.booleans()):
            if draw(st.booleans()):
                type_, values = type_ | None, st.none() | values
            default = (draw(values),)
        fields.append((name, type_, values, default))
    return sorted(fields, key=lambda field: len(field[3]))


def _struct_of(number: int, fields: list[_FieldOf], **options: Any) -> Typed:
    """Return a Struct; a default is left out of some values."""
    declared: list[Any] = []
    for name, type_, _, default in fields:
        if default:
            made = msgspec.field(default_factory=_giver(default[0]))
            if isinstance(default[0], (int, str, float, bytes, type(None))):
                made = default[0]
            declared.append((name, type_, made))
        else:
            declared.append((name, type_))
    cls = msgspec.defstruct(f"T{number}", declared, module=__name__, **options)
    return cls, _built(cls, fields)


def _dataclass_of(name: str, fields: list[_FieldOf]) -> Typed:
    declared: list[Any] = []
    for key, type_, _, default in fields:
        if default:
            made = dataclasses.field(default_factory=_giver(default[0]))
            declared.append((key, type_, made))
        else:
            declared.append((key, type_))
    cls = dataclasses.make_dataclass(name, declared)
    cls.__module__ = __name__
    return cls, _built(cls, fields)


def _built(cls: Any, fields: list[_FieldOf]) -> st.SearchStrategy[Any]:
    required = {name: values for name, _, values, default in fields if not default}
    optional = {name: values for name, _, values, default in fields if default}
    keywords = st.fixed_dictionaries(required, optional=optional)
    return keywords.map(lambda given: cls(**given))


_MAKERS: list[Any] = [
    _list,
    _set,
    _dict,
    _tuple,
    _optional,
    _either,
    _tagged,
    _struct,
    _generic,
]
