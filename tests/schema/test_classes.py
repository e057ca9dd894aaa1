"""What types say beyond their names: constraints, defaults, keys, computed fields."""
# the services here are props

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

import annotated_types as at
import msgspec
import pydantic
import pytest
from msgspec import Meta, Struct
from pydantic import Field, PositiveInt, StringConstraints

from kitmsg import Kit, Service, endpoint
from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.errors import InvalidArgument
from kitmsg.schema import signature

if TYPE_CHECKING:
    from collections.abc import Callable


def taking(annotation: Any, *default: Any) -> Callable[..., Any]:
    """Return a function with one parameter ``x`` of this type."""

    async def f(x: Any) -> Any:
        return x

    f.__annotations__ = {"x": annotation, "return": None}
    f.__defaults__ = default or None
    return f


def giving(annotation: Any) -> Callable[..., Any]:
    """Return a function with a result of this type."""
    f = taking(int)
    f.__annotations__ = {"x": int, "return": annotation}
    return f


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Annotated[int, at.Gt(0)], 1, 0),
        (Annotated[int, at.Ge(1)], 1, 0),
        (Annotated[float, at.Lt(1)], 0.5, 1.0),
        (Annotated[int, at.Le(1)], 1, 2),
        (Annotated[int, at.Interval(ge=1, le=3)], 3, 4),
        (Annotated[int, at.MultipleOf(5)], 10, 11),
        (Annotated[str, at.MinLen(2)], "ab", "a"),
        (Annotated[str, at.MaxLen(2)], "ab", "abc"),
        (Annotated[list[int], at.Len(1, 2)], [1], []),
        (list[Annotated[int, at.Gt(0)]], [1], [0]),
        (dict[str, Annotated[int, at.Gt(0)]], {"a": 1}, {"a": 0}),
        (Annotated[int, Field(gt=0)], 1, 0),
        (Annotated[int, Field(gt=0, description="d")], 1, 0),
        (Annotated[int | None, Field(gt=0)], None, 0),
        (Annotated[int | str, Field(gt=0)], "", 0),
        (Annotated[str, Field(pattern="^a")], "ab", "ba"),
        (Annotated[str, StringConstraints(max_length=2)], "ab", "abc"),
        (PositiveInt, 1, 0),
        (pydantic.conint(gt=3), 4, 3),
        (Annotated[int, at.Gt(0), Meta(le=3)], 3, 4),
        (Annotated[int, at.Unit("m"), "a note"], 3, "x"),
    ],
)
def test_constraints_of_other_libraries_are_enforced(
    annotation: Any, good: Any, bad: Any, codec: Codec
) -> None:
    """Those of annotated_types, and of pydantic where its models are not used."""
    decode = signature(taking(annotation)).request_decoder(codec)
    encode = codec.encoder(Any)
    assert decode(encode({"x": good})).x == good
    with pytest.raises(InvalidArgument, match="field 'x"):
        decode(encode({"x": bad}))


def test_constraints_are_described() -> None:
    """In the schema, with what pydantic's Field says for people."""
    annotation = Annotated[int, Field(gt=0, description="How many.")]
    schema = signature(taking(annotation)).request_schema()
    assert schema["$defs"]["FRequest"]["properties"]["x"] == {
        "type": "integer",
        "format": "int64",
        "exclusiveMinimum": 0,
        "description": "How many.",
    }


@dataclasses.dataclass
class Line:
    """A constraint that msgspec ignores."""

    count: Annotated[int, at.Gt(0)] = 1


class Order(Struct):
    lines: list[Line]


class Lined(Struct):
    count: Annotated[int, Field(gt=0)]


class Typed(TypedDict):
    count: PositiveInt


class Named(NamedTuple):
    many: PositiveInt


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass that pydantic validates."""

    count: PositiveInt


class Documented(Struct):
    """Says nothing that could be ignored."""

    count: Annotated[int, at.Unit("m"), "a note", Field(description="d")]


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (
            Annotated[int, at.Predicate(bool)],
            r"parameter 'x' has Predicate.* cannot be",
        ),
        (Annotated[str, StringConstraints(to_lower=True)], r"to_lower cannot be enf"),
        (Annotated[Decimal, Field(max_digits=3)], r"max_digits cannot be enforced"),
        (Annotated[int, Field(default=3)], r"default has no effect on an endpoint"),
        (Annotated[int, pydantic.AfterValidator(abs)], r"AfterValidator.* cannot be"),
        (Annotated[str, at.Gt(0)], r"parameter 'x': .*gt.*; write msgspec.Meta"),
        (Annotated[int | None, at.MinLen(2)], r"parameter 'x'.* fits none of its"),
        (list[Line], r"parameter 'x': Line.count has Gt\(gt=0\), which would be ign"),
        (Order | None, r"parameter 'x': Line.count has Gt"),
        (list[Lined], r"parameter 'x': Lined.count has FieldInfo"),
        (list[Typed], r"parameter 'x': Typed.count has Gt"),
        (list[Named], r"parameter 'x': Named.many has Gt"),
        (list[Checked], r"parameter 'x' holds Checked, a dataclass of pydantic's"),
    ],
)
def test_a_constraint_that_would_be_ignored_is_refused(
    annotation: Any, sentence: str
) -> None:
    """With the member, the constraint and what to write."""
    with pytest.raises(TypeError, match=sentence):
        signature(taking(annotation))
    result = sentence.replace("parameter 'x'", "the result")
    with pytest.raises(TypeError, match=result):
        signature(giving(annotation))


def test_metadata_that_constrains_nothing_is_let_be() -> None:
    """Units, notes and descriptions."""
    assert signature(taking(list[Documented])).parameters == ("x",)


class Colour(enum.Enum):
    RED = "red"


class Bad(Struct):
    x: int = None  # type: ignore[assignment]


@dataclasses.dataclass
class Worse:
    x: Annotated[int, Meta(ge=1)] = 0


class Deep(Struct):
    inner: list[Worse] = []


@pytest.mark.parametrize(
    ("annotation", "default", "sentence"),
    [
        (int, None, r"parameter 'x' has the default None, .*: expected int, got null"),
        (int, "1", r"expected int, got str"),
        (int, True, r"expected int, got bool"),
        (bool, 1, r"expected bool, got int"),
        (int, 2**63, r"expected a 64-bit integer"),
        (Annotated[int, Meta(ge=1)], 0, r"default 0, .*: expected int >= 1"),
        (Annotated[int, at.Ge(1)], 0, r"default 0, .*: expected int >= 1"),
        (float, float("inf"), r"default inf, .*: expected a finite number"),
        (float, float("nan"), r"default nan, .*: expected a finite number"),
        (Decimal, Decimal("NaN"), r"expected a finite number"),
        (dt.datetime, "2024-01-01T00:00:00Z", r"expected datetime, got str"),
        (UUID, "x", r"expected uuid, got str"),
        (bytes, "aGk=", r"expected bytes, got str"),
        (list[int], ["a"], r"expected int, got str"),
        (Colour, "red", r"write Colour.RED"),
        (int, Field(gt=0), r"write Annotated\[..., Field\(...\)\]"),
        (Bad, Bad(), r"Bad.x has the default None, which does not fit"),
        (list[Deep], [], r"parameter 'x': Worse.x has the default 0, .* >= 1"),
    ],
)
def test_a_default_that_does_not_fit_is_refused(
    annotation: Any, default: Any, sentence: str
) -> None:
    """Of a parameter, and of a field of any class that it reaches."""
    with pytest.raises(TypeError, match=sentence):
        signature(taking(annotation, default))


class Point(Struct):
    x: int = 0


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int | None, None),
        (float, 1),
        (list[int], []),
        (list[int], (1, 2)),
        (Point, Point(3)),
        (Colour, Colour.RED),
        (dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        (Decimal, Decimal("1.5")),
        (Any, None),
        (int | msgspec.UnsetType, msgspec.UNSET),
        (dict[str, int], {"a": 1}),
        (set[int], {1}),
        (bytes, b"a"),
    ],
)
def test_defaults_that_fit(annotation: Any, default: Any) -> None:
    """All that a caller may send, as Python has it."""
    assert signature(taking(annotation, default)).parameters == ("x",)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (dict[bool, int], "bool"),
        (dict[tuple[int, int], int], "tuple"),
        (dict[tuple[int, ...], int], "vartuple"),
        (dict[frozenset[int], int], "frozenset"),
        (dict[int | bool, int], "bool"),
        (list[dict[str, dict[bool, int]]], "bool"),
        (dict[None, int], "none"),
    ],
)
def test_keys_without_a_form_in_json_are_refused(annotation: Any, kind: str) -> None:
    """However deep, coming or going."""
    for made in (taking(annotation), giving(annotation)):
        with pytest.raises(TypeError, match=rf"keys are of the kind '{kind}', which"):
            signature(made)


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("annotation", "key"),
    [
        (str, "a"),
        (int, -3),
        (float, 1.5),
        (UUID, UUID(int=7)),
        (Colour, Colour.RED),
        (Level, Level.LOW),
        (dt.date, dt.date(2024, 1, 2)),
        (dt.datetime, dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC)),
        (Decimal, Decimal("1.50")),
        (bytes, b"\xff"),
    ],
)
def test_keys_come_back_as_they_were(annotation: Any, key: Any, codec: Codec) -> None:
    """In a request and in a result."""
    read = signature(taking(dict[annotation, int]))
    sent = read.request_encoder(codec)(read.request({key: 1}))
    assert read.request_decoder(codec)(sent).x == {key: 1}
    read = signature(giving(dict[annotation, int]))
    sent = read.response_encoder(codec)({key: 1})
    assert read.response_decoder(codec)(sent) == {key: 1}


@dataclasses.dataclass
class Square:
    """Computes fields of its own."""

    side: int
    area: int = dataclasses.field(init=False)
    sides: list[int] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.area = self.side**2
        self.sides = [self.side] * 4


@dataclasses.dataclass(slots=True)
class Cube(Square):
    """Inherits them."""

    name: str = ""


class Shapes(Service):
    """A prop."""

    @endpoint
    async def grow(self, square: Square) -> Square:
        return Square(square.side + square.area)

    @endpoint
    async def stack(self, cubes: list[Cube]) -> list[Cube]:
        return [Cube(cube.area, "big") for cube in cubes]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
async def test_computed_fields_need_not_be_sent(kit: Kit, codec: Codec) -> None:
    """``field(init=False)`` is filled by the class, and is in every result."""
    await kit.serve(Shapes())
    client = kit.client(Shapes, codec=codec)
    assert await client.grow(Square(2)) == Square(6)
    assert await client.stack([Cube(3)]) == [Cube(9, "big")]
    plain = await kit.call("shapes.grow", side=2)
    assert plain == {"side": 6, "area": 36, "sides": [6, 6, 6, 6]}
    assert dataclasses.fields(Square)[1].default is dataclasses.MISSING


def test_computed_fields_are_described_as_such() -> None:
    """Not required in a request, always there in a result."""
    read = signature(Shapes.grow, skip_self=True)
    assert read.request_schema()["$defs"]["Square"]["required"] == ["side"]
    answer = read.response_schema()["$defs"]["Square"]
    assert answer["required"] == ["side", "area", "sides"]
