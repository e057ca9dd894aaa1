"""The JSON Schema of what goes into a service and of what comes out of it."""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import jsonschema
import msgspec
import pytest
from msgspec import Meta, Struct
from pydantic import BaseModel, Field, computed_field, field_serializer

from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.errors import InvalidArgument
from kitmsg.idl.model import Enum
from kitmsg.idl.reader import SchemaReader
from kitmsg.schema import json_schema, signature

T = TypeVar("T")


def both(annotation: Any) -> Any:
    """Return the signature of a function that takes and gives this type."""

    async def f(x: Any) -> Any:
        return x

    f.__annotations__ = {"x": list[annotation], "return": annotation}
    return signature(f)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (dt.datetime, {"format": "date-time"}),
        (Annotated[dt.datetime, Meta(tz=True)], {"format": "date-time"}),
        (Annotated[dt.datetime, Meta(tz=False)], {"format": "date-time-local"}),
        (dt.time, {"format": "time"}),
        (Annotated[dt.time, Meta(tz=False)], {"format": "time-local"}),
        (dt.date, {"format": "date"}),
        (dt.timedelta, {"format": "duration"}),
    ],
)
def test_times_have_a_format(annotation: Any, schema: dict[str, Any]) -> None:
    """And an example that the service takes, where the format is nobody else's."""
    made = json_schema(annotation)
    assert made["format"] == schema["format"]
    for example in made.get("examples", ()):
        data = json.dumps([example]).encode()
        assert both(annotation).request_decoder(JSON)(b'{"x":' + data + b"}")


_DURATIONS = (
    "P1D P1.5D PT1H PT1H1.5M P1DT1S PT1.5S -P1D +P1D P0D PT90M"
    " P2W P1Y P P1DT PT 1 P1D1H PT1S1H PT1,5S"
)


@pytest.mark.parametrize("text", _DURATIONS.split())
def test_durations_are_described_as_they_are_read(text: str) -> None:
    """No weeks, months and years, though ISO 8601 has them."""
    fits = re.search(json_schema(dt.timedelta)["pattern"], text) is not None
    try:
        JSON.decoder(dt.timedelta)(json.dumps(text).encode())
    except msgspec.ValidationError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_a_set_is_described_as_it_is_taken(codec: Codec) -> None:
    """An item may come twice, and is kept once."""
    read = both(set[int])
    assert "uniqueItems" not in json.dumps(read.describe())
    assert read.request_decoder(codec)(codec.encoder(Any)({"x": [[1, 1]]})).x == [{1}]


class Pair(NamedTuple):
    a: int
    b: str = ""


class Line(Struct, array_like=True):
    a: int
    b: str = ""


@pytest.mark.parametrize("annotation", [tuple[int, str], Pair, Line, list[int], list])
def test_every_array_has_items(annotation: Any) -> None:
    """Tools want the word, also where each place has its own schema."""

    def arrays(schema: Any) -> list[Any]:
        inner = schema.values() if isinstance(schema, dict) else schema
        nested = inner if isinstance(schema, (dict, list)) else ()
        own = [schema] if isinstance(schema, dict) and "type" in schema else []
        return [s for s in own if s["type"] == "array"] + [
            a for each in nested for a in arrays(each)
        ]

    found = arrays(both(annotation).describe())
    assert found
    assert all(isinstance(each.get("items"), dict) for each in found)


class Zoo(enum.Enum):
    """Not in the order of the alphabet."""

    YAK = "yak"
    APE = "ape"
    EMU = "emu"


class Level(enum.IntEnum):
    HIGH = 30
    LOW = 10


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2
    RUN = 4


class Marks(enum.Flag):
    NEW = 1
    OLD = 2


class Held(Struct):
    pet: Literal["yak", "ape"]


def test_enums_are_in_the_order_of_their_declaration() -> None:
    """So that a member at the end moves nobody; numbers keep their names."""
    assert json_schema(Zoo)["$defs"]["Zoo"]["enum"] == ["yak", "ape", "emu"]
    level = json_schema(Level)["$defs"]["Level"]
    assert level["enum"] == [30, 10]
    assert level["x-enum-varnames"] == ["HIGH", "LOW"]
    assert json_schema(Literal["yak", "ape", 3])["enum"] == ["yak", "ape", 3]
    assert json_schema(list[Held])["$defs"]["Held"]["properties"]["pet"] == {
        "enum": ["yak", "ape"]
    }
    (read,) = SchemaReader("x", json_schema(Level)).anything("Y", "").types.values()
    assert isinstance(read, Enum)
    assert (read.values, read.names) == ((30, 10), ("HIGH", "LOW"))


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize("kind", [Rights, Marks])
def test_flags_are_numbers(kind: Any, codec: Codec) -> None:
    """Any of them together; nothing beyond them, and nothing below zero."""
    schema = json_schema(kind)["$defs"][kind.__name__]
    whole = sum(member.value for member in kind)
    assert (schema["type"], schema["minimum"], schema["maximum"]) == (
        "integer",
        0,
        whole,
    )
    read = both(kind)
    encode = codec.encoder(Any)
    for value in (kind(0), kind(1), kind(3)):
        assert codec.decoder(Any)(read.response_encoder(codec)(value)) == value.value
        assert read.response_decoder(codec)(encode(value.value)) is value
        assert read.request_decoder(codec)(encode({"x": [value.value]})).x == [value]
    for value in (whole + 1, -1, "READ"):
        with pytest.raises(InvalidArgument, match=r"field 'x\[0\]'"):
            read.request_decoder(codec)(encode({"x": [value]}))


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_flags_are_keys(codec: Codec) -> None:
    """As the number that they are."""
    read = both(dict[Rights, int])
    sent = read.request_encoder(codec)(read.request([{Rights(3): 1}]))
    assert read.request_decoder(codec)(sent).x == [{Rights(3): 1}]


class Loose(enum.Enum):
    """Reads any case."""

    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Loose | None:
        return cls.RED if str(value).lower() == "red" else None


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_an_enum_that_reads_more_has_one_form(codec: Codec) -> None:
    """What `_missing_` takes comes in, and its value goes out."""
    read = both(Loose)
    assert read.request_decoder(codec)(codec.encoder(Any)({"x": ["RED"]})).x == [
        Loose.RED
    ]
    assert codec.decoder(Any)(read.response_encoder(codec)(Loose.RED)) == "red"
    with pytest.raises(InvalidArgument, match=r"field 'x\[0\]'"):
        read.request_decoder(codec)(codec.encoder(Any)({"x": ["blue"]}))


class User(BaseModel):
    id: int


class Page(Struct, Generic[T]):
    items: list[T]


class Shelf(BaseModel, Generic[T]):
    items: list[T]


@pytest.mark.parametrize(
    ("annotation", "title"),
    [
        (Page[User], "Page[User]"),
        (Page[list[User]], "Page[list[User]]"),
        (Page[dict[str, User]], "Page[dict[str, User]]"),
        (Page[Page[Zoo]], "Page[Page[Zoo]]"),
        (Shelf[User], "Shelf[User]"),
        (Shelf[list[User]], "Shelf[list[User]]"),
        (Page[Shelf[User]], "Page[Shelf[User]]"),
    ],
)
def test_generic_classes_are_named_without_their_modules(
    annotation: Any, title: str
) -> None:
    """Where they are defined is nobody's business outside."""
    for schema in (
        both(annotation).request_schema(),
        both(annotation).response_schema(),
    ):
        titles = [each.get("title") for each in schema["$defs"].values()]
        assert title in titles
        assert re.sub(r"\W", "_", title).strip("_") in {
            name.strip("_") for name in schema["$defs"]
        } | {re.sub(r"\W", "_", str(t)).strip("_") for t in titles}
        assert not any("test_jsonschema" in name for name in schema["$defs"])


class Account(BaseModel):
    """Read and written in two forms."""

    number: int = Field(validation_alias="no", serialization_alias="accountNumber")
    secret: str = Field(default="none", exclude=True)
    owner: User
    opened: dt.date = dt.date(2020, 1, 1)

    @computed_field
    def label(self) -> str:
        return f"#{self.number}"

    @field_serializer("opened")
    def written(self, value: dt.date) -> int:
        return value.year


class Bank(Struct):
    accounts: list[Account]


def test_models_are_described_as_they_travel() -> None:
    """By their names, nested or not; in the form that each direction has."""
    read = both(Account)
    taken, given = (
        s["$defs"]["Account"] for s in (read.request_schema(), read.response_schema())
    )
    assert set(taken["properties"]) == {"no", "secret", "owner", "opened"}
    assert set(given["properties"]) == {"accountNumber", "owner", "opened", "label"}
    assert given["properties"]["opened"]["type"] == "integer"
    assert taken["properties"]["owner"] == {"$ref": "#/$defs/User"}
    assert read.response_schema()["$ref"] == "#/$defs/Account"
    inner = both(Bank).response_schema()["$defs"]
    assert inner["Bank"]["properties"]["accounts"]["items"] == {
        "$ref": "#/$defs/Account"
    }
    assert {"Account", "User", "Bank"} <= set(inner)


class Open(BaseModel, extra="allow"):
    id: int


def test_what_refuses_unknown_fields_says_so() -> None:
    """Models at any depth too; one that allows more does not."""
    defs = both(Account).request_schema()["$defs"]
    assert defs["Account"]["additionalProperties"] is False
    assert defs["User"]["additionalProperties"] is False
    decode = both(Account).request_decoder(JSON)
    with pytest.raises(InvalidArgument, match=r"x\[0\].owner.more' is not known"):
        decode(b'{"x":[{"no":1,"owner":{"id":1,"more":2}}]}')
    assert both(Open).request_schema()["$defs"]["Open"]["additionalProperties"] is True


class Cat(Struct, tag="cat"):
    lives: int


class Dog(Struct, tag="dog"):
    name: str


@pytest.mark.parametrize("annotation", [Cat | Dog, Cat | Dog | None, Cat | Dog | int])
def test_the_mapping_of_a_discriminator_resolves(annotation: Any) -> None:
    """To the definitions of the same schema."""
    schema = json_schema(annotation)
    text = json.dumps(schema)
    assert '"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}' in text
    assert {"Cat", "Dog"} <= set(schema["$defs"])
    jsonschema.Draft202012Validator.check_schema(schema)


class Empty(Struct, rename=lambda _: "", forbid_unknown_fields=True):
    x: int


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("annotation", "value", "field"),
    [
        (Held, {"pet": "ape", "": 1}, 'x[0].""'),
        (User, {"id": 1, "": 1}, 'x[0].""'),
        (Empty, {}, 'x[0].""'),
        (Empty, {"": "a"}, "x[0]."),
    ],
)
def test_a_field_with_an_empty_name_is_named(
    annotation: Any, value: Any, field: str, codec: Codec
) -> None:
    """With quotes, so that it is seen."""
    read = both(annotation)
    with pytest.raises(InvalidArgument) as caught:
        read.request_decoder(codec)(codec.encoder(Any)({"x": [value]}))
    assert caught.value.field == field
