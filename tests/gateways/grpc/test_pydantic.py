"""Pydantic models through protobuf and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, Field

from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.idl.service import Description, shape_service
from kitmsg.schema import signature
from kitmsg_gateways.grpc.convert import Converters, reply_error, request_error
from kitmsg_gateways.grpc.layout import lay_out
from tests.anytypes import bytes_of


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Tree(BaseModel):
    left: Tree | None = None
    kids: list[Tree] = Field(default_factory=list)


class Everything(BaseModel):
    name: str = Field(alias="theName", min_length=1)
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    price: Decimal
    when: datetime
    day: date
    took: timedelta
    id: UUID
    size: Size
    tree: Tree
    scores: dict[str, list[float]]
    pair: tuple[int, str]
    tags: set[str] = set()
    note: str | None = None
    flag: bool | None = True


async def echo(given: Everything) -> Everything:
    """Give it back."""
    return given


VALUE = Everything(
    theName="a",
    pet=Dog(name="b"),
    price=Decimal("1.50"),
    when=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    day=date(2026, 1, 2),
    took=timedelta(seconds=1.5),
    id=UUID(int=7),
    size=Size.LARGE,
    tree=Tree(left=Tree(), kids=[Tree(), Tree(kids=[Tree()])]),
    scores={"a": [1, 2.5]},
    pair=(1, "x"),
    tags={"q"},
    flag=None,
)


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_a_model_arrives_equal(codec: Codec) -> None:
    """As a request and as a result, in both codecs."""
    read = signature(echo)
    shapes = shape_service("any", [Description("echo", read.describe())])
    assert shapes.refused == {}
    layout = lay_out(shapes)
    assert "kind" not in [slot.key for slot in layout.messages["Dog"].slots]
    (rpc,) = layout.rpcs
    converters = Converters(layout)
    plain = bytes_of(codec)(read.request_encoder(codec)(VALUE))
    data = converters.of(rpc.input).encoder(request_error)(plain)
    back = converters.of(rpc.input).decoder(request_error)(data)
    assert read.request_decoder(JSON)(msgspec.json.encode(back)) == VALUE
    assert converters.of(rpc.output).encoder(reply_error)(plain) == data
